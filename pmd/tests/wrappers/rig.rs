//! Pools, and ports whose inside can be looked at.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use mempool::{Burst, Cpu, Device as DeviceMemory, Pool, heap::Heap};
use pmd::{
    AnyRxQueue, Config, Device, DeviceInfo, Error, Health, Link, QueueStats, Queues, Registry,
    RxMemory, RxQueue,
};
use providers::Fake;

pub(crate) fn pool(slots: usize) -> Pool<Cpu> {
    let builder = Pool::builder().name("test").slots(slots).stride(2048).shareable();
    builder.memory(&Heap::new()).build().expect("heap memory is there")
}

pub(crate) fn device_pool(slots: usize) -> Pool<DeviceMemory> {
    let builder = Pool::builder().name("test data").slots(slots).stride(2048);
    builder.memory(&Fake::new()).build().expect("fake memory is there")
}

pub(crate) fn refusal(spec: &str) -> Error {
    Registry::new().open(spec).err().unwrap_or_else(|| panic!("{spec} was opened"))
}

/// Two started ends of a wire: what is sent, and where.
pub(crate) struct Ends {
    pub(crate) sender: Box<dyn Device>,
    pub(crate) receiver: Box<dyn Device>,
    pub(crate) tx: Queues,
    pub(crate) rx: Queues,
}

/// Opens and starts both ends.
pub(crate) fn ends(sender: &str, receiver: &str, tx: &Pool<Cpu>, rx: RxMemory) -> Ends {
    let mut registry = Registry::new();
    let mut sender = registry.open(sender).unwrap_or_else(|error| panic!("{error}"));
    let mut receiver = registry.open(receiver).unwrap_or_else(|error| panic!("{error}"));
    let tx = sender.start(Config::default().with_tx(tx)).unwrap();
    let rx = receiver.start(Config::default().with_rx(rx)).unwrap();
    Ends { sender, receiver, tx, rx }
}

impl Ends {
    pub(crate) fn whole(&mut self) -> &mut dyn RxQueue {
        let AnyRxQueue::Whole(queue) = &mut self.rx.rx[0] else { panic!("whole frames") };
        &mut **queue
    }

    pub(crate) fn stop(&mut self) {
        self.sender.stop(std::mem::take(&mut self.tx)).unwrap();
        self.receiver.stop(std::mem::take(&mut self.rx)).unwrap();
    }
}

/// Fills a burst with UDP frames of that payload length: the bytes are the frame's number.
pub(crate) fn udp_frames(burst: &mut Burst<Cpu>, payload: usize) {
    let mut number = 0;
    burst.for_each_mut(0, |mut frame| {
        let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45];
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend([0x23, 0x28, 0x23, 0x29, 0, 0, 0, 0]);
        bytes.resize(42 + payload, number);
        frame.reset(0);
        assert!(frame.append(&bytes));
        number = number.wrapping_add(1);
    });
}

/// A port without a wire that counts the queues brought back to it.
pub(crate) struct Counted {
    inner: Box<dyn Device>,
    pub(crate) returned: Arc<AtomicUsize>,
}

impl Counted {
    pub(crate) fn new() -> Self {
        let inner = Registry::new().open("null:").unwrap();
        Self { inner, returned: Arc::default() }
    }
}

impl Device for Counted {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }
    fn start(&mut self, config: Config) -> Result<Queues, Error> {
        self.inner.start(config)
    }
    fn stop(&mut self, queues: Queues) -> Result<(), Error> {
        self.returned.fetch_add(queues.rx.len() + queues.tx.len(), Ordering::Relaxed);
        self.inner.stop(queues)
    }
    fn link(&self) -> Link {
        self.inner.link()
    }
    fn stats(&self) -> (QueueStats, QueueStats, Vec<(String, u64)>) {
        self.inner.stats()
    }
    fn health(&self) -> Health {
        self.inner.health()
    }
}
