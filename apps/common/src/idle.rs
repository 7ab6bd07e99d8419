//! What a worker does between empty polls. Spinning is quickest; pausing leaves the core's other
//! thread its resources; sleeping leaves the core to others, and costs latency; waiting for the queues'
//! descriptors leaves the core to others for as long as nothing comes.

use std::{
    hint,
    os::fd::BorrowedFd,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use clap::ValueEnum;
use serde::Serialize;

use crate::{report::Counter, wake::Wakers};

/// What to do when there is nothing to do.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdleMode {
    /// Poll again at once; let others run now and then
    #[default]
    Spin,
    /// Pause the core for up to about a microsecond
    Pause,
    /// Pause first, then sleep for up to 100 microseconds (and the kernel's timer slack)
    Sleep,
    /// Pause first, then wait to be woken by a frame; sleep where a port cannot do that
    Interrupt,
}

/// Rounds of a worker, for other threads to read. The one writer is the worker; nothing else is on
/// its cache line, nor on the one that is fetched along.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Activity {
    /// Rounds over all its queues.
    pub rounds: Counter,
    /// Rounds that found nothing.
    pub empty: Counter,
}

impl Activity {
    /// Counts a round.
    #[inline]
    pub fn round(&self, is_empty: bool) {
        self.rounds.add(1);
        if is_empty {
            self.empty.add(1);
        }
    }
}

/// Empty rounds after which a spinning worker lets others run, and a sleeping one sleeps.
const PATIENCE: u32 = 64;
/// Pause instructions at most, in a row.
const PAUSES: u32 = 32;
/// First and longest sleep.
const SLEEPS: [Duration; 2] = [Duration::from_micros(1), Duration::from_micros(100)];

/// The state of one worker.
#[derive(Debug)]
pub struct Idle {
    mode: IdleMode,
    empty: u32,
    wakers: Wakers,
    waking: Waking,
}

/// How far a worker is that waits to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waking {
    /// It polls.
    No,
    /// It is to arm its queues.
    Asked,
    /// Its queues are armed: if nothing has come by now, it waits.
    Armed,
}

impl Idle {
    /// Nothing was empty yet.
    #[must_use]
    pub fn new(mode: IdleMode) -> Self {
        Self { mode, empty: 0, wakers: Wakers::default(), waking: Waking::No }
    }

    /// Empty rounds in a row.
    #[must_use]
    pub fn empty_rounds(&self) -> u32 {
        self.empty
    }

    /// Whether the last round let others run, or slept: time for what a worker does when nothing
    /// comes.
    #[must_use]
    pub fn has_rested(&self) -> bool {
        match self.mode {
            IdleMode::Spin | IdleMode::Pause => {
                self.empty > 0 && self.empty.is_multiple_of(PATIENCE)
            }
            IdleMode::Sleep | IdleMode::Interrupt => self.empty >= PATIENCE,
        }
    }

    /// Ends a round that found `got` frames; waits if that were none. Returns whether it was empty. A
    /// worker with receive queues asks [`Idle::wants_arming`] next.
    #[inline]
    pub fn round(&mut self, got: usize) -> bool {
        if got > 0 {
            self.empty = 0;
            if self.waking != Waking::No {
                self.stay_awake();
            }
            return false;
        }
        self.empty = self.empty.saturating_add(1);
        self.wait();
        true
    }

    /// Whether the worker is to arm all its receive queues now, by [`Idle::arm`], before it polls them
    /// once more. Never but for [`IdleMode::Interrupt`].
    #[inline]
    #[must_use]
    pub fn wants_arming(&self) -> bool {
        self.waking == Waking::Asked
    }

    /// Takes what [`pmd::RxQueue::arm`] of each queue yielded. The next empty round waits for them, or
    /// sleeps if one of them cannot wake; the first time, that is said on stderr.
    #[cold]
    pub fn arm<'q>(&mut self, queues: impl IntoIterator<Item = Option<BorrowedFd<'q>>>) {
        static COULD: AtomicBool = AtomicBool::new(false);
        if self.wakers.set(queues) {
            self.waking = Waking::Armed;
            COULD.store(true, Ordering::Relaxed);
        } else if !COULD.swap(true, Ordering::Relaxed) {
            eprintln!(
                "--idle interrupt: a port cannot wake its worker; workers of such ports sleep for up \
                 to 100 microseconds instead"
            );
        }
    }

    /// Something came before the wait began.
    #[cold]
    fn stay_awake(&mut self) {
        self.waking = Waking::No;
        self.wakers.clear();
    }

    #[cold]
    fn wait(&mut self) {
        match self.mode {
            IdleMode::Spin => {
                if self.empty.is_multiple_of(PATIENCE) {
                    thread::yield_now();
                }
            }
            IdleMode::Pause => {
                (0..self.empty.min(PAUSES)).for_each(|_| hint::spin_loop());
                if self.empty.is_multiple_of(PATIENCE) {
                    thread::yield_now();
                }
            }
            IdleMode::Sleep | IdleMode::Interrupt if self.empty < PATIENCE => {
                (0..self.empty.min(PAUSES)).for_each(|_| hint::spin_loop());
            }
            IdleMode::Sleep => self.sleep(),
            IdleMode::Interrupt => match self.waking {
                Waking::No => self.waking = Waking::Asked,
                Waking::Asked => self.sleep(),
                Waking::Armed => {
                    self.wakers.wait();
                    self.waking = Waking::No;
                }
            },
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the user asked for it: `--idle sleep`")]
    fn sleep(&self) {
        let doublings = (self.empty - PATIENCE).min(7);
        thread::sleep((SLEEPS[0] * (1 << doublings)).min(SLEEPS[1]));
    }
}

#[cfg(test)]
mod tests {
    use std::{os::fd::AsFd, time::Instant};

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn frames_end_the_idling() {
        let mut idle = Idle::new(IdleMode::Pause);
        assert!(idle.round(0) && idle.round(0));
        assert_eq!(idle.empty_rounds(), 2);
        assert!(!idle.round(3));
        assert_eq!(idle.empty_rounds(), 0);
    }

    #[test]
    fn only_sleeping_sleeps_and_only_after_some_patience() {
        let time = |mode, rounds| {
            let (mut idle, start) = (Idle::new(mode), Instant::now());
            for _ in 0..rounds {
                idle.round(0);
            }
            start.elapsed()
        };
        // Sleeps are never shorter than asked: 1, 2, 4, … 64, and 100 µs from there on.
        assert!(time(IdleMode::Sleep, 64 + 108) >= Duration::from_millis(10));
        assert!(time(IdleMode::Spin, 1000) < Duration::from_secs(1));
    }

    /// Empty rounds until the queues are to be armed.
    fn until_arming(idle: &mut Idle) {
        for _ in 0..=PATIENCE {
            idle.round(0);
            if idle.wants_arming() {
                return;
            }
        }
        panic!("never asked to arm");
    }

    #[test]
    fn only_interrupts_ask_for_arming_and_only_after_some_patience() {
        for mode in [IdleMode::Spin, IdleMode::Pause, IdleMode::Sleep] {
            let mut idle = Idle::new(mode);
            for _ in 0..200 {
                idle.round(0);
                assert!(!idle.wants_arming());
            }
        }
        let mut idle = Idle::new(IdleMode::Interrupt);
        for _ in 1..PATIENCE {
            idle.round(0);
            assert!(!idle.wants_arming());
        }
        idle.round(0);
        assert!(idle.wants_arming());
        idle.round(1);
        assert!(!idle.wants_arming(), "frames came after all");
    }

    #[test]
    fn an_armed_worker_waits_for_a_frame_and_no_longer_than_it_may() {
        let quiet = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let ready = eventfd(1, EventfdFlags::NONBLOCK).unwrap();
        let mut idle = Idle::new(IdleMode::Interrupt);
        until_arming(&mut idle);
        idle.arm([Some(quiet.as_fd())]);
        assert!(!idle.wants_arming(), "it polls once more first");
        let start = Instant::now();
        idle.round(0);
        assert!(start.elapsed() >= crate::wake::LONGEST, "nothing came");
        idle.round(0);
        assert!(idle.wants_arming(), "still nothing: again");
        // Any of them wakes it. The quickest of several: this thread may have to wait for a core.
        let quickest = (0..20).map(|_| {
            until_arming(&mut idle);
            idle.arm([Some(quiet.as_fd()), Some(ready.as_fd())]);
            let start = Instant::now();
            idle.round(0);
            start.elapsed()
        });
        assert!(quickest.min().unwrap() < crate::wake::LONGEST);
    }

    #[test]
    fn a_worker_that_nothing_can_wake_sleeps() {
        let some = eventfd(1, EventfdFlags::NONBLOCK).unwrap();
        for queues in [vec![None], vec![Some(some.as_fd()), None], vec![]] {
            let mut idle = Idle::new(IdleMode::Interrupt);
            until_arming(&mut idle);
            for _ in 0..8 {
                idle.round(0);
            }
            let start = Instant::now();
            for _ in 0..20 {
                idle.arm(queues.clone());
                assert!(idle.round(0));
            }
            // Sleeps are never shorter than asked: 100 µs each by now.
            assert!(start.elapsed() >= Duration::from_millis(2));
        }
    }
}
