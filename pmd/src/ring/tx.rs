//! The sending end: surrenders slots to the lane, in bulk.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use mempool::{Burst, Cache, Cpu, Pool, Readable, Shared, ring::Producer};

use super::lane::Lane;
use crate::{QueueCounters, TxQueue, copy::copy_frame};

pub(super) struct RingTx {
    lane: Arc<Lane>,
    /// None if another queue is at this end: then everything is refused.
    producer: Option<Producer>,
    pool: Pool<Cpu>,
    pace: Option<Pace>,
    counters: QueueCounters,
}

impl RingTx {
    pub(super) fn new(
        lane: Arc<Lane>,
        pool: &Pool<Cpu>,
        rate: u64,
        counters: QueueCounters,
    ) -> Self {
        let producer = lane.attach_tx(pool);
        let pace = (rate > 0).then(|| Pace::new(rate));
        Self {
            lane,
            producer,
            pool: pool.clone(),
            pace,
            counters,
        }
    }

    /// How many of `want` frames may go now.
    #[inline]
    fn room(&mut self, want: usize) -> usize {
        let Some(producer) = &mut self.producer else {
            return 0;
        };
        let room = producer.room_for(want).min(want);
        self.pace.as_mut().map_or(room, |pace| pace.allow(room))
    }

    /// Surrenders the first `count` frames, for which there is room.
    #[inline]
    fn push(&mut self, burst: &mut Burst<Cpu>, count: usize) {
        let Some(producer) = &mut self.producer else {
            return;
        };
        let mut bytes = 0;
        if burst.has_chains() {
            // Release: before the slots themselves; the receiver asks once it has some.
            self.lane.chained.store(true, Ordering::Release);
            bytes = burst
                .iter()
                .take(count)
                .map(|frame| frame.frame_len())
                .sum();
        } else {
            burst
                .iter()
                .take(count)
                .for_each(|frame| bytes += frame.len());
        }
        burst.surrender_front(count, |slots| producer.send(slots));
        if let Some(pace) = &mut self.pace {
            pace.sent += count as u64;
        }
        self.counters.delivered(count, bytes);
    }

    /// Sends copies: the lane carries slots of one pool, each with one owner.
    fn send_copies<A: Readable>(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<A>) -> usize {
        let room = self.room(burst.len());
        let mut copies = Burst::with_limit(&self.pool, room);
        for frame in burst.iter().take(room) {
            let parts = frame.segments().map(|segment| segment.bytes());
            let Ok(copy) = copy_frame(cache, frame.frame_len(), parts, &frame.meta().rx()) else {
                break;
            };
            copies.push(copy);
        }
        let sent = copies.len();
        self.push(&mut copies, sent);
        burst.drain_front(sent).for_each(drop);
        sent
    }
}

impl TxQueue for RingTx {
    fn send(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        if !burst.pool().is_same(&self.pool) {
            return self.send_copies(cache, burst);
        }
        let count = self.room(burst.len());
        self.push(burst, count);
        count
    }

    fn send_shared(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Shared>) -> usize {
        self.send_copies(cache, burst)
    }

    fn reap(&mut self, _cache: &mut Cache<Cpu>) -> usize {
        0
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn counters(&self) -> &QueueCounters {
        &self.counters
    }
}

impl Drop for RingTx {
    fn drop(&mut self) {
        if let Some(producer) = self.producer.take() {
            self.lane.detach_tx(producer);
        }
    }
}

/// A token bucket over the monotonic clock; read once per burst, and only where a rate is set.
struct Pace {
    rate: u64,
    start: Instant,
    sent: u64,
}

impl Pace {
    fn new(rate: u64) -> Self {
        let start = Instant::now();
        Self {
            rate,
            start,
            sent: 0,
        }
    }

    /// How many of `want` frames may go now.
    fn allow(&mut self, want: usize) -> usize {
        let due = u128::from(self.rate) * self.start.elapsed().as_nanos() / 1_000_000_000;
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        // A sender that slept does not get to catch up with more than 10 ms worth of frames.
        self.sent = self.sent.max(due.saturating_sub(self.rate / 100 + 1));
        usize::try_from(due.saturating_sub(self.sent))
            .unwrap_or(usize::MAX)
            .min(want)
    }
}
