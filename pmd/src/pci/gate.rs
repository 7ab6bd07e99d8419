//! Between a device and the queues it was started with: has it provably stopped, and what went wrong.
//! One gate for each start; queues that come home late still find it.
#![allow(unsafe_code, reason = "turns the device's word into a proof")]

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use mempool::Quiesced;

/// Shared by a started device and its queues.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<State>);

#[derive(Debug, Default)]
struct State {
    stopped: AtomicBool,
    fault: OnceLock<String>,
}

impl Gate {
    /// A gate for a start: DMA may run.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// States that the device has stopped for good, as far as the queues of this start go.
    ///
    /// # Safety
    /// No descriptor of these queues will be read or written, nor any buffer they name: the device was
    /// reset, may no longer master the bus, or is gone.
    pub unsafe fn close(&self) {
        // Release: whatever proved it happened before; pairs with `proof`.
        self.0.stopped.store(true, Ordering::Release);
    }

    /// The proof that lets a queue have its buffers back; none while the device may run.
    #[must_use]
    pub fn proof(&self) -> Option<Quiesced> {
        let stopped = self.0.stopped.load(Ordering::Acquire);
        // SAFETY: `close` was called, whose caller vouched for it.
        stopped.then(|| unsafe { Quiesced::new() })
    }

    /// Latches why a queue no longer works; the first reason stays.
    #[cold]
    pub fn fault(&self, why: impl fmt::Display) {
        self.0.fault.get_or_init(|| why.to_string());
    }

    /// Whether queues of this start may go on: the device was not stopped, and none of them is faulted.
    #[inline(always)]
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.0.stopped.load(Ordering::Acquire) && self.0.fault.get().is_none()
    }

    /// Why a queue no longer works.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        self.0.fault.get().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_proof_before_the_device_has_stopped() {
        let gate = Gate::new();
        let queue = gate.clone();
        assert!(queue.proof().is_none());
        // SAFETY: there is no device.
        unsafe { gate.close() };
        assert!(queue.proof().is_some());
    }

    #[test]
    fn the_first_reason_stays() {
        let gate = Gate::new();
        gate.fault("length 65535");
        gate.fault("something later");
        assert_eq!(gate.why(), Some("length 65535"));
    }
}
