//! A consumer's side of a ring: takes blocks in order, returns their tickets. Checks what it is told
//! against what it has mapped; a GPU's kernel does the same with the same words.

use providers::{SharedError, SharedView, SharedWords};

use super::{
    layout::{Layout, LayoutError, halves, row_of},
    wire::{Area, AreaKind},
};
use crate::{
    consumer::Rows,
    place::{RowInfo, RowRun},
};

/// An entry says what cannot be. The ring is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("block {serial} of the hand-over ring: {why}")]
pub struct Malformed {
    /// Which block.
    pub serial: u32,
    /// What is wrong.
    pub why: &'static str,
}

/// Payload memory, read by slot.
#[derive(Debug)]
pub struct Payloads {
    areas: Vec<(Area, SharedView)>,
    stride: usize,
}

impl Payloads {
    /// These areas, each mapped from its offset on; `stride` bytes from one slot to the next.
    #[must_use]
    pub fn new(areas: Vec<(Area, SharedView)>, stride: u32) -> Self {
        Self { areas, stride: stride as usize }
    }

    /// Maps an area: read only, sealed if it is a memory file.
    ///
    /// # Errors
    /// The file is not what the area says, or cannot be mapped.
    pub fn map(
        area: &Area,
        file: impl std::os::fd::AsFd,
        stride: u32,
    ) -> Result<SharedView, SharedError> {
        let len = area.len(stride);
        match area.kind {
            AreaKind::Memfd => SharedView::sealed(file, area.offset, len),
            AreaKind::DmaBuf => SharedView::fixed(file, area.offset, len),
            AreaKind::Bar => SharedView::fixed(file, 0, len),
        }
    }

    /// One more area, in the place of the one that began with the same slot.
    pub fn add(&mut self, area: Area, view: SharedView) {
        self.remove(area.first_slot);
        self.areas.push((area, view));
    }

    /// Unmaps the area that begins with that slot.
    pub fn remove(&mut self, first_slot: u32) {
        self.areas.retain(|(area, _)| area.first_slot != first_slot);
    }

    /// Copies the first bytes of a slot; false if there is no such slot, or they leave it.
    #[inline]
    pub fn read(&self, slot: u32, into: &mut [u8]) -> bool {
        let here = |(area, _): &&(Area, SharedView)| area.holds(slot);
        let Some((area, view)) = self.areas.iter().find(here) else { return false };
        let at = (slot - area.first_slot) as usize * self.stride;
        into.len() <= self.stride && view.read(at, into)
    }

    /// Whether all these slots are mapped.
    fn hold(&self, run: &RowRun) -> bool {
        let Some(last) = run.first_slot.checked_add(run.len - 1) else { return false };
        self.areas.iter().any(|(area, _)| area.holds(run.first_slot) && area.holds(last))
    }
}

/// One ring, from the consumer's side.
#[derive(Debug)]
pub struct Taker {
    words: SharedWords,
    layout: Layout,
    payloads: Payloads,
    /// Serial of the next block.
    next: u32,
    /// Blocks returned.
    returned: u32,
}

impl Taker {
    /// A ring, and the memory of its rows.
    ///
    /// # Errors
    /// The words are not the ring that was announced.
    pub fn new(
        words: SharedWords,
        announced: Layout,
        payloads: Payloads,
    ) -> Result<Self, LayoutError> {
        let layout = Layout::read(&words)?;
        if layout != announced {
            let (ring, announced) = (Box::new(layout), Box::new(announced));
            return Err(LayoutError::Other { ring, announced });
        }
        Ok(Self { words, layout, payloads, next: 0, returned: 0 })
    }

    /// The sizes.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The payload memory.
    #[must_use]
    pub fn payloads(&self) -> &Payloads {
        &self.payloads
    }

    /// The same, when an area comes or goes.
    pub fn payloads_mut(&mut self) -> &mut Payloads {
        &mut self.payloads
    }

    /// Takes the next block that is ready into `block`, whose tables are reused; false if there is none
    /// now.
    ///
    /// # Errors
    /// The entry is not one that can be.
    pub fn take(&mut self, block: &mut Taken) -> Result<bool, Malformed> {
        let Self { words, layout, payloads, next, .. } = self;
        let (at, ticket) = (layout.entry(*next), layout.ticket(*next).word());
        // Acquire: pairs with gpurx's release of the ticket.
        if words.acquire(at) != ticket {
            return Ok(false);
        }
        let serial = *next;
        let check = |is_so: bool, why| if is_so { Ok(()) } else { Err(Malformed { serial, why }) };
        *next = serial.wrapping_add(1);
        let (rows, runs) = halves(words.load(at + 2));
        let tensor = words.load(at + 3).checked_sub(1);
        let tensor = tensor.map(|slot| u32::try_from(slot).unwrap_or(u32::MAX));
        block.head = Head { ticket, base_seq: words.load(at + 1), rows, tensor };
        check((1..=layout.rows).contains(&rows), "it has no rows, or more than a block")?;
        check(runs <= rows, "it has more runs than rows")?;
        let map = at + layout.map_at();
        block.map.clear();
        block.infos.clear();
        block.infos.resize(rows as usize, RowInfo::default());
        let mut end = 0;
        for run in 0..runs as usize {
            let (first_row, first_slot) = halves(words.load(map + 2 * run));
            let len = u32::try_from(words.load(map + 2 * run + 1)).unwrap_or(0);
            check(len > 0 && len <= rows, "a run has no rows, or too many")?;
            check(first_row >= end && first_row <= rows - len, "its runs are out of order")?;
            end = first_row + len;
            let base = tensor.map(|base| base.checked_add(first_row));
            let first_slot = base.unwrap_or(Some(first_slot)).unwrap_or(u32::MAX);
            let run = RowRun { first_row, first_slot, len };
            check(payloads.hold(&run), "a run lies outside the payload memory")?;
            block.map.push(run);
            for row in first_row as usize..end as usize {
                let (len, crc) = row_of(words.load(at + layout.rows_at() + row));
                check(len <= layout.stride, "a row is longer than a slot")?;
                block.infos[row] = RowInfo { len, crc };
            }
        }
        Ok(true)
    }

    /// Returns a block: from then on its rows are not ours to read.
    pub fn give_back(&mut self, block: &Taken) {
        let cell = self.layout.cell(self.returned);
        self.returned = self.returned.wrapping_add(1);
        // Release: we have read all rows by then.
        self.words.release(cell, block.head.ticket);
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Head {
    ticket: u64,
    base_seq: u64,
    rows: u32,
    tensor: Option<u32>,
}

/// A block that was taken: our own copy of its entry.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    head: Head,
    map: Vec<RowRun>,
    infos: Vec<RowInfo>,
}

impl Taken {
    /// Sequence number of row 0.
    #[must_use]
    pub fn base_seq(&self) -> u64 {
        self.head.base_seq
    }

    /// Rows, present or not.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.head.rows
    }

    /// The word that returns it.
    #[must_use]
    pub fn ticket(&self) -> u64 {
        self.head.ticket
    }

    /// Slot of row 0 if the block is a contiguous tensor.
    #[must_use]
    pub fn tensor(&self) -> Option<u32> {
        self.head.tensor
    }

    /// The rows that are there, as runs in consecutive slots.
    #[must_use]
    pub fn map(&self) -> &[RowRun] {
        &self.map
    }

    /// Its rows, in the payload memory.
    #[must_use]
    pub fn within<'a>(&'a self, payloads: &'a Payloads) -> TakenRows<'a> {
        TakenRows { block: self, payloads }
    }
}

/// A block's rows, where they lie.
#[derive(Clone, Copy, Debug)]
pub struct TakenRows<'a> {
    block: &'a Taken,
    payloads: &'a Payloads,
}

impl Rows for TakenRows<'_> {
    fn base_seq(&self) -> u64 {
        self.block.head.base_seq
    }

    fn info(&self, row: u32) -> RowInfo {
        self.block.infos[row as usize]
    }

    fn present(&self) -> impl Iterator<Item = (u32, u32)> {
        let rows = |run: &RowRun| {
            let (row, slot) = (run.first_row, run.first_slot);
            (0..run.len).map(move |at| (row + at, slot + at))
        };
        self.block.map.iter().flat_map(rows)
    }

    fn read(&self, slot: u32, into: &mut [u8]) -> bool {
        self.payloads.read(slot, into)
    }
}
