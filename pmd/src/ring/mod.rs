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
    Capabilities, Config, Device, DeviceInfo, Error, Health, Link, MapError, PortSpec,
    QueueCounters, QueueStats, Queues, RebindError, Rebound, Registry, RxMemory, SplitSupport,
    TakeQueue,
};
use lane::Lane;
pub(crate) use lane::Wire;
use rx::Unattached;

/// The driver's entry in the registry.
pub const DRIVER: crate::Driver = crate::Driver {
    name: "ring",
    usage: "ring:NAME[,size=1024][,rate=FRAMES/S]",
    about: "an in-process wire with two ends; splits headers in software",
    open: |registry, spec| Ok(Box::new(RingPort::open(registry, spec)?)),
    capabilities,
    find: Vec::new,
};

/// Queue pairs a wire can have.
const QUEUES: usize = 16;
/// Descriptors of a lane unless the spec says otherwise.
const SIZE: usize = 1024;

fn capabilities() -> Capabilities {
    Capabilities {
        rx_queues: QUEUES,
        tx_queues: QUEUES,
        split: SplitSupport::ProtocolAndLength,
        ..Capabilities::default()
    }
}

/// A receive queue, as the port knows it.
struct Receiver {
    counters: QueueCounters,
    lane: Arc<Lane>,
    /// Payload buffers that can be posted.
    ring: usize,
}

/// One end of a wire.
pub struct RingPort {
    info: DeviceInfo,
    wire: Arc<Wire>,
    end: usize,
    /// Frames a second that the sending end takes; 0 is no limit.
    rate: u64,
    rx: Vec<Receiver>,
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
        let capabilities = capabilities();
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

    fn unmapped(&self, source: MapError) -> Error {
        Error::Map { port: self.info.port.clone(), source }
    }

    fn state(&self, why: &'static str) -> Error {
        Error::State { port: self.info.port.clone(), why }
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
            let made = Unattached::new(queue.memory, queue.ring);
            let made = made.map_err(|source| self.unmapped(source))?;
            let taken = || self.state("its wire is received from already");
            queues.rx.push(made.attach(&lane, &counters).ok_or_else(taken)?);
            rx.push(Receiver { counters, lane, ring: queue.ring });
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

    /// What is on the wire waits there: no frame is lost, and nothing is left in the queue as it was.
    fn rebind(
        &mut self,
        index: usize,
        memory: RxMemory,
        queue: TakeQueue<'_>,
    ) -> Result<Rebound, RebindError> {
        let Some(receiver) = self.rx.get(index).filter(|_| self.running) else {
            let error = self.state("not started with such a receive queue");
            return Err(RebindError::early(error));
        };
        let made = match Unattached::new(memory, receiver.ring) {
            Ok(made) => made,
            Err(source) => return Err(RebindError::early(self.unmapped(source))),
        };
        // The queue is the device: once it is gone nothing writes its buffers.
        if queue().is_none() {
            return Err(RebindError::not_taken(&self.info.port));
        }
        match made.attach(&receiver.lane, &receiver.counters) {
            Some(queue) => Ok(Rebound { queue, former: None }),
            None => {
                Err(RebindError::lost(self.state("the queue is not one that this port yielded")))
            }
        }
    }

    fn link(&self) -> Link {
        Link { is_up: self.running, speed_mbps: None }
    }

    fn stats(&self) -> (QueueStats, QueueStats, Vec<(String, u64)>) {
        let rx = QueueStats::sum(self.rx.iter().map(|queue| &queue.counters));
        (rx, QueueStats::sum(&self.tx), Vec::new())
    }

    /// Ended when every lane it receives from was sent into, was closed by the peer, and is empty.
    fn health(&self) -> Health {
        let ended = !self.rx.is_empty() && self.rx.iter().all(|queue| queue.lane.has_ended());
        if ended { Health::Ended } else { Health::Good }
    }
}
