//! `null`: receives frames out of nothing, as fast as they are asked for, and sends into nothing.
//! The trait's executable documentation, and the floor of what a driver costs.

use mempool::{Burst, Cache, Cpu, RxMeta, Shared};

use crate::{
    AnyRxQueue, Capabilities, Config, Device, DeviceInfo, DropReason, Error, Health, Link,
    PortSpec, QueueCounters, QueueStats, Queues, Registry, RxMemory, RxQueue, TxQueue,
    registry::Claim,
};

/// The driver's entry in the registry.
pub const DRIVER: crate::Driver = crate::Driver {
    name: "null",
    usage: "null:[NAME][,size=64]",
    about: "frames out of nothing, into nothing: what the framework itself costs",
    open: |registry, spec| Ok(Box::new(Null::open(registry, spec)?)),
    capabilities,
    find: Vec::new,
};

const QUEUES: usize = 64;
const SIZES: std::ops::RangeInclusive<usize> = 14..=9216;

fn capabilities() -> Capabilities {
    Capabilities {
        rx_queues: QUEUES,
        tx_queues: QUEUES,
        max_frame: *SIZES.end(),
        copies: false,
        ..Capabilities::default()
    }
}

/// A port without a wire.
pub struct Null {
    info: DeviceInfo,
    size: usize,
    rx: Vec<QueueCounters>,
    tx: Vec<QueueCounters>,
    running: bool,
    _claim: Option<Claim>,
}

impl Null {
    /// Opens `null:[NAME][,size=BYTES]`.
    ///
    /// # Errors
    /// An option is unknown or out of range, or the name is taken.
    pub fn open(registry: &mut Registry, spec: &PortSpec) -> Result<Self, Error> {
        spec.only(&["size"])?;
        let size = spec.option("size", "a frame size in bytes, 14..=9216")?.unwrap_or(64);
        if !SIZES.contains(&size) {
            let port = spec.to_string();
            return Err(Error::BadOption {
                port,
                why: format!("size={size}: should be a frame size in bytes, 14..=9216"),
            });
        }
        let mut claim = || registry.claim(spec, format!("null:{}", spec.addr), 1);
        let claim = if spec.addr.is_empty() { None } else { Some(claim()?) };
        let (port, driver) = (spec.to_string(), DRIVER.name);
        let info =
            DeviceInfo { driver, port, mac: [0; 6], numa_node: None, capabilities: capabilities() };
        Ok(Self { info, size, rx: Vec::new(), tx: Vec::new(), running: false, _claim: claim })
    }
}

impl Device for Null {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn start(&mut self, config: Config) -> Result<Queues, Error> {
        self.info.check_start(self.running, &config)?;
        let mut queues = Queues::default();
        for queue in &config.rx {
            let pool = match &queue.memory {
                RxMemory::Whole(pool) => pool,
                RxMemory::Split(_) => return Err(self.info.no_split()),
            };
            if self.size > pool.room() {
                let why =
                    format!("frames of {} B do not fit buffers of {} B", self.size, pool.room());
                return Err(Error::BadOption { port: self.info.port.clone(), why });
            }
            let counters = QueueCounters::default();
            self.rx.push(counters.clone());
            queues.rx.push(AnyRxQueue::Whole(Box::new(NullRx { size: self.size, counters })));
        }
        for _ in &config.tx {
            let counters = QueueCounters::default();
            self.tx.push(counters.clone());
            queues.tx.push(Box::new(NullTx { counters }));
        }
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
        (QueueStats::sum(&self.rx), QueueStats::sum(&self.tx), Vec::new())
    }

    fn health(&self) -> Health {
        Health::Good
    }
}

struct NullRx {
    size: usize,
    counters: QueueCounters,
}

impl RxQueue for NullRx {
    fn recv(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        let (before, want) = (burst.len(), burst.room());
        let got = cache.take_bare(burst, want);
        burst.received_alike(before, self.size, &RxMeta::default());
        self.counters.delivered(got, got * self.size);
        if got < want {
            self.counters.dropped(DropReason::NoBuffer, want - got);
        }
        got
    }

    fn counters(&self) -> &QueueCounters {
        &self.counters
    }
}

struct NullTx {
    counters: QueueCounters,
}

impl TxQueue for NullTx {
    fn send(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        let count = burst.len();
        let bytes = if burst.has_chains() {
            burst.iter().map(|frame| frame.frame_len()).sum()
        } else {
            burst.iter().map(|frame| frame.len()).sum()
        };
        burst.recycle(cache);
        self.counters.delivered(count, bytes);
        count
    }

    fn send_shared(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Shared>) -> usize {
        let count = burst.len();
        let bytes = burst.iter().map(|frame| frame.frame_len()).sum();
        burst.release(cache);
        self.counters.delivered(count, bytes);
        count
    }

    fn reap(&mut self, _cache: &mut Cache<Cpu>) -> usize {
        0
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn counters(&self) -> &QueueCounters {
        &self.counters
    }
}
