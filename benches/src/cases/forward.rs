//! The burst path: receive from one port, send to the other, by boxed queues as an app does.

use mempool::{Burst, Cpu, Pool, heap::Heap};
use pmd::{Config, Registry, RxQueue, TxQueue};

use super::{Outcome, one_core};

type Port = (Box<dyn RxQueue>, Box<dyn TxQueue>);

fn port(registry: &mut Registry, spec: &str, pool: &Pool<Cpu>) -> anyhow::Result<Port> {
    let mut device = registry.open(spec)?;
    let mut queues = device.start(Config::one_queue(pool))?;
    let rx =
        queues.rx.remove(0).whole().ok_or_else(|| anyhow::anyhow!("not a whole-frame queue"))?;
    let tx = queues.tx.remove(0);
    // The queues outlive the control plane here: nothing is stopped before the process ends.
    std::mem::forget(device);
    Ok((rx, tx))
}

fn pool() -> anyhow::Result<Pool<Cpu>> {
    let heap = Heap::new();
    Ok(Pool::builder().name("bench").slots(8192).stride(2048).memory(&heap).build()?)
}

/// A step that forwards a burst each way between two ports.
pub(super) fn step(
    pool: &Pool<Cpu>,
    specs: [&str; 2],
    burst: usize,
) -> anyhow::Result<impl FnMut() + use<>> {
    let mut registry = Registry::new();
    let (mut rx_a, mut tx_a) = port(&mut registry, specs[0], pool)?;
    let (mut rx_b, mut tx_b) = port(&mut registry, specs[1], pool)?;
    let mut cache = pool.cache();
    let mut frames = Burst::with_limit(pool, burst);
    Ok(move || {
        rx_a.recv(&mut cache, &mut frames);
        tx_b.send(&mut cache, &mut frames);
        rx_b.recv(&mut cache, &mut frames);
        tx_a.send(&mut cache, &mut frames);
    })
}

pub(super) fn forward(windows: usize, specs: [&str; 2], burst: usize) -> anyhow::Result<Outcome> {
    Ok(one_core(windows, 2 * burst, step(&pool()?, specs, burst)?))
}

pub(super) fn null_32(windows: usize) -> anyhow::Result<Outcome> {
    forward(windows, ["null:a", "null:b"], 32)
}

pub(super) fn null_1(windows: usize) -> anyhow::Result<Outcome> {
    forward(windows, ["null:a", "null:b"], 1)
}

/// Frames go round a wire whose two ends share a pool: by reference.
pub(super) fn ring_32(windows: usize) -> anyhow::Result<Outcome> {
    let pool = pool()?;
    let mut registry = Registry::new();
    let (_, mut tx) = port(&mut registry, "ring:a", &pool)?;
    let (mut rx, _) = port(&mut registry, "ring:a", &pool)?;
    let mut cache = pool.cache();
    let mut frames = Burst::new(&pool);
    cache.take(&mut frames, 32);
    frames.for_each_mut(0, |mut frame| frame.set_len(64));
    Ok(one_core(windows, 32, move || {
        tx.send(&mut cache, &mut frames);
        rx.recv(&mut cache, &mut frames);
    }))
}
