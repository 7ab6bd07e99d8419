//! How costs grow with the size of something: frames, bursts, queues that one core polls, buffers in use, cores at
//! work. A point is called `AXIS/WHAT@SIZE`; the C peer has some of the same names.

use std::sync::Barrier;

use mempool::{Burst, Cpu, Pool, heap::Heap};
use pmd::{Config, Registry, RxMemory, RxQueue, TxQueue};

use super::{Outcome, forward, pcap, stepped};
use crate::{
    CannotRunHere, placement,
    window::{measure, summarise},
};

const BURST: usize = 32;
/// More objects a step than this take minutes to be stepped through.
const COUNTABLE: usize = 4096;

/// One curve.
pub struct Sweep {
    /// Its name, before the `@`.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// Measures one point, with so many windows and of that size.
    pub run: fn(usize, usize) -> anyhow::Result<Outcome>,
    /// Whether it stays on one core.
    pub is_pinned: bool,
}

const fn curve(
    name: &'static str,
    about: &'static str,
    run: fn(usize, usize) -> anyhow::Result<Outcome>,
) -> Sweep {
    Sweep { name, about, run, is_pinned: true }
}

/// Every curve.
pub const SWEEPS: &[Sweep] = &[
    curve("size/copied", "frames of N bytes over ring, between two pools", copied),
    curve("size/by-reference", "the same, within one pool", by_reference),
    curve("size/pcap", "a capture of frames of N bytes, received in a loop", replay),
    curve("burst/null", "null to null, bursts of N", bursts),
    curve("queues/null", "null to null, N queues on one core", queues),
    curve("pool/out", "take N buffers, give them back", out),
    Sweep {
        is_pinned: false,
        ..curve("cores/null", "null to null on N cores over one pool", cores)
    },
];

/// One core's step, with instructions where they take seconds at most.
fn point(windows: usize, objects: usize, step: impl FnMut()) -> Outcome {
    let mut step = step;
    if objects > COUNTABLE {
        let ticks = measure(windows, objects, step);
        return Outcome { ticks, instructions: None, placement: None, host_bytes: None };
    }
    stepped(windows, objects, (256 / objects).max(1), &mut step)
}

fn pool(name: &str, slots: usize) -> anyhow::Result<Pool<Cpu>> {
    Ok(Pool::builder().name(name).slots(slots).stride(2048).memory(&Heap::new()).build()?)
}

/// Over a wire from one pool into another, or round within one.
fn wire(windows: usize, len: usize, to: &Pool<Cpu>, from: &Pool<Cpu>) -> anyhow::Result<Outcome> {
    let mut registry = Registry::new();
    let (mut near, mut far) = (registry.open("ring:a")?, registry.open("ring:a")?);
    let mut tx = near.start(Config::default().with_tx(from))?.tx.remove(0);
    let mut queues = far.start(Config::default().with_rx(RxMemory::Whole(to.clone())))?;
    let mut rx = whole(queues.rx.remove(0))?;
    let (mut sending, mut receiving) = (from.cache(), to.cache());
    let (mut out, mut home) = (Burst::with_limit(from, BURST), Burst::with_limit(to, BURST));
    let outcome = point(windows, BURST, || {
        sending.take(&mut out, BURST);
        out.for_each_mut(0, |mut frame| frame.set_len(len));
        tx.send(&mut sending, &mut out);
        rx.recv(&mut receiving, &mut home);
        home.recycle(&mut receiving);
    });
    // The queues outlive the control plane here: nothing is stopped before the process ends.
    std::mem::forget((near, far));
    Ok(outcome)
}

fn whole(queue: pmd::AnyRxQueue) -> anyhow::Result<Box<dyn RxQueue>> {
    queue.whole().ok_or_else(|| anyhow::anyhow!("not a whole-frame queue"))
}

fn copied(windows: usize, len: usize) -> anyhow::Result<Outcome> {
    wire(windows, len, &pool("received", 8192)?, &pool("sent", 8192)?)
}

fn by_reference(windows: usize, len: usize) -> anyhow::Result<Outcome> {
    let pool = pool("both", 8192)?;
    wire(windows, len, &pool, &pool)
}

fn replay(windows: usize, len: usize) -> anyhow::Result<Outcome> {
    pcap::replay_frames(windows, len)
}

fn bursts(windows: usize, burst: usize) -> anyhow::Result<Outcome> {
    forward::forward(windows, ["null:a", "null:b"], burst)
}

/// The same number of queues each way, each with its pair.
fn queues(windows: usize, count: usize) -> anyhow::Result<Outcome> {
    let pool = pool("bench", 8192)?;
    let mut registry = Registry::new();
    let (mut from, mut to) = (registry.open("null:a")?, registry.open("null:b")?);
    let (mut rx_config, mut tx_config) = (Config::default(), Config::default());
    for _ in 0..count {
        rx_config = rx_config.with_rx(RxMemory::Whole(pool.clone()));
        tx_config = tx_config.with_tx(&pool);
    }
    let rx =
        from.start(rx_config)?.rx.into_iter().map(whole).collect::<anyhow::Result<Vec<_>>>()?;
    let tx: Vec<Box<dyn TxQueue>> = to.start(tx_config)?.tx;
    std::mem::forget((from, to));
    let mut pairs: Vec<_> = rx.into_iter().zip(tx).collect();
    let (mut cache, mut frames) = (pool.cache(), Burst::with_limit(&pool, BURST));
    Ok(point(windows, count * BURST, || {
        for (rx, tx) in &mut pairs {
            rx.recv(&mut cache, &mut frames);
            tx.send(&mut cache, &mut frames);
        }
    }))
}

/// Takes that many, burst by burst, then gives all back: each side meets the shared list once they are more than
/// the cache holds, and memory once the metadata of all are more than the processor's caches hold.
fn out(windows: usize, count: usize) -> anyhow::Result<Outcome> {
    let pool = pool("bench", 2 * count.max(4096))?;
    let mut cache = pool.cache();
    let mut bursts: Vec<Burst<Cpu>> =
        (0..count.div_ceil(BURST)).map(|_| Burst::new(&pool)).collect();
    let each = count.min(BURST);
    Ok(point(windows, each * bursts.len(), || {
        for burst in &mut bursts {
            cache.take(burst, each);
        }
        for burst in &mut bursts {
            burst.recycle(&mut cache);
        }
    }))
}

/// Each core has ports and a cache of its own; the pool is everybody's. All windows of all cores count.
fn cores(windows: usize, count: usize) -> anyhow::Result<Outcome> {
    let cores = placement::cores();
    let Some(cores) = cores.get(..count) else {
        return Err(CannotRunHere(format!("needs {count} cores")).into());
    };
    let pool = pool("bench", 8192)?;
    let begin = Barrier::new(count);
    let samples = std::thread::scope(|scope| {
        let (pool, begin) = (&pool, &begin);
        let work = |core: core_affinity::CoreId| {
            move || -> anyhow::Result<Vec<f64>> {
                core_affinity::set_for_current(core);
                let step = forward::step(pool, ["null:a", "null:b"], BURST);
                // Whoever cannot go on must not leave the others waiting.
                begin.wait();
                let mut step = step?;
                let window = || measure(1, 2 * BURST, &mut step).least;
                Ok(std::iter::repeat_with(window).take(windows).collect())
            }
        };
        let threads: Vec<_> = cores.iter().map(|core| scope.spawn(work(*core))).collect();
        let ended = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a core's thread panicked")))
        });
        ended.collect::<anyhow::Result<Vec<_>>>()
    })?;
    Ok(Outcome {
        ticks: summarise(samples.concat()),
        instructions: None,
        placement: None,
        host_bytes: None,
    })
}
