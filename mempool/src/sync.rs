//! The one place that chooses between the real atomics and loom's. What decides who owns a slot and
//! when a pool may be freed comes from here; gauges for readers, and masks that may be seen late, are
//! plain `std` and no concern of the models.

#[cfg(not(loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    thread::yield_now,
};

#[cfg(loom)]
pub(crate) use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    thread::yield_now,
};

/// The atomics above, for files that also keep counters outside the models.
pub(crate) use {AtomicU32 as ModelU32, AtomicU64 as ModelU64};

/// How often a waiter spins before it gives its time slice to whoever it waits for.
#[cfg(not(loom))]
const SPINS: u32 = 64;
#[cfg(loom)]
const SPINS: u32 = 0;

/// Waits for another thread that is between two of its own stores: spins, then yields, so that a
/// preempted peer on the same core gets to run.
pub(crate) struct Patience(u32);

impl Patience {
    pub(crate) const fn new() -> Self {
        Self(0)
    }

    #[cold]
    pub(crate) fn wait(&mut self) {
        if self.0 < SPINS {
            self.0 += 1;
            spin_loop();
        } else {
            yield_now();
        }
    }
}
