//! What gpurx looks like at one moment, for whoever watches: read from counters, while they count.

use std::{sync::Arc, time::Duration};

use mempool::format_bytes;
use memwire_apps::{
    idle::Activity,
    report::{DropsReport, PoolReport},
    watch::{Count, Level, PortSample, Sample, Stage},
};
use pmd::QueueStats;

use crate::{
    args::Args,
    path::Path,
    report::MemoryReport,
    revoke::{Keeper, RevocationReport},
    setup::{Pools, Port},
    totals::{Published, Totals},
    worker::Worker,
};

/// All payload memory.
pub(crate) fn memory_of(pools: &[Pools]) -> MemoryReport {
    let reports = pools.iter().map(|pools| PoolReport::of(&pools.data));
    let mut memory = MemoryReport { provider: String::new(), access: "device", bytes: 0 };
    for report in reports {
        memory.bytes += report.bytes;
        memory.provider = report.provider;
    }
    memory
}

/// `direct`, `bounce`, or both.
pub(crate) fn path_of(ports: &[Port]) -> String {
    let mut paths: Vec<_> = ports.iter().map(|port| port.route.path).collect();
    paths.sort_unstable_by_key(|path| *path == Path::Bounce);
    paths.dedup();
    paths.iter().map(Path::to_string).collect::<Vec<_>>().join("+")
}

/// All pools that receive.
pub(crate) fn pool_reports(pools: &[Pools], keeper: &Keeper) -> Vec<PoolReport> {
    let both = |pools: &Pools| [PoolReport::of(&pools.heads), PoolReport::of(&pools.data)];
    let idle = keeper.idle_pools().iter().map(PoolReport::of);
    pools.iter().flat_map(both).chain(idle).collect()
}

/// What the workers let others read, and what does not change.
pub(crate) struct Readings {
    workers: Vec<(Published, Arc<Activity>)>,
    facts: Vec<(String, String)>,
    /// Rows that the open blocks of a worker hold; none if nothing is placed.
    rows: Option<u64>,
    /// Whether blocks go to a consumer in another process.
    is_remote: bool,
}

impl Readings {
    pub(crate) fn new(args: &Args, ports: &[Port], pools: &[Pools]) -> Self {
        let MemoryReport { provider, bytes, .. } = memory_of(pools);
        let sink = format!("{:?}", args.stream.sink).to_lowercase();
        let blocks = &args.blocks;
        let places = args.stream.sink.places();
        let mut facts = vec![
            ("path", path_of(ports)),
            ("memory", format!("{provider} {}", format_bytes(bytes))),
            ("sink", sink),
        ];
        if places {
            facts.push(("blocks", format!("{} rows", blocks.rows)));
        }
        let is_remote = args.consumer.consumer.is_some();
        if let Some(socket) = &args.consumer.consumer {
            facts.push(("consumer", socket.display().to_string()));
        }
        Self {
            is_remote,
            workers: Vec::new(),
            facts: facts.into_iter().map(|(name, fact)| (name.to_owned(), fact)).collect(),
            rows: places.then(|| u64::from(blocks.rows) * u64::from(blocks.window)),
        }
    }

    pub(crate) fn add(&mut self, worker: &Worker) {
        self.workers.push((worker.published(), worker.activity()));
    }

    /// Each worker's.
    pub(crate) fn each(&self) -> impl Iterator<Item = Totals> {
        self.workers.iter().map(|(published, _)| published.snapshot())
    }

    /// The sum over the workers.
    pub(crate) fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        self.workers.iter().for_each(|(published, _)| sum.merge(&published.snapshot()));
        sum
    }

    pub(crate) fn sample(
        &self,
        at: Duration,
        ports: &[Port],
        pools: &[Pools],
        keeper: &Keeper,
    ) -> Sample {
        // The workers' counts first: what they have accounted for had been received by then.
        let totals = self.totals();
        let received = QueueStats::sum(ports.iter().flat_map(|port| &port.counters)).delivered;
        let Totals { foreign, invalid, unsplit, late, duplicate, jump, revoked, .. } = totals;
        let mut drops = DropsReport::default();
        for (reason, frames) in [
            ("foreign", foreign),
            ("invalid", invalid),
            ("unsplit", unsplit),
            ("late", late),
            ("duplicate", duplicate),
            ("jump", jump),
            ("revoked", revoked),
        ] {
            drops.add(reason, frames);
        }
        let port = |port: &Port| PortSample {
            // As the loop sees it: what the bounce path could not split is dropped there.
            rx: QueueStats::sum(&port.counters),
            ..PortSample::of(&*port.device)
        };
        let stage = |(index, (_, activity)): (usize, &(Published, Arc<Activity>))| {
            // In this order: never more empty rounds than rounds.
            let empty = activity.empty.get();
            Stage { name: format!("worker {index}"), rounds: activity.rounds.get(), empty }
        };
        let level = self.rows.map(|rows| {
            let of = (rows * self.workers.len() as u64) as f64;
            let open = received.saturating_sub(totals.frames()) as f64;
            Level { name: "block fill".into(), value: open.min(of), of }
        });
        let slots: usize = pools.iter().map(|pools| pools.data.capacity()).sum();
        let shown = self.is_remote.then(|| {
            let of = slots as f64;
            Level { name: "shown slots".into(), value: (totals.shown_slots as f64).min(of), of }
        });
        let mut counts = counts(&totals, &keeper.report(&totals));
        counts.extend(shortage_counts(&totals));
        if self.is_remote {
            counts.extend(remote_counts(&totals));
        }
        Sample {
            at,
            facts: self.facts.clone(),
            ports: ports.iter().map(port).collect(),
            drops,
            pools: pool_reports(pools, keeper),
            stages: self.workers.iter().enumerate().map(stage).collect(),
            levels: level.into_iter().chain(shown).collect(),
            counts,
            latency: None,
        }
    }
}

fn counts(totals: &Totals, revocation: &RevocationReport) -> Vec<Count> {
    let count = |(name, help, value)| Count { name, help, value };
    [
        ("rows", "Rows handed over.", totals.rows),
        ("rows_ok", "Rows that were what was sent.", totals.ok),
        ("rows_bad", "Rows that were not what was sent.", totals.bad),
        ("rows_missing", "Rows that never came.", totals.missing),
        ("rows_reordered", "Rows that came after a later one.", totals.reordered),
        ("rows_moved", "Rows moved for a contiguous tensor.", totals.rows_moved),
        ("blocks_complete", "Blocks handed over with all their rows.", totals.complete),
        ("blocks_partial", "Blocks handed over without all their rows.", totals.partial),
        ("resyncs", "Times a stream was taken up at another number.", totals.resyncs),
        ("revocations", "Times device memory was taken back.", revocation.revocations),
        ("resumed", "Times device memory was there again.", revocation.resumed),
        ("rows_to_host", "Rows that went to host memory meanwhile.", totals.rows_to_host),
        ("host_payload_bytes", "Payload bytes that host code copied.", totals.touched),
    ]
    .map(count)
    .into()
}

fn shortage_counts(totals: &Totals) -> [Count; 5] {
    let Totals { shortages, coalesced, spilled, blocks_shed, rows_shed, .. } = *totals;
    [
        ("shortages", "Times that payload memory ran short.", shortages),
        ("slots_coalesced", "Slots posted although their run was not whole.", coalesced),
        ("rows_spilled", "Rows in host memory for want of a device's.", spilled),
        ("blocks_shed", "Blocks that waited for a consumer and were dropped.", blocks_shed),
        ("rows_shed", "Rows in them.", rows_shed),
    ]
    .map(|(name, help, value)| Count { name, help, value })
}

fn remote_counts(totals: &Totals) -> [Count; 7] {
    let Totals { out_of_range, wrong_generation, forged, never_shown, repeated, .. } = *totals;
    let refused = out_of_range + wrong_generation + forged + never_shown + repeated;
    [
        ("blocks_shown", "Blocks shown to a consumer in another process.", totals.shown),
        ("blocks_returned", "Blocks that it returned.", totals.returned),
        ("blocks_scrubbed", "Blocks taken back as it was gone.", totals.scrubbed),
        ("blocks_unreturned", "Blocks still out at the end.", totals.unreturned),
        ("blocks_unconsumed", "Blocks that no consumer was there for.", totals.unconsumed),
        ("blocks_overdue", "Blocks that were out for too long.", totals.overdue),
        ("returns_refused", "Returns that named no block that was out.", refused),
    ]
    .map(|(name, help, value)| Count { name, help, value })
}
