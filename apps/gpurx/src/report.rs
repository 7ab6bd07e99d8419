//! What the app tells: the lines for people, and the JSON.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use mempool::format_bytes;
use memwire_apps::{
    report::{DropsReport, Interval, PoolReport, PortReport, Rates},
    watch::Stage,
};
use pmd::QueueStats;
use serde::Serialize;

use crate::{
    consumer::ConsumerReport,
    cost::{Cost, CostReport},
    demo::WireSent,
    probe::ProbeReport,
    totals::Totals,
};

pub use crate::{revoke::RevocationReport, shortage::ShortageReport};

/// Version of the JSON.
pub const SCHEMA: &str = "memwire.gpurx/1";

/// Where payloads are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryReport {
    /// Who gave it.
    pub provider: String,
    /// Who may look inside.
    pub access: &'static str,
    /// Bytes of all payload pools.
    pub bytes: u64,
}

/// What was held against what was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Rows that were what was sent.
    pub ok: u64,
    /// Rows that were not.
    pub bad: u64,
    /// Rows that never came.
    pub missing: u64,
    /// Frames whose row was there already.
    pub duplicate: u64,
    /// Rows that came after a later one.
    pub reordered: u64,
}

/// Blocks handed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BlocksReport {
    /// With all their rows.
    pub complete: u64,
    /// Without.
    pub partial: u64,
}

/// What became of the frames that the queues delivered; the sum is `rx_packets`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FramesReport {
    /// Rows handed over.
    pub rows: u64,
    /// Of other flows.
    pub foreign: u64,
    /// Without a valid header, or too long for a row.
    pub invalid: u64,
    /// Without a payload behind the header.
    pub unsplit: u64,
    /// After their block was handed over.
    pub late: u64,
    /// Copies.
    pub duplicate: u64,
    /// With a number far from all others.
    pub jump: u64,
    /// Without their payloads: the memory for those was revoked.
    pub revoked: u64,
}

/// What the demo's source sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SentReport {
    /// Frames of the flow.
    pub frames: u64,
    /// Others in between.
    pub foreign: u64,
    /// Spec of the sending end: with faults, the plan that does them again.
    pub port: String,
    /// Faults that the wire had, by kind.
    pub injected: BTreeMap<String, u64>,
}

impl From<&WireSent> for SentReport {
    fn from(wire: &WireSent) -> Self {
        let WireSent { sent, port, injected, .. } = wire.clone();
        Self { frames: sent.frames, foreign: sent.foreign, port, injected }
    }
}

/// How busy a worker was.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WorkerReport {
    /// Its name.
    pub name: String,
    /// Polls.
    pub rounds: u64,
    /// Polls that found nothing.
    pub empty: u64,
    /// Share of the polls that found nothing.
    pub idle: f64,
}

impl WorkerReport {
    /// Of these.
    #[must_use]
    pub fn of(stages: &[Stage]) -> Vec<Self> {
        let report = |stage: &Stage| {
            let Stage { name, rounds, empty } = stage.clone();
            let idle = if rounds == 0 { 0.0 } else { empty as f64 / rounds as f64 };
            Self { name, rounds, empty, idle }
        };
        stages.iter().map(report).collect()
    }
}

/// The summary: one JSON object, and the last lines on the screen.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Of this program.
    pub version: &'static str,
    /// `summary`.
    pub kind: &'static str,
    /// Ports that received.
    pub ports: Vec<PortReport>,
    /// `direct`, `bounce`, or both joined by `+`.
    pub path: String,
    /// What was proven of each port's way to the memory, before the first frame.
    pub probes: Vec<ProbeReport>,
    /// Where payloads are.
    pub memory: MemoryReport,
    /// How long it ran.
    pub seconds: f64,
    /// Frames that came to the queues: `rx_packets` and all `drops`.
    pub offered: u64,
    /// Frames that the queues delivered.
    pub rx_packets: u64,
    /// Bytes of those, without FCS.
    pub rx_bytes: u64,
    /// Rates of delivered frames.
    pub rates: Rates,
    /// Frames that the queues dropped, by reason.
    pub drops: DropsReport,
    /// What became of the delivered ones.
    pub frames: FramesReport,
    /// What was checked.
    pub verify: VerifyReport,
    /// Blocks.
    pub blocks: BlocksReport,
    /// Of the consumer in another process, if one was to come.
    pub consumer: Option<ConsumerReport>,
    /// Rows moved for a contiguous consumer.
    pub rows_moved: u64,
    /// Times a stream was taken up at another number.
    pub resyncs: u64,
    /// Payload bytes that the host copied or looked at.
    pub host_payload_bytes: u64,
    /// What was spent per packet, with `--cost`.
    pub cost: Option<CostReport>,
    /// What was done about device memory that was taken back.
    pub revocation: RevocationReport,
    /// What was done about payload memory that ran short.
    pub shortage: ShortageReport,
    /// How busy the workers were.
    pub workers: Vec<WorkerReport>,
    /// Digest of all rows, in order, of `--sink tensor`; one per queue.
    pub digests: Vec<String>,
    /// What the demo's source sent.
    pub sent: Option<SentReport>,
    /// Where every buffer is, after everything has stopped.
    pub pool: Vec<PoolReport>,
}

/// One interval, with `--json-stream`.
#[derive(Clone, Debug, Serialize)]
pub struct IntervalReport {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// `interval`.
    pub kind: &'static str,
    /// Since the start.
    pub seconds: f64,
    /// Rates of the interval.
    pub rates: Rates,
    /// Frames delivered in the interval.
    pub rx_packets: u64,
    /// Frames dropped in the interval.
    pub dropped: u64,
    /// Rows missing so far.
    pub missing: u64,
    /// Rows that were not what was sent, so far.
    pub bad: u64,
    /// Blocks so far.
    pub blocks: BlocksReport,
    /// Rows moved so far.
    pub rows_moved: u64,
}

impl IntervalReport {
    /// Of one interval.
    #[must_use]
    pub fn new(interval: &Interval, totals: &Totals) -> Self {
        Self {
            schema: SCHEMA,
            kind: "interval",
            seconds: interval.at.as_secs_f64(),
            rates: interval.rates,
            rx_packets: interval.delivered,
            dropped: interval.dropped,
            missing: totals.missing,
            bad: totals.bad,
            blocks: BlocksReport { complete: totals.complete, partial: totals.partial },
            rows_moved: totals.rows_moved,
        }
    }
}

/// Columns of the live report.
pub const COLUMNS: [&str; 9] =
    ["time", "Mpps", "Gb/s", "drop", "missing", "bad", "blocks", "partial", "moved"];

/// A line of it.
#[must_use]
pub fn live_cells(interval: &Interval, totals: &Totals) -> [String; 9] {
    [
        format!("{:.1}", interval.at.as_secs_f64()),
        format!("{:.3}", interval.rates.mpps),
        format!("{:.2}", interval.rates.gbps),
        interval.dropped.to_string(),
        totals.missing.to_string(),
        totals.bad.to_string(),
        (totals.complete + totals.partial).to_string(),
        totals.partial.to_string(),
        totals.rows_moved.to_string(),
    ]
}

/// What the summary is made of.
pub struct Facts {
    /// Ports that received.
    pub ports: Vec<PortReport>,
    /// The path.
    pub path: String,
    /// Of each port.
    pub probes: Vec<ProbeReport>,
    /// Payload memory.
    pub memory: MemoryReport,
    /// How long it ran.
    pub time: Duration,
    /// Sum over the queues.
    pub stats: QueueStats,
    /// Of the consumer in another process.
    pub consumer: Option<ConsumerReport>,
    /// Sum over the workers.
    pub totals: Totals,
    /// Of device memory that was taken back.
    pub revocation: RevocationReport,
    /// Of payload memory that ran short.
    pub shortage: ShortageReport,
    /// How busy they were.
    pub workers: Vec<WorkerReport>,
    /// Of the sinks.
    pub digests: Vec<u32>,
    /// Sum over the workers, if it was measured.
    pub cost: Option<Cost>,
    /// Of the demo.
    pub sent: Option<WireSent>,
    /// All pools.
    pub pool: Vec<PoolReport>,
}

impl From<Facts> for Summary {
    fn from(facts: Facts) -> Self {
        let Facts { ports, path, probes, memory, time, stats, totals, revocation, .. } = facts;
        let Facts { workers, digests, cost, sent, pool, consumer, shortage, .. } = facts;
        let Totals { rows, foreign, invalid, unsplit, late, duplicate, jump, revoked, .. } = totals;
        let Totals { ok, bad, missing, reordered, complete, partial, .. } = totals;
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            kind: "summary",
            ports,
            path,
            probes,
            memory,
            seconds: time.as_secs_f64(),
            offered: stats.offered,
            rx_packets: stats.delivered,
            rx_bytes: stats.bytes,
            rates: Rates::of(stats.delivered, stats.bytes, time),
            drops: (&stats.drops).into(),
            frames: FramesReport {
                rows,
                foreign,
                invalid,
                unsplit,
                late,
                duplicate,
                jump,
                revoked,
            },
            verify: VerifyReport { ok, bad, missing, duplicate, reordered },
            blocks: BlocksReport { complete, partial },
            consumer,
            rows_moved: totals.rows_moved,
            resyncs: totals.resyncs,
            host_payload_bytes: totals.touched,
            cost: cost.as_ref().map(|cost| CostReport::of(cost, totals.touched)),
            revocation,
            shortage,
            workers,
            digests: digests.iter().map(|digest| format!("{digest:08x}")).collect(),
            sent: sent.as_ref().map(Into::into),
            pool,
        }
    }
}

impl Summary {
    /// Share of rows that never came.
    #[must_use]
    pub fn loss(&self) -> f64 {
        let (lost, all) = match self.frames.rows + self.verify.missing {
            0 => (self.drops.total(), self.offered),
            rows => (self.verify.missing, rows),
        };
        if all == 0 { 0.0 } else { lost as f64 / all as f64 }
    }

    /// Whether every frame is accounted for, and every block.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let FramesReport { rows, foreign, invalid, unsplit, late, duplicate, jump, revoked } =
            self.frames;
        let delivered = rows + foreign + invalid + unsplit + late + duplicate + jump + revoked;
        self.offered == self.rx_packets + self.drops.total()
            && self.rx_packets == delivered
            && self.consumer.as_ref().is_none_or(|consumer| {
                consumer.is_balanced(self.blocks.complete + self.blocks.partial)
            })
    }

    /// The summary for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` never fails.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, to: &mut String) -> std::fmt::Result {
        let Self { rx_packets, rx_bytes, seconds, rates, .. } = self;
        if let Some(sent) = &self.sent {
            writeln!(to, "tx      {} frames, {} foreign", sent.frames, sent.foreign)?;
            if !sent.injected.is_empty() {
                writeln!(to, "wire    {}{}", sent.port, reasons(sent.injected.iter()))?;
            }
        }
        writeln!(
            to,
            "rx      {rx_packets} pkts  {rx_bytes} B  in {seconds:.2} s: {:.3} Mpps  {:.2} Gb/s",
            rates.mpps, rates.gbps
        )?;
        writeln!(to, "drop    {}{}", self.drops.total(), reasons(self.drops.0.iter()))?;
        if self.drops.0.contains_key("too_long") {
            writeln!(to, " hint: --buffer-size: payloads are longer than their buffers")?;
        }
        let FramesReport { rows, foreign, invalid, unsplit, late, duplicate, jump, revoked } =
            self.frames;
        let others = [
            ("foreign", foreign),
            ("invalid", invalid),
            ("unsplit", unsplit),
            ("late", late),
            ("duplicate", duplicate),
            ("jump", jump),
            ("revoked", revoked),
        ];
        let others =
            others.iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name, count));
        writeln!(to, "rows    {rows}{}", reasons(others))?;
        let VerifyReport { ok, bad, missing, duplicate, reordered } = self.verify;
        writeln!(
            to,
            "verify  ok {ok}  bad {bad}  missing {missing}  duplicate {duplicate}  reordered \
             {reordered}"
        )?;
        let BlocksReport { complete, partial } = self.blocks;
        writeln!(
            to,
            "blocks  complete {complete}  partial {partial}  rows moved {}",
            self.rows_moved
        )?;
        let RevocationReport { revocations, resumed, rows_to_host, payloads_dropped, .. } =
            self.revocation;
        if revocations > 0 {
            let RevocationReport { ms_without_heads, longest_gap_ms, acknowledged, .. } =
                self.revocation;
            writeln!(
                to,
                "revoked {revocations} times, given up {acknowledged}, back {resumed}  rows to host \
                 {rows_to_host}  payloads dropped {payloads_dropped}  {ms_without_heads:.2} ms without \
                 heads, longest gap {longest_gap_ms:.2} ms"
            )?;
        }
        self.shortage.write(to)?;
        if let Some(consumer) = &self.consumer {
            consumer.write(to)?;
        }
        for WorkerReport { name, rounds, idle, .. } in &self.workers {
            writeln!(to, "idle    {name}: {:.1} % of {rounds} polls found nothing", idle * 100.0)?;
        }
        if let Some(cost) = &self.cost {
            let CostReport { burst, busy_ns, median_ns, .. } = cost;
            let instructions = cost.instructions_text();
            writeln!(
                to,
                "cost    {busy_ns:.0} ns per packet (median {median_ns:.0}) in bursts of {burst:.1}  instructions \
                 {instructions}"
            )?;
        }
        for digest in &self.digests {
            writeln!(to, "digest  {digest}")?;
        }
        for pool in &self.pool {
            let PoolReport { name, capacity, free, cached, in_flight, held, leaked, .. } = pool;
            let home = if pool.is_home() { "all home" } else { "NOT ALL HOME" };
            writeln!(
                to,
                "pool    {name}: {capacity} slots, {free} free, {cached} cached, {in_flight} in \
                 flight, {held} held, {leaked} leaked: {home}"
            )?;
        }
        for probe in self.probes.iter().filter(|probe| probe.is_of_interest()) {
            writeln!(to, "probe   {probe}")?;
        }
        let MemoryReport { provider, access, bytes } = &self.memory;
        writeln!(to, "memory  {provider} ({access}), {}", format_bytes(*bytes))?;
        write!(to, "path    {}  host payload bytes touched {}", self.path, self.host_payload_bytes)
    }
}

/// `  (injected 3, no_buffer 1)`, or nothing.
pub(crate) fn reasons<N: std::fmt::Display, C: std::fmt::Display>(
    counts: impl Iterator<Item = (N, C)>,
) -> String {
    let list: Vec<_> = counts.map(|(name, count)| format!("{name} {count}")).collect();
    if list.is_empty() { String::new() } else { format!("  ({})", list.join(", ")) }
}
