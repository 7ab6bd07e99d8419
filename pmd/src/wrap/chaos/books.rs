//! What the user of a queue under chaos counts: the inner queue's drops and the injected ones, such that
//! offered = delivered + Σ drops.

use std::sync::{Arc, atomic::Ordering};

use super::kind::{Kind, Tally};
use crate::{QueueCounters, QueueStats};

/// One queue's books, shared by the queue (which writes) and the port (which reads).
#[derive(Clone)]
pub(super) struct Books {
    /// What the user of the queue reads.
    pub(super) outer: QueueCounters,
    /// The inner queue's.
    inner: QueueCounters,
    pub(super) tally: Arc<Tally>,
    is_rx: bool,
}

impl Books {
    pub(super) fn new(inner: &QueueCounters, is_rx: bool) -> Self {
        let (outer, tally) = (QueueCounters::default(), Arc::default());
        Self { outer, inner: inner.clone(), tally, is_rx }
    }

    /// Restates the counters, once per burst.
    pub(super) fn restate(&self) {
        self.outer.restate(&self.stats());
    }

    /// Ends the books of a queue that goes, with the frames that it still had.
    pub(super) fn close(&self, undelivered: usize) {
        self.tally.add(Kind::Undelivered, undelivered as u64);
        self.tally.is_down.store(false, Ordering::Relaxed);
        // Release: as wherever it is cleared, what was counted before is seen with it.
        self.tally.holds.store(false, Ordering::Release);
        self.restate();
    }

    /// The counts now. A receiver delivers what it handed over; a sender what the inner queue sent.
    pub(super) fn stats(&self) -> QueueStats {
        let mut stats = self.inner.snapshot();
        if self.is_rx {
            let outer = self.outer.snapshot();
            (stats.delivered, stats.bytes) = (outer.delivered, outer.bytes);
        }
        stats.drops.merge(&self.tally.lost());
        stats.offered = stats.delivered + stats.drops.total();
        stats
    }
}
