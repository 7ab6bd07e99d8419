//! Through `null`, `ring` and the bounce path.

use mempool::{Burst, Cpu, Device, Pool, SplitBurst, SplitCache, heap::Heap};
use pmd::{
    AnyRxQueue, Bounce, Config, Health, PostOrder, QueueStats, Registry, RxMemory, SplitAt,
    SplitConfig,
};
use providers::Fake;

use crate::{BURSTS, FRAMES, allocations};

fn cpu_pool(slots: usize, stride: usize) -> Pool<Cpu> {
    let builder = Pool::builder().name("soak").slots(slots).stride(stride);
    builder.memory(&Heap::new()).build().expect("heap memory is there")
}

fn device_pool(slots: usize) -> Pool<Device> {
    let builder = Pool::builder().name("soak data").slots(slots).stride(2048);
    builder.memory(&Fake::new()).build().expect("fake memory is there")
}

#[test]
fn a_million_bursts_from_null_to_null_allocate_nothing() {
    let pool = cpu_pool(4096, 2048);
    let mut registry = Registry::new();
    let (mut a, mut b) = (registry.open("null:a").unwrap(), registry.open("null:b").unwrap());
    let mut from = a.start(Config::one_queue(&pool)).unwrap();
    let mut to = b.start(Config::one_queue(&pool)).unwrap();
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    let AnyRxQueue::Whole(rx) = &mut from.rx[0] else { panic!("null receives whole frames") };
    let tx = &mut to.tx[0];
    let count = allocations(|| {
        for _ in 0..BURSTS {
            rx.recv(&mut cache, &mut burst);
            tx.send(&mut cache, &mut burst);
        }
    });
    assert_eq!(count, 0, "allocations over {BURSTS} bursts");
    let (rx, tx) = (rx.counters().snapshot(), tx.counters().snapshot());
    assert_eq!((rx.delivered, tx.delivered), (BURSTS as u64 * 32, BURSTS as u64 * 32));
}

/// Sends `frames` numbered frames of `len` bytes round a wire and receives them split.
fn split_wire(spec: &str, bounce: bool, len: usize, frames: u64) -> (u64, QueueStats, u64) {
    let tx_pool = cpu_pool(2048, (len + 128).next_multiple_of(64));
    let heads = cpu_pool(2048, if bounce { 2048 } else { 256 });
    let data = device_pool(2048);
    let mut registry = Registry::new();
    let mut sender = registry.open(spec).unwrap();
    let mut receiver = registry.open(spec).unwrap();
    let mut tx = sender.start(Config::default().with_tx(&tx_pool)).unwrap();
    let config = SplitConfig {
        heads: heads.clone(),
        data: data.clone(),
        at: SplitAt::Length(64),
        post: PostOrder::Cache,
    };
    let memory =
        if bounce { RxMemory::Whole(heads.clone()) } else { RxMemory::Split(config.clone()) };
    let mut queues = receiver.start(Config::default().with_rx(memory)).unwrap();
    let mut rx = match queues.rx.remove(0) {
        AnyRxQueue::Whole(inner) => {
            Box::new(Bounce::new(inner, config, 512).unwrap()) as Box<dyn pmd::SplitRxQueue>
        }
        AnyRxQueue::Split(rx) => rx,
    };
    let (mut tx_cache, mut out) = (tx_pool.cache(), Burst::new(&tx_pool));
    let (mut cache, mut burst) = (SplitCache::new(&heads, &data), SplitBurst::new(&heads, &data));
    let (mut sent, mut seen) = (0u64, 0u64);
    let mut round = |sent: &mut u64, seen: &mut u64| {
        if *sent < frames {
            tx_cache.take(&mut out, 32);
            out.for_each_mut(0, |mut frame| {
                frame.set_len(len);
                frame.bytes_mut()[..8].copy_from_slice(&sent.to_le_bytes());
                *sent += 1;
            });
            while !out.is_empty() && tx.tx[0].send(&mut tx_cache, &mut out) > 0 {}
            // What the wire has no room for goes back: it was never sent.
            *sent -= out.len() as u64;
            out.recycle(&mut tx_cache);
        }
        let got = rx.recv(&mut cache, &mut burst);
        *seen += got as u64;
        burst.recycle(&mut cache);
    };
    // Warm up: caches fill, the source is met.
    (0..100).for_each(|_| round(&mut sent, &mut seen));
    let count = allocations(|| {
        while sent < frames {
            round(&mut sent, &mut seen);
        }
    });
    drop(std::mem::take(&mut tx.tx));
    while receiver.health() != Health::Ended {
        round_empty(&mut rx, &mut cache, &mut burst, &mut seen);
    }
    let stats = rx.counters().snapshot();
    drop((rx, cache, burst, tx_cache, out));
    for audit in [tx_pool.audit(), heads.audit(), data.audit()] {
        assert!(audit.is_home(), "{audit}");
    }
    assert_eq!(stats.delivered, seen);
    (sent, stats, count)
}

fn round_empty(
    rx: &mut Box<dyn pmd::SplitRxQueue>,
    cache: &mut SplitCache,
    burst: &mut SplitBurst,
    seen: &mut u64,
) {
    *seen += rx.recv(cache, burst) as u64;
    burst.recycle(cache);
}

#[test]
fn ten_million_frames_through_a_splitting_ring_are_all_delivered() {
    let (sent, stats, allocations) = split_wire("ring:soak", false, 256, FRAMES);
    assert_eq!((stats.offered, stats.delivered), (sent, sent));
    assert_eq!(allocations, 0, "allocations in steady state");
}

#[test]
fn ten_million_frames_over_the_bounce_path_are_all_delivered() {
    let (sent, stats, allocations) = split_wire("ring:bounced", true, 256, FRAMES);
    assert_eq!((stats.offered, stats.delivered), (sent, sent));
    assert_eq!(allocations, 0, "allocations in steady state");
}

#[test]
fn payloads_longer_than_a_buffer_become_chains_without_an_allocation() {
    for bounce in [false, true] {
        let (sent, stats, allocations) = split_wire("ring:jumbo", bounce, 9018, FRAMES / 50);
        assert_eq!((stats.offered, stats.delivered), (sent, sent), "bounce: {bounce}");
        assert_eq!(allocations, 0, "allocations in steady state, bounce: {bounce}");
    }
}
