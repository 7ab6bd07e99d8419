//! What the main thread has a worker do about areas of its queue's payload pool, and what comes of it. While there
//! is none it costs nothing: a worker looks for it where it looks for exchanges. Knows no memory.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

/// Consecutive slots: those of an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Extent {
    /// One more than the last.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.first + self.count
    }

    /// Whether a slot is one of them.
    #[inline]
    #[must_use]
    pub fn holds(&self, slot: u32) -> bool {
        slot.wrapping_sub(self.first) < self.count
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Have the device reach an area that has come, take its slots and post them; `is_host` if it is host memory in
    /// the place of a device's.
    Take {
        /// Which.
        area: Extent,
        /// Whether rows in it are counted as such.
        is_host: bool,
    },
    /// Post no more slots of an area, and give them back when all are home.
    Leave(Extent),
    /// An area has gone: let go of its mapping.
    Forget,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not done yet.
    Open,
    /// Done.
    Done,
    /// It could not be done.
    Failed,
}

/// Where whoever asked for something sees how far it is. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Ticket(Arc<AtomicU8>);

impl Ticket {
    /// One of what needed not be done.
    #[must_use]
    pub fn done() -> Self {
        let ticket = Self::default();
        ticket.close(true);
        ticket
    }

    /// Says what came of it.
    pub fn close(&self, is_done: bool) {
        // Release: who sees it sees what was done.
        self.0.store(if is_done { 1 } else { 2 }, Ordering::Release);
    }

    /// What came of it.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self.0.load(Ordering::Acquire) {
            0 => Outcome::Open,
            1 => Outcome::Done,
            _ => Outcome::Failed,
        }
    }
}

/// A task, and where it is answered.
#[derive(Clone, Debug)]
pub struct Errand {
    /// What to do.
    pub task: Task,
    /// Gets the answer.
    pub ticket: Ticket,
}
