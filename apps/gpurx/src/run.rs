//! One run, from the command line to the exit code.

use std::time::Duration;

use mempool::format_bytes;
use memwire_apps::{
    AppError, Exit, Stop, lcore, logs,
    memory::MemorySpec,
    ports,
    report::{Output, PoolReport},
    watch::Watch,
};
use pmd::Registry;

use crate::{
    args::Args,
    compare,
    demo::{self, Demo},
    report::{MemoryReport, Summary},
    revoke,
    running::Running,
    sample::memory_of,
    setup::{Port, Setup},
};

/// Runs the app.
///
/// # Errors
/// The run could not start, or failed.
pub fn run(args: Args) -> Result<Exit, AppError> {
    logs::init(args.run.verbose, args.run.quiet);
    let mut output = Output::new(&args.run)?;
    let stop = Stop::on_signals()?;
    if args.compare {
        return compare::run(&args, &mut Registry::new(), &stop, &mut output);
    }
    let ended = receive(&args, &mut Registry::new(), &stop, &mut output)?;
    output.human(ended.summary.text());
    output.summary(&ended.summary)?;
    let verdict = verdict(&args, &ended.summary, ended.fault);
    match (verdict, ended.watched) {
        (Ok(exit), watched) => watched.map(|()| exit),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(unwritten)) => {
            eprintln!("error: {unwritten}");
            Err(error)
        }
    }
}

/// What is left of a run.
pub struct Ended {
    /// Everything that was counted.
    pub summary: Summary,
    /// What failed on the way, if something did.
    pub fault: Option<String>,
    /// Whether chart and page could be written.
    pub watched: Result<(), AppError>,
}

/// Receives on ports of `registry`, or on the demo's wire, until something ends it, with live lines to
/// `output`.
///
/// # Errors
/// The run could not start, or a worker was lost.
pub fn receive(
    args: &Args,
    registry: &mut Registry,
    stop: &Stop,
    output: &mut Output,
) -> Result<Ended, AppError> {
    let args = &completed(args);
    let asked = revoke::asked()?;
    let is_demo = args.ports.ports.is_empty();
    let (default, specs) = if is_demo {
        (MemorySpec::Fake(None), vec![demo::wire()])
    } else {
        (MemorySpec::Auto, args.ports.ports.clone())
    };
    let watch = Watch::new("gpurx", &args.watch, &args.run, stop)?;
    let devices = ports::open(registry, &specs)?;
    let receivers = devices.len() * args.run.queues;
    let senders = if is_demo { args.run.queues } else { 0 };
    let cores = lcore::assign(args.run.lcores.as_ref(), receivers + senders)?;
    let (rx_cores, tx_cores) = cores.split_at(receivers);
    let memory = args.memory.as_ref().unwrap_or(&default);
    let setup = Setup::new(args, registry, devices, memory)?;
    setup.ports.iter().enumerate().for_each(|(index, port)| output.human(port_line(index, port)));
    output.human(memory_line(&setup));
    let running = Running::start(args, setup, rx_cores, asked)?;
    let demo = is_demo.then(|| Demo::start(args, registry, tx_cores)).transpose();
    let demo = match demo {
        Ok(demo) => demo,
        Err(error) => {
            running.end(None, Vec::new())?;
            return Err(error);
        }
    };
    running.watch(args, demo, stop, output, watch)
}

/// The arguments, with what the demo takes for granted.
fn completed(args: &Args) -> Args {
    let mut args = args.clone();
    if args.ports.ports.is_empty() {
        args.stream.udp_port.get_or_insert(demo::UDP_PORT);
        if args.run.duration.is_none() && args.run.count.is_none() {
            args.run.duration = Some(Duration::from_secs(demo::SECONDS));
        }
    }
    args
}

/// The exit code, and the line that explains it.
pub(crate) fn verdict(
    args: &Args,
    summary: &Summary,
    fault: Option<String>,
) -> Result<Exit, AppError> {
    if let Some(fault) = fault {
        return Err(AppError::failed(fault));
    }
    if summary.verify.bad > 0 {
        return Err(AppError::check(format!("{} rows are not what was sent", summary.verify.bad)));
    }
    if !summary.is_balanced() {
        return Err(AppError::check("frames or blocks are not accounted for: see the summary"));
    }
    if !summary.pool.iter().all(PoolReport::is_home) {
        return Err(AppError::check("buffers did not come home: see the summary"));
    }
    let loss = summary.loss();
    match args.stream.max_loss {
        Some(most) if loss > most => {
            let (loss, most) = (loss * 100.0, most * 100.0);
            Err(AppError::check(format!(
                "{loss:.4} % of the rows are missing, at most {most} % may be"
            )))
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
    format!(
        "port {index}  {} ({}){speed}  {queues} queue{plural}  path: {}{}",
        info.port,
        info.driver,
        port.route.path,
        if port.probe.is_of_interest() {
            format!("  {}", port.probe.words())
        } else {
            String::new()
        }
    )
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
