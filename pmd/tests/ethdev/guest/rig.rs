//! Pairs of functions, ports on them, and frames from one to the other that are proved to lie in our memory.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use mempool::{Burst, Cache, Cpu, Pool};
use pmd::{AnyRxQueue, Config, Device, Queues, Registry, RxQueue, TxQueue};
use providers::Hugepages;

/// Frames on the wire at a time: a NIC under emulation loses what it has no descriptor for.
const WINDOW: usize = 64;
/// Nothing arrives for so long: the rest is lost.
const QUIET: Duration = Duration::from_secs(10);

/// The specs of two ports that are wired to each other.
pub(super) type Pair = [String; 2];

/// The pairs there are; `None`, said aloud, where there are none.
pub(super) fn pairs(test: &str) -> Option<Vec<Pair>> {
    let Ok(text) = std::env::var("MEMWIRE_DPDK") else {
        eprintln!("SKIP {test}: MEMWIRE_DPDK names no functions");
        return None;
    };
    let names: Vec<_> = text.split(',').map(|name| format!("dpdk:{}", name.trim())).collect();
    Some(names.chunks_exact(2).map(|two| [two[0].clone(), two[1].clone()]).collect())
}

pub(super) fn pool(memory: &Hugepages, slots: usize, stride: usize) -> Pool<Cpu> {
    let pool = Pool::builder().name("frames").slots(slots).stride(stride).memory(memory);
    pool.build().unwrap_or_else(|error| panic!("{error}"))
}

/// Where a pool's only area is.
pub(super) fn span(pool: &Pool<Cpu>) -> Range<usize> {
    let region = pool.areas()[0].region.clone();
    let start = region.base().as_ptr().addr();
    start..start + region.len()
}

/// A started port, promiscuous, that uses the pool's own memory.
pub(super) struct Port {
    pub(super) device: Box<dyn Device>,
    pub(super) rx: Box<dyn RxQueue>,
    pub(super) tx: Box<dyn TxQueue>,
}

impl Port {
    pub(super) fn start(name: &str, pool: &Pool<Cpu>) -> Self {
        let opened = Registry::new().open(&format!("{name},buffers=pool"));
        let mut device = opened.unwrap_or_else(|error| panic!("{error}"));
        assert!(!device.info().capabilities.copies, "{name} copies frames");
        let config = Config { promiscuous: true, ..Config::one_queue(pool).rings(256) };
        let queues = device.start(config);
        let Queues { mut rx, mut tx } = queues.unwrap_or_else(|error| panic!("{error}"));
        let rx = rx.remove(0).whole().expect("whole frames were asked for");
        Self { device, rx, tx: tx.remove(0) }
    }

    /// Both ends of a pair, with their links up.
    pub(super) fn start_pair(pair: &Pair, pool: &Pool<Cpu>) -> [Self; 2] {
        let ports = [0, 1].map(|end: usize| Self::start(&pair[end], pool));
        await_links(&[&*ports[0].device, &*ports[1].device]);
        ports
    }

    pub(super) fn stop(mut self) {
        let queues = Queues { rx: vec![AnyRxQueue::Whole(self.rx)], tx: vec![self.tx] };
        self.device.stop(queues).expect("it stops");
    }
}

/// Waits until all of them can send.
pub(super) fn await_links(ports: &[&dyn Device]) {
    let end = Instant::now() + Duration::from_secs(30);
    while !ports.iter().all(|port| port.link().is_up) {
        assert!(Instant::now() < end, "a link stays down: {}", ports[0].info().port);
        std::thread::yield_now();
    }
}

/// The bytes of a frame: a header, its number, and a pattern. 60 bytes to 1514.
pub(super) fn frame(number: usize) -> Vec<u8> {
    let mut bytes = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5].to_vec();
    bytes.extend((number as u64).to_le_bytes());
    let len = 60 + number * 97 % (1514 - 60 + 1);
    bytes.extend((bytes.len()..len).map(|at| (at * 7 + number * 13).to_le_bytes()[0]));
    bytes
}

/// Sends so many frames and receives each, in order. What arrives lies in the pool's memory, each segment in the
/// slot that it says, where that slot's number is: nobody had a chance to copy it but the device. Returns the
/// most segments of a frame.
pub(super) fn exchange(
    from: &mut Port,
    to: &mut Port,
    cache: &mut Cache<Cpu>,
    frames: usize,
) -> usize {
    let pool = cache.pool().clone();
    let memory = span(&pool);
    let (mut burst, mut arrived) = (Burst::new(&pool), Burst::new(&pool));
    let (mut sent, mut got, mut last, mut segments) = (0, 0, Instant::now(), 0);
    while got < frames {
        while burst.room() > 0 && sent < frames && sent - got < WINDOW {
            let mut buf = cache.take_one().expect("a buffer");
            assert!(buf.frame_mut().append(&frame(sent)));
            burst.push(buf);
            sent += 1;
        }
        from.tx.send(cache, &mut burst);
        to.rx.recv(cache, &mut arrived);
        for whole in arrived.iter() {
            let mut bytes = Vec::new();
            for part in whole.segments() {
                let start = part.bytes().as_ptr().addr();
                let slot = memory.start + part.slot().index() as usize * pool.stride();
                assert!(memory.contains(&start), "frame {got}: {start:#x} is not in {memory:x?}");
                assert!((slot..slot + pool.stride()).contains(&start), "frame {got}: another slot");
                bytes.extend_from_slice(part.bytes());
            }
            segments = segments.max(whole.segments().count());
            let number =
                bytes.get(14..22).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
            assert!(
                bytes == frame(got),
                "frame {got}: {} B, other bytes; is it {number:?}?",
                bytes.len()
            );
            (got, last) = (got + 1, Instant::now());
        }
        arrived.recycle(cache);
        assert!(last.elapsed() < QUIET, "{got} of {sent} frames arrived, and no more");
    }
    from.tx.reap(cache);
    segments
}
