//! From the command line to started queues and their workers: pools, paths, sinks. The one place
//! where memory and ports meet.

use mempool::{
    AreaId, Cpu, DEFAULT_HEADROOM, Device as DeviceMemory, Pool, Provider, QueuePlan, Sizing,
    SplitBurst, SplitCache,
};
use memwire_apps::{
    AppError,
    memory::{MemorySpec, Neighbours, host_to_share},
};
use pmd::{Config, Device, PostOrder, QueueCounters, Queues, Registry, SplitAt, SplitConfig};

use crate::{
    args::{Args, BlockArgs, OnRevoke, SinkChoice},
    consumer::{Consumer, Manners, Remote, Tensor, Unread, Verify, row_bits},
    exchange::Binding,
    growth::Kind,
    handover::{
        Layout,
        server::{Queue, Server, check_ring},
    },
    head::HeadReader,
    path::{Path, Route},
    place::Geometry,
    probe::{ProbeReport, Prober},
    receiver::Receiver,
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
    pub route: Route,
    /// What was proven of its way to the memory.
    pub probe: ProbeReport,
    /// Counters of its queues as the loop sees them.
    pub counters: Vec<QueueCounters>,
}

impl Port {
    /// Stops it with the queues that its workers left.
    ///
    /// # Errors
    /// The device did not stop.
    pub fn stop(&mut self, finished: Vec<Finished>) -> Result<(), AppError> {
        let rx = finished.into_iter().filter_map(|finished| finished.rx.into_queue()).collect();
        Ok(self.device.stop(Queues { rx, tx: Vec::new() })?)
    }
}

/// The pools of one queue.
#[derive(Clone)]
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
    /// What it takes to give a queue other memory.
    pub(crate) maker: Maker,
    /// Where a consumer in another process comes to.
    pub server: Option<Server>,
    /// What it is offered, until the server takes it.
    offers: Vec<Queue>,
}

/// What a worker's blocks are offered by to a consumer in another process.
pub(crate) struct Handover<'a> {
    /// Gets the worker's queue.
    pub(crate) offers: &'a mut Vec<Queue>,
    /// Whether a consumer is there that will be offered it: blocks wait for it.
    pub(crate) has_client: bool,
}

/// Makes what a worker receives with, at the start and whenever memory comes or goes.
pub(crate) struct Maker {
    args: Args,
    plan: Plan,
    /// Opens the payload memory, again if need be.
    open: Box<dyn Fn() -> Result<Box<dyn Provider>, AppError>>,
    /// The payload memory, while pools are made of it.
    memory: Option<Box<dyn Provider>>,
    /// Whether that is a device's: it may be revoked.
    pub(crate) is_device: bool,
}

impl Maker {
    /// Payload memory from the provider that was asked for, as one pool for each of `queues`.
    ///
    /// # Errors
    /// It is not to be had, or not any more.
    pub(crate) fn device_pools(
        &mut self,
        queues: usize,
    ) -> Result<Vec<Pool<DeviceMemory>>, AppError> {
        let provider = (self.open)()?;
        let pools = (0..queues).map(|_| self.data_pool(&*provider)).collect::<Result<_, _>>()?;
        self.memory = Some(provider);
        Ok(pools)
    }

    /// Why the payload memory can no longer be used, if so.
    pub(crate) fn check(&self) -> Option<String> {
        self.memory.as_ref()?.check()
    }

    /// Lets go of the payload memory: what pools have of it goes with them, and then the device.
    pub(crate) fn let_go(&mut self) {
        self.memory = None;
    }

    /// Whether an area can have as many slots as were asked for.
    fn check_growth(&self) -> Result<(), AppError> {
        let (grow, spill) = self.extra_slots();
        let limit = self.plan.data.next_power_of_two();
        if grow.max(spill) <= limit {
            return Ok(());
        }
        let most = (limit - 2) / self.plan.geometry.span();
        let why =
            "--grow, --spill: an area is no larger than the payload memory there is at the start";
        Err(AppError::usage(why).hint(format!("{most} blocks at most, or more --blocks")))
    }

    /// Slots of the areas by which a queue's payload memory may grow: of its own, and of the host's. A slot at
    /// each end is left alone.
    pub(crate) fn extra_slots(&self) -> (usize, usize) {
        let slots = |blocks: usize| match blocks * self.plan.geometry.span() {
            0 => 0,
            slots => slots + 2,
        };
        let is_placed = self.args.stream.sink.places();
        let BlockArgs { grow, spill, .. } = self.args.blocks;
        if is_placed { (slots(grow), slots(spill)) } else { (0, 0) }
    }

    /// Adds such an area to a queue's pool.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(crate) fn grow(&self, pool: &Pool<DeviceMemory>, kind: Kind) -> Result<AreaId, AppError> {
        let (device, host) = self.extra_slots();
        Ok(match (kind, &self.memory) {
            (Kind::Device, Some(memory)) => pool.add_area(&**memory, device)?,
            (Kind::Device, None) => {
                return Err(AppError::missing("payload memory is not there any more"));
            }
            (Kind::Host, _) => {
                let memory = self.host(whole_pages(host * self.plan.row))?;
                pool.add_area(&*memory, host)?
            }
        })
    }

    /// Memory of the host that payloads may go to.
    fn host(&self, bytes: u64) -> Result<Box<dyn Provider>, AppError> {
        match self.args.consumer.consumer {
            Some(_) => Ok(host_to_share(bytes)),
            None => MemorySpec::Auto.open(bytes),
        }
    }

    /// The same in host memory, to take the place of device memory; if payloads are to be dropped then,
    /// no more than a queue has posted.
    ///
    /// # Errors
    /// There is not that much.
    pub(crate) fn refuge_pools(&self, queues: usize) -> Result<Vec<Pool<DeviceMemory>>, AppError> {
        let slots = match self.args.on_revoke {
            OnRevoke::Host => self.plan.data,
            OnRevoke::Drop => {
                2 * (self.args.pool.ring + mempool::DEFAULT_CACHE + self.args.run.burst)
            }
        };
        let bytes = whole_pages(slots.saturating_mul(self.plan.row)) * queues as u64;
        let host = self.host(bytes)?;
        let pool = |_| {
            let pool = Pool::builder().name("host payloads").slots(slots).stride(self.plan.row);
            Ok(pool.headroom(0).memory(&*host).build()?)
        };
        let hint = |error: AppError| error.hint("--on-revoke drop needs less memory");
        (0..queues).map(pool).collect::<Result<_, AppError>>().map_err(hint)
    }

    fn data_pool(&self, memory: &dyn Provider) -> Result<Pool<DeviceMemory>, AppError> {
        let pool = Pool::builder().slots(self.plan.data).stride(self.plan.row).headroom(0);
        Ok(pool.name("payloads").memory(memory).build()?)
    }

    /// How a queue splits into these pools; `is_refuge` if payloads are where they are in place of device
    /// memory.
    pub(crate) fn split(&self, pools: &Pools, at: SplitAt, is_refuge: bool) -> SplitConfig {
        let places = self.args.stream.sink.places() && !(is_refuge && self.drops());
        SplitConfig {
            heads: pools.heads.clone(),
            data: pools.data.clone(),
            at,
            post: if places { PostOrder::App } else { PostOrder::Cache },
        }
    }

    /// Whether payloads are dropped while their memory is revoked.
    pub(crate) fn drops(&self) -> bool {
        self.args.on_revoke == OnRevoke::Drop
    }

    /// What the `index`-th worker receives with, but for its queue; `change` counts the changes of its
    /// memory.
    ///
    /// # Errors
    /// The sink cannot work with these pools.
    pub(crate) fn binding(
        &self,
        pools: &Pools,
        (route, index): (Route, usize),
        (change, is_refuge): (u64, bool),
        rx: Receiver,
        handover: Handover<'_>,
    ) -> Result<Binding, AppError> {
        let Self { args, plan, .. } = self;
        let sink: Box<dyn Sink> = if is_refuge && self.drops() {
            Box::new(Count { heads: heads(args, route), is_revoked: true })
        } else {
            sink(args, plan, pools, (route, index, change), handover)?
        };
        let cache = SplitCache::new(&pools.heads, &pools.data);
        let burst = SplitBurst::with_limit(&pools.heads, &pools.data, args.run.burst);
        let by_host = route.path == Path::Bounce;
        Ok(Binding { rx, cache, burst, sink, by_host, is_refuge })
    }
}

impl Setup {
    /// Takes memory, starts the ports, and makes a worker per queue.
    ///
    /// # Errors
    /// The arguments do not go together, or something is missing here; the message says what.
    pub fn new(
        args: &Args,
        registry: &mut Registry,
        devices: Vec<Box<dyn Device>>,
        data: &MemorySpec,
    ) -> Result<Self, AppError> {
        let places = args.stream.sink.places();
        if args.consumer.consumer.is_some() && !places {
            let why = "--consumer: blocks are handed over, and this --sink makes none";
            return Err(AppError::usage(why).hint("--sink verify or --sink tensor does"));
        }
        let mut routes = Vec::with_capacity(devices.len());
        for device in &devices {
            let (route, why) = args.path.resolve(device.info(), args.stream.seq.extra())?;
            if let Some(why) = why.filter(|_| !args.run.quiet) {
                eprintln!("path: {}: {why}", route.path);
            }
            routes.push(route);
        }
        let queues = devices.len() * args.run.queues;
        let plan = Plan::new(args, &devices)?;
        if args.consumer.consumer.is_some() {
            check_ring(&plan.ring(args))?;
        }
        let any_bounce = routes.iter().any(|route| route.path == Path::Bounce);
        let head_bytes = plan.heads * if any_bounce { plan.frame } else { HEAD };
        let host = MemorySpec::Auto.open(whole_pages(head_bytes) * queues as u64)?;
        let data_bytes = whole_pages(plan.data.saturating_mul(plan.row)) * queues as u64;
        let beside = Neighbours::new(registry, devices.iter().map(|device| &**device));
        let spec = data.clone();
        let open = Box::new(move || spec.open_beside(data_bytes, &beside));
        let device = open()?;
        let is_device = !matches!(
            data,
            MemorySpec::Auto | MemorySpec::Host | MemorySpec::Hugepage(_) | MemorySpec::Private
        );
        let maker = Maker { args: args.clone(), plan, open, memory: None, is_device };
        maker.check_growth()?;
        let (ports, workers, pools) = (Vec::new(), Vec::new(), Vec::new());
        let (server, offers) = (None, Vec::new());
        let mut setup = Self { ports, workers, pools, maker, server, offers };
        let mut prober = Prober::new(args, registry, data)?;
        for (mut device_port, route) in devices.into_iter().zip(routes) {
            let pools = (0..args.run.queues)
                .map(|_| setup.pools(route, &*host, &*device))
                .collect::<Result<Vec<_>, _>>()?;
            let probe = prober.probe(&mut *device_port, route, &pools)?;
            setup.start(args, device_port, (route, probe), pools)?;
        }
        if let Some(path) = &args.consumer.consumer {
            setup.server = Some(Server::start(path, std::mem::take(&mut setup.offers))?);
        }
        setup.maker.memory = Some(device);
        Ok(setup)
    }

    fn pools(
        &self,
        route: Route,
        host: &dyn Provider,
        device: &dyn Provider,
    ) -> Result<Pools, AppError> {
        let plan = &self.maker.plan;
        let mut heads = Pool::builder().slots(plan.heads).memory(host);
        heads = match route.path {
            Path::Direct => heads.stride(HEAD).headroom(route.head_offset),
            Path::Bounce => heads.stride(plan.frame),
        };
        let heads = heads.name("heads").build()?;
        Ok(Pools { heads, data: self.maker.data_pool(device)? })
    }

    fn start(
        &mut self,
        args: &Args,
        mut device: Box<dyn Device>,
        (route, probe): (Route, ProbeReport),
        pools: Vec<Pools>,
    ) -> Result<(), AppError> {
        let Route { path, at, .. } = route;
        let split = |pools: &Pools| self.maker.split(pools, at, false);
        let rx = pools.iter().map(|pools| path.rx_config(&split(pools), args.pool.ring)).collect();
        let config = Config { rx, promiscuous: true, ..Config::default() };
        let started = device.start(config)?;
        let mut counters = Vec::new();
        for (queue, pools) in started.rx.into_iter().zip(pools) {
            let rx = path.wrap(queue, self.maker.split(&pools, at, false), args.pool.ring)?;
            counters.push(rx.counters().clone());
            let index = self.workers.len();
            let handover = Handover { offers: &mut self.offers, has_client: false };
            let now = self.maker.binding(&pools, (route, index), (0, false), rx, handover)?;
            self.workers.push(Worker::new(now, args.run.idle).measured(args.cost));
            self.pools.push(pools);
        }
        self.ports.push(Port { device, route, probe, counters });
        Ok(())
    }
}

fn heads(args: &Args, route: Route) -> HeadReader {
    HeadReader::new(args.stream.flow(), args.stream.seq).cut_at(route.payload_at())
}

/// The sink of the `index`-th worker. One that writes a file takes another after each change of memory.
fn sink(
    args: &Args,
    plan: &Plan,
    pools: &Pools,
    (route, index, change): (Route, usize, u64),
    handover: Handover<'_>,
) -> Result<Box<dyn Sink>, AppError> {
    let heads = heads(args, route);
    let row = plan.row;
    let consumer: Box<dyn Consumer> = match args.stream.sink {
        SinkChoice::Count => return Ok(Box::new(Count { heads, is_revoked: false })),
        SinkChoice::Pcap => {
            let out = args.stream.out.clone().unwrap_or_default();
            let out = if index == 0 { out } else { numbered(&out, &index.to_string()) };
            let out = if change == 0 { out } else { numbered(&out, &format!("r{change}")) };
            let payload = mempool::DeviceView::new(&pools.data);
            return Ok(Box::new(Capture::create(&out, heads, payload)?));
        }
        _ if args.consumer.consumer.is_some() => {
            let (queue, orders) = Queue::new(&pools.data, plan.ring(args))?;
            handover.offers.push(queue);
            Box::new(Remote::new(orders, plan.manners(args), handover.has_client))
        }
        SinkChoice::Verify => Box::new(Verify::new(row, args.stream.seq)),
        SinkChoice::Tensor => Box::new(Tensor::new(row)),
        SinkChoice::Place => Box::new(Unread),
    };
    // After a change the stream goes on where it was, and does not begin.
    let origin = plan.geometry.origin.filter(|_| change == 0);
    let geometry = Geometry { origin, ..plan.geometry };
    let placed = Placed::new(heads, &pools.data, (&geometry, args.pool.ring), consumer);
    Ok(Box::new(placed.map_err(|error| AppError::usage(error.to_string()))?))
}

/// `out.pcap` of queue 2: `out.2.pcap`.
fn numbered(path: &std::path::Path, index: &str) -> std::path::PathBuf {
    match path.extension() {
        Some(extension) => path.with_extension(format!("{index}.{}", extension.display())),
        None => path.with_extension(index),
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
    /// Slots that a consumer in another process may have: what ring and open blocks do not need.
    share: u64,
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

    /// How blocks are shown to a consumer in another process.
    fn manners(&self, args: &Args) -> Manners {
        let limit = args.consumer.consumer_deadline.unwrap_or(std::time::Duration::from_secs(1));
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Manners { waits: args.consumer.consumer_wait, limit, most: self.share }
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
        let mut share = u64::MAX;
        let data = if args.stream.sink.places() {
            // The ring is full, and every open block lies across two runs.
            let least = ring.div_ceil(blocks.rows as usize) + 2 * usize::from(blocks.window) + 1;
            let more = if is_remote { more_blocks(blocks.rows) } else { 0 };
            let runs = blocks.blocks.unwrap_or(least.max(8) + more);
            if is_remote {
                geometry.kept = entries(runs + blocks.grow + blocks.spill, blocks.rows);
            }
            if runs < least {
                let (rows, window) = (blocks.rows, blocks.window);
                let why = format!(
                    "--blocks {runs}: too few for a ring of {ring} and {window} open blocks of \
                     {rows} rows: at least {least} are needed"
                );
                return Err(AppError::usage(why).hint(format!("--blocks {least}, or fewer --rows")));
            }
            share = (runs - least).max(1) as u64 * u64::from(blocks.rows);
            geometry.slots(runs)
        } else {
            sizing.needed().next_power_of_two()
        };
        let ports = || devices.iter().map(|device| device.info());
        let (frame, row) =
            (args.pool.stride(ports(), DEFAULT_HEADROOM), args.pool.stride(ports(), 0));
        Ok(Self { geometry, heads: args.pool.slots(&sizing)?, data, frame, row, share })
    }
}
