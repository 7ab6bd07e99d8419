//! Millions of frames from a replayed capture into a written one.

#[path = "pcap/captures.rs"]
mod captures;

use std::time::Instant;

use mempool::{Burst, Cpu, Pool, heap::Heap};
use pmd::{AnyRxQueue, Config, Device, Registry, RxMemory, RxQueue};

const FRAMES: u64 = if cfg!(debug_assertions) {
    1_000_000
} else {
    10_000_000
};

fn pool() -> Pool<Cpu> {
    Pool::builder()
        .slots(4096)
        .stride(2048)
        .memory(&Heap::new())
        .build()
        .unwrap()
}

/// A port that replays frames of these lengths, and perhaps writes.
fn open(lengths: &[usize], options: &str) -> (tempfile::TempDir, Box<dyn Device>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.pcap");
    std::fs::write(&path, captures::classic(&captures::frames(lengths))).unwrap();
    let device = Registry::new()
        .open(&format!("pcap:{}{options}", path.display()))
        .unwrap();
    (folder, device)
}

fn whole(queue: AnyRxQueue) -> Box<dyn RxQueue> {
    queue.whole().expect("configured so")
}

#[test]
fn ten_million_frames_through_pcap_are_all_accounted_for() {
    let lengths: Vec<_> = (0..1000).map(|at| 60 + at * 7 % 1455).collect();
    let (_folder, mut device) = open(&lengths, ",loop,tx=/dev/null");
    let pool = pool();
    let mut queues = device.start(Config::one_queue(&pool)).unwrap();
    let (mut rx, mut tx) = (whole(queues.rx.remove(0)), queues.tx.remove(0));
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    let (mut received, mut sent) = (0, 0);
    while received < FRAMES {
        received += rx.recv(&mut cache, &mut burst) as u64;
        sent += tx.send(&mut cache, &mut burst) as u64;
    }
    queues.rx.push(AnyRxQueue::Whole(rx));
    queues.tx.push(tx);
    device.stop(queues).unwrap();
    let (rx, tx, _) = device.stats();
    let round: usize = lengths.iter().sum();
    let rest: usize = lengths[..(received % 1000) as usize].iter().sum();
    let bytes = received / 1000 * round as u64 + rest as u64;
    for stats in [rx, tx] {
        assert!(stats.is_balanced());
        assert_eq!(
            (stats.offered, stats.delivered, stats.bytes),
            (received, sent, bytes)
        );
    }
    cache.flush();
    let audit = pool.audit();
    assert_eq!(audit.held, 0);
}

/// The best of five runs of at least `frames` frames each; `run` moves a burst.
fn measure(name: &str, frames: u64, mut run: impl FnMut() -> usize) {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let (started, mut moved) = (Instant::now(), 0);
        while moved < frames {
            let got = run() as u64;
            assert!(got > 0, "{name}: the frames last");
            moved += got;
        }
        best = best.min(started.elapsed().as_secs_f64() / moved as f64);
    }
    println!(
        "{name}: {:.1} Mframes/s, {:.1} ns each",
        1e-6 / best,
        best * 1e9
    );
}

/// Prints what frames cost; figures for people, no bar to pass.
#[test]
#[ignore = "a measurement: cargo test --release -p memwire-pmd --test pcap_soak -- --ignored --nocapture"]
fn the_cost_of_a_frame_is_measured() {
    let pool = pool();
    let mut cache = pool.cache();
    for (size, frames) in [(64, 10_000_000), (1514, 1_000_000)] {
        for limit in [32, 64, 256] {
            let (_folder, mut device) = open(&[size; 1024], ",loop");
            let config = Config::default().with_rx(RxMemory::Whole(pool.clone()));
            let mut rx = whole(device.start(config).unwrap().rx.remove(0));
            let mut burst = Burst::with_limit(&pool, limit);
            measure(
                &format!("replay {size} B, bursts of {limit}"),
                frames,
                || {
                    let got = rx.recv(&mut cache, &mut burst);
                    burst.recycle(&mut cache);
                    got
                },
            );
        }
        let count = if size == 64 { 1_000_000 } else { 100_000 };
        let (_folder, mut device) = open(&vec![size; 5 * count + 1000], ",tx=/dev/null");
        let mut queues = device.start(Config::one_queue(&pool)).unwrap();
        let (mut rx, mut tx) = (whole(queues.rx.remove(0)), queues.tx.remove(0));
        let mut burst = Burst::new(&pool);
        measure(
            &format!("file to /dev/null, {size} B"),
            count as u64 - 100,
            || {
                let got = rx.recv(&mut cache, &mut burst);
                tx.send(&mut cache, &mut burst);
                got
            },
        );
    }
}
