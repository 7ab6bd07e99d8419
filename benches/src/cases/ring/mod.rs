//! Rings, on one core and across two; other crates' beside ours.

pub(super) mod array_queue;
pub(super) mod rtrb;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use crossbeam_utils::CachePadded;
use mempool::ring::channel;

use super::{Outcome, one_core};
use crate::{
    placement,
    window::{summarise, tsc},
};

const ENTRIES: usize = 1024;
/// Objects per cross-core window.
const BATCH: usize = crate::window::OBJECTS / 4;

pub(super) fn same_core_32(windows: usize) -> anyhow::Result<Outcome> {
    let (mut tx, mut rx) = channel(ENTRIES);
    let (sent, mut got) = ([7u32; 32], [0u32; 32]);
    Ok(one_core(windows, 32, move || {
        tx.send(&sent);
        rx.recv(&mut got);
    }))
}

/// Runs `produce` on one core for as long as `consume` on the other reports progress; the
/// consumer's rate is what counts. Both move to their threads, so that their states share no line.
fn cross(
    windows: usize,
    mut produce: impl FnMut() + Send,
    mut consume: impl FnMut() -> usize + Send,
) -> anyhow::Result<Outcome> {
    let &[first, second, ..] = placement::cores().as_slice() else {
        return Err(crate::CannotRunHere("needs two cores".into()).into());
    };
    let before = placement::probe([first, second]);
    let stop = CachePadded::new(AtomicBool::new(false));
    let samples = thread::scope(|scope| {
        let stop = &stop;
        scope.spawn(move || {
            core_affinity::set_for_current(first);
            while !stop.load(Ordering::Relaxed) {
                produce();
            }
        });
        let consumer = scope.spawn(move || {
            core_affinity::set_for_current(second);
            let mut window = || {
                let (start, mut done) = (tsc(), 0);
                while done < BATCH {
                    done += consume();
                }
                #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
                let ticks = (tsc() - start) as f64 / done as f64;
                ticks
            };
            window();
            let samples = (0..windows).map(|_| window()).collect();
            stop.store(true, Ordering::Relaxed);
            samples
        });
        consumer.join()
    });
    let samples = samples.map_err(|_| anyhow::anyhow!("the consumer panicked"))?;
    let after = placement::probe([first, second]);
    Ok(Outcome {
        ticks: summarise(samples),
        instructions: None,
        placement: Some((before, after)),
        host_bytes: None,
    })
}

fn cross_bulk<const N: usize>(windows: usize) -> anyhow::Result<Outcome> {
    let (mut tx, mut rx) = channel(ENTRIES);
    let mut got = [0u32; N];
    let mut next = 0u32;
    let produce = move || {
        let values: [u32; N] = std::array::from_fn(|_| next);
        next = next.wrapping_add(1);
        let mut sent = 0;
        // A bounded number of tries: the consumer may have stopped.
        for _ in 0..1000 {
            sent += tx.send(&values[sent..]);
            if sent == N {
                break;
            }
        }
    };
    cross(windows, produce, move || {
        let count = rx.recv(&mut got);
        std::hint::black_box(&got);
        count
    })
}

pub(super) fn cross_32(windows: usize) -> anyhow::Result<Outcome> {
    cross_bulk::<32>(windows)
}

pub(super) fn cross_1(windows: usize) -> anyhow::Result<Outcome> {
    cross_bulk::<1>(windows)
}

pub(super) fn round_trip(windows: usize) -> anyhow::Result<Outcome> {
    let (mut there_tx, mut there_rx) = channel(ENTRIES);
    let (mut back_tx, mut back_rx) = channel(ENTRIES);
    let mut one = [0u32; 1];
    let echo = move || {
        let mut got = [0u32; 1];
        if there_rx.recv(&mut got) == 1 {
            back_tx.send(&got);
        }
    };
    cross(windows.min(15), echo, move || {
        there_tx.send(&one);
        while back_rx.recv(&mut one) == 0 {}
        1
    })
}
