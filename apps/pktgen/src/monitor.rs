//! What a run looks like: live lines and views while it runs, totals when its workers are back.

use std::time::{Duration, Instant};

use memwire_apps::{
    AppError,
    idle::Activity,
    report::{DropsReport, Output, PoolReport, Rates},
    table::Live,
    traffic::{Distribution, Sent},
    units,
    watch::{Count, Latency, Level, PortSample, Sample, Stage, Watch},
};
use serde::Serialize;

use crate::{
    Args,
    setup::{Mode, Rig},
    summary::{FlowLine, Received},
    track::FlowCounts,
};

/// Flows that a report lists at most: the worst first.
const LISTED: usize = 100;

/// Watches a run.
pub(crate) struct Monitor {
    start: Instant,
    interval: Duration,
    next_line: Instant,
    last: Snapshot,
    live: Live,
    watch: Watch,
    facts: Vec<(String, String)>,
    /// What was sent before this leg, in all and of each flow; and what was received.
    before: (Sent, Vec<u64>, u64),
    /// Lost in earlier legs.
    lost_before: u64,
    /// What views were told was lost.
    lost_shown: u64,
    /// Frames per second that were asked for.
    rate: Option<f64>,
    handles: Handles,
}

type Handles = crate::setup::Handles;

#[derive(Clone, Copy)]
struct Snapshot {
    at: Instant,
    tx: (u64, u64),
    rx: (u64, u64),
}

/// Totals of a run, before its ports are stopped.
pub(crate) struct Totals {
    pub(crate) sent: Sent,
    /// Frames of a capture that were read and not sent.
    pub(crate) refused: u64,
    pub(crate) received: Received,
    pub(crate) latency: Option<Latency>,
    pub(crate) gaps: Option<Latency>,
    pub(crate) flows: Vec<FlowLine>,
    /// Share of rounds that found nothing.
    pub(crate) idle: f64,
}

#[derive(Serialize)]
struct IntervalReport {
    schema: &'static str,
    seconds: f64,
    tx: Rates,
    rx: Rates,
    received: Received,
    latency_p50_ns: Option<u64>,
    latency_p99_ns: Option<u64>,
    gap_error_p99_ns: Option<u64>,
}

impl Monitor {
    pub(crate) fn new(args: &Args, rig: &Rig, rate: Option<f64>, watch: Watch) -> Self {
        let now = Instant::now();
        let mut facts = Vec::new();
        if let Some(traffic) = &rig.traffic {
            facts.push(("sizes".to_owned(), traffic.sizes().to_string()));
            facts.push(("flows".to_owned(), rig.keys.len().to_string()));
        }
        let asked = rate.map_or("as fast as it goes".to_owned(), units::format_frames);
        facts.push(("rate".to_owned(), asked));
        let columns = [
            "time",
            "tx Mpps",
            "tx Gb/s",
            "rx Mpps",
            "lost",
            "reord",
            "dup",
            "bad",
            "lat p50/p99/p99.9 us",
        ];
        let handles = Handles {
            counts: rig.handles.counts.clone(),
            latency: rig.handles.latency.clone(),
            gaps: rig.handles.gaps.clone(),
            activities: rig.handles.activities.clone(),
        };
        Self {
            start: now,
            interval: args.run.interval,
            next_line: now + args.run.interval,
            last: Snapshot { at: now, tx: (0, 0), rx: (0, 0) },
            live: Live::new(&columns),
            watch,
            facts,
            before: (Sent::default(), vec![0; rig.keys.len()], 0),
            lost_before: 0,
            lost_shown: 0,
            rate,
            handles,
        }
    }

    /// Begins a leg: what was lost until now stays lost, and the rest counts anew.
    pub(crate) fn restart(&mut self, rig: &Rig) {
        self.lost_before = self.lost(rig);
        self.before = (sent(rig), self.flows_sent(rig), self.sum(|counts| counts.good.get()));
    }

    /// Frames sent and lost in this leg.
    pub(crate) fn leg(&self, rig: &Rig) -> (u64, u64) {
        (sent(rig).frames - self.before.0.frames, self.lost(rig) - self.lost_before)
    }

    fn flows_sent(&self, rig: &Rig) -> Vec<u64> {
        let mut flows = vec![0; rig.keys.len()];
        let all = rig.senders.iter().flat_map(crate::sender::Sender::flows);
        all.for_each(|(flow, frames)| flows[flow] = frames);
        flows
    }

    fn sum(&self, count: impl Fn(&crate::analyse::Counts) -> u64) -> u64 {
        self.handles.counts.iter().map(|counts| count(counts)).sum()
    }

    /// Frames received, and bytes.
    pub(crate) fn received(&self) -> (u64, u64) {
        (self.sum(|counts| counts.frames.get()), self.sum(|counts| counts.bytes.get()))
    }

    /// For each flow: frames sent in this leg (or that must have been, by their numbers), and what
    /// came of them.
    fn flows(&self, rig: &Rig) -> Vec<(u64, FlowCounts)> {
        let mut flows = vec![(0, FlowCounts::default()); rig.keys.len()];
        for receiver in &rig.receivers {
            for (flow, (counts, span)) in flows.iter_mut().zip(receiver.analyser.flows()) {
                flow.0 = flow.0.max(span);
                flow.1.merge(&counts);
            }
        }
        if rig.mode != Mode::Receive {
            let sent = self.flows_sent(rig);
            for ((flow, now), before) in flows.iter_mut().zip(sent).zip(&self.before.1) {
                flow.0 = now - before;
            }
        }
        flows
    }

    /// Frames lost, this leg and before; while workers have no frames in their hands.
    fn lost(&self, rig: &Rig) -> u64 {
        if rig.receivers.is_empty() {
            return self.lost_before;
        }
        let lost = if rig.is_numbered() {
            self.flows(rig).iter().map(|(sent, counts)| sent.saturating_sub(counts.arrived)).sum()
        } else {
            let sent = sent(rig).frames - self.before.0.frames;
            sent.saturating_sub(self.sum(|counts| counts.good.get()) - self.before.2)
        };
        self.lost_before + lost
    }

    /// What was received so far, as the receivers know it.
    fn seen(&self) -> Received {
        let (frames, bytes) = self.received();
        let (span, arrived) =
            (self.sum(|counts| counts.span.get()), self.sum(|counts| counts.arrived.get()));
        Received {
            frames,
            bytes,
            good: self.sum(|counts| counts.good.get()),
            lost: span.saturating_sub(arrived),
            reordered: self.sum(|counts| counts.reordered.get()),
            duplicate: self.sum(|counts| counts.duplicate.get()),
            corrupt: self.sum(|counts| counts.corrupt.get()),
            truncated: self.sum(|counts| counts.truncated.get()),
            stale: self.sum(|counts| counts.stale.get()),
            foreign: self.sum(|counts| counts.foreign.get()),
        }
    }

    /// Prints what is due, and serves views that are.
    pub(crate) fn look(&mut self, rig: &Rig, output: &mut Output) -> Result<(), AppError> {
        let now = Instant::now();
        if now >= self.next_line {
            self.line(now, rig, output)?;
            self.next_line += self.interval;
        }
        let mut seen = self.seen();
        // A late frame makes up for a loss, but whoever watches counters takes a step back for a new
        // beginning.
        seen.lost = seen.lost.max(self.lost_shown);
        self.lost_shown = seen.lost;
        let Self { watch, facts, handles, start, rate, .. } = self;
        watch.tick(|| sample(facts, handles, *start, *rate, seen, rig))
    }

    fn line(&mut self, now: Instant, rig: &Rig, output: &mut Output) -> Result<(), AppError> {
        let (_, tx, _) = rig.devices[0].stats();
        let tx = if rig.mode == Mode::Receive { (0, 0) } else { (tx.delivered, tx.bytes) };
        let rx = self.received();
        let time = now - self.last.at;
        let rates = |now: (u64, u64), before: (u64, u64)| {
            Rates::of(now.0.saturating_sub(before.0), now.1.saturating_sub(before.1), time)
        };
        let (tx_rates, rx_rates) = (rates(tx, self.last.tx), rates(rx, self.last.rx));
        self.last = Snapshot { at: now, tx, rx };
        let seen = self.seen();
        let latency = Distribution::summary(&self.handles.latency);
        let gaps = Distribution::summary(&self.handles.gaps);
        let seconds = (now - self.start).as_secs_f64();
        output.live(self.live.line(&[
            format!("{seconds:.1}"),
            format!("{:.3}", tx_rates.mpps),
            format!("{:.2}", tx_rates.gbps),
            format!("{:.3}", rx_rates.mpps),
            seen.lost.to_string(),
            seen.reordered.to_string(),
            seen.duplicate.to_string(),
            (seen.corrupt + seen.truncated).to_string(),
            latency.map_or_else(|| "-".to_owned(), |latency| quantiles(&latency)),
        ]));
        output.interval(&IntervalReport {
            schema: "memwire/pktgen-interval/1",
            seconds,
            tx: tx_rates,
            rx: rx_rates,
            received: seen,
            latency_p50_ns: latency.map(|latency| latency.p50_ns),
            latency_p99_ns: latency.map(|latency| latency.p99_ns),
            gap_error_p99_ns: gaps.map(|gaps| gaps.p99_ns),
        })
    }

    /// Everything, once the workers are back.
    pub(crate) fn totals(&self, rig: &Rig) -> Totals {
        let received = Received { lost: self.lost(rig), ..self.seen() };
        let rounds = |count: fn(&Activity) -> u64| -> u64 {
            self.handles.activities.iter().map(|(_, activity)| count(activity)).sum()
        };
        let (rounds, empty) = (rounds(|a| a.rounds.get()), rounds(|a| a.empty.get()));
        let mut flows: Vec<_> = match rig.mode {
            Mode::Generate | Mode::Receive if rig.is_numbered() => self.flows(rig),
            _ => Vec::new(),
        }
        .into_iter()
        .zip(&rig.keys)
        .enumerate()
        .map(|(flow, ((sent, counts), key))| FlowLine::new(flow, *key, sent, counts, rig))
        .collect();
        flows.sort_by_key(|line| std::cmp::Reverse(line.trouble()));
        flows.truncate(LISTED);
        Totals {
            sent: sent(rig),
            refused: rig.senders.iter().map(crate::sender::Sender::refused).sum(),
            received,
            latency: Distribution::summary(&self.handles.latency),
            gaps: Distribution::summary(&self.handles.gaps),
            flows,
            idle: if rounds == 0 { 0.0 } else { empty as f64 / rounds as f64 },
        }
    }

    /// Leaves the views, with the last sample.
    pub(crate) fn finish(self, rig: &Rig) -> Result<(), AppError> {
        let (facts, handles) = (&self.facts, &self.handles);
        let sample = sample(facts, handles, self.start, self.rate, self.seen(), rig);
        self.watch.finish(sample)
    }
}

/// What all senders have sent; while they are not at work.
fn sent(rig: &Rig) -> Sent {
    let mut sum = Sent::default();
    for sent in rig.senders.iter().map(crate::sender::Sender::sent) {
        sum.frames += sent.frames;
        sum.foreign += sent.foreign;
        sum.bytes += sent.bytes;
        sum.stalls += sent.stalls;
    }
    sum
}

/// Quantiles in microseconds: `6.1/9.8/14.2`.
pub(crate) fn quantiles(latency: &Latency) -> String {
    let values = [latency.p50_ns, latency.p99_ns, latency.p999_ns];
    values.map(|ns| format!("{:.1}", ns as f64 / 1e3)).join("/")
}

fn sample(
    facts: &[(String, String)],
    handles: &Handles,
    start: Instant,
    rate: Option<f64>,
    seen: Received,
    rig: &Rig,
) -> Sample {
    let devices = rig.devices.iter().chain(&rig.capture);
    let gaps = Distribution::summary(&handles.gaps);
    let level = |name: &str, value, of| Level { name: name.to_owned(), value, of };
    let mut levels = Vec::new();
    if let (Some(rate), Some(gaps)) = (rate, gaps) {
        let of = 1e6 / rate;
        levels.push(level("gap p50, us", gaps.p50_ns as f64 / 1e3, of));
        levels.push(level("gap p99, us", gaps.p99_ns as f64 / 1e3, of));
    }
    let mut drops = DropsReport::default();
    drops.add("corrupt", seen.corrupt);
    drops.add("truncated", seen.truncated);
    let count = |name, help, value| Count { name, help, value };
    Sample {
        at: start.elapsed(),
        facts: facts.to_vec(),
        ports: devices.map(|device| PortSample::of(&**device)).collect(),
        drops,
        pools: rig.pools.iter().map(PoolReport::of).collect(),
        stages: handles
            .activities
            .iter()
            .map(|(name, activity)| Stage {
                name: name.clone(),
                rounds: activity.rounds.get(),
                empty: activity.empty.get(),
            })
            .collect(),
        levels,
        counts: vec![
            count("good", "Frames of the flows that were whole.", seen.good),
            count("lost", "Numbers that did not arrive, whole or damaged.", seen.lost),
            count("reordered", "Frames that came after one with a higher number.", seen.reordered),
            count("duplicate", "Frames whose number had come before.", seen.duplicate),
            count("stale", "Frames too old to tell whether they are duplicates.", seen.stale),
            count("foreign", "Frames of no flow that was asked for.", seen.foreign),
        ],
        latency: Distribution::summary(&handles.latency),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_printed_in_microseconds() {
        let latency =
            Latency { p50_ns: 6_100, p99_ns: 9_800, p999_ns: 14_240, ..Latency::default() };
        assert_eq!(quantiles(&latency), "6.1/9.8/14.2");
    }
}
