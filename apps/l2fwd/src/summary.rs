//! What l2fwd tells: the table of an interval, the summary, and whether every frame is accounted
//! for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_utils::CachePadded;
use mempool::{Cpu, Pool};
use memwire_apps::{
    AppError,
    report::{Output, PoolReport, PortReport, Rates},
    table::Table,
};
use pmd::{Device, DropReason, Drops, QueueStats};
use serde::Serialize;

use crate::{Args, Mode, app::fault, worker::Tally};

/// Why the run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ended {
    /// By a signal, or by whoever holds the stop flag.
    Asked,
    /// `-t` was over.
    Duration,
    /// `-c` was reached.
    Count,
    /// The ports ended by themselves, or one failed.
    Ports,
}

/// One port over some time.
#[derive(Clone, Debug, Serialize)]
struct PortLine {
    port: String,
    rx: Rates,
    tx: Rates,
    rx_missed: u64,
    tx_drop: u64,
    nombuf: u64,
}

#[derive(Serialize)]
struct IntervalReport<'a> {
    schema: &'static str,
    seconds: f64,
    ports: &'a [PortLine],
    idle: f64,
}

/// A port of the summary.
#[derive(Clone, Debug, Serialize)]
struct PortSummary {
    #[serde(flatten)]
    port: PortReport,
    /// Frames dropped here because the port had no room to send them.
    tx_refused: u64,
    #[serde(skip)]
    line: PortLine,
}

/// The totals of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    schema: &'static str,
    version: &'static str,
    mode: Mode,
    ended: Ended,
    /// Which port failed, and why.
    fault: Option<String>,
    seconds: f64,
    rx_packets: u64,
    rx_bytes: u64,
    rates: Rates,
    /// Share of rounds that found nothing.
    idle: f64,
    ports: Vec<PortSummary>,
    mirror: Option<PortSummary>,
    pool: PoolReport,
    /// Whether every frame received was sent or counted as dropped, and every buffer came home.
    balanced: bool,
}

/// Watches counters while workers run.
pub(crate) struct Monitor {
    pool: Pool<Cpu>,
    tallies: Vec<Arc<CachePadded<Tally>>>,
    start: Instant,
    last: Instant,
    seen: Vec<(QueueStats, QueueStats)>,
    seen_rounds: (u64, u64),
}

impl Monitor {
    pub(crate) fn new(pool: &Pool<Cpu>, tallies: Vec<Arc<CachePadded<Tally>>>) -> Self {
        let now = Instant::now();
        let (pool, seen) = (pool.clone(), Vec::new());
        Self { pool, tallies, start: now, last: now, seen, seen_rounds: (0, 0) }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Prints what happened since the last interval; counts are since the start.
    pub(crate) fn interval(
        &mut self,
        devices: &[Box<dyn Device>],
        output: &mut Output,
    ) -> Result<(), AppError> {
        let now = Instant::now();
        let time = now - self.last;
        let stats: Vec<_> = devices.iter().map(|device| two(&**device)).collect();
        let nothing = Default::default();
        let lines = devices.iter().enumerate().map(|(at, device)| {
            let seen = self.seen.get(at).unwrap_or(&nothing);
            self.line(at, &device.info().port, &stats[at], seen, time)
        });
        let lines = lines.collect::<Vec<_>>();
        let rounds = self.rounds();
        let idle = share(rounds.1 - self.seen_rounds.1, rounds.0 - self.seen_rounds.0);
        (self.last, self.seen, self.seen_rounds) = (now, stats, rounds);
        let seconds = (now - self.start).as_secs_f64();
        output.live(format_args!("{seconds:.1} s\n{}", table(&lines, idle)));
        let schema = "memwire/l2fwd-interval/1";
        output.interval(&IntervalReport { schema, seconds, ports: &lines, idle })
    }

    fn rounds(&self) -> (u64, u64) {
        let sum = |count: fn(&Tally) -> u64| self.tallies.iter().map(|tally| count(tally)).sum();
        (sum(|tally| tally.rounds.get()), sum(|tally| tally.idle.get()))
    }

    /// Frames that a port had no room for; the mirror is the third.
    fn refused(&self, port: usize) -> u64 {
        let of = |tally: &Arc<CachePadded<Tally>>| match tally.refused.get(port) {
            Some(count) => count.get(),
            None => tally.mirror_refused.get(),
        };
        self.tallies.iter().map(of).sum()
    }

    fn line(
        &self,
        at: usize,
        port: &str,
        (rx, tx): &(QueueStats, QueueStats),
        (rx_seen, tx_seen): &(QueueStats, QueueStats),
        time: Duration,
    ) -> PortLine {
        let rates = |now: &QueueStats, seen: &QueueStats| {
            Rates::of(now.delivered - seen.delivered, now.bytes - seen.bytes, time)
        };
        let nombuf = no_buffers(&rx.drops);
        PortLine {
            port: format!("{at} {port}"),
            rx: rates(rx, rx_seen),
            tx: rates(tx, tx_seen),
            rx_missed: rx.drops.total() - nombuf,
            tx_drop: tx.drops.total() + self.refused(at),
            nombuf,
        }
    }

    /// The totals, once devices are stopped.
    pub(crate) fn summary(
        &self,
        args: &Args,
        devices: &[Box<dyn Device>],
        time: Duration,
        ended: Ended,
    ) -> Summary {
        let nothing = Default::default();
        let stats: Vec<_> = devices.iter().map(|device| two(&**device)).collect();
        let ports = devices.iter().enumerate().map(|(at, device)| PortSummary {
            port: PortReport::of(&**device),
            tx_refused: self.refused(at),
            line: self.line(at, &device.info().port, &stats[at], &nothing, time),
        });
        let mut ports = ports.collect::<Vec<_>>();
        let mirror = (ports.len() > 2).then(|| ports.remove(2));
        let received = |at: usize| stats[at].0.delivered;
        // What one port receives, the other (and the mirror, of both) takes over or refuses.
        let owed = [received(1), received(0), received(0) + received(1)];
        let is_sent = stats
            .iter()
            .zip(owed)
            .enumerate()
            .all(|(at, ((_, tx), owed))| tx.offered + self.refused(at) == owed);
        let are_queues = stats.iter().all(|(rx, tx)| rx.is_balanced() && tx.is_balanced());
        let pool = PoolReport::of(&self.pool);
        let (rounds, idle) = self.rounds();
        let (rx_packets, rx_bytes) =
            (received(0) + received(1), stats[0].0.bytes + stats[1].0.bytes);
        Summary {
            schema: "memwire/l2fwd/1",
            version: env!("CARGO_PKG_VERSION"),
            mode: args.mode,
            ended,
            fault: fault(devices),
            seconds: time.as_secs_f64(),
            rx_packets,
            rx_bytes,
            rates: Rates::of(rx_packets, rx_bytes, time),
            idle: share(idle, rounds),
            ports,
            mirror,
            balanced: is_sent && are_queues && pool.is_home(),
            pool,
        }
    }
}

impl Summary {
    /// Frames received on both ports.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.rx_packets
    }

    /// Frames that `port` (0, 1; 2 is the mirror) took over to send, and those it had no room for.
    #[must_use]
    pub fn sent(&self, port: usize) -> (u64, u64) {
        let port = self.ports.get(port).or(self.mirror.as_ref());
        port.map_or((0, 0), |port| (port.port.tx.offered, port.tx_refused))
    }

    /// Whether every frame received was sent or counted as dropped, and every buffer came home.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.balanced
    }

    /// Prints the totals.
    ///
    /// # Errors
    /// They cannot be written, a port failed, or frames or buffers are unaccounted for.
    pub fn conclude(&self, output: &mut Output) -> Result<(), AppError> {
        let lines: Vec<_> = self.ports.iter().chain(&self.mirror).map(|p| p.line.clone()).collect();
        let Rates { mpps, gbps } = self.rates;
        let PoolReport { provider, capacity, bytes, .. } = &self.pool;
        let memory = mempool::format_bytes(*bytes);
        output.human(format_args!(
            "\n{:.1} s, {}\n{}memory {provider}: {memory}, {capacity} buffers\nreceived {} frames, \
             {} B: {mpps:.3} Mpps, {gbps:.2} Gb/s",
            self.seconds,
            match self.mode {
                Mode::MacSwap => "addresses swapped",
                Mode::Forward => "frames unchanged",
            },
            table(&lines, self.idle),
            self.rx_packets,
            self.rx_bytes,
        ));
        output.summary(self)?;
        if let Some(fault) = &self.fault {
            return Err(AppError::failed(fault));
        }
        if self.balanced {
            return Ok(());
        }
        let message = "not every frame or buffer is accounted for; see the totals";
        Err(AppError::check(message).hint("run with --json for the counters of every queue"))
    }
}

fn two(device: &dyn Device) -> (QueueStats, QueueStats) {
    let (rx, tx, _) = device.stats();
    (rx, tx)
}

fn no_buffers(drops: &Drops) -> u64 {
    drops.of(DropReason::NoBuffer) + drops.of(DropReason::NoDataBuffer)
}

fn share(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

fn table(lines: &[PortLine], idle: f64) -> Table {
    let mut table =
        Table::new(&["port", "rx Mpps", "tx Mpps", "rx-missed", "tx-drop", "nombuf", ""]);
    let row = |name: &str, rx: f64, tx: f64, counts: [u64; 3], note: String| {
        let rates = [rx, tx].map(|rate| format!("{rate:.3}"));
        let counts = counts.map(|count| count.to_string());
        [name.to_owned()].into_iter().chain(rates).chain(counts).chain([note]).collect::<Vec<_>>()
    };
    let mut sums = (0.0, 0.0, [0; 3]);
    for line in lines {
        let counts = [line.rx_missed, line.tx_drop, line.nombuf];
        table.row(row(&line.port, line.rx.mpps, line.tx.mpps, counts, String::new()));
        sums.0 += line.rx.mpps;
        sums.1 += line.tx.mpps;
        sums.2.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    table.row(row("total", sums.0, sums.1, sums.2, format!("idle {:.0}%", idle * 100.0)));
    table
}
