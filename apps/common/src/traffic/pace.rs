//! When frames are due: the n-th at n intervals after the first, so that no error adds up. A sender
//! that was held up catches up at once, and the gaps say so.

use std::time::{Duration, Instant};

use super::Distribution;

/// Frames at even intervals.
pub struct Pacer {
    interval_ns: f64,
    start: Option<Instant>,
    /// Frames that were let go.
    passed: u64,
    last: Option<Instant>,
    gaps: Distribution,
}

impl Pacer {
    /// `rate` frames per second; the first is due at the first call of [`Pacer::due`]. The errors of
    /// gaps go to `gaps`.
    #[must_use]
    pub fn new(rate: f64, gaps: Distribution) -> Self {
        Self { interval_ns: 1e9 / rate.max(1e-9), start: None, passed: 0, last: None, gaps }
    }

    /// Frames that are due at `now` and were not yet let go.
    #[inline]
    pub fn due(&mut self, now: Instant) -> usize {
        let start = *self.start.get_or_insert(now);
        let elapsed = now.saturating_duration_since(start).as_nanos() as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let due = (elapsed / self.interval_ns) as u64 + 1;
        usize::try_from(due.saturating_sub(self.passed)).unwrap_or(usize::MAX)
    }

    /// Lets `count` frames go that were due.
    #[inline]
    pub fn pass(&mut self, count: usize) {
        self.passed += count as u64;
    }

    /// Notes that `count` frames were given to the port at `now`: how far each gap is from the
    /// interval. Frames of one call have no gap between them.
    #[inline]
    pub fn sent(&mut self, now: Instant, count: usize) {
        if count == 0 {
            return;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let nanos = |value: f64| value as u64;
        if let Some(last) = self.last {
            let gap = now.saturating_duration_since(last).as_nanos() as f64;
            self.gaps.record(nanos((gap - self.interval_ns).abs()), 1);
        }
        if count > 1 {
            self.gaps.record(nanos(self.interval_ns), count as u64 - 1);
        }
        self.last = Some(now);
    }

    /// How long until the next frame is due.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Duration {
        let Some(start) = self.start else { return Duration::ZERO };
        let due = self.passed as f64 * self.interval_ns;
        let elapsed = now.saturating_duration_since(start).as_nanos() as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        Duration::from_nanos((due - elapsed) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, micros: u64) -> Instant {
        start + Duration::from_micros(micros)
    }

    #[test]
    fn frames_are_due_one_interval_after_the_other_and_missed_ones_at_once() {
        let mut pacer = Pacer::new(100_000.0, Distribution::default());
        let start = Instant::now();
        let mut due = |micros| {
            let due = pacer.due(at(start, micros));
            pacer.pass(due);
            due
        };
        assert_eq!([due(0), due(9), due(11), due(20), due(100), due(101)], [1, 0, 1, 1, 8, 0]);
        assert_eq!(pacer.wait(at(start, 101)), Duration::from_micros(9));
    }

    #[test]
    fn over_ten_seconds_no_frame_is_gained_or_lost_however_odd_the_polls() {
        let mut pacer = Pacer::new(333_333.0, Distribution::default());
        let (start, mut sent) = (Instant::now(), 0);
        for micros in (0..=10_000_000).step_by(37) {
            let due = pacer.due(at(start, micros));
            pacer.pass(due);
            sent += due as u64;
        }
        assert!(sent.abs_diff(3_333_330) < 20, "{sent}");
    }

    #[test]
    fn gaps_are_measured_against_the_interval() {
        let gaps = Distribution::default();
        let mut pacer = Pacer::new(100_000.0, gaps.clone());
        let start = Instant::now();
        pacer.sent(at(start, 0), 1);
        assert_eq!(Distribution::summary([&gaps]), None);
        pacer.sent(at(start, 13), 1);
        let one = Distribution::summary([&gaps]).unwrap();
        assert_eq!((one.count, one.max_ns), (1, 3_000));
        pacer.sent(at(start, 23), 4);
        let all = Distribution::summary([&gaps]).unwrap();
        assert_eq!((all.count, all.min_ns, all.max_ns), (5, 0, 10_000));
    }
}
