//! `ring`: an in-process wire between two ports, on one core or two. A software NIC: the receiving
//! end splits headers from payloads into any memory that has a window, and the sending end can be
//! paced. Where both ends use one pool, frames pass by reference. A bad wire is `chaos:PLAN@ring:NAME`
//! ([`crate::wrap::chaos`]).
//!
//! `ring:NAME` is opened twice: the two openings are the two ends.

mod lane;
mod rx;
mod tx;

use std::sync::Arc;

use crate::registry::Claim;
use crate::{
    AnyRxQueue, Capabilities, Config, Device, DeviceInfo, Error, Health, Link, PortSpec,
    QueueCounters, QueueStats, Queues, Registry, RxMemory, SplitSupport,
};
use lane::Lane;
pub(crate) use lane::Wire;

/// The driver's entry in the registry.
pub const DRIVER: crate::Driver = crate::Driver {
    name: "ring",
    usage: "ring:NAME[,size=1024][,rate=FRAMES/S]",
    about: "an in-process wire with two ends; splits headers in software",
    open: |registry, spec| Ok(Box::new(RingPort::open(registry, spec)?)),
};

/// Queue pairs a wire can have.
const QUEUES: usize = 16;
/// Descriptors of a lane unless the spec says otherwise.
const SIZE: usize = 1024;

/// One end of a wire.
pub struct RingPort {
    info: DeviceInfo,
    wire: Arc<Wire>,
    end: usize,
    /// Frames a second that the sending end takes; 0 is no limit.
    rate: u64,
    rx: Vec<(QueueCounters, Arc<Lane>)>,
    tx: Vec<QueueCounters>,
    running: bool,
    _claim: Claim,
}

impl RingPort {
    /// Opens one end of `ring:NAME`; see [`DRIVER`] for the options.
    ///
    /// # Errors
    /// The wire has no name, both ends are open, or an option is unknown or out of range.
    pub fn open(registry: &mut Registry, spec: &PortSpec) -> Result<Self, Error> {
        spec.only(&["size", "rate"])?;
        let port = spec.to_string();
        if spec.addr.is_empty() {
            let why = "a wire needs a name: ring:a".into();
            return Err(Error::BadOption { port, why });
        }
        let size = spec.option("size", "a number of descriptors")?.unwrap_or(SIZE);
        crate::config::check_ring(&port, size)?;
        let rate = spec.option("rate", "frames a second")?.unwrap_or(0);
        let claim = registry.claim(spec, format!("ring:{}", spec.addr), 2)?;
        let end = claim.place;
        let wire = registry.wire(&spec.addr, || Wire::new(QUEUES, size));
        let capabilities = Capabilities {
            rx_queues: QUEUES,
            tx_queues: QUEUES,
            split: SplitSupport::ProtocolAndLength,
            ..Capabilities::default()
        };
        // A locally administered address: 02:6d:77 ('mw'), the wire's end last.
        let mac = [0x02, 0x6d, 0x77, 0, 0, u8::try_from(end).unwrap_or(0)];
        let info = DeviceInfo { driver: DRIVER.name, port, mac, numa_node: None, capabilities };
        Ok(Self {
            info,
            wire,
            end,
            rate,
            rx: Vec::new(),
            tx: Vec::new(),
            running: false,
            _claim: claim,
        })
    }
}

impl Device for RingPort {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn start(&mut self, config: Config) -> Result<Queues, Error> {
        self.info.check_start(self.running, &config)?;
        let mut queues = Queues::default();
        let mut rx = Vec::new();
        for (index, queue) in config.rx.into_iter().enumerate() {
            let lane = self.wire.lane(1 - self.end, index);
            let counters = QueueCounters::default();
            rx.push((counters.clone(), Arc::clone(&lane)));
            queues.rx.push(match queue.memory {
                RxMemory::Whole(pool) => {
                    AnyRxQueue::Whole(Box::new(rx::WholeRx::new(lane, pool, counters)))
                }
                RxMemory::Split(split) => {
                    let queue = rx::SplitRx::new(lane, split, queue.ring, counters);
                    let port = || self.info.port.clone();
                    AnyRxQueue::Split(Box::new(
                        queue.map_err(|source| Error::Map { port: port(), source })?,
                    ))
                }
            });
        }
        let mut tx = Vec::new();
        for (index, queue) in config.tx.into_iter().enumerate() {
            let lane = self.wire.lane(self.end, index);
            let counters = QueueCounters::default();
            tx.push(counters.clone());
            queues.tx.push(Box::new(tx::RingTx::new(lane, &queue.pool, self.rate, counters)));
        }
        (self.rx, self.tx) = (rx, tx);
        self.running = true;
        Ok(queues)
    }

    fn stop(&mut self, queues: Queues) -> Result<(), Error> {
        drop(queues);
        self.running = false;
        Ok(())
    }

    fn link(&self) -> Link {
        Link { is_up: self.running, speed_mbps: None }
    }

    fn stats(&self) -> (QueueStats, QueueStats, Vec<(String, u64)>) {
        let rx = QueueStats::sum(self.rx.iter().map(|(counters, _)| counters));
        (rx, QueueStats::sum(&self.tx), Vec::new())
    }

    /// Ended when every lane it receives from was sent into, was closed by the peer, and is empty.
    fn health(&self) -> Health {
        let ended = !self.rx.is_empty() && self.rx.iter().all(|(_, lane)| lane.has_ended());
        if ended { Health::Ended } else { Health::Good }
    }
}
