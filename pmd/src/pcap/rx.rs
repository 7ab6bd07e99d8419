//! The receive queue in general: any source, any length, at full speed or at the capture's own.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use mempool::{Buf, Burst, Cache, Cpu, Offload, RxMeta};

use super::{
    ReadError,
    reader::Step,
    source::{Item, Source},
    state::State,
};
use crate::{DropReason, QueueCounters, RxQueue};

/// Longest frame that is delivered, in bytes.
pub(super) const MAX_FRAME: usize = 65535;

/// A queue that receives from `S`.
pub(super) struct PcapRx<S> {
    source: S,
    /// Whether the source's frame has not been delivered yet.
    ready: bool,
    /// Whether the source has ended, or is broken.
    done: bool,
    /// The moment of the first frame, if frames keep their time.
    pace: Option<Arc<OnceLock<Instant>>>,
    /// Bytes that fit a buffer.
    room: usize,
    /// Longest frame that fits the pool.
    longest: usize,
    /// Whether it is this queue that counts broken records.
    counts_broken: bool,
    state: Arc<State>,
    counters: QueueCounters,
}

/// What a queue is made with.
pub(super) struct RxSetup {
    pub(super) pool: mempool::Pool<Cpu>,
    pub(super) pace: Option<Arc<OnceLock<Instant>>>,
    /// The queue's number.
    pub(super) queue: usize,
    pub(super) state: Arc<State>,
    pub(super) counters: QueueCounters,
}

impl<S: Source> PcapRx<S> {
    pub(super) fn new(source: S, setup: RxSetup) -> Self {
        let RxSetup { pool, pace, queue, state, counters } = setup;
        let room = pool.room();
        let longest = room.saturating_mul(pool.capacity()).min(MAX_FRAME);
        Self {
            source,
            ready: false,
            done: false,
            pace,
            room,
            longest,
            counts_broken: queue == 0,
            state,
            counters,
        }
    }

    /// Whether a frame is there to be delivered by `now`.
    #[inline]
    fn seek(&mut self, now: Option<Instant>) -> bool {
        while !self.ready {
            if self.done {
                return false;
            }
            match self.source.advance() {
                Ok(Step::Frame) if self.source.item().bytes.len() > self.longest => {
                    self.counters.dropped(DropReason::TooLong, 1);
                }
                Ok(Step::Frame) => self.ready = true,
                Ok(Step::Pending) => return false,
                Ok(Step::End) => self.end(None),
                Err(error) => self.end(Some(&error)),
            }
        }
        now.is_none_or(|now| self.is_due(now))
    }

    fn is_due(&self, now: Instant) -> bool {
        let Some(start) = &self.pace else { return true };
        let elapsed = now.saturating_duration_since(*start.get_or_init(|| now));
        u128::from(self.source.item().due) <= elapsed.as_nanos()
    }

    #[cold]
    fn end(&mut self, error: Option<&ReadError>) {
        self.done = true;
        let Some(error) = error else {
            return self.state.rx_ended();
        };
        if self.counts_broken && matches!(error, ReadError::Record { .. }) {
            self.counters.dropped(DropReason::Malformed, 1);
        }
        self.state.fault(error.to_string());
    }

    /// Delivers the frame in hand, which is longer than a buffer, in several.
    #[cold]
    fn deliver_chain(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> bool {
        let item = self.source.item();
        let (rx, mut rest) = (meta(&item), item.bytes);
        let mut frame: Option<Buf<Cpu>> = None;
        // From the last segment to the first: a chain is appended to its head in one step.
        while !rest.is_empty() {
            let Some(mut buf) = cache.take_one() else {
                return false;
            };
            let (front, segment) = rest.split_at((rest.len() - 1) / self.room * self.room);
            let mut view = buf.frame_mut();
            view.received(segment.len(), &rx);
            view.bytes_mut().copy_from_slice(segment);
            if let Some(tail) = frame.take() {
                // At most 64 Ki segments of one pool: `longest` sees to that.
                let _ = buf.chain(tail);
            }
            frame = Some(buf);
            rest = front;
        }
        frame.into_iter().for_each(|frame| burst.push(frame));
        true
    }
}

/// What is known of a frame.
#[inline(always)]
fn meta(item: &Item<'_>) -> RxMeta {
    let mut offload = Offload::NONE;
    if item.timestamp.is_some() {
        offload = offload.with(Offload::RX_TIMESTAMP);
    }
    if item.truncated {
        offload = offload.with(Offload::RX_TRUNCATED);
    }
    RxMeta { offload, timestamp: item.timestamp.unwrap_or(0), ..RxMeta::default() }
}

/// Gives the bare buffers from the `from`-th on back.
fn give_back(cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>, from: usize) {
    while burst.len() > from {
        burst.pop().into_iter().for_each(|buf| cache.give(buf));
    }
}

impl<S: Source> RxQueue for PcapRx<S> {
    fn recv(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        let (before, want) = (burst.len(), burst.room());
        let now = self.pace.is_some().then(Instant::now);
        if want == 0 || !self.seek(now) {
            return 0;
        }
        let (mut at, mut bytes) = (before, 0);
        let mut end = before + cache.take_bare(burst, want);
        while at < before + want {
            let item = self.source.item();
            let len = item.bytes.len();
            if len > self.room {
                give_back(cache, burst, at);
                if !self.deliver_chain(cache, burst) {
                    end = at;
                    break;
                }
                end = at + 1 + cache.take_bare(burst, before + want - at - 1);
            } else if at == end {
                break;
            } else {
                let mut frame = burst.frame_mut(at);
                frame.received(len, &meta(&item));
                frame.bytes_mut().copy_from_slice(item.bytes);
            }
            bytes += len;
            at += 1;
            self.ready = false;
            if !self.seek(now) {
                break;
            }
        }
        give_back(cache, burst, at);
        let got = at - before;
        self.counters.delivered(got, bytes);
        if now.is_some() && at == end {
            self.miss(want - got, now);
        }
        got
    }

    fn counters(&self) -> &QueueCounters {
        &self.counters
    }
}

impl<S: Source> PcapRx<S> {
    /// Frames that keep their time do not wait for buffers: those due are dropped, up to `most`.
    fn miss(&mut self, most: usize, now: Option<Instant>) {
        for _ in 0..most {
            if !self.seek(now) {
                return;
            }
            self.ready = false;
            self.counters.dropped(DropReason::NoBuffer, 1);
        }
    }
}
