//! A value behind a lock that neither sleeps nor enters the kernel, for what DPDK's drivers call: whoever holds
//! it does a bounded piece of work.
#![allow(unsafe_code, reason = "lends what the lock guards")]

use std::{
    cell::UnsafeCell,
    hint,
    sync::atomic::{AtomicBool, Ordering},
};

/// A value for one user at a time.
pub(super) struct Spin<T> {
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is used by one thread at a time.
unsafe impl<T: Send> Sync for Spin<T> {}

impl<T> Spin<T> {
    pub(super) fn new(value: T) -> Self {
        Self { locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Calls `change` with the value.
    pub(super) fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        // Acquire: sees what the last holder left.
        while self.locked.swap(true, Ordering::Acquire) {
            hint::spin_loop();
        }
        // SAFETY: the lock is held by this call alone, and no reference leaves it.
        let result = change(unsafe { &mut *self.value.get() });
        // Release: shows what was changed.
        self.locked.store(false, Ordering::Release);
        result
    }
}
