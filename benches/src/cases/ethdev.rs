//! Ports of DPDK's through our driver, over hugepages, nothing copied: the same bursts over the same drivers
//! as the C peer's, which calls ethdev itself.

use mempool::{Burst, Cache, Cpu, Pool};
use pmd::{Config, Device, Registry, RxQueue, TxQueue};
use providers::{Hugepages, PageSize};

use super::{Outcome, stepped};
use crate::CannotRunHere;

const FRAME: usize = 64;
const BURST: usize = 32;
/// Instructions are counted over so many frames.
const COUNTED: usize = 256;

/// A started port, its queues, and what is needed to use them.
struct Port {
    rx: Box<dyn RxQueue>,
    tx: Box<dyn TxQueue>,
    _device: Box<dyn Device>,
}

impl Port {
    fn start(device: &str, pool: &Pool<Cpu>) -> anyhow::Result<Self> {
        let spec = format!("dpdk:{device},buffers=pool");
        // No DPDK in this build, or none that starts.
        let opened = Registry::new().open(&spec);
        let mut device = opened.map_err(|error| CannotRunHere(error.to_string()))?;
        let mut queues = device.start(Config::one_queue(pool))?;
        let whole = queues.rx.remove(0).whole();
        let rx = whole.ok_or_else(|| anyhow::anyhow!("not a whole-frame queue"))?;
        Ok(Self { rx, tx: queues.tx.remove(0), _device: device })
    }
}

/// As many buffers as the peer has, on hugepages as its are.
fn pool() -> anyhow::Result<(Pool<Cpu>, Cache<Cpu>)> {
    let missing = |error: mempool::ProviderError| CannotRunHere(error.to_string());
    let hugepages = Hugepages::new(PageSize::TwoMiB).map_err(missing)?;
    let pool = Pool::builder().name("bench").slots(8192).stride(2048).memory(&hugepages).build();
    let pool = pool.map_err(|error| CannotRunHere(error.to_string()))?;
    let cache = pool.cache();
    Ok((pool, cache))
}

/// Measures `step`, which handles `objects` frames and says how many it did.
fn exact(
    windows: usize,
    objects: usize,
    mut step: impl FnMut() -> usize,
) -> anyhow::Result<Outcome> {
    let mut short = false;
    let outcome = stepped(windows, objects, COUNTED / objects, || short |= step() != objects);
    anyhow::ensure!(!short, "a port moved less than a burst");
    Ok(outcome)
}

fn forward(windows: usize, burst: usize) -> anyhow::Result<Outcome> {
    let (pool, mut cache) = pool()?;
    let mut a = Port::start("net_null0", &pool)?;
    let mut b = Port::start("net_null1", &pool)?;
    let mut frames = Burst::with_limit(&pool, burst);
    exact(windows, 2 * burst, || {
        a.rx.recv(&mut cache, &mut frames);
        let there = b.tx.send(&mut cache, &mut frames);
        b.rx.recv(&mut cache, &mut frames);
        there + a.tx.send(&mut cache, &mut frames)
    })
}

pub(super) fn null_32(windows: usize) -> anyhow::Result<Outcome> {
    forward(windows, BURST)
}

pub(super) fn null_1(windows: usize) -> anyhow::Result<Outcome> {
    forward(windows, 1)
}

pub(super) fn null_rx(windows: usize) -> anyhow::Result<Outcome> {
    let (pool, mut cache) = pool()?;
    let mut port = Port::start("net_null0", &pool)?;
    let mut frames = Burst::with_limit(&pool, BURST);
    exact(windows, BURST, || {
        let received = port.rx.recv(&mut cache, &mut frames);
        frames.recycle(&mut cache);
        received
    })
}

pub(super) fn null_tx(windows: usize) -> anyhow::Result<Outcome> {
    let (pool, mut cache) = pool()?;
    let mut port = Port::start("net_null0", &pool)?;
    let mut frames = Burst::with_limit(&pool, BURST);
    exact(windows, BURST, || {
        cache.take(&mut frames, BURST);
        frames.for_each_mut(0, |mut frame| frame.set_len(FRAME));
        port.tx.send(&mut cache, &mut frames)
    })
}

/// Frames go round a ring of DPDK's, by reference.
fn round(windows: usize, burst: usize) -> anyhow::Result<Outcome> {
    let (pool, mut cache) = pool()?;
    let mut port = Port::start("net_ring0", &pool)?;
    let mut frames = Burst::with_limit(&pool, burst);
    cache.take(&mut frames, burst);
    frames.for_each_mut(0, |mut frame| frame.set_len(FRAME));
    exact(windows, burst, || {
        port.tx.send(&mut cache, &mut frames);
        port.rx.recv(&mut cache, &mut frames)
    })
}

pub(super) fn ring_32(windows: usize) -> anyhow::Result<Outcome> {
    round(windows, BURST)
}

pub(super) fn ring_1(windows: usize) -> anyhow::Result<Outcome> {
    round(windows, 1)
}
