//! Making traffic: the source that pktgen and the demos send with, over ports without and with a
//! wire. Every frame carries its number; those of 1 KiB a timestamp and the CRC32C of the payload.

use mempool::{Burst, Cpu, Pool, heap::Heap};
use memwire_apps::traffic::{
    Clock, Generator, HeaderChoice, Source, SourceOptions, Template, Traffic,
};
use pmd::{AnyRxQueue, Config, Registry, RxMemory};

use super::{Outcome, one_core, stepped};

const BURST: usize = 32;

fn pool(name: &str) -> anyhow::Result<Pool<Cpu>> {
    Ok(Pool::builder().name(name).slots(4096).stride(2048).memory(&Heap::new()).build()?)
}

/// Frames of 64 bytes from a template, a number in each, into nothing.
pub(super) fn null_64(windows: usize) -> anyhow::Result<Outcome> {
    let pool = pool("source")?;
    let mut device = Registry::new().open("null:")?;
    let tx = device.start(Config::default().with_tx(&pool))?.tx.remove(0);
    let template = Template { header: HeaderChoice::Auto, ..Template::default() };
    let template = template.with_frame_len(64)?;
    let options = SourceOptions { template, burst: BURST, ..SourceOptions::default() };
    let mut source = Source::new(tx, &pool, options)?;
    let outcome = one_core(windows, BURST, || {
        source.poll();
    });
    std::mem::forget(device);
    Ok(outcome)
}

/// Frames of 1 KiB over a wire whose far end is emptied on the same core. `fresh` writes and sums
/// each payload anew; otherwise a buffer's payload is sent again, with its sum.
fn ring_1k(windows: usize, fresh: bool) -> anyhow::Result<Outcome> {
    let (sending, receiving) = (pool("source")?, pool("received")?);
    let mut registry = Registry::new();
    let (mut near, mut far) = (registry.open("ring:a")?, registry.open("ring:a")?);
    let tx = near.start(Config::default().with_tx(&sending))?.tx.remove(0);
    let mut queues = far.start(Config::default().with_rx(RxMemory::Whole(receiving.clone())))?;
    let AnyRxQueue::Whole(mut rx) = queues.rx.remove(0) else {
        anyhow::bail!("not a whole-frame queue");
    };
    let template = Template::default().with_frame_len(1024)?;
    let traffic = Traffic { template, fresh, ..Traffic::default() };
    let generator = Generator::new(&sending, &traffic, 0, 1)?;
    let mut source = Source::of(tx, &sending, generator, BURST, Clock::start());
    let (mut cache, mut frames) = (receiving.cache(), Burst::<Cpu>::with_limit(&receiving, BURST));
    let repeats = if fresh { 2 } else { 8 };
    let outcome = stepped(windows, BURST, repeats, || {
        source.poll();
        rx.recv(&mut cache, &mut frames);
        frames.recycle(&mut cache);
    });
    std::mem::forget((near, far));
    Ok(outcome)
}

pub(super) fn ring(windows: usize) -> anyhow::Result<Outcome> {
    ring_1k(windows, false)
}

pub(super) fn ring_fresh(windows: usize) -> anyhow::Result<Outcome> {
    ring_1k(windows, true)
}
