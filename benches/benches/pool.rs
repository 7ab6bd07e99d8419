//! Pools: take, initialise, give back; one core and two, with a cache and without.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mempool::{Burst, Cpu, Pool, heap::Heap};

fn pool(cache: usize) -> Pool<Cpu> {
    let builder = Pool::builder().name("bench").slots(8192).stride(2048).cache_size(cache);
    builder.memory(&Heap::new()).build().expect("heap memory is there")
}

/// One round: take `bulk`, initialise, recycle.
fn round(bulk: usize, cache: &mut mempool::Cache<Cpu>, burst: &mut Burst<Cpu>) {
    cache.take(burst, bulk);
    burst.recycle(cache);
}

fn one_core(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool/one core");
    for size in [0, 256] {
        for bulk in [1, 8, 32] {
            let pool = pool(size);
            let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
            group.throughput(Throughput::Elements(bulk as u64));
            group.bench_function(BenchmarkId::new(format!("cache {size}"), bulk), |bencher| {
                bencher.iter(|| round(bulk, &mut cache, &mut burst));
            });
        }
    }
    group.finish();
}

fn two_cores(criterion: &mut Criterion) {
    let cores = benches::placement::cores();
    let mut group = criterion.benchmark_group("pool/two cores");
    for size in [0, 256] {
        for bulk in [1, 8, 32] {
            let pool = pool(size);
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    cores.get(1).map(|core| core_affinity::set_for_current(*core));
                    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
                    while !stop.load(Ordering::Relaxed) {
                        round(bulk, &mut cache, &mut burst);
                    }
                });
                let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
                group.throughput(Throughput::Elements(bulk as u64));
                group.bench_function(BenchmarkId::new(format!("cache {size}"), bulk), |bencher| {
                    bencher.iter(|| round(bulk, &mut cache, &mut burst));
                });
                stop.store(true, Ordering::Relaxed);
            });
        }
    }
    group.finish();
}

criterion_group!(benches, one_core, two_cores);
criterion_main!(benches);
