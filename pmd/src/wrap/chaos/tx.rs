//! Frames on their way from the user to the inner queue. A frame's fate is drawn once, when it is taken
//! over; what the inner queue has no room for then waits here, and nothing more is taken meanwhile.

use std::time::{Duration, Instant};

use mempool::{Buf, Burst, Cache, Cpu, Pool, Readable, Shared};

use super::{
    Lent,
    books::Books,
    engine::{Engine, Hands, MOST},
    harm::{self, Spare},
};
use crate::{QueueCounters, TxQueue, copy::copy_frame};

/// Frames that wait for the inner queue at most.
const STAGED: usize = 64;
/// How long a queue that ends tries to send what it has taken.
const PATIENCE: Duration = Duration::from_millis(20);

/// A transmit queue under chaos.
pub(super) struct ChaosTx {
    engine: Engine<Frame>,
    spare: Spare,
    staged: Staged,
    books: Books,
    /// For what is still to be sent when the queue ends.
    pool: Pool<Cpu>,
    inner: Lent<dyn TxQueue>,
}

/// A frame in either kind of buffer.
pub(super) enum Frame {
    Owned(Buf<Cpu>),
    Shared(Buf<Shared>),
}

/// Frames that wait for the inner queue: of one kind and one pool.
enum Staged {
    Owned(Burst<Cpu>),
    Shared(Burst<Shared>),
}

impl Staged {
    fn len(&self) -> usize {
        match self {
            Self::Owned(burst) => burst.len(),
            Self::Shared(burst) => burst.len(),
        }
    }

    fn has_room(&self) -> bool {
        self.len() + MOST <= STAGED
    }

    fn push(&mut self, frame: Frame) {
        match (self, frame) {
            (Self::Owned(burst), Frame::Owned(buf)) => burst.push(buf),
            (Self::Shared(burst), Frame::Shared(buf)) => burst.push(buf),
            _ => unreachable!("a burst of another kind begins when nothing waits"),
        }
    }

    fn is_of(&self, cache: &Cache<Cpu>) -> bool {
        match self {
            Self::Owned(burst) => burst.pool().is_same(cache.pool()),
            Self::Shared(burst) => burst.pool().is_same(cache.pool()),
        }
    }

    /// Sends what waits; true if nothing waits any more.
    #[inline]
    fn flush(&mut self, inner: &mut dyn TxQueue, cache: &mut Cache<Cpu>) -> bool {
        if self.len() > 0 {
            match self {
                Self::Owned(burst) => inner.send(cache, burst),
                Self::Shared(burst) => inner.send_shared(cache, burst),
            };
        }
        self.len() == 0
    }
}

/// The kinds of buffer that a queue sends.
trait Sendable: Readable + Sized {
    fn frame(buf: Buf<Self>) -> Frame;
    fn staged(pool: &Pool<Self>) -> Staged;
    fn is_staged(staged: &Staged, pool: &Pool<Self>) -> bool;
}

impl Sendable for Cpu {
    fn frame(buf: Buf<Self>) -> Frame {
        Frame::Owned(buf)
    }
    fn staged(pool: &Pool<Self>) -> Staged {
        Staged::Owned(Burst::with_limit(pool, STAGED))
    }
    fn is_staged(staged: &Staged, pool: &Pool<Self>) -> bool {
        matches!(staged, Staged::Owned(burst) if burst.pool().is_same(pool))
    }
}

impl Sendable for Shared {
    fn frame(buf: Buf<Self>) -> Frame {
        Frame::Shared(buf)
    }
    fn staged(pool: &Pool<Self>) -> Staged {
        Staged::Shared(Burst::with_limit(pool, STAGED))
    }
    fn is_staged(staged: &Staged, pool: &Pool<Self>) -> bool {
        matches!(staged, Staged::Shared(burst) if burst.pool().is_same(pool))
    }
}

impl ChaosTx {
    pub(super) fn new(
        engine: Engine<Frame>,
        spare: Spare,
        pool: &Pool<Cpu>,
        books: Books,
        inner: Lent<dyn TxQueue>,
    ) -> Self {
        Self { engine, spare, staged: Cpu::staged(pool), books, pool: pool.clone(), inner }
    }

    fn take<A: Sendable>(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<A>) -> usize {
        let before = burst.len();
        let is_awake = self.engine.is_awake();
        if self.staged.flush(&mut *self.inner, cache) && is_awake {
            if before == 0 {
                self.idle(cache);
            } else if self.turn_to(cache, burst.pool()) {
                self.draw(cache, burst);
            }
        }
        self.books.restate();
        before - burst.len()
    }

    /// Draws fates and sends, until the inner queue is full, this one rests, or nothing is left.
    fn draw<A: Sendable>(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<A>) {
        let Self { engine, spare, staged, inner, .. } = self;
        while !burst.is_empty() {
            let is_of_pool = staged.is_of(cache);
            let mut hands = TxHands { cache, staged, spare, is_of_pool };
            let count = burst.len();
            let mut frames = burst.drain_front(count);
            for _ in 0..count {
                if !hands.staged.has_room() || !engine.takes_more() {
                    break;
                }
                let Some(frame) = frames.next() else { break };
                engine.frame(A::frame(frame), &mut hands);
            }
            drop(frames);
            if !staged.flush(&mut **inner, cache) || burst.is_empty() || !engine.takes_more() {
                break;
            }
        }
    }

    /// Makes sure that what waits is of that kind and pool; false if something else must go first.
    fn turn_to<A: Sendable>(&mut self, cache: &mut Cache<Cpu>, pool: &Pool<A>) -> bool {
        if A::is_staged(&self.staged, pool) {
            return true;
        }
        if let Some(held) = self.engine.release() {
            self.staged.push(held);
        }
        if !self.staged.flush(&mut *self.inner, cache) {
            return false;
        }
        self.staged = A::staged(pool);
        true
    }

    /// Nothing is being sent: a held frame whose time is up goes.
    fn idle(&mut self, cache: &mut Cache<Cpu>) {
        if self.engine.holds()
            && !self.engine.has_failed()
            && self.staged.has_room()
            && let Some(held) = self.engine.idle()
        {
            self.staged.push(held);
            self.staged.flush(&mut *self.inner, cache);
        }
    }
}

impl TxQueue for ChaosTx {
    fn send(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        self.take(cache, burst)
    }

    fn send_shared(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Shared>) -> usize {
        self.take(cache, burst)
    }

    fn reap(&mut self, cache: &mut Cache<Cpu>) -> usize {
        self.engine.is_awake();
        self.staged.flush(&mut *self.inner, cache);
        self.idle(cache);
        let reaped = self.inner.reap(cache);
        self.books.restate();
        reaped
    }

    fn in_flight(&self) -> usize {
        // A queue that has failed sends no frame that it held back.
        let held = self.engine.holds() && !self.engine.has_failed();
        self.inner.in_flight() + self.staged.len() + usize::from(held)
    }

    fn counters(&self) -> &QueueCounters {
        &self.books.outer
    }
}

impl Drop for ChaosTx {
    /// What was taken over is sent, if the inner queue takes it before long.
    fn drop(&mut self) {
        let held = self.engine.release();
        let mut unsent = usize::from(held.is_some());
        if let Some(held) = held.filter(|_| !self.engine.has_failed()) {
            self.staged.push(held);
            unsent = 0;
        }
        if self.staged.len() > 0 {
            let mut cache = self.pool.cache();
            let deadline = Instant::now() + PATIENCE;
            while !self.staged.flush(&mut *self.inner, &mut cache) && Instant::now() < deadline {
                self.inner.reap(&mut cache);
                std::thread::yield_now();
            }
        }
        self.books.close(unsent + self.staged.len());
    }
}

struct TxHands<'a> {
    cache: &'a mut Cache<Cpu>,
    staged: &'a mut Staged,
    spare: &'a Spare,
    /// Whether the cache is of the frames' pool: it is the caller's, and need not be.
    is_of_pool: bool,
}

impl TxHands<'_> {
    fn free(&mut self, buf: Buf<Cpu>) {
        if self.is_of_pool {
            self.cache.give(buf);
        }
    }

    fn copied<A: Readable>(&mut self, buf: &Buf<A>) -> Option<Buf<Cpu>> {
        if !self.is_of_pool {
            return None;
        }
        let frame = buf.frame();
        let parts = frame.segments().map(|segment| segment.bytes());
        copy_frame(self.cache, frame.frame_len(), parts, &frame.meta().rx()).ok()
    }

    /// Changes a frame: itself if it has one owner, else a copy of it that goes in its place.
    fn change(
        &mut self,
        frame: Frame,
        change: impl FnOnce(&mut Buf<Cpu>) -> bool,
    ) -> (Frame, bool) {
        match frame {
            Frame::Owned(mut buf) => {
                let done = change(&mut buf);
                (Frame::Owned(buf), done)
            }
            Frame::Shared(buf) => {
                let Some(mut copy) = self.copied(&buf) else { return (Frame::Shared(buf), false) };
                if !change(&mut copy) {
                    self.free(copy);
                    return (Frame::Shared(buf), false);
                }
                match copy.share() {
                    Ok(copy) => (Frame::Shared(copy), true),
                    Err(_) => (Frame::Shared(buf), false),
                }
            }
        }
    }
}

impl Hands<Frame> for TxHands<'_> {
    fn lose(&mut self, frame: Frame) {
        match frame {
            Frame::Owned(buf) => self.free(buf),
            Frame::Shared(buf) => {
                if let Ok(buf) = buf.unshare() {
                    self.free(buf);
                }
            }
        }
    }

    fn copy(&mut self, frame: &Frame) -> Option<Frame> {
        match frame {
            Frame::Owned(buf) => self.copied(buf).map(Frame::Owned),
            Frame::Shared(buf) => Some(Frame::Shared(buf.clone())),
        }
    }

    fn flip(&mut self, frame: Frame, draw: u64) -> (Frame, bool) {
        let spare = self.spare;
        self.change(frame, |buf| harm::flip(buf, spare, draw))
    }

    fn truncate(&mut self, frame: Frame, draw: u64) -> (Frame, bool) {
        let spare = self.spare;
        self.change(frame, |buf| harm::truncate(buf, spare, draw))
    }

    #[inline]
    fn pass(&mut self, frame: Frame) {
        self.staged.push(frame);
    }
}
