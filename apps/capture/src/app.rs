//! From the command line to running workers and back: memory, ports, queues, file, clean stop.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crossbeam_utils::CachePadded;
use mempool::{Cpu, DEFAULT_CACHE, DEFAULT_HEADROOM, Pool, QueuePlan, Sizing};
use memwire_apps::{
    AppError, Stop, lcore, ports,
    report::{Counter, Output},
    schedule::{Over, Schedule},
    watch::Watch,
    workers::Workers,
};
use pmd::{
    AnyRxQueue, Config, Device, QueueCounters, QueueStats, Queues, Registry, RxMemory, RxQueue,
    pcap::{FileOptions, Files, Interface, tape},
};

use crate::{
    Args, Filter,
    record::{Broken, Lines, Target},
    scribe::Scribe,
    summary::{Ended, Monitor, Summary, Written},
    worker::{Leave, Port, Worker, clock, statistics},
};

/// Bytes of the tape from a worker to the thread that writes.
const TAPE: usize = 8 << 20;

/// A thread of the run.
enum Job {
    Worker(Box<Worker>),
    Scribe(Box<Scribe>),
}

/// Runs capture on ports of `registry` until something ends it.
///
/// # Errors
/// The command line asks for what cannot be, something is missing, or a worker or port failed.
pub fn run(
    args: &Args,
    registry: &mut Registry,
    stop: &Stop,
    output: &mut Output,
) -> Result<Summary, AppError> {
    if args.ports.ports.is_empty() {
        return Err(AppError::usage("no port to capture from").hint("capture -p eth0"));
    }
    args.check_stdout()?;
    let options = args.file_options()?;
    let filter = args.filter()?;
    let cores = lcore::assign(args.run.lcores.as_ref(), args.run.queues)?;
    let mut devices = ports::open(registry, &args.ports.ports)?;
    for device in &devices {
        if device.info().capabilities.rx_queues == 0 {
            let message = format!("port '{}' receives nothing", device.info().port);
            return Err(AppError::usage(message));
        }
    }
    let pool = build_pool(args, &devices)?;
    let mut queues = start(args, &pool, &mut devices)?;
    let hurry = options.as_ref().map_or_else(Arc::default, |options| Arc::clone(&options.hurry));
    let target = open_target(args, options, filter.as_ref(), &devices)?;
    let mut watch = Watch::new("capture", &args.watch, &args.run, stop)?;

    let began = clock();
    let wanted = args.run.count.map(|count| Arc::new(AtomicU64::new(count)));
    let leave = Leave { wanted, ..Leave::default() };
    let counters: Vec<Vec<QueueCounters>> = queues.iter().map(all_counters).collect();
    let program = filter.as_ref().map(|filter| filter.program.clone());
    let written = Arc::new(CachePadded::new(Counter::default()));
    let (targets, scribe) = share(args, target, &counters, &written, began);
    let has_scribe = scribe.is_some();
    let mut tallies = Vec::new();
    let mut threads = Workers::new(stop);
    if let Some(scribe) = scribe {
        threads
            .spawn("capture-writer", None, move |stop| Job::Scribe(Box::new(scribe.run(stop))))?;
    }
    for ((at, target), core) in targets.into_iter().enumerate().zip(cores) {
        let mut own = Vec::new();
        for (interface, queues) in (0..).zip(&mut queues) {
            if let Some(rx) = queues.get_mut(at).and_then(Option::take) {
                own.push(Port::new(rx, interface, &pool, args.run.burst));
            }
        }
        let worker =
            Worker::new(own, program.clone(), target, &pool, &leave, (args.run.idle, began));
        tallies.push(worker.tally());
        threads.spawn(format!("capture-{at}"), Some(core), move |stop| {
            Job::Worker(Box::new(worker.run(stop)))
        })?;
    }
    let mut monitor = Monitor::new(&pool, tallies, has_scribe.then(|| Arc::clone(&written)));
    let watched = look_after(args, &devices, &threads, &leave, &mut monitor, &mut watch, output);
    let seconds = monitor.elapsed();
    // Whoever was told to stop does so soon; one that has all it wanted waits for its reader.
    let is_removed = ports::is_one_removed(devices.iter().map(AsRef::as_ref));
    let is_told = is_removed || matches!(watched, Ok(Ended::Asked | Ended::Duration) | Err(_));
    let is_hurried = is_told && !leave.is_reached();
    // Relaxed: a wish; it orders nothing.
    hurry.store(is_hurried, Ordering::Relaxed);
    let (target, broken) = bring_back(threads.join()?, &mut devices)?;
    let ended = match watched? {
        _ if broken.is_some() => Ended::Writing,
        Ended::Asked if leave.is_reached() => Ended::Count,
        ended => ended,
    };
    let written = finish(target, broken, &counters, &monitor, began);
    let summary = monitor.summary(args, &devices, filter.as_ref(), written, seconds, ended);
    watch.finish(monitor.sample(&devices))?;
    Ok(summary)
}

fn build_pool(args: &Args, devices: &[Box<dyn Device>]) -> Result<Pool<Cpu>, AppError> {
    let per_port = QueuePlan { rx_ring: args.pool.ring, tx_ring: 0 };
    let queues = args.run.queues * args.ports.ports.len();
    let plan = Sizing {
        queues: vec![per_port; queues],
        workers: args.run.queues,
        cache: DEFAULT_CACHE,
        burst: args.run.burst * args.ports.ports.len(),
        held: 0,
    };
    let slots = args.pool.slots(&plan)?;
    let stride = args.pool.stride(devices.iter().map(|device| device.info()), DEFAULT_HEADROOM);
    let needed = (slots as u64).saturating_mul(stride as u64);
    let memory = args.memory.memory.open(needed)?;
    let pool = Pool::builder().name("frames").slots(slots).stride(stride);
    Ok(pool.memory(&*memory).build()?)
}

type PortQueues = Vec<Option<Box<dyn RxQueue>>>;

/// Starts every port; yields its queues.
fn start(
    args: &Args,
    pool: &Pool<Cpu>,
    devices: &mut [Box<dyn Device>],
) -> Result<Vec<PortQueues>, AppError> {
    let mut started = Vec::with_capacity(devices.len());
    for device in devices {
        let mut config = Config { promiscuous: true, ..Config::default() };
        for _ in 0..args.run.queues {
            config = config.with_rx(RxMemory::Whole(pool.clone()));
        }
        let Queues { rx, .. } = device.start(config.rings(args.pool.ring))?;
        started.push(rx.into_iter().map(AnyRxQueue::whole).collect());
    }
    Ok(started)
}

fn all_counters(queues: &PortQueues) -> Vec<QueueCounters> {
    queues.iter().flatten().map(|queue| queue.counters().clone()).collect()
}

/// Opens the file, if one is to be written: one interface for each port.
fn open_target(
    args: &Args,
    options: Option<FileOptions>,
    filter: Option<&Filter>,
    devices: &[Box<dyn Device>],
) -> Result<Target, AppError> {
    let names = || devices.iter().map(|device| address(&device.info().port).to_owned());
    let Some(mut options) = options else {
        if args.run.is_json_on_stdout() {
            return Ok(Target::Count);
        }
        return Ok(Target::Lines(Lines::new(names().collect())));
    };
    let interface = |device: &dyn Device| {
        let info = device.info();
        Interface {
            // What Wireshark shows: the address, without the driver.
            name: Some(address(&info.port).to_owned()),
            description: Some(info.port.clone()),
            filter: filter.map(|filter| filter.text.clone()),
        }
    };
    options.interfaces = devices.iter().map(|device| interface(&**device)).collect();
    let path = options.path.clone();
    let files = Files::create(options).map_err(|error| {
        let message = format!("-w {}: {error}", path.display());
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                AppError::missing(message).hint("write where you may, or run as the folder's owner")
            }
            std::io::ErrorKind::NotFound => {
                AppError::missing(message).hint("create the folder first")
            }
            std::io::ErrorKind::Other => AppError::missing(message),
            _ => AppError::failed(message),
        }
    })?;
    Ok(Target::Files(Box::new(files)))
}

/// The address of a port spec: `eth0` of `af_packet:eth0,rx=4`; the whole if there is none.
fn address(port: &str) -> &str {
    let inner = port.rsplit('@').next().unwrap_or(port);
    let inner = inner.split(',').next().unwrap_or(inner);
    match inner.split_once(':') {
        Some((_, address)) if !address.is_empty() => address,
        _ => inner,
    }
}

/// One worker writes by itself; several give their frames to a thread that does.
fn share(
    args: &Args,
    target: Target,
    counters: &[Vec<QueueCounters>],
    written: &Arc<CachePadded<Counter>>,
    began: u64,
) -> (Vec<Target>, Option<Scribe>) {
    if args.run.queues == 1 {
        return (vec![target], None);
    }
    let (mut targets, mut tapes) = (Vec::new(), Vec::new());
    for _ in 0..args.run.queues {
        let (writer, reader) = tape(TAPE);
        targets.push(Target::Tape(writer, args.snaplen));
        tapes.push(reader);
    }
    let scribe = Scribe {
        tapes,
        target,
        counters: counters.to_vec(),
        began,
        written: Arc::clone(written),
        broken: None,
    };
    (targets, Some(scribe))
}

/// Reports while the workers run; returns why they should stop.
fn look_after(
    args: &Args,
    devices: &[Box<dyn Device>],
    threads: &Workers<Job>,
    leave: &Leave,
    monitor: &mut Monitor,
    watch: &mut Watch,
    output: &mut Output,
) -> Result<Ended, AppError> {
    let mut schedule = Schedule::new(&args.run);
    loop {
        if !threads.wait(schedule.nap()) {
            return Ok(if schedule.is_draining() { Ended::Ports } else { Ended::Asked });
        }
        let ports = devices.iter().map(AsRef::as_ref);
        if ports::is_one_removed(ports.clone()) {
            return Ok(Ended::Ports);
        }
        if fault(devices).is_some() || ports::have_ended(ports) {
            leave.drain.set();
            schedule.drain();
        }
        watch.tick(|| monitor.sample(devices))?;
        if schedule.is_line_due() {
            monitor.interval(args, devices, output)?;
        }
        match schedule.over() {
            Some(Over::Drained) => return Ok(Ended::Ports),
            Some(Over::Duration) => return Ok(Ended::Duration),
            None => {}
        }
    }
}

/// Which port no longer works, and why.
pub(crate) fn fault(devices: &[Box<dyn Device>]) -> Option<String> {
    devices.iter().find_map(|device| {
        device.health().fault().map(|why| format!("port '{}': {why}", device.info().port))
    })
}

/// Stops the devices with the queues that their workers had; yields what was written to.
fn bring_back(
    jobs: Vec<Job>,
    devices: &mut [Box<dyn Device>],
) -> Result<(Option<Target>, Option<Broken>), AppError> {
    let mut queues: Vec<Queues> = devices.iter().map(|_| Queues::default()).collect();
    let (mut target, mut broken) = (None, None);
    for job in jobs {
        let (own, failed) = match job {
            Job::Scribe(scribe) => (scribe.target, scribe.broken),
            Job::Worker(worker) => {
                let left = worker.into_parts();
                for (interface, rx) in left.queues {
                    queues[interface as usize].rx.push(AnyRxQueue::Whole(rx));
                }
                (left.target, left.broken)
            }
        };
        if !matches!(own, Target::Count) {
            target = Some(own);
        }
        broken = broken.or(failed);
    }
    for (device, queues) in devices.iter_mut().zip(queues) {
        device.stop(queues)?;
    }
    Ok((target, broken))
}

/// Ends the file: the counts of every interface, and what is still held.
fn finish(
    target: Option<Target>,
    broken: Option<Broken>,
    counters: &[Vec<QueueCounters>],
    monitor: &Monitor,
    began: u64,
) -> Written {
    let mut written = Written { broken, ..Written::default() };
    let Some(mut target) = target else {
        return written;
    };
    if written.broken.is_none() {
        let totals = monitor.totals();
        let passed = (counters.len() == 1)
            .then(|| (totals.passed + totals.after_count, monitor.written(&totals)));
        let (stats, now) = (counters.iter().map(QueueStats::sum), clock());
        target.set_statistics(stats.map(|stats| statistics(&stats, passed, began, now)));
    }
    let (files, bytes, finished) = target.finish();
    (written.files, written.bytes) = (files, bytes);
    written.broken = written.broken.or(finished.err());
    written
}
