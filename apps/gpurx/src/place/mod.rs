//! Placement: payload slots are posted in tensor order, so traffic that arrives in order is already
//! in its place. A pure state machine over slot numbers and sequence numbers; it owns no memory and
//! reads no clock.
//!
//! # Slots
//!
//! The data pool is private to its queue. All of its slots are taken at start, sorted, and cut into
//! *runs* of `guard + rows + guard` consecutive ones. The middle of a run is posted in order, one
//! run after the other; frames fill posted slots in order, so block *b* of an undisturbed stream is
//! run *b*, and its row map is one entry. A run goes to the end of the queue when all of its slots
//! are home again.
//!
//! A loss, a swap or a foreign frame changes nothing but the **row map** that is handed over with the
//! block: the maximal stretches of (first row, first slot, length), and a bitmap of the rows that
//! are there. Consumers that follow the map move nothing, ever.
//!
//! Each loss shifts the rows behind it one slot towards the start of their run, each foreign frame
//! one towards its end. The shift is taken back where slots are posted, because then it is known
//! which row will come: a run that would begin with row *r* leaves its first *r* places empty, and a
//! run that would end before its block does is continued into its guard.
//!
//! When memory is short, because a consumer keeps blocks, empty slots of runs that are partly out are posted
//! too ([`Placer::coalesce`]): rows lie in more pieces then, and the map says so.
//!
//! # Blocks
//!
//! A block is `rows` consecutive sequence numbers, on a grid that begins where the stream does.
//! Several are open at a time, for latecomers. One is handed over, always in order, when all of its
//! rows are there, when a frame comes for the block `window` blocks behind it, or at its deadline.
//! The newest block is *cut* at its deadline behind the highest number seen: what a slow sender has
//! not sent yet is not missing, and gets a block of its own.
//!
//! A number that is far from all others is dropped; the number that follows it takes the stream up
//! there (RFC 3550 appendix A.1), because its sender has restarted. A restart that repeats the last
//! few blocks looks like copies, and is dropped as such until it is past them.
//!
//! # Tensors
//!
//! A consumer that demands a contiguous tensor gets row *r* in slot `base + r`. The base is the one
//! with the most rows in place already, of those for which the tensor lies within one run (guards
//! included) and every place that is needed is empty, or left by a row of the same block. [`Plan`]
//! moves exactly the other rows. Where no base is possible the block moves to a spare run.

mod block;
#[cfg(test)]
mod histories;
mod plan;
mod slots;
mod store;
#[cfg(test)]
mod tests;
mod window;

pub use block::{Block, RowInfo, RowRun};
pub use plan::{Plan, Step};
pub use store::Store;
pub use window::Counters;

use crate::errand::Extent;
use slots::{Slots, State};
use window::{Spot, Window};

/// How blocks and runs are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Rows of a block.
    pub rows: u32,
    /// Spare places at each end of a run.
    pub guard: u32,
    /// Blocks that are open at a time.
    pub window: u16,
    /// Nanoseconds from a block's first frame until it is handed over as it is.
    pub deadline: u64,
    /// Number that a fresh sender starts with, if the protocol says so.
    pub origin: Option<u64>,
    /// Whether blocks become contiguous tensors.
    pub contiguous: bool,
    /// Blocks that may be with a consumer that keeps them, and as many that may wait for it.
    pub kept: u16,
}

impl Geometry {
    /// The customary geometry for blocks of so many rows.
    #[must_use]
    pub fn of(rows: u32, contiguous: bool) -> Self {
        let guard = if contiguous { (rows / 8).max(8) } else { rows / 32 };
        let deadline = 10_000_000;
        Self { rows, guard, window: 2, deadline, origin: None, contiguous, kept: 0 }
    }

    /// Slots of a run.
    #[must_use]
    pub fn span(&self) -> usize {
        self.rows as usize + 2 * self.guard as usize
    }

    /// Slots that `blocks` runs take, the spare one for tensors included.
    #[must_use]
    pub fn slots(&self, blocks: usize) -> usize {
        (blocks + usize::from(self.contiguous)) * self.span()
    }
}

/// The slots cannot be cut into runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// Not enough consecutive slots.
    #[error(
        "{slots} data slots make {runs} runs of {span}, at least {least} are needed: more blocks, \
         or fewer rows"
    )]
    TooFewSlots {
        /// Slots there are.
        slots: usize,
        /// Consecutive slots of a run.
        span: usize,
        /// Runs they make.
        runs: usize,
        /// Runs needed.
        least: usize,
    },
}

/// A block that is open or handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockId(u16);

#[cfg(test)]
impl BlockId {
    /// Of no placer.
    pub(crate) fn of(number: u16) -> Self {
        Self(number)
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is a row of an open block.
    Placed,
    /// Its row was there already.
    Duplicate,
    /// Its block is handed over.
    Late,
    /// Its number is far from all others.
    Jump,
}

/// The state machine. Give it what arrives, hand over what it says is ready, post what it says is
/// next.
#[derive(Clone, Debug)]
pub struct Placer {
    slots: Slots,
    window: Window,
    plan: Plan,
}

impl Placer {
    /// Over those slots (ascending numbers).
    ///
    /// # Errors
    /// They do not make enough runs.
    pub fn new(slots: &[u32], geometry: &Geometry) -> Result<Self, PlaceError> {
        let Geometry { rows, guard, contiguous, .. } = *geometry;
        Ok(Self {
            slots: Slots::new(slots, rows, guard, contiguous)?,
            window: Window::new(geometry),
            plan: Plan::new(rows),
        })
    }

    /// The slot to post next; it counts as posted from here on. `None` while all runs are out.
    #[inline(always)]
    pub fn next_slot(&mut self) -> Option<u32> {
        let window = &self.window;
        self.slots.next(|others| window.row_after(others))
    }

    /// Slots given out to be posted and not come back.
    #[must_use]
    pub fn posted(&self) -> u32 {
        self.slots.posted()
    }

    /// Whether [`Placer::next_slot`] has nothing.
    #[inline]
    #[must_use]
    pub fn is_dry(&self) -> bool {
        self.slots.is_dry()
    }

    /// Empty slots, whether their runs are whole or not.
    #[must_use]
    pub fn empty(&self) -> u32 {
        self.slots.empty()
    }

    /// Memory is short: the empty slots of runs that are not whole are posted too, once there is no whole one.
    /// Rows lie in more pieces then; the row map says where.
    pub fn coalesce(&mut self) {
        self.slots.coalesce();
    }

    /// Memory is not short any more: runs are made whole again.
    pub fn rest(&mut self) {
        self.slots.rest();
    }

    /// More slots, of an area that has come.
    pub fn add(&mut self, area: Extent) {
        self.slots.add(area);
    }

    /// Posts none of these slots any more.
    pub fn retire(&mut self, area: Extent) {
        self.slots.retire(area);
    }

    /// Whether all slots of an area that was retired are home.
    #[must_use]
    pub fn has_left(&self, area: Extent) -> bool {
        self.slots.has_left(area)
    }

    /// Slots that were posted although their run was not whole.
    #[must_use]
    pub fn coalesced(&self) -> u64 {
        self.slots.coalesced()
    }

    /// A frame of the stream came in `slot`. Hand over what is ready afterwards.
    #[inline]
    pub fn arrived(&mut self, slot: u32, seq: u64, info: RowInfo, now: u64) -> Outcome {
        let outcome = match self.window.locate(seq, now) {
            Spot::Row(id, row) => {
                if self.window.block_mut(id).put(row, slot, info) {
                    let known = self.slots.came(slot, Some((id.0, row)));
                    debug_assert!(known, "slot {slot} was not posted");
                    self.window.placed(id, seq);
                    return Outcome::Placed;
                }
                Outcome::Duplicate
            }
            Spot::Duplicate => Outcome::Duplicate,
            Spot::Late => Outcome::Late,
            Spot::Jump => Outcome::Jump,
        };
        let counters = &mut self.window.counters;
        *match outcome {
            Outcome::Duplicate => &mut counters.duplicate,
            Outcome::Late => &mut counters.late,
            _ => &mut counters.jump,
        } += 1;
        self.foreign(slot);
        outcome
    }

    /// A frame that is not of the stream came in `slot`.
    #[inline]
    pub fn foreign(&mut self, slot: u32) {
        let known = self.slots.came(slot, None);
        debug_assert!(known, "slot {slot} was not posted");
    }

    /// Hands over blocks whose deadline has passed.
    #[inline]
    pub fn expire(&mut self, now: u64) {
        self.window.expire(now);
    }

    /// Hands over all blocks: the stream ends.
    pub fn flush(&mut self) {
        self.window.flush();
    }

    /// The next block to hand over. It keeps its slots until [`Placer::release`].
    #[inline]
    pub fn take_ready(&mut self) -> Option<BlockId> {
        self.window.ready.pop_front()
    }

    /// Blocks that [`Placer::take_ready`] would yield.
    #[inline]
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.window.ready.len()
    }

    /// The block that [`Placer::take_ready`] would yield, left where it is.
    #[must_use]
    pub fn next_ready(&self) -> Option<BlockId> {
        self.window.ready.front().copied()
    }

    /// A block that was taken could not be handed over: it is the next one again.
    pub fn put_back(&mut self, id: BlockId) {
        self.window.ready.push_front(id);
    }

    /// A block that [`Placer::take_ready`] yielded.
    #[must_use]
    pub fn block(&self, id: BlockId) -> &Block {
        self.window.block(id)
    }

    /// Makes a block contiguous: its rows count as moved when this returns, and the caller copies
    /// what the plan says before anybody reads them.
    pub fn make_contiguous(&mut self, id: BlockId) -> (&Plan, &Block) {
        let Self { slots, window, plan } = self;
        plan.draw(id, window.block(id), slots);
        if plan.moved() > 0 {
            window.counters.rows_moved += u64::from(plan.moved());
            window.counters.relocated += u64::from(plan.is_relocation());
            let block = window.block_mut(id);
            for step in plan.steps() {
                match *step {
                    Step::Copy { row, from, to } => {
                        // In this order: a run that is empty for a moment would be posted again.
                        slots.hold(to, id.0, row);
                        slots.free(from);
                        block.slots[row as usize] = to;
                    }
                    Step::Save { from, .. } => slots.free(from),
                    Step::Restore { row, to } => {
                        slots.hold(to, id.0, row);
                        block.slots[row as usize] = to;
                    }
                }
            }
            block.draw_map();
        }
        (plan, window.block(id))
    }

    /// The consumer is done with a block: its slots are empty again.
    pub fn release(&mut self, id: BlockId) {
        let block = self.window.block(id);
        for run in block.map() {
            for slot in run.first_slot..run.first_slot + run.len {
                debug_assert!(
                    matches!(self.slots.state(slot), State::Held { block, .. } if block == id.0)
                );
                self.slots.free(slot);
            }
        }
        self.window.recycle(id);
    }

    /// What became of the sequence numbers so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.window.counters
    }
}
