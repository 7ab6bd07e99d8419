//! One block: which row lies in which slot, which rows are there, and the row map made of it.

/// Row of a block that has not come.
pub(super) const ABSENT: u32 = u32::MAX;

/// Consecutive rows in consecutive slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRun {
    /// First row, from the block's start.
    pub first_row: u32,
    /// Slot of that row; the others follow.
    pub first_slot: u32,
    /// Rows.
    pub len: u32,
}

/// What is known of a row besides its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowInfo {
    /// Bytes of payload in the slot.
    pub len: u32,
    /// CRC32C that the head states, if the flow carries one.
    pub crc: Option<u32>,
}

/// Up to `rows` consecutive sequence numbers. Its tables are allocated once and reused.
#[derive(Clone, Debug)]
pub struct Block {
    pub(super) start: u64,
    pub(super) len: u32,
    pub(super) present: u32,
    pub(super) first_at: u64,
    pub(super) slots: Vec<u32>,
    infos: Vec<RowInfo>,
    bitmap: Vec<u64>,
    map: Vec<RowRun>,
}

impl Block {
    pub(super) fn new(rows: u32) -> Self {
        let count = rows as usize;
        Self {
            start: 0,
            len: 0,
            present: 0,
            first_at: 0,
            slots: vec![ABSENT; count],
            infos: vec![RowInfo::default(); count],
            bitmap: vec![0; count.div_ceil(64)],
            map: Vec::with_capacity(count),
        }
    }

    /// Empties the block and names its rows.
    pub(super) fn open(&mut self, start: u64, len: u32, now: u64) {
        self.slots.fill(ABSENT);
        self.bitmap.fill(0);
        self.map.clear();
        (self.start, self.len, self.present, self.first_at) = (start, len, 0, now);
    }

    /// Puts a row in its place; false if it is already there.
    #[inline]
    pub(super) fn put(&mut self, row: u32, slot: u32, info: RowInfo) -> bool {
        let at = row as usize;
        if self.slots[at] != ABSENT {
            return false;
        }
        self.slots[at] = slot;
        self.infos[at] = info;
        self.bitmap[at / 64] |= 1 << (at % 64);
        self.present += 1;
        true
    }

    pub(super) fn draw_map(&mut self) {
        self.map.clear();
        for (row, &slot) in (0u32..).zip(&self.slots[..self.len as usize]) {
            if slot == ABSENT {
                continue;
            }
            match self.map.last_mut() {
                Some(run) if run.first_row + run.len == row && run.first_slot + run.len == slot => {
                    run.len += 1;
                }
                _ => self.map.push(RowRun { first_row: row, first_slot: slot, len: 1 }),
            }
        }
    }

    /// Sequence number of row 0.
    #[must_use]
    pub fn base_seq(&self) -> u64 {
        self.start
    }

    /// Rows, present or not.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.len
    }

    /// Rows that are there.
    #[must_use]
    pub fn present(&self) -> u32 {
        self.present
    }

    /// Bit `row % 64` of word `row / 64` says whether the row is there.
    #[must_use]
    pub fn bitmap(&self) -> &[u64] {
        &self.bitmap[..(self.len as usize).div_ceil(64)]
    }

    /// Where the rows are: maximal runs in row order. Empty until the block is handed over.
    #[must_use]
    pub fn map(&self) -> &[RowRun] {
        &self.map
    }

    /// Slot of a row, if it is there.
    #[must_use]
    pub fn slot(&self, row: u32) -> Option<u32> {
        self.slots.get(row as usize).copied().filter(|slot| *slot != ABSENT && row < self.len)
    }

    /// What is known of a row that is there.
    #[must_use]
    pub fn info(&self, row: u32) -> RowInfo {
        self.infos[row as usize]
    }

    pub(super) fn words(&self) -> &[u64] {
        &self.bitmap
    }
}
