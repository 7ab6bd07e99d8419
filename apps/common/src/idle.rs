//! What a worker does between empty polls. Spinning is quickest; pausing leaves the core's other
//! thread its resources; sleeping leaves the core to others, and costs latency.

use std::{hint, thread, time::Duration};

use clap::ValueEnum;
use serde::Serialize;

use crate::report::Counter;

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
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    mode: IdleMode,
    empty: u32,
}

impl Idle {
    /// Nothing was empty yet.
    #[must_use]
    pub fn new(mode: IdleMode) -> Self {
        Self { mode, empty: 0 }
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
            IdleMode::Sleep => self.empty >= PATIENCE,
        }
    }

    /// Ends a round that found `got` frames; waits if that were none. Returns whether it was empty.
    #[inline]
    pub fn round(&mut self, got: usize) -> bool {
        if got > 0 {
            self.empty = 0;
            return false;
        }
        self.empty = self.empty.saturating_add(1);
        self.wait();
        true
    }

    #[cold]
    #[expect(clippy::disallowed_methods, reason = "the user asked for it: `--idle sleep`")]
    fn wait(&self) {
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
            IdleMode::Sleep if self.empty < PATIENCE => {
                (0..self.empty.min(PAUSES)).for_each(|_| hint::spin_loop());
            }
            IdleMode::Sleep => {
                let doublings = (self.empty - PATIENCE).min(7);
                thread::sleep((SLEEPS[0] * (1 << doublings)).min(SLEEPS[1]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

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
}
