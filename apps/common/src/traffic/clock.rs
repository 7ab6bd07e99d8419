//! The clock of timestamps: nanoseconds since 1970, read once, then carried on by the monotonic
//! clock, so that it never steps back. Two ends that share one value measure latency exactly; two
//! processes on one host agree as far as the wall clock was not set in between.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A monotonic clock that knows the time of day it was started at.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    start_ns: u64,
}

impl Clock {
    /// Starts at the time of day.
    #[must_use]
    pub fn start() -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            start: Instant::now(),
            start_ns: u64::try_from(epoch.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// Nanoseconds since 1970 at `instant`.
    #[inline]
    #[must_use]
    pub fn ns_at(&self, instant: Instant) -> u64 {
        let elapsed = instant.saturating_duration_since(self.start).as_nanos();
        self.start_ns.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    /// Nanoseconds since 1970 now.
    #[inline]
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.ns_at(Instant::now())
    }
}
