//! Ports by spec, and pools for them.

use std::time::{Duration, Instant};

use mempool::{Burst, Cache, Cpu, Pool, heap::Heap};
use pmd::{
    AnyRxQueue, Config, Device, Error, Queues, Registry, RxMemory, RxQueue, TxQueue,
    conformance::{Joined, Setup, Wire, WireTraits},
};

/// Without hugepages: DPDK's own memory is ordinary.
pub(crate) fn spec(device: &str) -> String {
    format!("dpdk:{device},eal-no-huge,eal-mem=512")
}

pub(crate) fn open(device: &str) -> Result<Box<dyn Device>, Error> {
    Registry::new().open(&spec(device))
}

pub(crate) fn pool(slots: usize) -> Pool<Cpu> {
    let pool = Pool::builder().name("ethdev").slots(slots).cache_size(32);
    pool.memory(&Heap::new()).build().expect("memory for a small pool")
}

/// A started port with a queue each way, and what is needed to use it.
pub(crate) struct Rig {
    pub(crate) rx: Box<dyn RxQueue>,
    pub(crate) tx: Box<dyn TxQueue>,
    pub(crate) device: Box<dyn Device>,
    pub(crate) cache: Cache<Cpu>,
    pub(crate) pool: Pool<Cpu>,
}

impl Rig {
    pub(crate) fn start(device: &str, slots: usize) -> Self {
        Self::on(device, pool(slots))
    }

    /// Another port on the same pool.
    pub(crate) fn beside(&self, device: &str) -> Self {
        Self::on(device, self.pool.clone())
    }

    fn on(device: &str, pool: Pool<Cpu>) -> Self {
        let mut device = open(device).unwrap_or_else(|error| panic!("{error}"));
        let queues =
            device.start(Config::one_queue(&pool)).unwrap_or_else(|error| panic!("{error}"));
        let (rx, tx) = halves(queues);
        Self { rx, tx, device, cache: pool.cache(), pool }
    }

    /// Frames of `len` bytes that count up.
    pub(crate) fn frames(&mut self, count: usize, len: usize) -> Burst<Cpu> {
        let mut burst = Burst::with_limit(&self.pool, count);
        assert_eq!(self.cache.take(&mut burst, count), count);
        for index in 0..count {
            let mut frame = burst.frame_mut(index);
            assert!(frame.append(&vec![index.to_le_bytes()[0]; len]));
        }
        burst
    }

    pub(crate) fn stop(self) -> Pool<Cpu> {
        let Self { rx, tx, mut device, cache, pool } = self;
        device.stop(Queues { rx: vec![AnyRxQueue::Whole(rx)], tx: vec![tx] }).expect("it stops");
        drop(cache);
        pool
    }
}

fn halves(mut queues: Queues) -> (Box<dyn RxQueue>, Box<dyn TxQueue>) {
    (queues.rx.remove(0).whole().expect("whole frames were asked for"), queues.tx.remove(0))
}

/// A time to wait at most.
#[derive(Clone, Copy)]
pub(crate) struct Patience(Instant);

impl Patience {
    /// For what must happen.
    pub(crate) fn new() -> Self {
        Self(Instant::now() + Duration::from_secs(60))
    }

    /// For what may not happen any more.
    pub(crate) fn short() -> Self {
        Self(Instant::now() + Duration::from_millis(500))
    }

    /// Whether it is over; lets others work if not.
    pub(crate) fn is_over(self) -> bool {
        std::thread::yield_now();
        Instant::now() > self.0
    }
}

/// Waits until the port's link is as said; false if that takes too long.
pub(crate) fn becomes(device: &dyn Device, is_up: bool) -> bool {
    let patience = Patience::new();
    while device.link().is_up != is_up {
        if patience.is_over() {
            return false;
        }
    }
    true
}

/// Whether the long forms of tests are asked for.
pub(crate) fn is_full() -> bool {
    std::env::var_os("MEMWIRE_FULL").is_some_and(|value| value == "1")
}

/// Two ports that are each other's peers.
pub(crate) struct PairWire {
    pub(crate) name: &'static str,
    /// The one that makes the socket, and is started first.
    pub(crate) server: String,
    pub(crate) client: String,
    pub(crate) sender: End,
    /// Descriptors that a frame of one segment takes.
    pub(crate) descriptors: usize,
    pub(crate) traits: WireTraits,
}

/// Of a connection.
#[derive(Clone, Copy)]
pub(crate) enum End {
    Server,
    Client,
}

struct Paired {
    tx: Box<dyn TxQueue>,
    rx: AnyRxQueue,
    _devices: [Box<dyn Device>; 2],
}

impl Joined for Paired {
    fn tx(&mut self) -> &mut dyn TxQueue {
        &mut *self.tx
    }
    fn rx(&mut self) -> &mut AnyRxQueue {
        &mut self.rx
    }
}

impl Wire for PairWire {
    fn name(&self) -> &'static str {
        self.name
    }

    fn connect(&mut self, setup: &Setup) -> Result<Box<dyn Joined>, Error> {
        let RxMemory::Whole(pool) = &setup.rx else { unreachable!("no split was promised") };
        // A connection has as many queues one way as the other.
        let (rx, tx) = (RxMemory::Whole(pool.clone()), &setup.tx);
        let config = Config::default().with_rx(rx).with_tx(tx).rings(setup.ring * self.descriptors);
        let start = |spec: &str| {
            let mut device = Registry::new().open(spec)?;
            let queues = device.start(config.clone())?;
            Ok::<_, Error>((device, queues))
        };
        let (server, serving) = start(&self.server)?;
        let (client, calling) = start(&self.client)?;
        assert!(becomes(&*server, true) && becomes(&*client, true), "no link");
        let (mut sending, mut receiving) = match self.sender {
            End::Server => (serving, calling),
            End::Client => (calling, serving),
        };
        let (tx, rx) = (sending.tx.remove(0), receiving.rx.remove(0));
        Ok(Box::new(Paired { tx, rx, _devices: [client, server] }))
    }

    fn traits(&self) -> WireTraits {
        self.traits
    }
}

/// One port whose transmit queue is joined to its receive queue.
pub(crate) struct LoopWire {
    pub(crate) name: &'static str,
    pub(crate) spec: String,
    pub(crate) traits: WireTraits,
}

struct Looped {
    tx: Box<dyn TxQueue>,
    rx: AnyRxQueue,
    _device: Box<dyn Device>,
}

impl Joined for Looped {
    fn tx(&mut self) -> &mut dyn TxQueue {
        &mut *self.tx
    }
    fn rx(&mut self) -> &mut AnyRxQueue {
        &mut self.rx
    }
}

impl Wire for LoopWire {
    fn name(&self) -> &'static str {
        self.name
    }

    fn connect(&mut self, setup: &Setup) -> Result<Box<dyn Joined>, Error> {
        let mut device = Registry::new().open(&self.spec)?;
        let config = Config::default().with_rx(setup.rx.clone()).with_tx(&setup.tx);
        let mut queues = device.start(config.rings(setup.ring))?;
        Ok(Box::new(Looped { tx: queues.tx.remove(0), rx: queues.rx.remove(0), _device: device }))
    }

    fn traits(&self) -> WireTraits {
        self.traits
    }
}
