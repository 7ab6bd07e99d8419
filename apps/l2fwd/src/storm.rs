//! The storm guard: how many frames a port may have flooded. Workers take tokens, the main thread
//! refills them by its coarse clock. Knows no frames.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use memwire_apps::units::Rate;

/// How much a port may save up: this part of a second's worth.
const SAVED: f64 = 0.1;
/// More than any wire carries; keeps sums far from overflow.
const MOST: f64 = 1e12;

/// `--storm`: frames per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StormRate(pub(crate) f64);

impl std::str::FromStr for StormRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(Rate::Frames(rate)) if (1.0..=MOST).contains(&rate) => Ok(Self(rate)),
            _ => Err(format!("'{text}' is not a rate of frames, 1pps or more, such as 1kpps")),
        }
    }
}

/// One port's tokens.
#[derive(Debug)]
pub(crate) struct Storm {
    tokens: AtomicU64,
    depth: u64,
    rate: f64,
}

impl Storm {
    /// Full.
    pub(crate) fn new(StormRate(rate): StormRate) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "far below 2^53: see MOST")]
        let depth = (rate * SAVED).ceil().max(1.0) as u64;
        Self { tokens: AtomicU64::new(depth), depth, rate }
    }

    /// Takes a token; false if there is none.
    #[inline]
    pub(crate) fn admits(&self) -> bool {
        // Relaxed: a count that orders nothing.
        let take = |tokens: u64| tokens.checked_sub(1);
        self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Adds what `time` is worth, of which `rest` was left over; returns what is left over. For the
    /// main thread.
    pub(crate) fn refill(&self, time: Duration, rest: f64) -> f64 {
        let due = self.rate.mul_add(time.as_secs_f64(), rest);
        let whole = due.floor();
        #[expect(clippy::cast_possible_truncation, reason = "saturates, and is cut to the depth")]
        let more = whole as u64;
        let add = |tokens: u64| Some(tokens.saturating_add(more).min(self.depth));
        let _ = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        due - whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_admits_what_was_saved_and_then_the_rate() {
        let storm = Storm::new("100pps".parse().unwrap());
        let drain = || (0..1000).filter(|_| storm.admits()).count();
        assert_eq!(drain(), 10);
        let mut rest = 0.0;
        let mut admitted = 0;
        for _ in 0..1000 {
            rest = storm.refill(Duration::from_millis(7), rest);
            admitted += drain();
        }
        assert!((699..=701).contains(&admitted), "{admitted} in 7 s");
        storm.refill(Duration::from_secs(3600), 0.0);
        assert_eq!(drain(), 10, "no more is saved than a tenth of a second's worth");
    }

    #[test]
    fn only_rates_of_frames_are_rates() {
        for text in ["", "1000", "0pps", "0.5pps", "10%", "1gbps", "-1kpps", "nanpps", "9e9pps"] {
            let error = text.parse::<StormRate>().unwrap_err();
            assert_eq!(
                error,
                format!("'{text}' is not a rate of frames, 1pps or more, such as 1kpps")
            );
        }
        assert_eq!("1kpps".parse(), Ok(StormRate(1000.0)));
    }
}
