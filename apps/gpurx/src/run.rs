//! One run, from the command line to the exit code.

use std::time::{Duration, Instant};

use memwire_apps::{
    AppError, Exit, Stop, lcore, logs,
    memory::MemorySpec,
    ports,
    report::{Meter, Output, PoolReport, PortReport},
    table::Live,
    traffic::Sent,
    workers::Workers,
};
use mempool::{Cpu, Pool, format_bytes};
use pmd::{Health, QueueStats, Registry};

use crate::{
    args::Args,
    demo::{self, Demo},
    path::Path,
    report::{COLUMNS, Facts, IntervalReport, MemoryReport, Summary, live_cells},
    setup::{Pools, Port, Setup},
    totals::{Published, Totals},
    worker::Finished,
};

/// How often ports and deadlines are looked at.
const STEP: Duration = Duration::from_millis(20);
/// How long the demo's wire may take to run empty.
const EMPTY: Duration = Duration::from_millis(500);

/// Runs the app.
///
/// # Errors
/// The run could not start, or failed.
pub fn run(mut args: Args) -> Result<Exit, AppError> {
    logs::init(args.run.verbose, args.run.quiet);
    let mut output = Output::new(&args.run)?;
    let is_demo = args.ports.ports.is_empty();
    if is_demo {
        args.stream.udp_port.get_or_insert(demo::UDP_PORT);
        if args.run.duration.is_none() && args.run.count.is_none() {
            args.run.duration = Some(Duration::from_secs(demo::SECONDS));
        }
    }
    let (default, specs) = if is_demo {
        (MemorySpec::Fake(None), vec![demo::wire(&args)])
    } else {
        (MemorySpec::Auto, args.ports.ports.clone())
    };
    let memory = args.memory.unwrap_or(default);
    let mut registry = Registry::new();
    let devices = ports::open(&mut registry, &specs)?;
    let receivers = devices.len() * args.run.queues;
    let senders = if is_demo { args.run.queues } else { 0 };
    let cores = lcore::assign(args.run.lcores.as_ref(), receivers + senders)?;
    let (rx_cores, tx_cores) = cores.split_at(receivers);
    let setup = Setup::new(&args, devices, memory)?;
    setup.ports.iter().enumerate().for_each(|(index, port)| output.human(port_line(index, port)));
    output.human(memory_line(&setup));
    let stop = Stop::on_signals()?;
    let running = Running::start(&args, setup, rx_cores)?;
    let demo = is_demo.then(|| Demo::start(&args, &mut registry, tx_cores)).transpose();
    let demo = match demo {
        Ok(demo) => demo,
        Err(error) => {
            running.end(None, Vec::new())?;
            return Err(error);
        }
    };
    let (summary, fault) = running.watch(&args, demo, &stop, &mut output)?;
    output.human(summary.text());
    output.summary(&summary)?;
    verdict(&args, &summary, fault)
}

/// The exit code, and the line that explains it.
fn verdict(args: &Args, summary: &Summary, fault: Option<String>) -> Result<Exit, AppError> {
    if let Some(fault) = fault {
        return Err(AppError::failed(fault));
    }
    if summary.verify.bad > 0 {
        return Err(AppError::check(format!("{} rows are not what was sent", summary.verify.bad)));
    }
    let loss = summary.loss();
    match args.stream.max_loss {
        Some(most) if loss > most => {
            let (loss, most) = (loss * 100.0, most * 100.0);
            Err(AppError::check(format!("{loss:.4} % of the rows are missing, at most {most} % may be")))
        }
        _ => Ok(Exit::Ok),
    }
}

fn port_line(index: usize, port: &Port) -> String {
    let info = port.device.info();
    let speed = port.device.link().speed_mbps;
    let speed = speed.map(|mbps| format!("  {mbps} Mb/s")).unwrap_or_default();
    let queues = port.counters.len();
    let plural = if queues == 1 { "" } else { "s" };
    format!("port {index}  {} ({}){speed}  {queues} queue{plural}  path: {}", info.port, info.driver, port.path)
}

fn memory_of(pools: &[Pools]) -> MemoryReport {
    let reports = pools.iter().map(|pools| PoolReport::of(&pools.data));
    let mut memory = MemoryReport { provider: String::new(), access: "device", bytes: 0 };
    for report in reports {
        memory.bytes += report.bytes;
        memory.provider = report.provider;
    }
    memory
}

fn memory_line(setup: &Setup) -> String {
    let MemoryReport { provider, bytes, .. } = memory_of(&setup.pools);
    let Some(first) = setup.pools.first() else { return String::new() };
    let heads = PoolReport::of(&first.heads);
    format!(
        "mem     payloads {provider}, {}, {} x {} B  heads {}, {} x {} B",
        format_bytes(bytes),
        first.data.capacity(),
        first.data.stride(),
        heads.provider,
        heads.capacity,
        first.heads.stride(),
    )
}

struct Running {
    ports: Vec<Port>,
    pools: Vec<Pools>,
    published: Vec<Published>,
    workers: Workers<Finished>,
    /// Of the workers alone: they run on while the demo's wire runs empty.
    stop: Stop,
    start: Instant,
}

impl Running {
    fn start(args: &Args, setup: Setup, cores: &[usize]) -> Result<Self, AppError> {
        let Setup { ports, workers: receivers, pools } = setup;
        let stop = Stop::new();
        let mut workers = Workers::new(&stop);
        let mut published = Vec::new();
        let is_demo = args.ports.ports.is_empty();
        // The demo's source counts; what it sent is received to the last frame.
        let limit = args.run.count.filter(|_| !is_demo);
        let limit = limit.map(|count| count.div_ceil(receivers.len() as u64));
        for (index, (worker, core)) in receivers.into_iter().zip(cores).enumerate() {
            published.push(worker.published());
            let job = move |stop: &Stop| worker.run(stop, limit);
            workers.spawn(format!("gpurx {index}"), Some(*core), job)?;
        }
        Ok(Self { ports, pools, published, workers, stop, start: Instant::now() })
    }

    fn stats(&self) -> QueueStats {
        QueueStats::sum(self.ports.iter().flat_map(|port| &port.counters))
    }

    fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        self.published.iter().for_each(|published| sum.merge(&published.snapshot()));
        sum
    }

    /// Whether no port will ever yield a frame again, or one of them has failed.
    fn has_ended(&self) -> bool {
        let health = |port: &Port| port.device.health();
        self.ports.iter().all(|port| health(port) != Health::Good)
            || self.ports.iter().any(|port| matches!(health(port), Health::Faulted(_)))
    }

    /// Reports while it runs; ends it; returns the summary, and what failed.
    fn watch(
        self,
        args: &Args,
        demo: Option<Demo>,
        stop: &Stop,
        output: &mut Output,
    ) -> Result<(Summary, Option<String>), AppError> {
        let (mut meter, mut live) = (Meter::new(), Live::new(&COLUMNS));
        let mut due = self.start + args.run.interval;
        let end = args.run.duration.map(|duration| self.start + duration);
        loop {
            let now = Instant::now();
            if now >= due {
                let (interval, totals) = (meter.tick(self.stats()), self.totals());
                output.live(live.line(&live_cells(&interval, &totals)));
                output.interval(&IntervalReport::new(&interval, &totals))?;
                due += args.run.interval;
            }
            let is_over = end.is_some_and(|end| now >= end)
                || stop.is_set()
                || demo.as_ref().is_some_and(Demo::is_done)
                || (demo.is_none() && self.has_ended());
            if is_over {
                break;
            }
            let next = end.map_or(due, |end| end.min(due));
            if !self.workers.wait(next.saturating_duration_since(now).min(STEP)) {
                break;
            }
        }
        let (sent, source_pools) = match demo.map(Demo::stop).transpose()? {
            Some((sent, pools)) => (Some(sent), pools),
            None => (None, Vec::new()),
        };
        self.end(sent, source_pools)
    }

    /// Stops everything and adds it all up.
    fn end(
        self,
        sent: Option<Sent>,
        source_pools: Vec<Pool<Cpu>>,
    ) -> Result<(Summary, Option<String>), AppError> {
        let emptied = Instant::now() + EMPTY;
        while sent.is_some() && !self.has_ended() && Instant::now() < emptied {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        let Self { mut ports, pools, workers, stop, start, .. } = self;
        let finished = workers.join()?;
        let time = start.elapsed();
        stop.set();
        let mut totals = Totals::default();
        let (mut digests, mut fault) = (Vec::new(), None);
        for worker in &finished {
            totals.merge(&worker.totals);
            digests.extend(worker.digest);
            fault = fault.or(worker.fault.clone());
        }
        let stats = QueueStats::sum(ports.iter().flat_map(|port| &port.counters));
        let reports: Vec<PortReport> = ports.iter().map(|port| PortReport::of(&*port.device)).collect();
        let mut finished = finished.into_iter();
        for port in &mut ports {
            if let Health::Faulted(why) = port.device.health() {
                fault.get_or_insert(why);
            }
            let queues = port.counters.len();
            port.stop(finished.by_ref().take(queues).collect())?;
        }
        let mut paths: Vec<_> = ports.iter().map(|port| port.path).collect();
        paths.sort_unstable_by_key(|path| *path == Path::Bounce);
        paths.dedup();
        let path = paths.iter().map(Path::to_string).collect::<Vec<_>>().join("+");
        let memory = memory_of(&pools);
        let mut pool: Vec<_> = pools
            .iter()
            .flat_map(|pools| [PoolReport::of(&pools.heads), PoolReport::of(&pools.data)])
            .collect();
        pool.extend(source_pools.iter().map(PoolReport::of));
        let facts =
            Facts { ports: reports, path, memory, time, stats, totals, digests, sent, pool };
        Ok((facts.into(), fault))
    }
}
