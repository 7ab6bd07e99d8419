//! The control plane of a port of DPDK's, in the words of [`crate::Device`].

use std::{io, sync::Arc};

use super::{
    DRIVER, advice,
    copying::{CopyRx, CopyTx},
    cut,
    late::Late,
    offload,
    options::{self, Buffers, Options},
    payloads::Payloads,
    port::{Port, Refusal},
    rx::Rx,
    setup::{Payload, QueueMemory},
    split::SplitRx,
    tx::{Abilities, Tx},
};
use crate::{
    AnyRxQueue, Capabilities, Config, Device, DeviceInfo, Error, Health, Link, MapError, PortSpec,
    PostOrder, QueueCounters, QueueStats, Queues, Registry, RxMemory, RxQueue, SplitSupport,
    TxQueue, registry::Claim,
};

/// Frames that a port may hold besides those in its rings, with DPDK's own buffers.
const SPARE: usize = 512;
/// Drivers whose queues come in pairs. With more one way than the other net_memif reads and writes rings that
/// are not its own, net_vhost and net_virtio_user move nothing; net_ring's receive queues are the other ends
/// of its transmit queues, by which DPDK frees them.
const PAIRED: [&str; 4] = ["net_memif", "net_ring", "net_vhost", "net_virtio_user"];
/// Longest frame where the driver names none.
const LONGEST: usize = 65535;
/// Longest frame in a buffer of DPDK's own.
const LONGEST_COPY: usize = 9216;

/// A port of DPDK's.
pub struct Ethdev {
    info: DeviceInfo,
    options: Options,
    buffers: Buffers,
    /// Attached, and not started since.
    attached: Option<Port>,
    /// Started; shared with its queues.
    running: Option<Arc<Port>>,
    rx: Vec<QueueCounters>,
    tx: Vec<QueueCounters>,
    /// What the device had counted when it was stopped.
    last: Vec<(String, u64)>,
    _claim: Claim,
}

impl Ethdev {
    /// Opens `dpdk:DEVICE[,ARGUMENT=VALUE]*`: initialises DPDK, if this is the process's first such port, and
    /// attaches the device.
    ///
    /// # Errors
    /// The spec makes no sense; DPDK refused; there is no such device, or no driver of DPDK's for it.
    pub fn open(registry: &mut Registry, spec: &PortSpec) -> Result<Self, Error> {
        let options = Options::of(spec)?;
        let claim = registry.claim(spec, format!("dpdk:{}", options.name), 1)?;
        let port = spec.to_string();
        let attached =
            Port::attach(&options).map_err(|refusal| refusal.of(&port, &options.name))?;
        let driver = attached.driver();
        let choice = options::choose(options.buffers, &driver, &options.devargs);
        let (buffers, why) = choice.map_err(|why| {
            let (backing, mapper, port) = ("the pool's memory", "DPDK", port.clone());
            Error::Map { port, source: MapError::Unsupported { backing, mapper, why } }
        })?;
        if let Some(why) = why {
            tracing::info!(port, %driver, why, "frames are copied between DPDK's buffers and the pool's");
        }
        let info = DeviceInfo {
            driver: DRIVER.name,
            port,
            mac: attached.mac(),
            numa_node: attached.numa_node(),
            capabilities: capabilities(&attached, buffers),
        };
        tracing::debug!(port = info.port, %driver, version = super::eal::version(), "attached");
        Ok(Self {
            info,
            options,
            buffers,
            attached: Some(attached),
            running: None,
            rx: Vec::new(),
            tx: Vec::new(),
            last: Vec::new(),
            _claim: claim,
        })
    }

    /// The port, set up and started; and what its queues use.
    fn bring_up(&mut self, config: &Config) -> Result<(Port, Plan), Refusal> {
        let mut port = match self.attached.take() {
            Some(port) if port.is_there() => port,
            _ => Port::attach(&self.options)?,
        };
        let plan = match self.buffers {
            Buffers::Pool => Plan::of_pools(&mut port, config)?,
            Buffers::Copy => Plan::of_copies(&mut port, config)?,
        };
        let info = port.info();
        let offloads = (
            offload::to_receive(info.rx_offload_capa, config.rx_offloads, config.rx.len()),
            offload::to_send(info.tx_offload_capa),
        );
        port.start(config, offloads, &plan.receive, plan.senders)?;
        Ok((port, plan))
    }
}

/// Queues of each kind that a port has at least, for a configuration.
fn pairs(port: &Port, config: &Config) -> usize {
    let driver = port.driver();
    if PAIRED.contains(&driver.as_str()) { config.rx.len().max(config.tx.len()) } else { 0 }
}

/// What the queues of a port use.
struct Plan {
    /// Of the receive queues, and of those that nobody asked for.
    receive: Vec<QueueMemory>,
    /// Of the receive queues that split, in order.
    payloads: Vec<Arc<Payloads>>,
    /// Transmit queues, those that nobody asked for included.
    senders: usize,
    /// For copies.
    send: Option<QueueMemory>,
}

impl Plan {
    /// The pools' own buffers.
    fn of_pools(port: &mut Port, config: &Config) -> Result<Self, Refusal> {
        let mut receive = Vec::new();
        let mut payloads = Vec::new();
        for queue in &config.rx {
            let (pool, split) = match &queue.memory {
                RxMemory::Whole(pool) => (pool, None),
                RxMemory::Split(split) => (&split.heads, Some(split)),
            };
            let mempool = port.mirror(pool)?.mempool();
            let mut payload = None;
            if let Some(split) = split {
                let (cut, offset) = cut::cut(port, split).map_err(Refusal::Split)?;
                let buffers = port.payloads(&split.data, queue.ring)?;
                if split.post == PostOrder::Cache {
                    buffers.fill();
                }
                payload = Some(Payload { mempool: buffers.mempool(), offset, cut });
                payloads.push(buffers);
            }
            receive.push(QueueMemory { mempool, payload });
        }
        let mut spare = receive.first().map(|first| QueueMemory { payload: None, ..*first });
        for queue in &config.tx {
            let mempool = port.mirror(&queue.pool)?.mempool();
            spare = spare.or(Some(QueueMemory { mempool, payload: None }));
        }
        let pairs = pairs(port, config);
        if let Some(spare) = spare.filter(|_| receive.len() < pairs) {
            receive.resize(pairs, spare);
        }
        Ok(Self { receive, payloads, senders: config.tx.len().max(pairs), send: None })
    }

    /// Buffers of DPDK's own, enough for every ring.
    fn of_copies(port: &mut Port, config: &Config) -> Result<Self, Refusal> {
        let pairs = pairs(port, config);
        let unasked = pairs.saturating_sub(config.rx.len()) * crate::config::DEFAULT_RING;
        let rings: usize = config.rx.iter().map(|queue| queue.ring).sum();
        let room = port.info().max_rx_pktlen as usize;
        let room = if room == 0 { 1518 } else { room.min(LONGEST_COPY) };
        let memory = port.own_pool(rings + unasked + SPARE, room)?;
        let sending: usize = config.tx.iter().map(|queue| queue.ring).sum();
        let send = port.own_pool(sending + SPARE, LONGEST_COPY)?;
        let receive = vec![memory; config.rx.len().max(pairs)];
        let payloads = Vec::new();
        Ok(Self { receive, payloads, senders: config.tx.len().max(pairs), send: Some(send) })
    }
}

impl Device for Ethdev {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn start(&mut self, config: Config) -> Result<Queues, Error> {
        self.info.check_start(self.running.is_some(), &config)?;
        let splits = config.rx.iter().any(|queue| matches!(queue.memory, RxMemory::Split(_)));
        if splits && self.info.capabilities.split == SplitSupport::None {
            return Err(self.info.no_split());
        }
        let brought = self.bring_up(&config);
        let (port, plan) =
            brought.map_err(|refusal| refusal.of(&self.info.port, &self.options.name))?;
        let port = Arc::new(port);
        let caps = &self.info.capabilities;
        let abilities = Abilities {
            longest: caps.max_frame,
            segments: caps.tx_segments,
            offloads: caps.tx_offloads,
        };
        let mut queues = Queues::default();
        let (is_late, mut payloads) = (!port.is_started(), plan.payloads.into_iter());
        for (number, queue) in (0..).zip(&config.rx) {
            let queue = match &queue.memory {
                RxMemory::Whole(pool) => {
                    let queue: Box<dyn RxQueue> = match port.mirror_of(pool) {
                        Some(mirror) => Box::new(Rx::new(Arc::clone(&port), mirror, number)),
                        None => Box::new(CopyRx::new(Arc::clone(&port), number)),
                    };
                    AnyRxQueue::Whole(if is_late {
                        Box::new(Late::new(&port, queue))
                    } else {
                        queue
                    })
                }
                RxMemory::Split(split) => {
                    let (Some(heads), Some(data)) = (port.mirror_of(&split.heads), payloads.next())
                    else {
                        continue;
                    };
                    let port = Arc::clone(&port);
                    AnyRxQueue::Split(Box::new(SplitRx::new(port, heads, data, number, split.post)))
                }
            };
            self.rx.push(queue.counters().clone());
            queues.rx.push(queue);
        }
        for (number, queue) in (0..).zip(&config.tx) {
            let own = Arc::clone(&port);
            let queue: Box<dyn TxQueue> = match (port.mirror_of(&queue.pool), plan.send) {
                (Some(mirror), _) => Box::new(Tx::new(own, mirror, number, abilities)),
                (None, Some(memory)) => Box::new(CopyTx::new(own, memory, number, abilities)),
                (None, None) => continue,
            };
            self.tx.push(queue.counters().clone());
            queues.tx.push(if is_late { Box::new(Late::new(&port, queue)) } else { queue });
        }
        self.running = Some(port);
        Ok(queues)
    }

    /// The port is closed: what its driver held comes home.
    fn stop(&mut self, queues: Queues) -> Result<(), Error> {
        drop(queues);
        let Some(port) = self.running.take() else { return Ok(()) };
        self.last = port.counts();
        match Arc::try_unwrap(port) {
            Ok(port) => {
                drop(port);
                Ok(())
            }
            Err(port) => {
                self.running = Some(port);
                let why = "a queue is still with a worker: DPDK's port runs on until it is dropped";
                Err(Error::State { port: self.info.port.clone(), why })
            }
        }
    }

    fn link(&self) -> Link {
        match &self.running {
            Some(port) if port.is_there() => port.link(),
            _ => Link::default(),
        }
    }

    fn stats(&self) -> (QueueStats, QueueStats, Vec<(String, u64)>) {
        let named = self.running.as_ref().map_or_else(|| self.last.clone(), |port| port.counts());
        (QueueStats::sum(&self.rx), QueueStats::sum(&self.tx), named)
    }

    fn health(&self) -> Health {
        let port = self.running.as_deref().or(self.attached.as_ref());
        if let Some(why) = port.and_then(Port::fault) {
            return Health::Faulted(format!("'{}': {why}", self.options.name));
        }
        match port {
            Some(port) if !port.is_there() => {
                let name = &self.options.name;
                Health::Removed(format!(
                    "'{name}' was removed from DPDK by other code of this process"
                ))
            }
            Some(port) if port.is_removed() => Health::Removed(format!(
                "DPDK says that the device '{}' is gone",
                self.options.name
            )),
            _ => Health::Good,
        }
    }
}

fn capabilities(port: &Port, buffers: Buffers) -> Capabilities {
    let info = port.info();
    let longest = match (info.max_rx_pktlen as usize, buffers) {
        (0, _) => 1518,
        (longest, Buffers::Pool) => longest.min(LONGEST),
        (longest, Buffers::Copy) => longest.min(LONGEST_COPY),
    };
    let copies = buffers == Buffers::Copy;
    Capabilities {
        split: if copies { SplitSupport::None } else { cut::support(port) },
        rx_queues: info.max_rx_queues.into(),
        tx_queues: info.max_tx_queues.into(),
        max_frame: longest,
        tx_segments: copies || info.tx_offload_capa & dpdk_sys::MEMWIRE_TX_MULTI_SEGS != 0,
        copies,
        rx_offloads: offload::received(info.rx_offload_capa),
        tx_offloads: if copies {
            mempool::Offload::NONE
        } else {
            offload::sent(info.tx_offload_capa)
        },
        addresses: (info.max_mac_addrs as usize).saturating_sub(1),
        ..Capabilities::default()
    }
}

impl Refusal {
    /// As the error of a port.
    fn of(self, port: &str, name: &str) -> Error {
        let port = port.to_owned();
        match self {
            Self::Eal(why) | Self::Overdue(why) => Error::NotThere { port, why },
            Self::Exists => {
                Error::AlreadyOpen { port, why: "DPDK has a device of that name in this process" }
            }
            Self::NotThere(why) => advice::refused(port, name, &why),
            Self::Step(what, why) => {
                Error::System { port, what: what.into(), source: io::Error::other(why) }
            }
            Self::Memory(source) => Error::Map { port, source },
            Self::Split(why) => {
                Error::BadOption { port, why: format!("the {} driver {why}", DRIVER.name) }
            }
        }
    }
}
