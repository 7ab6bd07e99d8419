//! Real functions, by vfio-pci: in the testbed's guest, or on a machine that has the NICs. `MEMWIRE_DPDK` names
//! pairs of functions that are bound to vfio-pci and wired back to back; without it the tests say SKIP. DPDK
//! is initialised on hugepages here, so these tests run without the others: filter `guest::`.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use mempool::{Burst, Cache, Cpu, Pool};
use pmd::{AnyRxQueue, Config, Device, QueueCounters, Queues, Registry, RxQueue, TxQueue};
use providers::{Hugepages, PageSize};

/// Frames each way.
const FRAMES: usize = 5_000;
/// Frames on the wire at a time: a NIC under emulation loses what it has no descriptor for.
const WINDOW: usize = 64;
const SLOTS: usize = 4096;
/// Nothing arrives for so long: the rest is lost.
const QUIET: Duration = Duration::from_secs(10);

/// The pairs there are; `None`, said aloud, where there are none.
fn pairs(test: &str) -> Option<Vec<[String; 2]>> {
    let Ok(text) = std::env::var("MEMWIRE_DPDK") else {
        eprintln!("SKIP {test}: MEMWIRE_DPDK names no functions");
        return None;
    };
    let names: Vec<_> = text.split(',').map(|name| format!("dpdk:{}", name.trim())).collect();
    Some(names.chunks_exact(2).map(|two| [two[0].clone(), two[1].clone()]).collect())
}

/// A started port, promiscuous, that uses the pool's own memory.
struct Port {
    device: Box<dyn Device>,
    rx: Box<dyn RxQueue>,
    tx: Box<dyn TxQueue>,
}

impl Port {
    fn start(name: &str, pool: &Pool<Cpu>) -> Self {
        let opened = Registry::new().open(&format!("{name},buffers=pool"));
        let mut device = opened.unwrap_or_else(|error| panic!("{error}"));
        assert!(!device.info().capabilities.copies, "{name} copies frames");
        let config = Config { promiscuous: true, ..Config::one_queue(pool).rings(256) };
        let queues = device.start(config);
        let Queues { mut rx, mut tx } = queues.unwrap_or_else(|error| panic!("{error}"));
        let rx = rx.remove(0).whole().expect("whole frames were asked for");
        Self { device, rx, tx: tx.remove(0) }
    }

    fn stop(mut self) {
        let queues = Queues { rx: vec![AnyRxQueue::Whole(self.rx)], tx: vec![self.tx] };
        self.device.stop(queues).expect("it stops");
    }
}

fn await_links(ports: &[&Port]) {
    let end = Instant::now() + Duration::from_secs(30);
    while !ports.iter().all(|port| port.device.link().is_up) {
        assert!(Instant::now() < end, "a link stays down");
        std::thread::yield_now();
    }
}

/// The bytes of a frame: a header, its number, and a pattern. 60 bytes to 1514.
fn frame(number: usize) -> Vec<u8> {
    let mut bytes = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5].to_vec();
    bytes.extend((number as u64).to_le_bytes());
    let len = 60 + number * 97 % (1514 - 60 + 1);
    bytes.extend((bytes.len()..len).map(|at| (at * 7 + number * 13).to_le_bytes()[0]));
    bytes
}

/// Sends every frame and receives it, in order. What arrives lies in the pool's memory, each segment in the
/// slot that it says, where that slot's number is: nobody had a chance to copy it but the device. Returns the
/// most segments of a frame.
fn exchange(
    from: &mut Port,
    to: &mut Port,
    cache: &mut Cache<Cpu>,
    memory: &Range<usize>,
) -> usize {
    let pool = cache.pool().clone();
    let (mut burst, mut arrived) = (Burst::new(&pool), Burst::new(&pool));
    let (mut sent, mut got, mut last, mut segments) = (0, 0, Instant::now(), 0);
    while got < FRAMES {
        while burst.room() > 0 && sent < FRAMES && sent - got < WINDOW {
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
            assert!(bytes == frame(got), "frame {got}: {} B, other bytes", bytes.len());
            (got, last) = (got + 1, Instant::now());
        }
        arrived.recycle(cache);
        assert!(last.elapsed() < QUIET, "{got} of {sent} frames arrived, and no more");
    }
    from.tx.reap(cache);
    segments
}

fn delivered(counters: &QueueCounters) -> (u64, u64) {
    let counts = counters.snapshot();
    (counts.delivered, counts.bytes)
}

#[test]
fn nics_read_and_write_our_hugepages_and_every_buffer_comes_home() {
    let name = "nics_read_and_write_our_hugepages_and_every_buffer_comes_home";
    let Some(pairs) = pairs(name) else { return };
    let hugepages = Hugepages::new(PageSize::TwoMiB).expect("hugepages");
    let bytes: usize = (0..FRAMES).map(|number| frame(number).len()).sum();
    let expected = (FRAMES as u64, bytes as u64);
    // Behind 128 bytes of headroom there is room for the 2048 bytes that these NICs like best; or for less,
    // of which they use 1024, so that long frames come in two slots.
    for (pair, (stride, most)) in
        pairs.iter().flat_map(|pair| [(pair, (2176, 1)), (pair, (2048, 2))])
    {
        let pool = Pool::builder().name("frames").slots(SLOTS).stride(stride).memory(&hugepages);
        let pool = pool.build().unwrap_or_else(|error| panic!("{error}"));
        let region = pool.areas()[0].region.clone();
        let start = region.base().as_ptr().addr();
        let memory = start..start + region.len();
        let [mut here, mut there] = [0, 1].map(|end: usize| Port::start(&pair[end], &pool));
        await_links(&[&here, &there]);
        let (mut cache, clock) = (pool.cache(), Instant::now());
        let there_most = exchange(&mut here, &mut there, &mut cache, &memory);
        let here_most = exchange(&mut there, &mut here, &mut cache, &memory);
        assert_eq!((there_most, here_most), (most, most), "slots of a frame");
        for port in [&here, &there] {
            assert_eq!(delivered(port.rx.counters()), expected);
            assert_eq!(delivered(port.tx.counters()), expected);
        }
        let seconds = clock.elapsed().as_secs_f64();
        eprintln!(
            "{pair:?}, stride {stride}: {FRAMES} frames each way in our slots, {seconds:.1} s"
        );
        drop(cache);
        here.stop();
        there.stop();
        let audit = pool.audit();
        assert!(audit.is_home(), "{pair:?}: {audit}");
    }
}

#[test]
fn ports_come_back_after_their_pools_memory_is_gone() {
    let name = "ports_come_back_after_their_pools_memory_is_gone";
    let Some(pairs) = pairs(name) else { return };
    let hugepages = Hugepages::new(PageSize::TwoMiB).expect("hugepages");
    for pair in &pairs {
        // Less each time: what was mapped for the devices before is not all mapped in the process again.
        for slots in [4096, 2048, 1024] {
            let pool = Pool::builder().name("frames").slots(slots).stride(2176).memory(&hugepages);
            let pool = pool.build().unwrap_or_else(|error| panic!("{error}"));
            let ports = [0, 1].map(|end: usize| Port::start(&pair[end], &pool));
            ports.into_iter().for_each(Port::stop);
            assert!(pool.audit().is_home(), "{pair:?}: {}", pool.audit());
        }
    }
}
