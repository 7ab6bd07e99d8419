//! The queue of a worker, on either path: as the loop polls it, and as whoever changes its memory needs it.

use std::os::fd::BorrowedFd;

use mempool::{Burst, Device, SplitBurst, SplitCache};
use pmd::{AnyRxQueue, Bounce, MapError, QueueCounters, SplitRxQueue};

/// A queue that yields heads and payloads.
pub enum Receiver {
    /// The port splits.
    Direct(Box<dyn SplitRxQueue>),
    /// Payloads are copied.
    Bounce(Box<Bounce>),
    /// Somebody else has the queue; it yields nothing. The counters are its own.
    Away(QueueCounters),
}

impl Receiver {
    /// Takes the queue, and leaves a stand-in that yields nothing.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let away = Self::Away(self.counters().clone());
        std::mem::replace(self, away)
    }

    /// The port's own queue; none if somebody else has it.
    #[must_use]
    pub fn into_queue(self) -> Option<AnyRxQueue> {
        match self {
            Self::Direct(queue) => Some(AnyRxQueue::Split(queue)),
            Self::Bounce(queue) => Some(AnyRxQueue::Whole(queue.into_inner())),
            Self::Away(_) => None,
        }
    }

    /// The queue's counters.
    #[must_use]
    pub fn counters(&self) -> &QueueCounters {
        match self {
            Self::Direct(queue) => queue.counters(),
            Self::Bounce(queue) => queue.counters(),
            Self::Away(counters) => counters,
        }
    }
}

impl SplitRxQueue for Receiver {
    fn recv(&mut self, cache: &mut SplitCache, burst: &mut SplitBurst) -> usize {
        match self {
            Self::Direct(queue) => queue.recv(cache, burst),
            Self::Bounce(queue) => queue.recv(cache, burst),
            Self::Away(_) => 0,
        }
    }

    fn post(&mut self, data: &mut Burst<Device>) -> usize {
        match self {
            Self::Direct(queue) => queue.post(data),
            Self::Bounce(queue) => queue.post(data),
            Self::Away(_) => 0,
        }
    }

    fn meet_areas(&mut self) -> Result<(), MapError> {
        match self {
            Self::Direct(queue) => queue.meet_areas(),
            Self::Bounce(queue) => queue.meet_areas(),
            Self::Away(_) => Ok(()),
        }
    }

    fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Direct(queue) => queue.arm(),
            Self::Bounce(queue) => queue.arm(),
            Self::Away(_) => None,
        }
    }

    fn counters(&self) -> &QueueCounters {
        self.counters()
    }
}
