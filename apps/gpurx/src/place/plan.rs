//! Which rows of a block move so that it becomes one contiguous tensor, and in which order. Numbers
//! only: whoever owns the memory copies.

use super::{
    BlockId,
    block::{ABSENT, Block, RowRun},
    slots::{Slots, State},
};

/// Bases that are tried: a block in which no two rows lie side by side has as many as rows.
const CANDIDATES: usize = 64;

/// One step of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Copy the row's payload from one slot to another.
    Copy {
        /// The row.
        row: u32,
        /// Where it is.
        from: u32,
        /// Where it belongs.
        to: u32,
    },
    /// Copy the row's payload aside: its slot is another row's place.
    Save {
        /// The row.
        row: u32,
        /// Where it is.
        from: u32,
    },
    /// Copy the payload that was put aside to where it belongs.
    Restore {
        /// The row.
        row: u32,
        /// Where it belongs.
        to: u32,
    },
}

/// How a block becomes contiguous: row `r` ends in slot `base + r`. Exactly the rows that are not
/// there move.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    base: Option<u32>,
    steps: Vec<Step>,
    moved: u32,
    relocated: bool,
    /// Candidates for `base`: slot minus row, and how many rows are in place then.
    offsets: Vec<(i64, u32)>,
    done: Vec<bool>,
}

impl Plan {
    pub(super) fn new(rows: u32) -> Self {
        let rows = rows as usize;
        Self {
            steps: Vec::with_capacity(2 * rows),
            offsets: Vec::with_capacity(rows),
            done: Vec::with_capacity(rows),
            ..Self::default()
        }
    }

    /// Slot of row 0; `None` if there is no room for the tensor anywhere.
    #[must_use]
    pub fn base(&self) -> Option<u32> {
        self.base
    }

    /// The steps, in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Rows that move.
    #[must_use]
    pub fn moved(&self) -> u32 {
        self.moved
    }

    /// Whether the whole block moves to the spare run.
    #[must_use]
    pub fn is_relocation(&self) -> bool {
        self.relocated
    }

    /// Plans for one block. Among the bases that are possible, the one with the most rows in place
    /// is taken, the lowest of several; the spare run if none is possible.
    pub(super) fn draw(&mut self, id: BlockId, block: &Block, slots: &Slots) {
        self.steps.clear();
        (self.moved, self.relocated) = (0, false);
        self.count_offsets(block);
        let fits = |offset: i64| base_at(offset, id, block, slots);
        self.base = self.offsets.iter().find_map(|(offset, _)| fits(*offset));
        if self.base.is_none() {
            self.base = slots.spare();
            self.relocated = self.base.is_some();
        }
        if let Some(base) = self.base {
            self.order(base, id, block, slots);
        }
    }

    /// Offsets at which rows lie, most frequent first.
    fn count_offsets(&mut self, block: &Block) {
        let offset = |run: &RowRun| (i64::from(run.first_slot) - i64::from(run.first_row), run.len);
        self.offsets.clear();
        self.offsets.extend(block.map().iter().map(offset));
        self.offsets.sort_unstable();
        self.offsets.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            kept.1 += if same { next.1 } else { 0 };
            same
        });
        self.offsets.sort_unstable_by_key(|(offset, rows)| (u32::MAX - rows, *offset));
        self.offsets.truncate(CANDIDATES);
    }

    /// Chains first, from their free end; then circles, by way of the side.
    fn order(&mut self, base: u32, id: BlockId, block: &Block, slots: &Slots) {
        let (rows, at) = (block.len, &block.slots[..block.len as usize]);
        self.done.clear();
        self.done.extend((base..).zip(at).map(|(place, slot)| *slot == ABSENT || *slot == place));
        self.moved = self.done.iter().map(|done| u32::from(!done)).sum();
        if self.moved == 0 {
            return;
        }
        for end in 0..rows {
            let taken = match slots.state(base + end) {
                State::Held { block, row } => block == id.0 && !self.done[row as usize],
                _ => false,
            };
            if taken || self.done[end as usize] {
                continue;
            }
            let mut row = end;
            loop {
                let from = at[row as usize];
                self.steps.push(Step::Copy { row, from, to: base + row });
                self.done[row as usize] = true;
                let Some(next) = self.waiting_for(from, base) else { break };
                row = next;
            }
        }
        for start in 0..rows {
            if self.done[start as usize] {
                continue;
            }
            let mut vacated = at[start as usize];
            self.steps.push(Step::Save { row: start, from: vacated });
            self.done[start as usize] = true;
            while let Some(row) = self.waiting_for(vacated, base) {
                let from = at[row as usize];
                self.steps.push(Step::Copy { row, from, to: vacated });
                self.done[row as usize] = true;
                vacated = from;
            }
            self.steps.push(Step::Restore { row: start, to: vacated });
        }
    }

    /// The row that belongs where `slot` is, if it still has to move.
    fn waiting_for(&self, slot: u32, base: u32) -> Option<u32> {
        let row = slot.checked_sub(base)?;
        (!*self.done.get(row as usize)?).then_some(row)
    }
}

/// The base of a tensor at this offset (slot minus row), if one can lie there: within the slots of
/// one run, and every place that a row moves to empty or left by a row of the same block.
fn base_at(offset: i64, id: BlockId, block: &Block, slots: &Slots) -> Option<u32> {
    let base = u32::try_from(offset).ok()?;
    let runs = block.map().iter();
    let mut at_offset =
        runs.filter(|run| i64::from(run.first_slot) - i64::from(run.first_row) == offset);
    let inside = at_offset.any(|run| {
        let (first, end) = slots.span_of(run.first_slot);
        first <= base && base + block.len <= end
    });
    let free = |(place, slot): (u32, &u32)| {
        let stays = *slot == ABSENT || *slot == place;
        stays
            || match slots.state(place) {
                State::Home => true,
                State::Held { block, .. } => block == id.0,
                State::Posted => false,
            }
    };
    let rows = &block.slots[..block.len as usize];
    (inside && (base..).zip(rows).all(free)).then_some(base)
}
