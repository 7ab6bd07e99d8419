//! Timing: many short windows on the time-stamp counter; the least is the cost without disturbance,
//! the median what a busy machine sees, the 90th percentile how far they lie apart.
#![allow(unsafe_code, reason = "reads the time-stamp counter")]

use std::time::{Duration, Instant};

/// Ticks per object over several windows.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    /// The quickest window.
    pub least: f64,
    /// The middle one.
    pub median: f64,
    /// Nine in ten are no slower.
    pub p90: f64,
}

/// The time-stamp counter.
#[must_use]
#[inline(always)]
pub fn tsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: reads a counter; has no other effect.
        unsafe { std::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        u64::try_from(std::time::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_nanos())).unwrap_or(0)
    }
}

/// Ticks of the time-stamp counter in a nanosecond, within a few parts of a million.
#[must_use]
pub fn ticks_per_nano() -> f64 {
    const SPAN: Duration = Duration::from_millis(50);
    let (start, before) = (Instant::now(), tsc());
    while start.elapsed() < SPAN {
        std::hint::spin_loop();
    }
    #[expect(clippy::cast_precision_loss, reason = "50 ms are far below 2^52 ticks")]
    let ticks = (tsc() - before) as f64;
    ticks / (start.elapsed().as_secs_f64() * 1e9)
}

/// Least, median and 90th percentile of samples.
#[must_use]
pub fn summarise(mut samples: Vec<f64>) -> Ticks {
    samples.sort_by(f64::total_cmp);
    let at = |index: usize| samples.get(index).copied().unwrap_or(f64::NAN);
    Ticks { least: at(0), median: at(samples.len() / 2), p90: at(samples.len() * 9 / 10) }
}

/// Objects per window: long enough to drown the counter's own cost, short enough to fit between two
/// disturbances.
pub const OBJECTS: usize = 40_000;

/// Runs `step`, which handles `objects` objects a call, for `windows` windows.
pub fn measure(windows: usize, objects: usize, mut step: impl FnMut()) -> Ticks {
    let steps = OBJECTS.div_ceil(objects);
    (0..steps).for_each(|_| step());
    let sample = |_| {
        let start = tsc();
        (0..steps).for_each(|_| step());
        #[expect(clippy::cast_precision_loss, reason = "a window is far below 2^52 ticks")]
        let ticks = (tsc() - start) as f64;
        #[expect(clippy::cast_precision_loss, reason = "as above")]
        let count = (steps * objects) as f64;
        ticks / count
    };
    summarise((0..windows).map(sample).collect())
}
