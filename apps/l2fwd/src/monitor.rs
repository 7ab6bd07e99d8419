//! Watches counters while workers run, and adds them up at the end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_utils::CachePadded;
use memwire_apps::{
    report::{Counter, DropsReport, Output, PoolReport, Rates},
    watch::{Count, Level, Sample, Stage},
};
use pmd::{DropReason, Drops, QueueStats};
use serde::Serialize;

use crate::{
    Args, Mode, Rewrite,
    plan::partner,
    port::{Port, State},
    summary::{Ended, PortSummary, Summary, SwitchSummary},
    tally::{PortCounts, Tally},
    upkeep::Upkeep,
};

/// One port over some time. Rates are of that time, counts since the start.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) port: String,
    pub(crate) state: State,
    pub(crate) outages: u64,
    pub(crate) rx: Rates,
    pub(crate) tx: Rates,
    pub(crate) rx_missed: u64,
    pub(crate) dropped: u64,
    pub(crate) tx_drop: u64,
    pub(crate) nombuf: u64,
    pub(crate) flooded: u64,
}

/// The lines of a table.
pub(crate) struct Lines(pub(crate) Vec<Line>);

#[derive(Serialize)]
struct IntervalReport<'a> {
    schema: &'static str,
    seconds: f64,
    ports: &'a [Line],
    stations: Option<usize>,
    idle: f64,
}

/// A port's counters at one moment: its queues', and the workers'.
struct Snapshot {
    rx: QueueStats,
    tx: QueueStats,
    counts: PortCounts,
}

/// Watches counters while workers run.
pub(crate) struct Monitor {
    mode: Mode,
    rewrite: Rewrite,
    /// Ports, without the mirror.
    count: usize,
    has_mirror: bool,
    tallies: Vec<Arc<CachePadded<Tally>>>,
    start: Instant,
    last: Instant,
    seen: Vec<(QueueStats, QueueStats)>,
    seen_rounds: (u64, u64),
}

impl Monitor {
    pub(crate) fn new(args: &Args, tallies: Vec<Arc<CachePadded<Tally>>>) -> Self {
        let now = Instant::now();
        Self {
            mode: args.mode,
            rewrite: args.rewrite,
            count: args.ports.ports.len(),
            has_mirror: args.mirror.is_some(),
            tallies,
            start: now,
            last: now,
            seen: Vec::new(),
            seen_rounds: (0, 0),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn tallies(&self) -> impl Iterator<Item = &Tally> + Clone {
        self.tallies.iter().map(|tally| &***tally)
    }

    fn total(&self, count: fn(&Tally) -> &Counter) -> u64 {
        self.tallies().map(|tally| count(tally).get()).sum()
    }

    fn rounds(&self) -> (u64, u64) {
        (self.total(|tally| &tally.activity.rounds), self.total(|tally| &tally.activity.empty))
    }

    /// What workers counted of a port, the mirror being the one behind the last.
    fn counts_of(&self, port: usize) -> PortCounts {
        let mut counts = PortCounts::sum(self.tallies(), port);
        if self.mode == Mode::Pairs && port < self.count {
            let partner = PortCounts::sum(self.tallies(), partner(port, self.count));
            counts.forwarded = partner.handed;
        }
        counts
    }

    fn snapshots(&self, ports: &[Port]) -> Vec<Snapshot> {
        let one = |(at, port): (usize, &Port)| {
            let totals = port.totals();
            let counts = self.counts_of(at);
            Snapshot { rx: totals.rx, tx: totals.tx, counts }
        };
        ports.iter().enumerate().map(one).collect()
    }

    /// Prints what happened since the last interval; counts are since the start.
    pub(crate) fn interval(&mut self, upkeep: &Upkeep, output: &mut Output) {
        let now = Instant::now();
        let time = now - self.last;
        let snapshots = self.snapshots(&upkeep.ports);
        let nothing = Default::default();
        let lines = snapshots.iter().enumerate().map(|(at, snapshot)| {
            let seen = self.seen.get(at).unwrap_or(&nothing);
            line(at, &upkeep.ports[at], snapshot, seen, time)
        });
        let lines = Lines(lines.collect());
        let rounds = self.rounds();
        let idle = share(rounds.1 - self.seen_rounds.1, rounds.0 - self.seen_rounds.0);
        self.seen = snapshots.into_iter().map(|snapshot| (snapshot.rx, snapshot.tx)).collect();
        (self.last, self.seen_rounds) = (now, rounds);
        let seconds = (now - self.start).as_secs_f64();
        output.live(format_args!("{seconds:.1} s\n{}", lines.table(idle)));
        let schema = "memwire/l2fwd-interval/2";
        let stations = upkeep.fabric.as_ref().map(|fabric| fabric.fdb.len());
        let report = IntervalReport { schema, seconds, ports: &lines.0, stations, idle };
        // A reader that is gone is no reason not to forward; the summary will find it gone too.
        let _ = output.interval(&report);
    }

    /// All of it at this moment, for the views.
    pub(crate) fn sample(&self, upkeep: &Upkeep) -> Sample {
        let mut drops = DropsReport::default();
        let mut outages = 0;
        for (at, port) in upkeep.ports.iter().enumerate() {
            let counts = self.counts_of(at);
            for (reason, count) in counts.drops_report().0.iter().chain(&counts.unsent_report().0) {
                drops.add(reason, *count);
            }
            outages += port.outages;
        }
        let stages = self.tallies().enumerate().map(|(at, tally)| Stage {
            name: format!("worker {at}"),
            rounds: tally.activity.rounds.get(),
            empty: tally.activity.empty.get(),
        });
        let level = |fabric: &Arc<crate::switch::Fabric>| Level {
            name: "forwarding table".to_owned(),
            value: fabric.fdb.len() as f64,
            of: fabric.fdb.capacity() as f64,
        };
        Sample {
            at: self.elapsed(),
            facts: vec![
                ("mode".to_owned(), format!("{:?}", self.mode).to_lowercase()),
                ("workers".to_owned(), self.tallies.len().to_string()),
            ],
            ports: upkeep.ports.iter().map(Port::sample).collect(),
            drops,
            pools: vec![PoolReport::of(&upkeep.pool)],
            stages: stages.collect(),
            levels: upkeep.fabric.iter().map(level).collect(),
            counts: self.counts(upkeep, outages),
            latency: None,
        }
    }

    fn counts(&self, upkeep: &Upkeep, outages: u64) -> Vec<Count> {
        let ports = |count: fn(&PortCounts) -> u64| {
            (0..upkeep.count).map(|at| count(&self.counts_of(at))).sum()
        };
        let mut counts = vec![
            Count {
                name: "forwarded",
                help: "Frames that left by one port.",
                value: ports(|counts| counts.forwarded),
            },
            Count {
                name: "outages",
                help: "Times that a port was out of service or lost its link.",
                value: outages,
            },
        ];
        if let Some(switch) = self.switch(upkeep) {
            let flooded = ports(|counts| counts.flooded);
            for (name, help, value) in [
                ("flooded", "Frames that left by every port that they could.", flooded),
                ("stations_learnt", "Stations put into the forwarding table.", switch.learnt),
                ("stations_moved", "Stations that changed their port.", switch.moved),
                ("stations_full", "Stations that there was no room for.", switch.full),
                ("stations_aged", "Stations forgotten after a silence.", switch.aged),
                ("stations_flushed", "Stations forgotten with their port.", switch.flushed),
            ] {
                counts.push(Count { name, help, value });
            }
        }
        counts
    }

    fn switch(&self, upkeep: &Upkeep) -> Option<SwitchSummary> {
        let fdb = &upkeep.fabric.as_ref()?.fdb;
        Some(SwitchSummary {
            stations: fdb.len(),
            capacity: fdb.capacity(),
            learnt: self.total(|tally| &tally.learnt),
            moved: self.total(|tally| &tally.moved),
            full: self.total(|tally| &tally.full),
            deferred: self.total(|tally| &tally.deferred),
            aged: upkeep.aged,
            flushed: upkeep.flushed,
            copied: self.total(|tally| &tally.copied),
        })
    }

    /// The totals, once devices are stopped; `fault` is what ended the run.
    pub(crate) fn summary(
        &self,
        upkeep: &Upkeep,
        time: Duration,
        ended: Ended,
        fault: Option<String>,
    ) -> Summary {
        let nothing = Default::default();
        let snapshots = self.snapshots(&upkeep.ports);
        let pool = PoolReport::of(&upkeep.pool);
        let balanced = are_balanced(&snapshots, upkeep.count) && is_home(&pool, &upkeep.ports);
        let ports = snapshots.iter().zip(&upkeep.ports).enumerate();
        let ports = ports.map(|(at, (snapshot, port))| PortSummary {
            port: port.report(),
            state: port.state.clone(),
            outages: port.outages,
            forwarded: snapshot.counts.forwarded,
            flooded: snapshot.counts.flooded,
            dropped: snapshot.counts.drops_report(),
            unsent: snapshot.counts.unsent_report(),
            line: line(at, port, snapshot, &nothing, time),
        });
        let mut ports: Vec<_> = ports.collect();
        let mirror = if self.has_mirror { ports.pop() } else { None };
        let (rounds, empty) = self.rounds();
        let received = snapshots[..upkeep.count].iter().map(|snapshot| &snapshot.rx);
        let (rx_packets, rx_bytes) =
            received.fold((0, 0), |(frames, bytes), rx| (frames + rx.delivered, bytes + rx.bytes));
        let late_fault = || {
            let mut ports = upkeep.ports[..upkeep.count].iter();
            ports.find_map(|port| Some(format!("port '{}': {}", port.info.port, port.fault()?)))
        };
        Summary {
            schema: "memwire/l2fwd/2",
            version: env!("CARGO_PKG_VERSION"),
            mode: self.mode,
            rewrite: self.rewrite,
            ended,
            fault: fault.or_else(late_fault),
            seconds: time.as_secs_f64(),
            workers: self.tallies.len(),
            rx_packets,
            rx_bytes,
            rates: Rates::of(rx_packets, rx_bytes, time),
            idle: share(empty, rounds),
            ports,
            mirror,
            switch: self.switch(upkeep),
            pool,
            balanced,
        }
    }
}

/// Whether the books of the first `count` ports, and of the mirror behind them, close.
fn are_balanced(snapshots: &[Snapshot], count: usize) -> bool {
    let (ports, mirror) = snapshots.split_at(count);
    let sum = |of: fn(&Snapshot) -> u64| ports.iter().map(of).sum::<u64>();
    // What was received was forwarded, flooded or dropped here.
    let received = ports.iter().all(|Snapshot { rx, counts, .. }| {
        rx.delivered == counts.forwarded + counts.flooded + counts.dropped()
    });
    // As many frames as that makes were handed to ports, and a copy of each to the mirror.
    let handed = sum(|port| port.counts.forwarded + port.counts.replicas)
        == sum(|port| port.counts.handed)
        && mirror.iter().all(|mirror| mirror.counts.handed == sum(|port| port.rx.delivered));
    // What was handed to a port is its queues', or was dropped here.
    let sent = snapshots
        .iter()
        .all(|Snapshot { tx, counts, .. }| tx.offered + counts.unsent() == counts.handed);
    let queues =
        snapshots.iter().all(|Snapshot { rx, tx, .. }| rx.is_balanced() && tx.is_balanced());
    received && handed && sent && queues
}

/// Whether every buffer is home; those of a port that went away without proof are lost, and counted.
fn is_home(pool: &PoolReport, ports: &[Port]) -> bool {
    let lost = if ports.iter().any(|port| port.outages > 0) { pool.leaked } else { 0 };
    pool.free + pool.cached + pool.drained + lost == pool.capacity
}

fn line(
    at: usize,
    port: &Port,
    Snapshot { rx, tx, counts }: &Snapshot,
    (rx_seen, tx_seen): &(QueueStats, QueueStats),
    time: Duration,
) -> Line {
    let rates = |now: &QueueStats, seen: &QueueStats| {
        // A queue that fails may take back what it had counted.
        let frames = now.delivered.saturating_sub(seen.delivered);
        Rates::of(frames, now.bytes.saturating_sub(seen.bytes), time)
    };
    let nombuf = no_buffers(&rx.drops);
    Line {
        port: format!("{at} {}", port.info.port),
        state: port.state.clone(),
        outages: port.outages,
        rx: rates(rx, rx_seen),
        tx: rates(tx, tx_seen),
        rx_missed: rx.drops.total() - nombuf,
        dropped: counts.dropped(),
        tx_drop: tx.drops.total() + counts.unsent(),
        nombuf,
        flooded: counts.flooded,
    }
}

fn no_buffers(drops: &Drops) -> u64 {
    drops.of(DropReason::NoBuffer) + drops.of(DropReason::NoDataBuffer)
}

fn share(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}
