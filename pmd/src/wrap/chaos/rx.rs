//! Whole frames on their way from the inner queue to its user.

use std::{
    collections::VecDeque,
    os::fd::BorrowedFd,
    sync::atomic::{Ordering, fence},
};

use mempool::{Buf, Burst, Cache, Cpu, Pool};

use super::{
    Lent,
    books::Books,
    engine::{Engine, Hands, MOST},
    harm::{self, Spare},
    kind::Tally,
};
use crate::{QueueCounters, RxQueue, copy::copy_frame};

/// A receive queue under chaos.
pub(super) struct ChaosRx {
    engine: Engine<Buf<Cpu>>,
    spare: Spare,
    /// What the inner queue yielded and no fate was drawn for: more than nothing only while the queue
    /// rests, or the user's burst was full.
    arrived: Burst<Cpu>,
    /// What did not fit the user's burst.
    ready: VecDeque<Buf<Cpu>>,
    books: Books,
    inner: Lent<dyn RxQueue>,
}

impl ChaosRx {
    pub(super) fn new(
        engine: Engine<Buf<Cpu>>,
        spare: Spare,
        pool: &Pool<Cpu>,
        books: Books,
        inner: Lent<dyn RxQueue>,
    ) -> Self {
        let arrived = Burst::with_limit(pool, Burst::<Cpu>::CAPACITY);
        Self { engine, spare, arrived, ready: VecDeque::with_capacity(MOST), books, inner }
    }
}

impl RxQueue for ChaosRx {
    fn recv(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        let Self { engine, spare, arrived, ready, books, inner } = self;
        let before = burst.len();
        let mut hands = WholeHands { cache, burst, ready, spare, bytes: 0 };
        if engine.is_awake() {
            hands.pass_ready();
            if arrived.is_empty() && hands.burst.room() > 0 {
                say_busy(&books.tally);
                arrived.set_limit(hands.burst.room());
                if inner.recv(hands.cache, arrived) == 0
                    && let Some(frame) = engine.idle()
                {
                    hands.pass(frame);
                }
            }
            let count = arrived.len();
            let mut frames = arrived.drain_front(count);
            for _ in 0..count {
                if hands.burst.room() == 0 || !engine.takes_more() {
                    break;
                }
                let Some(frame) = frames.next() else { break };
                engine.frame(frame, &mut hands);
            }
        }
        let bytes = hands.bytes;
        let got = burst.len() - before;
        let holds = !arrived.is_empty() || !ready.is_empty() || engine.holds();
        books.tally.holds.store(holds, Ordering::Release);
        books.outer.delivered(got, bytes);
        books.restate();
        got
    }

    fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        // What is here wakes nobody, and what rests looks at a clock.
        if self.engine.is_busy() || !self.arrived.is_empty() || !self.ready.is_empty() {
            return None;
        }
        self.inner.arm()
    }

    fn counters(&self) -> &QueueCounters {
        &self.books.outer
    }
}

/// Before frames are taken off the inner queue: whoever learns that it has ended also learns that
/// there is something left here. Release: pairs with the acquire fence in the layer's `health`.
pub(super) fn say_busy(tally: &Tally) {
    tally.holds.store(true, Ordering::Relaxed);
    fence(Ordering::Release);
}

impl Drop for ChaosRx {
    fn drop(&mut self) {
        let held = usize::from(self.engine.release().is_some());
        let left = self.arrived.len() + self.ready.len() + held;
        self.books.close(left);
    }
}

struct WholeHands<'a> {
    cache: &'a mut Cache<Cpu>,
    burst: &'a mut Burst<Cpu>,
    ready: &'a mut VecDeque<Buf<Cpu>>,
    spare: &'a Spare,
    /// Of the frames put into the burst.
    bytes: usize,
}

impl WholeHands<'_> {
    fn pass_ready(&mut self) {
        while self.burst.room() > 0
            && let Some(frame) = self.ready.pop_front()
        {
            self.push(frame);
        }
    }

    #[inline]
    fn push(&mut self, frame: Buf<Cpu>) {
        self.bytes += if frame.is_chain() { frame.frame().frame_len() } else { frame.len() };
        self.burst.push(frame);
    }
}

impl Hands<Buf<Cpu>> for WholeHands<'_> {
    fn lose(&mut self, frame: Buf<Cpu>) {
        self.cache.give(frame);
    }

    fn copy(&mut self, frame: &Buf<Cpu>) -> Option<Buf<Cpu>> {
        let frame = frame.frame();
        let parts = frame.segments().map(|segment| segment.bytes());
        copy_frame(self.cache, frame.frame_len(), parts, &frame.meta().rx()).ok()
    }

    fn flip(&mut self, mut frame: Buf<Cpu>, draw: u64) -> (Buf<Cpu>, bool) {
        let done = harm::flip(&mut frame, self.spare, draw);
        (frame, done)
    }

    fn truncate(&mut self, mut frame: Buf<Cpu>, draw: u64) -> (Buf<Cpu>, bool) {
        let done = harm::truncate(&mut frame, self.spare, draw);
        (frame, done)
    }

    #[inline]
    fn pass(&mut self, frame: Buf<Cpu>) {
        if self.ready.is_empty() && self.burst.room() > 0 {
            self.push(frame);
        } else {
            self.ready.push_back(frame);
        }
    }
}
