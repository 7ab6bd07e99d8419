//! What a port's queues tell its control plane: that they have ended, and why they broke.

use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use crate::Health;

/// Shared by a port and its queues; written at an end only, never per burst.
#[derive(Debug, Default)]
pub(super) struct State {
    fault: OnceLock<String>,
    /// Receive queues that have not ended.
    reading: AtomicUsize,
    /// Whether the port receives at all.
    finite: bool,
}

impl State {
    /// The state of a port with this many receive queues that will end.
    pub(super) fn new(reading: usize) -> Self {
        Self { reading: AtomicUsize::new(reading), finite: reading > 0, ..Self::default() }
    }

    /// One receive queue delivered its last frame.
    pub(super) fn rx_ended(&self) {
        // Release: the counters of that queue are seen by whoever sees the end.
        self.reading.fetch_sub(1, Ordering::Release);
    }

    /// Something broke; the first reason stays.
    pub(super) fn fault(&self, why: String) {
        let _ = self.fault.set(why);
    }

    pub(super) fn health(&self) -> Health {
        match self.fault.get() {
            Some(why) => Health::Faulted(why.clone()),
            None if self.finite && self.reading.load(Ordering::Acquire) == 0 => Health::Ended,
            None => Health::Good,
        }
    }
}
