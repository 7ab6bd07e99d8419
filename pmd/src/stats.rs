//! What a queue counts. Plain numbers owned by the queue, readable from any thread while it runs.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crossbeam_utils::CachePadded;

/// Why a frame that was offered to a queue was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// No free buffer for the frame or its head.
    NoBuffer,
    /// No data buffer was posted for the payload.
    NoDataBuffer,
    /// The frame is longer than the buffers may hold.
    TooLong,
    /// The frame cannot be parsed or its record is damaged.
    Malformed,
    /// The kernel had no room for it.
    Kernel,
    /// A fault injector took it.
    Injected,
    /// The peer or the link was not there.
    LinkDown,
    /// The system refused to send it.
    SendError,
    /// The device had no room for it: no descriptor was free, or its own memory was full.
    Device,
}

impl DropReason {
    /// Every reason, in the order of reports.
    pub const ALL: [Self; 9] = [
        Self::NoBuffer,
        Self::NoDataBuffer,
        Self::TooLong,
        Self::Malformed,
        Self::Kernel,
        Self::Injected,
        Self::LinkDown,
        Self::SendError,
        Self::Device,
    ];

    /// The name in reports, JSON and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoBuffer => "no_buffer",
            Self::NoDataBuffer => "no_data_buffer",
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Kernel => "kernel",
            Self::Injected => "injected",
            Self::LinkDown => "link_down",
            Self::SendError => "send_error",
            Self::Device => "device",
        }
    }
}

/// Frames dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Drops {
    /// Frames dropped for this reason.
    #[must_use]
    pub const fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// All frames dropped.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Counts `frames` more.
    pub fn add(&mut self, reason: DropReason, frames: u64) {
        self.0[reason as usize] += frames;
    }

    /// Counts all of `other` too.
    pub fn merge(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }

    /// The reasons there were, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.into_iter().map(|reason| (reason, self.of(reason))).filter(|(_, n)| *n > 0)
    }
}

/// A queue's counters at one moment. `offered == delivered + drops.total()`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Frames that reached the queue: on receive, from the wire; on transmit, from the caller and
    /// taken over.
    pub offered: u64,
    /// Frames handed to the caller, or to the wire.
    pub delivered: u64,
    /// Bytes of the delivered frames, without FCS.
    pub bytes: u64,
    /// Frames dropped, by reason.
    pub drops: Drops,
}

impl QueueStats {
    /// The sum over several queues.
    #[must_use]
    pub fn sum<'a>(queues: impl IntoIterator<Item = &'a QueueCounters>) -> Self {
        let mut sum = Self::default();
        queues.into_iter().for_each(|queue| sum.merge(&queue.snapshot()));
        sum
    }

    /// Counts all of `other` too.
    pub fn merge(&mut self, other: &Self) {
        self.offered += other.offered;
        self.delivered += other.delivered;
        self.bytes += other.bytes;
        self.drops.merge(&other.drops);
    }

    /// Whether every offered frame is accounted for.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.offered == self.delivered + self.drops.total()
    }
}

#[derive(Debug, Default)]
struct Cells {
    delivered: AtomicU64,
    bytes: AtomicU64,
    drops: [AtomicU64; DropReason::ALL.len()],
}

/// A queue's counters: one writer (the queue, plain adds), any number of readers.
#[derive(Clone, Debug, Default)]
pub struct QueueCounters(Arc<CachePadded<Cells>>);

/// One writer: no read-modify-write is needed, and readers see whole numbers.
#[inline(always)]
fn add(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

impl QueueCounters {
    /// Counts delivered frames, once per burst. The queue's alone to call.
    #[inline(always)]
    pub fn delivered(&self, frames: usize, bytes: usize) {
        add(&self.0.delivered, frames as u64);
        add(&self.0.bytes, bytes as u64);
    }

    /// Moves frames from delivered to dropped: they were handed over, and turned out lost later. The
    /// queue's alone to call.
    pub fn undelivered(&self, reason: DropReason, frames: usize, bytes: usize) {
        add(&self.0.delivered, (frames as u64).wrapping_neg());
        add(&self.0.bytes, (bytes as u64).wrapping_neg());
        self.dropped(reason, frames);
    }

    /// Counts dropped frames. The queue's alone to call.
    #[inline]
    pub fn dropped(&self, reason: DropReason, frames: usize) {
        add(&self.0.drops[reason as usize], frames as u64);
    }

    /// States the counters as those of `stats`, for a queue around another one. The queue's alone to
    /// call.
    pub(crate) fn restate(&self, stats: &QueueStats) {
        self.0.delivered.store(stats.delivered, Ordering::Relaxed);
        self.0.bytes.store(stats.bytes, Ordering::Relaxed);
        for (cell, reason) in self.0.drops.iter().zip(DropReason::ALL) {
            cell.store(stats.drops.of(reason), Ordering::Relaxed);
        }
    }

    /// The counters now. Exact once the queue rests; meanwhile at most a burst behind.
    #[must_use]
    pub fn snapshot(&self) -> QueueStats {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let drops = Drops(std::array::from_fn(|at| read(&self.0.drops[at])));
        let delivered = read(&self.0.delivered);
        QueueStats {
            offered: delivered + drops.total(),
            delivered,
            bytes: read(&self.0.bytes),
            drops,
        }
    }
}
