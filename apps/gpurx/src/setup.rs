//! From the command line to started queues and their workers: pools, paths, sinks. The one place
//! where memory and ports meet.

use mempool::{
    Cpu, DEFAULT_HEADROOM, Device as DeviceMemory, Pool, Provider, QueuePlan, Sizing, SplitBurst,
    SplitCache,
};
use memwire_apps::{AppError, memory::MemorySpec};
use pmd::{AnyRxQueue, Config, Device, PostOrder, QueueCounters, Queues, SplitAt, SplitConfig};

use crate::{
    args::{Args, SinkChoice},
    consumer::{Consumer, Manners, Remote, Tensor, Verify, row_bits},
    handover::{
        Layout,
        server::{Queue, Server, check_ring},
    },
    head::HeadReader,
    path::Path,
    place::Geometry,
    sink::{Capture, Count, Placed, Sink},
    worker::{Finished, Worker},
};

/// Bytes of a head's buffer on the direct path: the longest headers that are understood.
const HEAD: usize = 256;

/// A port that receives.
pub struct Port {
    /// The device, started.
    pub device: Box<dyn Device>,
    /// How its payloads get where they belong.
    pub path: Path,
    /// Counters of its queues as the loop sees them.
    pub counters: Vec<QueueCounters>,
}

impl Port {
    /// Stops it with the queues that its workers left.
    ///
    /// # Errors
    /// The device did not stop.
    pub fn stop(&mut self, finished: Vec<Finished>) -> Result<(), AppError> {
        let rx = finished.into_iter().map(|finished| AnyRxQueue::Split(finished.rx)).collect();
        Ok(self.device.stop(Queues { rx, tx: Vec::new() })?)
    }
}

/// The pools of one queue.
pub struct Pools {
    /// For heads.
    pub heads: Pool<Cpu>,
    /// For payloads.
    pub data: Pool<DeviceMemory>,
}

/// Everything that runs.
pub struct Setup {
    /// Ports, in the order of the command line.
    pub ports: Vec<Port>,
    /// Workers, port by port, queue by queue.
    pub workers: Vec<Worker>,
    /// Their pools, in the same order.
    pub pools: Vec<Pools>,
    /// Where a consumer in another process comes to.
    pub server: Option<Server>,
    /// What it is offered, until the server takes it.
    offers: Vec<Queue>,
}

impl Setup {
    /// Takes memory, starts the ports, and makes a worker per queue.
    ///
    /// # Errors
    /// The arguments do not go together, or something is missing here; the message says what.
    pub fn new(
        args: &Args,
        devices: Vec<Box<dyn Device>>,
        data: MemorySpec,
    ) -> Result<Self, AppError> {
        let places = args.stream.sink.places();
        if args.consumer.consumer.is_some() && !places {
            let why = "--consumer: blocks are handed over, and this --sink makes none";
            return Err(AppError::usage(why).hint("--sink verify or --sink tensor does"));
        }
        let mut paths = Vec::with_capacity(devices.len());
        for device in &devices {
            let (path, why) = args.path.resolve(device.info(), cut(args))?;
            if let Some(why) = why.filter(|_| !args.run.quiet) {
                eprintln!("path: {path}: {why}");
            }
            paths.push(path);
        }
        let queues = devices.len() * args.run.queues;
        let plan = Plan::new(args, &devices)?;
        if args.consumer.consumer.is_some() {
            check_ring(&plan.ring(args))?;
        }
        let any_bounce = paths.contains(&Path::Bounce);
        let head_bytes = plan.heads * if any_bounce { plan.frame } else { HEAD };
        let host = MemorySpec::Auto.open(whole_pages(head_bytes) * queues as u64)?;
        let device = data.open(whole_pages(plan.data.saturating_mul(plan.row)) * queues as u64)?;
        let mut setup = Self {
            ports: Vec::new(),
            workers: Vec::new(),
            pools: Vec::new(),
            server: None,
            offers: Vec::new(),
        };
        for (device_port, path) in devices.into_iter().zip(paths) {
            let pools = (0..args.run.queues)
                .map(|_| setup.pools(&plan, path, &*host, &*device))
                .collect::<Result<Vec<_>, _>>()?;
            setup.start(args, &plan, device_port, path, pools)?;
        }
        if let Some(path) = &args.consumer.consumer {
            setup.server = Some(Server::start(path, std::mem::take(&mut setup.offers))?);
        }
        Ok(setup)
    }

    fn pools(
        &self,
        plan: &Plan,
        path: Path,
        host: &dyn Provider,
        device: &dyn Provider,
    ) -> Result<Pools, AppError> {
        let mut heads = Pool::builder().slots(plan.heads).memory(host);
        heads = match path {
            Path::Direct => heads.stride(HEAD).headroom(0),
            Path::Bounce => heads.stride(plan.frame),
        };
        let data = Pool::builder().slots(plan.data).stride(plan.row).headroom(0);
        Ok(Pools {
            heads: heads.name("heads").build()?,
            data: data.name("payloads").memory(device).build()?,
        })
    }

    fn start(
        &mut self,
        args: &Args,
        plan: &Plan,
        mut device: Box<dyn Device>,
        path: Path,
        pools: Vec<Pools>,
    ) -> Result<(), AppError> {
        let at = cut(args);
        let places = args.stream.sink.places();
        let post = if places { PostOrder::App } else { PostOrder::Cache };
        let split = |pools: &Pools| SplitConfig {
            heads: pools.heads.clone(),
            data: pools.data.clone(),
            at,
            post,
        };
        let rx = pools.iter().map(|pools| path.rx_config(&split(pools), args.pool.ring)).collect();
        let config = Config { rx, promiscuous: true, ..Config::default() };
        let started = device.start(config).map_err(|error| path.explain(error))?;
        let mut counters = Vec::new();
        for (queue, pools) in started.rx.into_iter().zip(pools) {
            let rx = path.wrap(queue, split(&pools), args.pool.ring)?;
            counters.push(rx.counters().clone());
            let index = self.workers.len();
            let sink = sink(args, plan, &pools, index, &mut self.offers)?;
            let cache = SplitCache::new(&pools.heads, &pools.data);
            let burst = SplitBurst::with_limit(&pools.heads, &pools.data, args.run.burst);
            self.workers.push(Worker::new(
                rx,
                cache,
                burst,
                sink,
                path == Path::Bounce,
                args.run.idle,
            ));
            self.pools.push(pools);
        }
        self.ports.push(Port { device, path, counters });
        Ok(())
    }
}

/// Where frames are cut: behind the header with the row's number.
fn cut(args: &Args) -> SplitAt {
    SplitAt::Protocol { extra: args.stream.seq.extra() }
}

fn sink(
    args: &Args,
    plan: &Plan,
    pools: &Pools,
    index: usize,
    offers: &mut Vec<Queue>,
) -> Result<Box<dyn Sink>, AppError> {
    let heads = HeadReader::new(args.stream.flow(), args.stream.seq);
    let row = plan.row;
    let consumer: Box<dyn Consumer> = match args.stream.sink {
        SinkChoice::Count => return Ok(Box::new(Count(heads))),
        SinkChoice::Pcap => {
            let out = args.stream.out.clone().unwrap_or_default();
            let out = if index == 0 { out } else { numbered(&out, index) };
            let payload = mempool::DeviceView::new(&pools.data);
            return Ok(Box::new(Capture::create(&out, heads, payload)?));
        }
        _ if args.consumer.consumer.is_some() => {
            let (queue, orders) = Queue::new(&pools.data, plan.ring(args))?;
            offers.push(queue);
            Box::new(Remote::new(orders, manners(args)))
        }
        SinkChoice::Verify => Box::new(Verify::new(row, args.stream.seq)),
        SinkChoice::Tensor => Box::new(Tensor::new(row)),
    };
    let placed = Placed::new(heads, &pools.data, &plan.geometry, consumer);
    Ok(Box::new(placed.map_err(|error| AppError::usage(error.to_string()))?))
}

fn manners(args: &Args) -> Manners {
    let limit = args.consumer.consumer_deadline.unwrap_or(std::time::Duration::from_secs(1));
    let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
    Manners { waits: args.consumer.consumer_wait, limit }
}

/// `out.pcap` of queue 2: `out.2.pcap`.
fn numbered(path: &std::path::Path, index: usize) -> std::path::PathBuf {
    match path.extension() {
        Some(extension) => path.with_extension(format!("{index}.{}", extension.display())),
        None => path.with_extension(index.to_string()),
    }
}

/// What providers round pools up to.
fn whole_pages(bytes: usize) -> u64 {
    const HUGE: u64 = 2 << 20;
    (bytes as u64).saturating_add(HUGE - 1) / HUGE * HUGE
}

/// Blocks more that a queue has for a consumer in another process, so that it may be away for a moment:
/// as many as hold so many rows, within limits.
fn more_blocks(rows: u32) -> usize {
    const ROWS: u32 = 6144;
    (ROWS / rows).clamp(2, 24) as usize
}

/// Entries of a hand-over ring for so many runs: as many blocks may be out, and some that are cut short.
fn entries(runs: usize, rows: u32) -> u16 {
    const MOST: u16 = 4096;
    let least = if rows <= 4096 { 16 } else { 2 };
    let runs = u16::try_from(runs).unwrap_or(MOST).min(MOST);
    runs.next_power_of_two().max(least)
}

/// How many buffers a queue needs, and how its blocks are cut.
struct Plan {
    geometry: Geometry,
    heads: usize,
    data: usize,
    /// Bytes of a buffer for whole frames, and of one for payloads.
    frame: usize,
    row: usize,
}

impl Plan {
    /// The hand-over ring of a queue.
    fn ring(&self, args: &Args) -> Layout {
        Layout {
            generation: 0,
            entries: self.geometry.kept.into(),
            rows: self.geometry.rows,
            slots: 1,
            stride: 1,
            row_bits: row_bits(args.stream.seq),
        }
    }

    fn new(args: &Args, devices: &[Box<dyn Device>]) -> Result<Self, AppError> {
        let ring = args.pool.ring;
        let rings = vec![QueuePlan { rx_ring: ring, tx_ring: 0 }];
        let cache = mempool::DEFAULT_CACHE;
        let sizing = Sizing { queues: rings, workers: 1, cache, burst: args.run.burst, held: 0 };
        let blocks = &args.blocks;
        let is_remote = args.consumer.consumer.is_some();
        let mut geometry = Geometry {
            window: blocks.window,
            deadline: u64::try_from(blocks.deadline.as_nanos()).unwrap_or(u64::MAX),
            origin: args.stream.seq.origin(),
            ..Geometry::of(blocks.rows, blocks.contiguous)
        };
        let data = if args.stream.sink.places() {
            // The ring is full, and every open block lies across two runs.
            let least = ring.div_ceil(blocks.rows as usize) + 2 * usize::from(blocks.window) + 1;
            let more = if is_remote { more_blocks(blocks.rows) } else { 0 };
            let runs = blocks.blocks.unwrap_or(least.max(8) + more);
            if is_remote {
                geometry.kept = entries(runs, blocks.rows);
            }
            if runs < least {
                let (rows, window) = (blocks.rows, blocks.window);
                let why = format!(
                    "--blocks {runs}: too few for a ring of {ring} and {window} open blocks of \
                     {rows} rows: at least {least} are needed"
                );
                return Err(AppError::usage(why).hint(format!("--blocks {least}, or fewer --rows")));
            }
            geometry.slots(runs)
        } else {
            sizing.needed().next_power_of_two()
        };
        let ports = || devices.iter().map(|device| device.info());
        let (frame, row) =
            (args.pool.stride(ports(), DEFAULT_HEADROOM), args.pool.stride(ports(), 0));
        Ok(Self { geometry, heads: args.pool.slots(&sizing)?, data, frame, row })
    }
}
