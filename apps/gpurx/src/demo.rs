//! The demo: an in-process wire, a sender on one core, this app on the other. Faults that are asked for
//! happen at the sending end: what they cost is sent and never lands.

use std::collections::BTreeMap;

use mempool::{Cpu, Pool};
use memwire_apps::{
    AppError, Stop,
    memory::MemorySpec,
    traffic::{Sent, Source, SourceOptions, Template},
    watch::PortSample,
    workers::Workers,
};
use pmd::{Config, Device, Queues, Registry};

use crate::{args::Args, seq::SeqField};

/// UDP port of the demo's flow.
pub const UDP_PORT: u16 = 9000;
/// How long it runs unless told.
pub const SECONDS: u64 = 5;
/// Descriptors of the wire.
const WIRE: usize = 512;

/// The sending end, and what runs on it.
pub struct Demo {
    device: Box<dyn Device>,
    /// Kept until the receiver has let go of the last frame.
    pools: Vec<Pool<Cpu>>,
    sources: Workers<memwire_apps::traffic::SourceEnd>,
    stop: Stop,
}

/// What the sending end has done.
#[derive(Clone, Debug, Default)]
pub struct WireSent {
    /// What the sources sent.
    pub sent: Sent,
    /// Spec of the sending end: with faults, the plan that does them again.
    pub port: String,
    /// The faults there were, by kind.
    pub injected: BTreeMap<String, u64>,
    /// The sending end at last.
    pub end: PortSample,
}

/// Spec of the receiving end.
#[must_use]
pub fn wire() -> String {
    format!("ring:demo,size={WIRE}")
}

/// Spec of the sending end: with chaos around it only if faults are asked for.
fn sending_end(args: &Args) -> String {
    let demo = &args.demo;
    let faults = [("drop", demo.loss), ("reorder", demo.swap), ("dup", demo.dup)];
    let faults: String = faults
        .iter()
        .filter_map(|(fault, share)| Some(format!(",tx.{fault}={}", (*share)?)))
        .collect();
    if faults.is_empty() {
        return wire();
    }
    format!("chaos:seed={}{faults}@{}", demo.seed.unwrap_or(1), wire())
}

impl Demo {
    /// Opens the sending end and starts a source per queue, on those cores.
    ///
    /// # Errors
    /// The payload size makes no frame, or there is no memory.
    pub fn start(args: &Args, registry: &mut Registry, cores: &[usize]) -> Result<Self, AppError> {
        let mut device = registry.open(&sending_end(args))?;
        let template = Template {
            dst_port: args.stream.udp_port.unwrap_or(UDP_PORT),
            payload_len: args.demo.payload.unwrap_or(1024),
            ip_id: args.stream.seq == SeqField::IpId,
            ..Template::default()
        };
        let wrong =
            |error: memwire_apps::traffic::TemplateError| AppError::usage(error.to_string());
        template.check().map_err(wrong)?;
        let stride = (template.frame_len() + 128).next_multiple_of(64);
        let slots = (2 * WIRE + mempool::DEFAULT_CACHE + 1024) * args.run.queues;
        let memory = MemorySpec::Auto.open((slots * stride) as u64)?;
        let pools = (0..args.run.queues)
            .map(|_| {
                let pool = Pool::builder().name("source").slots(slots / args.run.queues);
                pool.stride(stride).memory(&*memory).build()
            })
            .collect::<Result<Vec<Pool<Cpu>>, _>>()?;
        let mut config = Config::default();
        for pool in &pools {
            config = config.with_tx(pool);
        }
        let queues = device.start(config)?;
        let stop = Stop::new();
        let mut sources = Workers::new(&stop);
        let share = args.run.queues as f64;
        for (index, (tx, pool)) in queues.tx.into_iter().zip(&pools).enumerate() {
            let frames = |rate: memwire_apps::units::Rate| {
                rate.frames_per_second(template.frame_len(), None).ok_or_else(|| {
                    AppError::usage("--rate: the demo's wire has no speed; give pps or bps")
                })
            };
            let options = SourceOptions {
                template,
                rate: args.demo.rate.map(frames).transpose()?.map(|rate| rate / share),
                count: args.run.count.map(|count| count / args.run.queues as u64),
                foreign: args.demo.foreign.unwrap_or(0.0),
                burst: args.run.burst,
                seed: args.demo.seed.unwrap_or(1) + index as u64,
                ..SourceOptions::default()
            };
            let source = Source::new(tx, pool, options).map_err(wrong)?;
            let core = cores.get(index).copied();
            sources.spawn(format!("source {index}"), core, move |stop| source.run(stop))?;
        }
        Ok(Self { device, pools, sources, stop })
    }

    /// Whether the sources have sent what they were to send, or failed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.sources.are_done()
    }

    /// The sending end, for whoever watches.
    #[must_use]
    pub fn port(&self) -> PortSample {
        sender(&*self.device)
    }

    /// Stops sending and closes the wire; what is on it stays there for the receiver.
    ///
    /// # Errors
    /// A source failed.
    pub fn stop(self) -> Result<(WireSent, Vec<Pool<Cpu>>), AppError> {
        let Self { mut device, pools, sources, stop } = self;
        stop.set();
        let mut sent = Sent::default();
        let mut tx = Vec::new();
        for end in sources.join()? {
            sent.frames += end.sent.frames;
            sent.foreign += end.sent.foreign;
            sent.bytes += end.sent.bytes;
            sent.stalls += end.sent.stalls;
            tx.push(end.tx);
        }
        let end = sender(&*device);
        device.stop(Queues { rx: Vec::new(), tx })?;
        let (_, _, counts) = device.stats();
        let injected = counts.into_iter().filter_map(|(name, count)| {
            let kind = name.strip_prefix("chaos_tx_")?.to_owned();
            (count > 0).then_some((kind, count))
        });
        let (port, injected) = (device.info().port.clone(), injected.collect());
        Ok((WireSent { sent, port, injected, end }, pools))
    }
}

fn sender(device: &dyn Device) -> PortSample {
    PortSample { name: "demo sender".into(), ..PortSample::of(device) }
}
