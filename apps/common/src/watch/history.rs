//! Samples over time, in bounded memory: when there is no room, every second one goes and the step
//! doubles. Counts are since the start, so what is left still adds up.

use std::time::Duration;

use pmd::QueueStats;

use super::{PortSample, Sample, Stage};
use crate::report::Rates;

/// Samples at most.
const MOST: usize = 512;

/// What an app looked like, from its start on.
#[derive(Debug)]
pub(super) struct History {
    samples: Vec<Sample>,
    step: Duration,
    due: Duration,
}

impl History {
    /// Nothing yet; samples come every `step`.
    pub(super) fn new(step: Duration) -> Self {
        Self { samples: Vec::new(), step, due: Duration::ZERO }
    }

    /// The samples, in order.
    pub(super) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Whether it is time for a sample.
    pub(super) fn is_due(&self, elapsed: Duration) -> bool {
        elapsed >= self.due
    }

    /// Notes a sample that was due.
    pub(super) fn push(&mut self, elapsed: Duration, sample: Sample) {
        self.note(sample);
        self.due = elapsed + self.step;
    }

    fn note(&mut self, sample: Sample) {
        if self.samples.len() == MOST {
            let mut at = 0;
            self.samples.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.step = self.step.saturating_mul(2);
        }
        self.samples.push(sample);
    }

    /// Notes the last sample. One that comes soon after another takes its place: over so short a time
    /// a rate means little.
    pub(super) fn end(&mut self, last: Sample) {
        let soon = |before: &Sample| last.at.saturating_sub(before.at) < self.step / 2;
        if self.samples.len() > 1 && self.samples.last().is_some_and(soon) {
            self.samples.pop();
        }
        self.note(last);
    }
}

/// From one sample to a later one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change<'a> {
    before: &'a Sample,
    after: &'a Sample,
}

/// What a port did in between.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct PortChange {
    pub(super) rx: Rates,
    pub(super) tx: Rates,
    /// Frames dropped per second, both ways.
    pub(super) drops: f64,
}

impl<'a> Change<'a> {
    pub(super) fn new(before: &'a Sample, after: &'a Sample) -> Self {
        Self { before, after }
    }

    /// The earlier one.
    pub(super) fn before(&self) -> &'a Sample {
        self.before
    }

    fn time(&self) -> Duration {
        self.after.at.saturating_sub(self.before.at)
    }

    /// `count` more, per second.
    pub(super) fn per_second(&self, before: u64, after: u64) -> f64 {
        let seconds = self.time().as_secs_f64();
        if seconds > 0.0 { after.saturating_sub(before) as f64 / seconds } else { 0.0 }
    }

    /// Of the port of that name, if it is there. One that was not there before began at zero; one that
    /// was closed and came back began again.
    pub(super) fn port(&self, name: &str) -> Option<PortChange> {
        let of = |sample: &'a Sample| sample.ports.iter().find(|port| port.name == name);
        let after = of(self.after)?;
        let nothing = PortSample::default();
        let before = of(self.before).unwrap_or(&nothing);
        let rates = |before: &QueueStats, after: &QueueStats| {
            let more = |before: u64, after: u64| after.checked_sub(before).unwrap_or(after);
            let frames = more(before.delivered, after.delivered);
            Rates::of(frames, more(before.bytes, after.bytes), self.time())
        };
        let drops = |port: &PortSample| port.rx.drops.total() + port.tx.drops.total();
        Some(PortChange {
            rx: rates(&before.rx, &after.rx),
            tx: rates(&before.tx, &after.tx),
            drops: self.per_second(drops(before), drops(after)),
        })
    }

    /// Of all ports.
    pub(super) fn ports(&self) -> PortChange {
        let mut sum = PortChange::default();
        for change in self.after.ports.iter().filter_map(|port| self.port(&port.name)) {
            sum.rx.mpps += change.rx.mpps;
            sum.rx.gbps += change.rx.gbps;
            sum.tx.mpps += change.tx.mpps;
            sum.tx.gbps += change.tx.gbps;
            sum.drops += change.drops;
        }
        sum
    }

    /// Share of the rounds of a stage that found something; `None` if there was no round.
    pub(super) fn busy(&self, stage: &Stage) -> Option<f64> {
        let before = self.before.stages.iter().find(|before| before.name == stage.name);
        let (rounds, empty) = before.map_or((0, 0), |before| (before.rounds, before.empty));
        let rounds = stage.rounds.checked_sub(rounds).filter(|rounds| *rounds > 0)?;
        let empty = stage.empty.saturating_sub(empty).min(rounds);
        Some(1.0 - empty as f64 / rounds as f64)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::watch::sample::tests::full;

    /// `full` at another time, with its counts in proportion.
    pub(in crate::watch) fn at(millis: u64) -> Sample {
        let mut sample = full();
        let of = |count: u64| count * millis / 2000;
        sample.at = Duration::from_millis(millis);
        let port = &mut sample.ports[0];
        for stats in [&mut port.rx, &mut port.tx] {
            (stats.delivered, stats.bytes) = (of(stats.delivered), of(stats.bytes));
            stats.offered = stats.delivered + stats.drops.total();
        }
        let stage = &mut sample.stages[0];
        (stage.rounds, stage.empty) = (of(stage.rounds), of(stage.empty));
        sample
    }

    #[test]
    fn memory_is_bounded_and_the_ends_stay() {
        let mut history = History::new(Duration::from_millis(100));
        for now in (0..100_000).map(|step| Duration::from_millis(step * 100)) {
            if history.is_due(now) {
                history.push(now, at(u64::try_from(now.as_millis()).unwrap()));
            }
            assert!(history.samples.len() <= MOST);
        }
        history.end(at(100_000 * 100));
        assert!(history.samples.len() >= MOST / 2);
        assert_eq!(history.samples[0].at, Duration::ZERO);
        assert_eq!(history.samples.last().unwrap().at, Duration::from_secs(10_000));
        assert!(history.samples.is_sorted_by_key(|sample| sample.at));
        // Even after many halvings every change spans the same time, the last one excepted.
        let all = &history.samples[..history.samples.len() - 1];
        let steps = all.windows(2).map(|pair| pair[1].at - pair[0].at);
        assert!(steps.max().unwrap() <= 2 * history.step, "{:?}", history.step);
    }

    #[test]
    fn a_last_sample_that_comes_soon_replaces_the_one_before() {
        let mut history = History::new(Duration::from_millis(100));
        for millis in [0, 100, 200] {
            history.push(Duration::from_millis(millis), at(millis));
        }
        history.end(at(210));
        let times: Vec<_> = history.samples().iter().map(|sample| sample.at.as_millis()).collect();
        assert_eq!(times, [0, 100, 210]);
    }

    #[test]
    fn rates_are_of_the_time_in_between() {
        let (before, after) = (at(1000), at(3000));
        let change = Change::new(&before, &after);
        let port = change.port("ring:a").unwrap();
        assert_eq!(port.rx, Rates { mpps: 0.0005, gbps: 256e-6 });
        assert_eq!(port.tx.mpps, 10e-6);
        assert_eq!(port.drops, 0.0);
        assert_eq!(change.ports(), port);
        assert_eq!(change.port("ring:b"), None);
        assert_eq!(change.busy(&after.stages[0]), Some(0.75));
        assert_eq!(Change::new(&after, &after).busy(&after.stages[0]), None);
        assert_eq!(Change::new(&after, &after).ports(), PortChange::default());
    }

    #[test]
    fn a_port_that_came_back_begins_again() {
        let (mut before, after) = (at(3000), at(4000));
        before.ports[0].rx.delivered = 1 << 40;
        let rates = Change::new(&before, &after).port("ring:a").unwrap().rx;
        assert_eq!(rates.mpps, 2000.0 / 1e6);
    }
}
