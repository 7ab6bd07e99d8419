//! One queue's faults, whatever its frames are: draws fates, holds back what is to be overtaken, counts.
//! Knows no queue: frames are changed and copied by [`Hands`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    fate::Fates,
    kind::{Kind, Tally},
    plan::{Plan, Rest},
};

/// What the engine needs done to a frame.
pub(super) trait Hands<F> {
    /// Frees a lost frame.
    fn lose(&mut self, frame: F);
    /// A copy, if there is room for one.
    fn copy(&mut self, frame: &F) -> Option<F>;
    /// Changes a bit; the frame as it is now, and whether it was done.
    fn flip(&mut self, frame: F, draw: u64) -> (F, bool);
    /// Cuts the end off; the frame as it is now, and whether it was done.
    fn truncate(&mut self, frame: F, draw: u64) -> (F, bool);
    /// Passes a frame on.
    fn pass(&mut self, frame: F);
}

/// Frames that one frame can become: itself, a copy, and one that was held back.
pub(super) const MOST: usize = 3;

/// The faults of one queue.
pub(super) struct Engine<F> {
    fates: Fates,
    /// A frame that the next one is to overtake, and since when it waits.
    held: Option<(F, Instant)>,
    wait: Duration,
    stall_for: Rest,
    resting: Option<Resting>,
    has_failed: bool,
    pub(super) tally: Arc<Tally>,
}

/// A stall that goes on.
enum Resting {
    Polls(u64),
    Until(Instant),
}

impl<F> Engine<F> {
    pub(super) fn new(plan: &Plan, is_rx: bool, queue: usize, tally: Arc<Tally>) -> Self {
        let side = if is_rx { &plan.rx } else { &plan.tx };
        Self {
            fates: Fates::new(plan.seed, is_rx, queue, side),
            held: None,
            wait: side.wait,
            stall_for: side.stall_for,
            resting: None,
            has_failed: false,
            tally,
        }
    }

    /// Begins a poll; false if the queue rests, or has failed.
    #[inline]
    pub(super) fn is_awake(&mut self) -> bool {
        if self.resting.is_none() && !self.has_failed {
            return true;
        }
        self.rest()
    }

    #[cold]
    fn rest(&mut self) -> bool {
        match &mut self.resting {
            Some(Resting::Polls(left)) if *left > 0 => *left -= 1,
            Some(Resting::Until(end)) if Instant::now() < *end => {}
            Some(_) => self.resting = None,
            None => {}
        }
        self.resting.is_none() && !self.has_failed
    }

    /// Whether the next frame may come: false if the queue fails at it, or rests.
    #[inline]
    pub(super) fn takes_more(&mut self) -> bool {
        if self.resting.is_some() || self.has_failed {
            return false;
        }
        if let Some(kind) = self.fates.fails_now() {
            self.has_failed = true;
            self.tally.add(kind, 1);
            return false;
        }
        true
    }

    /// Whether the queue has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Whether a frame is held back.
    #[inline]
    pub(super) fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// Whether frames alone say nothing about when it yields one: something is held back, or it rests,
    /// or has failed.
    pub(super) fn is_busy(&self) -> bool {
        self.held.is_some() || self.resting.is_some() || self.has_failed
    }

    /// Does to a frame what is its fate.
    #[inline]
    pub(super) fn frame(&mut self, frame: F, hands: &mut impl Hands<F>) {
        let is_down = self.tally.is_down.load(std::sync::atomic::Ordering::Relaxed);
        let fate = self.fates.next();
        match fate.kind {
            None if self.held.is_none() && !is_down => hands.pass(frame),
            kind => self.rare(frame, kind, fate.draw, hands),
        }
    }

    #[cold]
    fn rare(&mut self, frame: F, kind: Option<Kind>, draw: u64, hands: &mut impl Hands<F>) {
        let Some(kind) = kind else { return self.pass(frame, hands) };
        self.set_down(kind == Kind::Down);
        match kind {
            Kind::Drop | Kind::Exhaust | Kind::Down => {
                hands.lose(frame);
                self.tally.add(kind, 1);
            }
            Kind::Dup => match hands.copy(&frame) {
                Some(copy) => {
                    hands.pass(frame);
                    self.tally.add(kind, 1);
                    self.pass(copy, hands);
                }
                None => self.pass(frame, hands),
            },
            Kind::Reorder if self.held.is_none() => self.held = Some((frame, Instant::now())),
            Kind::Flip => {
                let (frame, done) = hands.flip(frame, draw);
                self.harmed(frame, kind, done, hands);
            }
            Kind::Truncate => {
                let (frame, done) = hands.truncate(frame, draw);
                self.harmed(frame, kind, done, hands);
            }
            Kind::Stall => {
                self.pass(frame, hands);
                self.tally.add(kind, 1);
                self.resting = Some(match self.stall_for {
                    Rest::Polls(polls) => Resting::Polls(polls),
                    Rest::Time(time) => Resting::Until(Instant::now() + time),
                });
            }
            // A second frame to be held overtakes the first. (A failure was met before its frame.)
            Kind::Reorder | Kind::Fault | Kind::Remove | Kind::Undelivered => {
                self.pass(frame, hands);
            }
        }
    }

    /// A harmed frame overtakes nobody: a receiver that throws it away would not see it.
    fn harmed(&mut self, frame: F, kind: Kind, done: bool, hands: &mut impl Hands<F>) {
        if !done {
            return self.pass(frame, hands);
        }
        hands.pass(frame);
        self.tally.add(kind, 1);
    }

    /// Passes a sound frame, and behind it the one that it overtakes.
    fn pass(&mut self, frame: F, hands: &mut impl Hands<F>) {
        self.set_down(false);
        hands.pass(frame);
        if let Some((held, _)) = self.held.take() {
            hands.pass(held);
            self.tally.add(Kind::Reorder, 1);
        }
    }

    fn set_down(&self, is_down: bool) {
        self.tally.is_down.store(is_down, std::sync::atomic::Ordering::Relaxed);
    }

    /// Nothing follows for now: a held frame whose time is up passes, overtaken by nobody.
    #[inline]
    pub(super) fn idle(&mut self) -> Option<F> {
        let (_, since) = self.held.as_ref()?;
        if since.elapsed() < self.wait {
            return None;
        }
        self.release()
    }

    /// The held frame, at once.
    pub(super) fn release(&mut self) -> Option<F> {
        self.held.take().map(|(frame, _)| frame)
    }
}
