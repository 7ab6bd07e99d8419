//! From the command line to queues, pools and workers: the one place where ports and memory meet.

use std::sync::Arc;

use crossbeam_utils::CachePadded;
use mempool::{Cpu, DEFAULT_CACHE, DEFAULT_HEADROOM, Pool, Provider, QueuePlan, Sizing};
use memwire_apps::{
    AppError, Stop,
    idle::Activity,
    lcore, ports,
    traffic::{Clock, Distribution, FlowKey, Generator, HeaderChoice, Source, Traffic},
    units::Rate,
};
use pmd::{AnyRxQueue, Config, Device, Queues, Registry, RxMemory};

use crate::{
    Args,
    analyse::{Analyser, Counts},
    receiver::Receiver,
    sender::{Kind, Replay, Sender},
};

/// Slots that a wire may hold besides what rings do.
const HELD: usize = 1024;
/// Frames per second that may be asked for.
const RATES: std::ops::RangeInclusive<f64> = 0.001..=1e10;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// Generated frames are sent.
    Generate,
    /// A capture is sent.
    Replay,
    /// Nothing is sent.
    Receive,
    /// The highest rate without loss is searched.
    Search,
}

/// What can be read of the workers while they run.
#[derive(Default)]
pub(crate) struct Handles {
    pub(crate) counts: Vec<Arc<CachePadded<Counts>>>,
    pub(crate) latency: Vec<Distribution>,
    pub(crate) gaps: Vec<Distribution>,
    pub(crate) activities: Vec<(String, Arc<CachePadded<Activity>>)>,
}

/// Ports, pools and workers, between runs.
pub(crate) struct Rig {
    pub(crate) mode: Mode,
    pub(crate) traffic: Option<Traffic>,
    pub(crate) keys: Vec<FlowKey>,
    /// The ports of the command line.
    pub(crate) devices: Vec<Box<dyn Device>>,
    /// Numbers of those that receive.
    pub(crate) receiving: Vec<usize>,
    pub(crate) capture: Option<Box<dyn Device>>,
    /// Set once the capture has ended.
    pub(crate) capture_ended: Stop,
    pub(crate) pools: Vec<Pool<Cpu>>,
    pub(crate) senders: Vec<Sender>,
    pub(crate) receivers: Vec<Receiver>,
    pub(crate) cores: Vec<usize>,
    pub(crate) handles: Handles,
    /// Frames to send, if a number of rounds of a capture says so.
    pub(crate) count: Option<u64>,
}

impl Rig {
    /// Opens and starts everything.
    pub(crate) fn new(args: &Args, registry: &mut Registry) -> Result<Self, AppError> {
        let mode = match (&args.send.replay, args.receive.rx_only, args.search.search_ndr) {
            (Some(_), ..) => Mode::Replay,
            (None, true, _) => Mode::Receive,
            (None, false, true) => Mode::Search,
            (None, false, false) => Mode::Generate,
        };
        let is_demo = args.ports.ports.is_empty();
        if is_demo && mode == Mode::Receive {
            return Err(AppError::usage("--rx-only needs a port").hint("pktgen --rx-only -p eth1"));
        }
        let traffic = match mode {
            Mode::Replay => None,
            _ => Some(args.headers.traffic(if is_demo { 1024 } else { 64 })?),
        };
        let specs = match is_demo {
            true => vec!["ring:pktgen".to_owned(); 2],
            false => args.ports.ports.clone(),
        };
        let devices = ports::open(registry, &specs)?;
        let receiving = receiving(args, mode, &devices)?;
        let capture = args.send.replay.as_ref().map(|file| {
            let pace = if args.send.pace { ",pace" } else { "" };
            let round = if args.send.rounds == 1 { "" } else { ",loop" };
            registry.open(&format!("pcap:{}{round}{pace}", file.display()))
        });
        let mut rig = Self {
            mode,
            keys: Vec::new(),
            traffic,
            devices,
            receiving,
            capture: capture.transpose()?,
            capture_ended: Stop::new(),
            pools: Vec::new(),
            senders: Vec::new(),
            receivers: Vec::new(),
            cores: Vec::new(),
            handles: Handles::default(),
            count: replayed_frames(args)?,
        };
        rig.build(args)?;
        Ok(rig)
    }

    fn build(&mut self, args: &Args) -> Result<(), AppError> {
        let queues = args.run.queues;
        let is_sending = self.mode != Mode::Receive;
        let is_receiving = !self.receiving.is_empty();
        let workers = queues * (usize::from(is_sending) + usize::from(is_receiving));
        self.cores = lcore::assign(args.run.lcores.as_ref(), workers)?;
        if let Some(traffic) = &mut self.traffic {
            let mac = self.devices[0].info().mac;
            let is_given = args.headers.src_mac.is_some() || args.headers.template.is_some();
            if !is_given && mac != [0; 6] {
                traffic.template.src_mac = mac;
            }
            let wrong =
                |error: memwire_apps::traffic::FlowError| AppError::usage(error.to_string());
            self.keys = traffic.flows.keys(&traffic.template).map_err(wrong)?;
        }
        let sources = if is_sending { queues } else { 0 };
        let source_slots = args.pool.slots(&sizing(args, 1, args.pool.ring, HELD))?;
        let sink_slots = args.pool.slots(&sizing(args, queues, args.pool.ring, HELD))?;
        let slots = source_slots * sources + if is_receiving { sink_slots } else { 0 };
        // What is sent is of the same size, so that what one port can send another can receive.
        let ports = self.devices.iter().map(|device| device.info());
        let stride = args.pool.stride(ports, DEFAULT_HEADROOM);
        let needed = (slots as u64).saturating_mul(stride as u64);
        let memory = args.memory.memory.open(needed)?;
        for index in 0..sources {
            self.pools.push(pool(format!("source {index}"), source_slots, stride, &*memory)?);
        }
        let sink = match is_receiving {
            true => Some(pool("received".to_owned(), sink_slots, stride, &*memory)?),
            false => None,
        };
        let mut started = Vec::new();
        for (at, device) in self.devices.iter_mut().enumerate() {
            let mut config = Config::default();
            for index in 0..queues {
                if is_sending && at == 0 {
                    config = config.with_tx(&self.pools[index]);
                }
                if let Some(sink) = sink.as_ref().filter(|_| self.receiving.contains(&at)) {
                    config = config.with_rx(RxMemory::Whole(sink.clone()));
                    config.promiscuous = true;
                }
            }
            started.push(device.start(config.rings(args.pool.ring))?);
        }
        let clock = Clock::start();
        if is_sending {
            self.senders = self.senders(args, &mut started[0], clock)?;
        }
        if let Some(sink) = &sink {
            self.receivers = self.receivers(args, started, sink, clock);
        }
        self.pools.extend(sink);
        for (index, sender) in self.senders.iter().enumerate() {
            self.handles.gaps.push(sender.gaps());
            self.handles.activities.push((format!("send {index}"), sender.activity()));
        }
        for (index, receiver) in self.receivers.iter().enumerate() {
            self.handles.counts.push(receiver.analyser.counts());
            self.handles.latency.push(receiver.analyser.latency());
            self.handles.activities.push((format!("receive {index}"), receiver.activity()));
        }
        Ok(())
    }

    fn senders(
        &mut self,
        args: &Args,
        queues: &mut Queues,
        clock: Clock,
    ) -> Result<Vec<Sender>, AppError> {
        let mut captured = Vec::new();
        if let Some(capture) = &mut self.capture {
            let mut config = Config::default();
            for pool in &self.pools {
                config = config.with_rx(RxMemory::Whole(pool.clone()));
            }
            captured = capture.start(config.rings(args.pool.ring))?.rx;
        }
        let mut captured = captured.into_iter().filter_map(AnyRxQueue::whole);
        let (burst, of) = (args.run.burst, self.pools.len());
        let mut senders = Vec::new();
        for (index, (tx, pool)) in queues.tx.drain(..).zip(&self.pools).enumerate() {
            let kind = match (&self.traffic, captured.next()) {
                (Some(traffic), _) => {
                    let generator = Generator::new(pool, traffic, index, of)
                        .map_err(|error| AppError::usage(error.to_string()))?;
                    Kind::Generated(Box::new(Source::of(tx, pool, generator, burst, clock)))
                }
                (None, Some(rx)) => {
                    let ended = self.capture_ended.clone();
                    Kind::Replayed(Box::new(Replay::new(rx, tx, pool, burst, ended)))
                }
                (None, None) => {
                    let message = "the capture has fewer queues than were asked for";
                    return Err(AppError::usage(message).hint("-q 1"));
                }
            };
            senders.push(Sender::new(kind, args.run.idle));
        }
        Ok(senders)
    }

    fn receivers(
        &self,
        args: &Args,
        started: Vec<Queues>,
        sink: &Pool<Cpu>,
        clock: Clock,
    ) -> Vec<Receiver> {
        let mut shares: Vec<_> = (0..args.run.queues).map(|_| Vec::new()).collect();
        for (port, queues) in started.into_iter().enumerate() {
            let queues = queues.rx.into_iter().filter_map(AnyRxQueue::whole);
            for (share, queue) in shares.iter_mut().zip(queues) {
                share.push((port, queue));
            }
        }
        let template = self.traffic.as_ref().map(|traffic| &traffic.template);
        let receiver = |queues| {
            let analyser = Analyser::new(template, self.keys.clone());
            Receiver::new(queues, sink, args.run.burst, analyser, clock, args.run.idle)
        };
        shares.into_iter().map(receiver).collect()
    }

    /// Whether frames are numbered, so that more is known of them than how many they are.
    pub(crate) fn is_numbered(&self) -> bool {
        let choice = self.traffic.as_ref().map(|traffic| traffic.template.header);
        choice.is_some_and(|choice| choice != HeaderChoice::None)
    }

    /// `--rate` in frames per second.
    pub(crate) fn rate(&self, args: &Args) -> Result<Option<f64>, AppError> {
        let Some(rate) = args.send.rate else { return Ok(None) };
        let device = &self.devices[0];
        let mean = match (&self.traffic, rate) {
            (Some(traffic), _) => traffic.sizes().mean(),
            (None, Rate::Frames(_)) => 1.0,
            (None, _) => mean_of_capture(args)?,
        };
        let link = device.link().speed_mbps;
        let Some(pps) = rate.mean_frames_per_second(mean, link) else {
            let message = format!("--rate: the speed of '{}' is not known", device.info().port);
            return Err(AppError::usage(message).hint("give pps or bps instead of a share"));
        };
        if RATES.contains(&pps) {
            return Ok(Some(pps));
        }
        let message = format!("--rate: {pps} frames per second; should be 0.001 to 10 gpps");
        Err(AppError::usage(message))
    }

    /// Which port no longer works, and why.
    pub(crate) fn fault(&self) -> Option<String> {
        let devices = self.devices.iter().chain(&self.capture);
        devices.map(|device| (device, device.health())).find_map(|(device, health)| {
            health.fault().map(|why| format!("port '{}': {why}", device.info().port))
        })
    }

    /// Stops the ports with the queues that their workers had.
    pub(crate) fn stop(&mut self) -> Result<(), AppError> {
        let mut queues: Vec<_> = self.devices.iter().map(|_| Queues::default()).collect();
        let mut captured = Queues::default();
        for sender in self.senders.drain(..) {
            let end = sender.end();
            queues[0].tx.push(end.tx);
            captured.rx.extend(end.capture.map(AnyRxQueue::Whole));
        }
        for receiver in self.receivers.drain(..) {
            for (port, queue) in receiver.into_queues() {
                queues[port].rx.push(AnyRxQueue::Whole(queue));
            }
        }
        if let Some(capture) = &mut self.capture {
            capture.stop(captured)?;
        }
        // Receivers first: a wire gives back what is on it when its receiving end goes.
        let mut all: Vec<_> = self.devices.iter_mut().zip(queues).collect();
        all.reverse();
        all.into_iter().try_for_each(|(device, queues)| device.stop(queues))?;
        Ok(())
    }
}

/// Numbers of the ports that receive.
fn receiving(args: &Args, mode: Mode, devices: &[Box<dyn Device>]) -> Result<Vec<usize>, AppError> {
    let can = |at: &usize| devices[*at].info().capabilities.rx_queues > 0;
    let first = &devices[0].info();
    if mode != Mode::Receive && first.capabilities.tx_queues == 0 {
        let message = format!("port '{}' does not send", first.port);
        return Err(AppError::usage(message).hint("the first port sends; the others receive"));
    }
    let takes_first = args.receive.rx || mode == Mode::Receive;
    let from = usize::from(!takes_first);
    let receiving: Vec<_> = (from..devices.len()).filter(can).collect();
    if takes_first && receiving.is_empty() {
        return Err(AppError::usage(format!("port '{}' does not receive", first.port)));
    }
    let limits = args.receive.check || args.receive.max_loss.is_some() || mode == Mode::Search;
    if receiving.is_empty() && limits {
        let message = "nobody receives, so nothing is known of losses";
        return Err(AppError::usage(message).hint("name a second port, or --rx"));
    }
    Ok(receiving)
}

fn sizing(args: &Args, queues: usize, ring: usize, held: usize) -> Sizing {
    Sizing {
        queues: vec![QueuePlan { rx_ring: ring, tx_ring: ring }; queues],
        workers: queues,
        cache: DEFAULT_CACHE,
        burst: args.run.burst,
        held,
    }
}

fn pool(
    name: String,
    slots: usize,
    stride: usize,
    memory: &dyn Provider,
) -> Result<Pool<Cpu>, AppError> {
    let pool = Pool::builder().name(&name).slots(slots).stride(stride);
    Ok(pool.memory(memory).build()?)
}

/// Frames and bytes of the capture to replay.
fn capture_totals(args: &Args) -> Result<(u64, u64), AppError> {
    let Some(path) = &args.send.replay else { return Ok((0, 0)) };
    let failed = |error: &dyn std::fmt::Display| {
        AppError::failed(format!("--replay {}: {error}", path.display()))
    };
    let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    let mut reader = pmd::pcap::Reader::new(file);
    let (mut frames, mut bytes) = (0, 0);
    while let Some(record) = reader.read_record().map_err(|error| failed(&error))? {
        frames += 1;
        bytes += record.bytes.len() as u64;
    }
    Ok((frames, bytes))
}

/// Frames that `--loop` asks for.
fn replayed_frames(args: &Args) -> Result<Option<u64>, AppError> {
    match args.send.rounds {
        0 | 1 => Ok(None),
        _ if args.run.queues > 1 => {
            let message = "--loop counts rounds of one queue";
            Err(AppError::usage(message).hint("-q 1, or --loop 0 with -t or -c"))
        }
        rounds => Ok(Some(capture_totals(args)?.0.saturating_mul(rounds))),
    }
}

fn mean_of_capture(args: &Args) -> Result<f64, AppError> {
    let (frames, bytes) = capture_totals(args)?;
    Ok(bytes as f64 / frames.max(1) as f64)
}
