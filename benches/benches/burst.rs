//! The burst path: forward between two ports by boxed queues, as an application does.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mempool::{Burst, Pool, heap::Heap};
use pmd::{Config, Device, Registry, RxQueue, TxQueue};

/// A port with its queues; the device goes last.
struct Port {
    rx: Box<dyn RxQueue>,
    tx: Box<dyn TxQueue>,
    _device: Box<dyn Device>,
}

fn port(registry: &mut Registry, spec: &str, pool: &Pool<mempool::Cpu>) -> Port {
    let mut device = registry.open(spec).expect("a port of ours");
    let mut queues = device.start(Config::one_queue(pool)).expect("starts");
    let rx = queues.rx.remove(0).whole().expect("whole frames");
    Port { rx, tx: queues.tx.remove(0), _device: device }
}

fn forward(criterion: &mut Criterion) {
    let heap = Heap::new();
    let builder = Pool::builder().name("bench").slots(8192).stride(2048).memory(&heap);
    let pool = builder.build().expect("heap memory is there");
    for (name, specs) in [("null", ["null:a", "null:b"]), ("ring", ["ring:a", "ring:a"])] {
        let mut group = criterion.benchmark_group(format!("burst/{name}"));
        for burst in [1usize, 8, 32, 256] {
            let mut registry = Registry::new();
            let mut a = port(&mut registry, specs[0], &pool);
            let mut b = port(&mut registry, specs[1], &pool);
            let mut cache = pool.cache();
            let mut frames = Burst::with_limit(&pool, burst);
            if name == "ring" {
                cache.take(&mut frames, burst);
                frames.for_each_mut(0, |mut frame| frame.set_len(64));
            } else {
                a.rx.recv(&mut cache, &mut frames);
            }
            group.throughput(Throughput::Elements(burst as u64));
            group.bench_function(BenchmarkId::from_parameter(burst), |bencher| {
                bencher.iter(|| {
                    a.tx.send(&mut cache, &mut frames);
                    b.rx.recv(&mut cache, &mut frames)
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, forward);
criterion_main!(benches);
