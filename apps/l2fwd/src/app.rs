//! From the command line to running workers and back: memory, ports, queues, report, clean stop.

use std::sync::{Arc, mpsc};

use memwire_apps::{
    AppError, Stop, lcore, ports,
    report::Output,
    schedule::{Over, Schedule},
    watch::Watch,
    workers::Workers,
};
use pmd::Registry;

use crate::{
    Args, Mode,
    fdb::Fdb,
    monitor::Monitor,
    plan::{Plan, partner},
    port::Port,
    rewrite::Addresses,
    summary::{Ended, Summary},
    switch::{Fabric, Switch},
    upkeep::Upkeep,
    vlan::Membership,
    worker::{Leave, Pairs, Plane, Worker},
};

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
    args.check()?;
    let mut ports = open(args, registry)?;
    let plan = Plan::new(args, &ports)?;
    let cores = lcore::assign(args.run.lcores.as_ref(), plan.workers)?;
    let pool = plan.build_pool(args)?;
    let fabric = (args.mode == Mode::Switch).then(|| Arc::new(build_fabric(args)));
    let (give_back, returned) = mpsc::channel();

    let count = args.ports.ports.len();
    let (mut workers, mut posts): (Vec<_>, Vec<_>) = (0..plan.workers)
        .map(|_| {
            let plane = build_plane(args, fabric.as_ref());
            let (burst, idle) = (args.run.burst, args.run.idle);
            Worker::new(plane, count, args.mirror.is_some(), &pool, burst, idle, &give_back)
        })
        .unzip();
    drop(give_back);
    start(&plan, &pool, &mut ports, &mut workers)?;

    let leave =
        Leave { enough: args.run.count.map(|count| (Arc::default(), count)), ..Leave::default() };
    let tallies = workers.iter().map(Worker::tally).collect();
    let mut upkeep = Upkeep::new(ports, count, pool, plan, fabric, returned, args);
    upkeep.posts.append(&mut posts);
    let mut monitor = Monitor::new(args, tallies);
    let mut views = Watch::new("l2fwd", &args.watch, &args.run, stop)?;
    let mut threads = Workers::new(stop);
    for (at, (worker, core)) in workers.into_iter().zip(cores).enumerate() {
        let leave = leave.clone();
        threads.spawn(format!("l2fwd-{at}"), Some(core), move |stop| worker.run(stop, &leave))?;
    }
    let mut looker = Looker { leave: &leave, monitor: &mut monitor, views: &mut views, output };
    let watched = looker.watch(args, &mut upkeep, registry, &threads);
    let seconds = monitor.elapsed();
    threads.join()?.into_iter().for_each(Worker::close);
    upkeep.stop()?;
    let (ended, fault) = match watched? {
        (Ended::Asked, _) if leave.is_reached() => (Ended::Count, None),
        ended => ended,
    };
    views.finish(monitor.sample(&upkeep))?;
    Ok(monitor.summary(&upkeep, seconds, ended, fault))
}

/// Opens the ports, and the mirror as the last.
fn open(args: &Args, registry: &mut Registry) -> Result<Vec<Port>, AppError> {
    let specs: Vec<_> = args.ports.ports.iter().chain(&args.mirror).cloned().collect();
    let devices = ports::open(registry, &specs)?;
    let ports: Vec<_> = specs.iter().zip(devices).map(|(spec, dev)| Port::new(spec, dev)).collect();
    let mirror = args.mirror.as_ref().and_then(|_| ports.last());
    if let Some(mirror) = mirror.filter(|mirror| !mirror.sends()) {
        let message = format!("--mirror {}: this port does not send", mirror.spec);
        return Err(AppError::usage(message).hint("a capture to write is pcap:,tx=FILE"));
    }
    Ok(ports)
}

fn build_fabric(args: &Args) -> Fabric {
    let count = args.ports.ports.len();
    let switch = &args.switch;
    let of_port = |port| {
        let named = switch.vlan.iter().find(|vlan| vlan.port == port);
        named.map_or_else(Membership::default, |vlan| vlan.membership.clone())
    };
    let vlans = (!switch.vlan.is_empty()).then(|| (0..count).map(of_port).collect());
    let fdb = Fdb::new(switch.entries(), switch.ageing());
    Fabric::new(count, fdb, vlans, switch.storm, switch.forward_reserved)
}

fn build_plane(args: &Args, fabric: Option<&Arc<Fabric>>) -> Plane {
    let count = args.ports.ports.len();
    match fabric {
        Some(fabric) => Plane::Switch(Switch::new(fabric, count, args.run.burst)),
        None => Plane::Pairs(Pairs {
            partners: (0..count).map(|port| partner(port, count)).collect(),
            rewrite: args.rewrite,
            addresses: (0..count)
                .map(|port| Addresses::towards(port, &args.eth_dest, [0; 6]))
                .collect(),
        }),
    }
}

/// Starts the ports and deals their queues.
fn start(
    plan: &Plan,
    pool: &mempool::Pool<mempool::Cpu>,
    ports: &mut [Port],
    workers: &mut [Worker],
) -> Result<(), AppError> {
    let is_finite = |port: &Port| port.receives() && port.info.capabilities.finite;
    let is_any_finite = ports.iter().any(is_finite);
    for (at, port) in ports.iter_mut().enumerate() {
        let ends = is_finite(port) || !is_any_finite;
        let mac = port.info.mac;
        let Some(device) = port.device_mut() else { continue };
        let queues = device.start(plan.config(at, pool))?;
        for (worker, share) in workers.iter_mut().zip(plan.deal(at, queues)) {
            worker.assign(at, share, mac, ends);
        }
    }
    Ok(())
}

/// What the main thread looks with.
struct Looker<'a> {
    leave: &'a Leave,
    monitor: &'a mut Monitor,
    views: &'a mut Watch,
    output: &'a mut Output,
}

impl Looker<'_> {
    /// Keeps ports and reports while the workers run; returns why they should stop, and what failed.
    fn watch(
        &mut self,
        args: &Args,
        upkeep: &mut Upkeep,
        registry: &mut Registry,
        threads: &Workers<Worker>,
    ) -> Result<(Ended, Option<String>), AppError> {
        let mut schedule = Schedule::new(&args.run);
        let mut fault = None;
        loop {
            if !threads.wait(schedule.nap()) {
                let is_drained = schedule.is_draining();
                return Ok((if is_drained { Ended::Ports } else { Ended::Asked }, fault));
            }
            if let Some(why) = upkeep.tick(registry).filter(|_| fault.is_none()) {
                fault = Some(why);
            }
            if fault.is_some() || have_ended(upkeep) {
                self.leave.drain.set();
                schedule.drain();
            }
            if schedule.is_line_due() {
                self.monitor.interval(upkeep, self.output);
            }
            self.views.tick(|| self.monitor.sample(upkeep))?;
            match schedule.over() {
                Some(Over::Drained) => return Ok((Ended::Ports, fault)),
                Some(Over::Duration) => return Ok((Ended::Duration, fault)),
                None => {}
            }
        }
    }
}

/// Whether nothing more can come. A port that is away may come back.
fn have_ended(upkeep: &Upkeep) -> bool {
    let ports = &upkeep.ports[..upkeep.count];
    ports.iter().all(|port| port.device().is_some())
        && ports::have_ended(ports.iter().filter_map(Port::device))
}
