//! The kinds of fault, and what has happened so far.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::{DropReason, Drops};

/// What can happen to a frame, or to the queue at a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The frame is lost.
    Drop,
    /// It comes twice.
    Dup,
    /// It comes after the next one.
    Reorder,
    /// One of its bits is another.
    Flip,
    /// Its end is missing.
    Truncate,
    /// After it, the queue rests for a while.
    Stall,
    /// It is lost as if the pool were empty.
    Exhaust,
    /// It is lost because the link is down.
    Down,
    /// It and all that follow are not delivered: the queue has failed.
    Fault,
    /// Likewise: the port is being taken away.
    Remove,
    /// Not for a plan to ask: what the wrapper still held when the queue ended.
    Undelivered,
}

impl Kind {
    pub(super) const ALL: [Self; 11] = [
        Self::Drop,
        Self::Dup,
        Self::Reorder,
        Self::Flip,
        Self::Truncate,
        Self::Stall,
        Self::Exhaust,
        Self::Down,
        Self::Fault,
        Self::Remove,
        Self::Undelivered,
    ];

    /// The name in plans and counts.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Dup => "dup",
            Self::Reorder => "reorder",
            Self::Flip => "flip",
            Self::Truncate => "truncate",
            Self::Stall => "stall",
            Self::Exhaust => "exhaust",
            Self::Down => "down",
            Self::Fault => "fault",
            Self::Remove => "remove",
            Self::Undelivered => "undelivered",
        }
    }

    /// Whether the queue yields, and takes, nothing from there on.
    pub(super) const fn is_final(self) -> bool {
        matches!(self, Self::Fault | Self::Remove)
    }

    /// Why a frame was lost to which this happened, if it was.
    const fn loses(self) -> Option<DropReason> {
        match self {
            Self::Drop | Self::Undelivered => Some(DropReason::Injected),
            Self::Exhaust => Some(DropReason::NoBuffer),
            Self::Down => Some(DropReason::LinkDown),
            _ => None,
        }
    }
}

/// What was injected into one queue: written by the queue, read by anybody.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: [AtomicU64; Kind::ALL.len()],
    /// Whether the wrapper holds frames that it may still deliver.
    pub(super) holds: AtomicBool,
    /// Whether the queue's link is down.
    pub(super) is_down: AtomicBool,
}

impl Tally {
    /// Counts `frames` more of a kind. The queue's alone to call.
    pub(super) fn add(&self, kind: Kind, frames: u64) {
        let count = &self.counts[kind as usize];
        count.store(count.load(Ordering::Relaxed) + frames, Ordering::Relaxed);
    }

    pub(super) fn of(&self, kind: Kind) -> u64 {
        self.counts[kind as usize].load(Ordering::Relaxed)
    }

    /// Frames that were lost here, by reason.
    pub(super) fn lost(&self) -> Drops {
        let mut drops = Drops::default();
        for kind in Kind::ALL {
            if let Some(reason) = kind.loses() {
                drops.add(reason, self.of(kind));
            }
        }
        drops
    }
}
