//! Millions of frames from a replayed capture into a written one.

#[path = "../pcap/captures.rs"]
mod captures;

use mempool::{Burst, Cpu, Pool, heap::Heap};
use pmd::{AnyRxQueue, Config, Device, Registry, RxQueue};

use crate::FRAMES;

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
