//! When an app's main thread has something to do: the next line of the live report, the end of `-t`,
//! the end of the time that workers get to empty ports. Knows clocks; knows no ports.

use std::time::{Duration, Instant};

use crate::args::RunArgs;

/// The longest nap: views, ports and flags are looked at this often.
pub const LOOK: Duration = Duration::from_millis(20);
/// How long workers may take to empty ports that have ended.
pub const DRAIN: Duration = Duration::from_secs(2);

/// The main thread's appointments.
#[derive(Clone, Debug)]
pub struct Schedule {
    start: Instant,
    deadline: Option<Instant>,
    interval: Duration,
    next_line: Instant,
    drained: Option<Instant>,
}

/// Why a schedule is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// `-t` has passed.
    Duration,
    /// The time to empty ports has passed.
    Drained,
}

impl Schedule {
    /// Starts now, with `-t` and `-i` of `run`.
    #[must_use]
    pub fn new(run: &RunArgs) -> Self {
        let start = Instant::now();
        let deadline = run.duration.and_then(|duration| start.checked_add(duration));
        let next_line = start + run.interval.min(Duration::from_secs(1 << 32));
        Self { start, deadline, interval: run.interval, next_line, drained: None }
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// How long to sleep: until the next appointment, [`LOOK`] at most.
    #[must_use]
    pub fn nap(&self) -> Duration {
        let until = [Some(self.next_line), self.deadline, self.drained].into_iter().flatten().min();
        until.map_or(LOOK, |until| until.saturating_duration_since(Instant::now())).min(LOOK)
    }

    /// Whether a line of the live report is due; the next one is, an interval later. Lines that were
    /// missed are left out.
    pub fn is_line_due(&mut self) -> bool {
        let now = Instant::now();
        if now < self.next_line {
            return false;
        }
        let next = self.next_line + self.interval;
        self.next_line = if next > now { next } else { now + self.interval };
        true
    }

    /// Gives workers [`DRAIN`] from now, the first time it is called.
    pub fn drain(&mut self) {
        self.drained.get_or_insert_with(|| Instant::now() + DRAIN);
    }

    /// Whether workers are emptying ports.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drained.is_some()
    }

    /// Whether it is over, and why.
    #[must_use]
    pub fn over(&self) -> Option<Over> {
        let now = Instant::now();
        let has_passed = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if has_passed(self.drained) {
            return Some(Over::Drained);
        }
        has_passed(self.deadline).then_some(Over::Duration)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct App {
        #[command(flatten)]
        run: RunArgs,
    }

    fn schedule(line: &str) -> Schedule {
        let words = std::iter::once("app").chain(line.split_whitespace());
        Schedule::new(&App::try_parse_from(words).unwrap().run)
    }

    #[test]
    fn naps_end_with_the_next_appointment() {
        assert_eq!(schedule("-i 1h").nap(), LOOK);
        assert!(schedule("-i 1ms").nap() <= Duration::from_millis(1));
        assert!(schedule("-i 1h -t 2ms").nap() <= Duration::from_millis(2));
    }

    #[test]
    fn it_is_over_when_the_time_is() {
        let schedule = schedule("-t 1ms");
        let end = Instant::now() + Duration::from_millis(2);
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        assert_eq!(schedule.over(), Some(Over::Duration));
    }

    #[test]
    fn lines_that_were_missed_are_left_out() {
        let mut schedule = schedule("-i 1ms");
        assert!(!schedule.is_draining() && schedule.over().is_none());
        let end = Instant::now() + Duration::from_millis(20);
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        assert!(schedule.is_line_due());
        assert!(schedule.nap() > Duration::ZERO);
    }

    #[test]
    fn draining_is_not_over_at_once() {
        let mut schedule = schedule("");
        schedule.drain();
        assert!(schedule.is_draining());
        assert_eq!(schedule.over(), None);
    }
}
