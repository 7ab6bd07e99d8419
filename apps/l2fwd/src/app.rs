//! From the command line to running workers and back: memory, ports, queues, report, clean stop.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_utils::CachePadded;
use mempool::{Cpu, DEFAULT_CACHE, Pool, QueuePlan, Sizing};
use memwire_apps::{AppError, Stop, lcore, ports, report::Output, workers::Workers};
use pmd::{AnyRxQueue, Config, Device, Health, Queues, Registry, RxMemory, TxQueue};

use crate::{
    Args,
    summary::{Ended, Monitor, Summary},
    worker::{Leave, Pair, Tally, Worker},
};

/// How long workers may take to empty ports that have ended.
const DRAIN: Duration = Duration::from_secs(2);
/// How often the ports are asked whether they still work.
const LOOK: Duration = Duration::from_millis(20);

type Tallies = Vec<Arc<CachePadded<Tally>>>;

/// Runs l2fwd on ports of `registry` until something ends it, with live lines to `output`.
///
/// # Errors
/// The command line asks for what cannot be, something is missing, or a worker or port failed.
pub fn run(
    args: &Args,
    registry: &mut Registry,
    stop: &Stop,
    output: &mut Output,
) -> Result<Summary, AppError> {
    let specs = port_specs(args)?;
    let cores = lcore::assign(args.run.lcores.as_ref(), args.run.queues)?;
    let mut devices = ports::open(registry, &specs)?;
    if devices[..2].iter().all(|device| device.info().capabilities.rx_queues == 0) {
        return Err(AppError::usage("neither port receives: there is nothing to forward"));
    }
    let pool = build_pool(args)?;
    let queues = start(args, &pool, &mut devices)?;
    let workers = build_workers(args, &pool, &devices, queues);
    let tallies: Tallies = workers.iter().map(Worker::tally).collect();

    let leave =
        Leave { enough: args.run.count.map(|count| (Arc::default(), count)), ..Leave::default() };
    let mut threads = Workers::new(stop);
    for (at, (worker, core)) in workers.into_iter().zip(cores).enumerate() {
        let leave = leave.clone();
        threads.spawn(format!("l2fwd-{at}"), Some(core), move |stop| worker.run(stop, &leave))?;
    }
    let mut monitor = Monitor::new(&pool, tallies);
    let watched = watch(args, &devices, &threads, &leave, &mut monitor, output);
    let seconds = monitor.elapsed();
    bring_back(threads.join()?, &mut devices)?;
    let ended = match watched? {
        Ended::Asked if leave.is_reached() => Ended::Count,
        ended => ended,
    };
    Ok(monitor.summary(args, &devices, seconds, ended))
}

/// The two ports and the mirror.
fn port_specs(args: &Args) -> Result<Vec<String>, AppError> {
    let specs = &args.ports.ports;
    if specs.len() != 2 {
        let message = format!("l2fwd forwards between two ports; {} given", specs.len());
        return Err(AppError::usage(message).hint("l2fwd -p null: -p null:"));
    }
    Ok(specs.iter().chain(&args.mirror).cloned().collect())
}

fn build_pool(args: &Args) -> Result<Pool<Cpu>, AppError> {
    let ring = args.pool.ring;
    let per_queue = [
        QueuePlan { rx_ring: ring, tx_ring: ring },
        QueuePlan { rx_ring: ring, tx_ring: ring },
        QueuePlan { rx_ring: 0, tx_ring: args.mirror.as_ref().map_or(0, |_| ring) },
    ];
    let plan = Sizing {
        queues: per_queue.repeat(args.run.queues),
        workers: args.run.queues,
        cache: DEFAULT_CACHE,
        burst: args.run.burst,
        held: 0,
    };
    let slots = args.pool.slots(&plan)?;
    let needed = (slots as u64).saturating_mul(args.pool.buffer_size as u64);
    let memory = args.memory.memory.open(needed)?;
    let pool = Pool::builder().name("frames").slots(slots).stride(args.pool.buffer_size);
    let pool = if args.mirror.is_some() { pool.shareable() } else { pool };
    Ok(pool.memory(&*memory).build()?)
}

fn start(
    args: &Args,
    pool: &Pool<Cpu>,
    devices: &mut [Box<dyn Device>],
) -> Result<Vec<Queues>, AppError> {
    let mut started = Vec::with_capacity(devices.len());
    for (at, device) in devices.iter_mut().enumerate() {
        let is_mirror = at == 2;
        let can = &device.info().capabilities;
        let receives = can.rx_queues > 0 && !is_mirror;
        let sends = can.tx_queues > 0 || is_mirror;
        let mut config = Config { promiscuous: receives, ..Config::default() };
        for _ in 0..args.run.queues {
            if receives {
                config = config.with_rx(RxMemory::Whole(pool.clone()));
            }
            if sends {
                config = config.with_tx(pool);
            }
        }
        started.push(device.start(config.rings(args.pool.ring))?);
    }
    Ok(started)
}

/// Gives queue i of every port to worker i.
fn build_workers(
    args: &Args,
    pool: &Pool<Cpu>,
    devices: &[Box<dyn Device>],
    queues: Vec<Queues>,
) -> Vec<Worker> {
    let finite = |at: usize| devices[at].info().capabilities.finite;
    let is_any_finite = finite(0) || finite(1);
    let mut queues = queues.into_iter();
    let mut pairs = |at: usize| {
        let Queues { rx, tx } = queues.next().unwrap_or_default();
        let mut rx = rx.into_iter().filter_map(AnyRxQueue::whole);
        let mut tx = tx.into_iter();
        let ends = finite(at) || !is_any_finite;
        let pair = |_| Pair { rx: rx.next(), tx: tx.next(), ends };
        (0..args.run.queues).map(pair).collect::<Vec<_>>()
    };
    let both = pairs(0).into_iter().zip(pairs(1)).collect::<Vec<_>>();
    let mut mirrors = queues.next().unwrap_or_default().tx.into_iter();
    let worker = |(first, second)| {
        Worker::new([first, second], mirrors.next(), pool, args.run.burst, args.mode)
    };
    both.into_iter().map(worker).collect()
}

/// Reports while the workers run; returns why they should stop.
fn watch(
    args: &Args,
    devices: &[Box<dyn Device>],
    threads: &Workers<Worker>,
    leave: &Leave,
    monitor: &mut Monitor,
    output: &mut Output,
) -> Result<Ended, AppError> {
    let start = Instant::now();
    let deadline = args.run.duration.map(|duration| start + duration);
    let mut next_line = start + args.run.interval;
    let mut drain_deadline = None;
    loop {
        let now = Instant::now();
        let until = [Some(next_line), deadline, drain_deadline].into_iter().flatten().min();
        let nap = until.map_or(LOOK, |until| until.saturating_duration_since(now)).min(LOOK);
        if !threads.wait(nap) {
            return Ok(if drain_deadline.is_some() { Ended::Ports } else { Ended::Asked });
        }
        let now = Instant::now();
        if drain_deadline.is_none() && (fault(devices).is_some() || have_ended(&devices[..2])) {
            leave.drain.set();
            drain_deadline = Some(now + DRAIN);
        }
        if now >= next_line {
            monitor.interval(devices, output)?;
            next_line += args.run.interval;
        }
        if drain_deadline.is_some_and(|deadline| now >= deadline) {
            return Ok(Ended::Ports);
        }
        if deadline.is_some_and(|deadline| now >= deadline) {
            return Ok(Ended::Duration);
        }
    }
}

/// Which port no longer works, and why.
pub(crate) fn fault(devices: &[Box<dyn Device>]) -> Option<String> {
    devices.iter().find_map(|device| match device.health() {
        Health::Faulted(why) => Some(format!("port '{}': {why}", device.info().port)),
        Health::Good | Health::Ended => None,
    })
}

/// Whether nothing more can come: every port whose traffic is finite has ended, or, where none is,
/// every port.
fn have_ended(devices: &[Box<dyn Device>]) -> bool {
    let is_ended = |device: &dyn Device| device.health() == Health::Ended;
    let is_finite = |device: &dyn Device| device.info().capabilities.finite;
    let is_any_finite = devices.iter().any(|device| is_finite(&**device));
    let mut devices = devices.iter().map(AsRef::as_ref);
    devices.all(|device| is_ended(device) || (is_any_finite && !is_finite(device)))
}

/// Stops the devices with the queues that their workers had.
fn bring_back(workers: Vec<Worker>, devices: &mut [Box<dyn Device>]) -> Result<(), AppError> {
    let mut queues: Vec<Queues> = devices.iter().map(|_| Queues::default()).collect();
    for worker in workers {
        let (pairs, mirror): (_, Option<Box<dyn TxQueue>>) = worker.into_queues();
        for (at, pair) in pairs.into_iter().enumerate() {
            queues[at].rx.extend(pair.rx.map(AnyRxQueue::Whole));
            queues[at].tx.extend(pair.tx);
        }
        if let Some(tx) = mirror {
            queues[2].tx.push(tx);
        }
    }
    for (device, queues) in devices.iter_mut().zip(queues) {
        device.stop(queues)?;
    }
    Ok(())
}
