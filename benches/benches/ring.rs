//! Rings of slot numbers: ours beside rtrb and crossbeam's ArrayQueue, on one core and across two.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mempool::ring::{Mpmc, channel};

const ENTRIES: usize = 1024;

fn same_core(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring/same core");
    for bulk in [1usize, 8, 32] {
        group.throughput(Throughput::Elements(bulk as u64));
        let values = vec![7u32; bulk];
        let mut got = vec![0u32; bulk];
        let (mut tx, mut rx) = channel(ENTRIES);
        group.bench_function(BenchmarkId::new("spsc", bulk), |bencher| {
            bencher.iter(|| tx.send(&values) + rx.recv(&mut got));
        });
        let ring = Mpmc::new(ENTRIES);
        group.bench_function(BenchmarkId::new("mpmc", bulk), |bencher| {
            bencher.iter(|| usize::from(ring.put(&values)) + ring.take(&mut got));
        });
        let (mut tx, mut rx) = rtrb::RingBuffer::<u32>::new(ENTRIES);
        group.bench_function(BenchmarkId::new("rtrb", bulk), |bencher| {
            bencher.iter(|| {
                tx.push_entire_slice(&values).is_ok() && rx.pop_entire_slice(&mut got).is_ok()
            });
        });
    }
    let queue = crossbeam_queue::ArrayQueue::new(ENTRIES);
    group.throughput(Throughput::Elements(1));
    group.bench_function(BenchmarkId::new("ArrayQueue", 1), |bencher| {
        bencher.iter(|| (queue.push(7u32).is_ok(), queue.pop()));
    });
    group.finish();
}

fn cross_core(criterion: &mut Criterion) {
    let &[first, second, ..] = benches::placement::cores().as_slice() else {
        eprintln!("SKIP ring/cross core: needs two cores");
        return;
    };
    eprintln!("placement: {}", benches::placement::probe([first, second]).name());
    let mut group = criterion.benchmark_group("ring/cross core");
    for bulk in [1usize, 8, 32] {
        group.throughput(Throughput::Elements(bulk as u64));
        let stop = AtomicBool::new(false);
        let (mut tx, mut rx) = channel(ENTRIES);
        thread::scope(|scope| {
            let stop = &stop;
            scope.spawn(move || {
                core_affinity::set_for_current(second);
                let values = vec![7u32; bulk];
                while !stop.load(Ordering::Relaxed) {
                    tx.send(&values);
                }
            });
            let mut got = vec![0u32; bulk];
            group.bench_function(BenchmarkId::new("spsc", bulk), |bencher| {
                bencher.iter(|| {
                    let mut left = bulk;
                    while left > 0 {
                        left -= rx.recv(&mut got[..left]);
                    }
                });
            });
            stop.store(true, Ordering::Relaxed);
        });
    }
    group.finish();
}

criterion_group!(benches, same_core, cross_core);
criterion_main!(benches);
