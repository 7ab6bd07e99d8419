//! The data plane: what a worker polls. One call per burst; a fault latches in the queue and
//! [`crate::Device::health`] names it.

use std::os::fd::BorrowedFd;

use mempool::{Burst, Cache, Cpu, Device, Shared, SplitBurst, SplitCache};

use crate::{MapError, QueueCounters};

/// Receives whole frames into host memory.
pub trait RxQueue: Send {
    /// Appends the frames that are there to `burst`, as far as it has room, in order; returns how
    /// many. Buffers come from `cache`, which must be of the pool the queue was started with, as
    /// must `burst`.
    fn recv(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize;

    /// Asks to be woken by the next frame: the descriptor becomes readable then, once. Whoever waits
    /// polls once more first, since a frame may have come before this call, and waits with a limit.
    /// `None` where the queue cannot.
    fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// The queue's counters; clone the handle to watch from another thread.
    fn counters(&self) -> &QueueCounters;
}

/// Receives frames split into a head in host memory and a payload in device memory.
pub trait SplitRxQueue: Send {
    /// Appends the frames that are there to `burst`, as far as it has room, in order; returns how
    /// many. Heads come from `cache.heads`; payload buffers from `cache.data`, unless the queue was
    /// started with [`crate::PostOrder::App`].
    fn recv(&mut self, cache: &mut SplitCache, burst: &mut SplitBurst) -> usize;

    /// Posts payload buffers from the front of `data`, to be filled in this order; returns how many
    /// the ring took. Only for queues started with [`crate::PostOrder::App`]: others take none.
    ///
    /// Hardware sets a buffer aside for each frame. One that a frame leaves empty (it has no payload, or is
    /// thrown away) is posted again by the queue, behind those posted by then: it comes later, out of this
    /// order, and still counts as posted until it does.
    fn post(&mut self, data: &mut Burst<Device>) -> usize;

    /// Maps areas of the payload pool that have come ([`mempool::Pool::add_area`]), and unmaps those that have
    /// gone. An area is mapped when one of its buffers is first posted anyway; who calls this before learns whether
    /// it can be, and who calls it behind [`mempool::Pool::remove_area`] lets the memory go. System calls: not
    /// for each poll.
    ///
    /// # Errors
    /// An area cannot be reached by the device; its buffers cannot be posted.
    fn meet_areas(&mut self) -> Result<(), MapError>;

    /// Asks to be woken by the next frame: the descriptor becomes readable then, once. Whoever waits
    /// polls once more first, since a frame may have come before this call, and waits with a limit.
    /// `None` where the queue cannot.
    fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// The queue's counters; clone the handle to watch from another thread.
    fn counters(&self) -> &QueueCounters;
}

/// Sends frames.
pub trait TxQueue: Send {
    /// Takes frames from the front of `burst`; what the queue has no room for stays the caller's.
    /// Returns how many it took. Buffers that are done with go to `cache`.
    fn send(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize;

    /// As [`TxQueue::send`], for shared buffers (mirroring, multicast): the queue holds its
    /// references until the frames are sent.
    fn send_shared(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Shared>) -> usize;

    /// Brings buffers home that the device is done with; returns how many. `send` does it too.
    fn reap(&mut self, cache: &mut Cache<Cpu>) -> usize;

    /// Frames sent and not yet reaped.
    fn in_flight(&self) -> usize;

    /// The queue's counters; clone the handle to watch from another thread.
    fn counters(&self) -> &QueueCounters;
}

/// A receive queue as it was configured.
pub enum AnyRxQueue {
    /// Started with [`crate::RxMemory::Whole`].
    Whole(Box<dyn RxQueue>),
    /// Started with [`crate::RxMemory::Split`].
    Split(Box<dyn SplitRxQueue>),
}

impl AnyRxQueue {
    /// The queue, if it receives whole frames.
    #[must_use]
    pub fn whole(self) -> Option<Box<dyn RxQueue>> {
        match self {
            Self::Whole(queue) => Some(queue),
            Self::Split(_) => None,
        }
    }

    /// The queue, if it splits.
    #[must_use]
    pub fn split(self) -> Option<Box<dyn SplitRxQueue>> {
        match self {
            Self::Split(queue) => Some(queue),
            Self::Whole(_) => None,
        }
    }

    /// Asks to be woken by the next frame, as [`RxQueue::arm`].
    pub fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Whole(queue) => queue.arm(),
            Self::Split(queue) => queue.arm(),
        }
    }

    /// The queue's counters.
    #[must_use]
    pub fn counters(&self) -> &QueueCounters {
        match self {
            Self::Whole(queue) => queue.counters(),
            Self::Split(queue) => queue.counters(),
        }
    }
}
