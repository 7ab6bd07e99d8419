//! What a worker spends on the frames that it receives: time and CPU instructions of the polls that yielded some.
//! Polls that found nothing are left out, so that a port that waits costs nothing. Knows no path.

use std::time::Instant;

use hdrhistogram::Histogram;
use memwire_apps::instructions::Instructions;
use serde::Serialize;

/// What was spent, and on what.
#[derive(Clone, Debug)]
pub struct Cost {
    /// Frames received.
    pub frames: u64,
    /// Polls that yielded them.
    pub bursts: u64,
    /// Nanoseconds of those polls, everything that was done with the frames included.
    pub busy_ns: u64,
    /// Those of a frame, burst by burst, in parts of a nanosecond: the middle one says what a frame costs where
    /// others disturb the worker now and then.
    bursts_ns: Histogram<u64>,
    /// User instructions of those polls, or why they were not counted.
    pub instructions: Option<Result<u64, String>>,
}

/// Parts of a nanosecond.
const PARTS: u64 = 16;
/// Longest time of a frame that is told from longer ones, in those parts: a second.
const LONGEST: u64 = PARTS * 1_000_000_000;

impl Default for Cost {
    fn default() -> Self {
        let bursts_ns =
            Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds that are in order");
        Self { frames: 0, bursts: 0, busy_ns: 0, bursts_ns, instructions: None }
    }
}

impl Cost {
    /// Counts another worker's too.
    pub fn merge(&mut self, other: &Self) {
        self.frames += other.frames;
        self.bursts += other.bursts;
        self.busy_ns += other.busy_ns;
        // The bounds are the same.
        let _ = self.bursts_ns.add(&other.bursts_ns);
        self.instructions = match (self.instructions.take(), &other.instructions) {
            (Some(Ok(ours)), Some(Ok(theirs))) => Some(Ok(ours + theirs)),
            (None, theirs) => theirs.clone(),
            (Some(Ok(_)), Some(why)) => Some(why.clone()),
            (ours, _) => ours,
        };
    }
}

/// Measures the thread that made it.
pub(crate) struct Gauge {
    counter: Result<Instructions, String>,
    cost: Cost,
}

/// Before a poll.
pub(crate) struct Mark(Instant, u64);

impl Gauge {
    /// For this thread.
    pub(crate) fn of_this_thread() -> Self {
        Self { counter: Instructions::of_this_thread(), cost: Cost::default() }
    }

    /// Before a poll.
    #[inline]
    pub(crate) fn mark(&self) -> Mark {
        Mark(Instant::now(), self.counter.as_ref().map_or(0, Instructions::read))
    }

    /// After a poll that yielded so many frames.
    #[inline]
    pub(crate) fn spent(&mut self, since: &Mark, frames: usize) {
        if frames == 0 {
            return;
        }
        let Mark(start, before) = since;
        let Self { counter, cost } = self;
        cost.frames += frames as u64;
        cost.bursts += 1;
        let spent = u64::try_from(start.elapsed().as_nanos()).unwrap_or(0);
        cost.busy_ns += spent;
        cost.bursts_ns.saturating_record((spent.saturating_mul(PARTS) / frames as u64).max(1));
        if let Ok(counter) = counter {
            let spent = counter.read().saturating_sub(*before);
            let sum = cost.instructions.get_or_insert(Ok(0));
            *sum = sum.clone().map(|sum| sum + spent);
        }
    }

    /// All of it.
    pub(crate) fn finish(self) -> Cost {
        let Self { counter, cost } = self;
        match counter {
            Ok(_) => cost,
            Err(why) => Cost { instructions: Some(Err(why)), ..cost },
        }
    }
}

/// The same per frame, as it is told.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CostReport {
    /// Frames in a burst, on average.
    pub burst: f64,
    /// Nanoseconds of a worker's time per frame.
    pub busy_ns: f64,
    /// The same of the middle one of all bursts.
    pub median_ns: f64,
    /// User instructions per frame.
    pub instructions: Option<f64>,
    /// Why there are none.
    pub uncounted: Option<String>,
    /// Payload bytes per frame that the host copied.
    pub host_bytes: f64,
}

impl CostReport {
    /// Of this cost; `touched` payload bytes were copied by the host.
    #[must_use]
    pub fn of(cost: &Cost, touched: u64) -> Self {
        let per = |sum: u64, of: u64| if of == 0 { 0.0 } else { sum as f64 / of as f64 };
        let (instructions, uncounted) = match &cost.instructions {
            Some(Ok(count)) => (Some(per(*count, cost.frames)), None),
            Some(Err(why)) => (None, Some(why.clone())),
            None => (None, Some("no frame came".into())),
        };
        Self {
            burst: per(cost.frames, cost.bursts),
            busy_ns: per(cost.busy_ns, cost.frames),
            median_ns: cost.bursts_ns.value_at_quantile(0.5) as f64 / PARTS as f64,
            instructions,
            uncounted,
            host_bytes: per(touched, cost.frames),
        }
    }

    /// Instructions per frame, in words.
    #[must_use]
    pub fn instructions_text(&self) -> String {
        match (self.instructions, &self.uncounted) {
            (Some(count), _) => format!("{count:.0}"),
            (None, Some(why)) => format!("not available here: {why}"),
            (None, None) => "not available here".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_that_found_nothing_cost_nothing() {
        let mut gauge = Gauge::of_this_thread();
        let mark = gauge.mark();
        gauge.spent(&mark, 0);
        gauge.spent(&mark, 8);
        let cost = gauge.finish();
        assert_eq!((cost.frames, cost.bursts), (8, 1));
        assert!(cost.busy_ns > 0);
    }

    #[test]
    fn what_one_worker_could_not_count_is_not_made_up() {
        let counted = |count| Cost { frames: 10, instructions: Some(count), ..Cost::default() };
        let mut sum = Cost::default();
        sum.merge(&counted(Ok(500)));
        sum.merge(&counted(Ok(700)));
        assert_eq!(CostReport::of(&sum, 200).instructions, Some(60.0));
        assert!((CostReport::of(&sum, 200).host_bytes - 10.0).abs() < 1e-9);
        sum.merge(&counted(Err("no".into())));
        let report = CostReport::of(&sum, 0);
        assert_eq!(report.instructions, None);
        assert_eq!(report.instructions_text(), "not available here: no");
    }
}
