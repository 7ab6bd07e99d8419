//! Who gets the blocks. The CPU consumers here are the reference: they read through the device's own
//! view, as a kernel would. One that runs on a GPU stands behind the same trait.

mod tensor;
mod unread;
mod verify;

use mempool::{CopyError, DeviceView};

use crate::place::{Block, RowInfo, RowRun, Store};

pub use tensor::Tensor;
pub use unread::Unread;
pub use verify::Verify;

/// A block as its consumer sees it: numbers, and a way to the bytes.
#[derive(Clone, Copy)]
pub struct BlockView<'a> {
    block: &'a Block,
    tensor: Option<u32>,
    store: &'a Store,
    view: &'a DeviceView,
}

impl<'a> BlockView<'a> {
    /// A view; `tensor` is the slot of row 0 if the block is contiguous.
    #[must_use]
    pub fn new(
        block: &'a Block,
        tensor: Option<u32>,
        store: &'a Store,
        view: &'a DeviceView,
    ) -> Self {
        Self { block, tensor, store, view }
    }

    /// Sequence number of row 0.
    #[must_use]
    pub fn base_seq(&self) -> u64 {
        self.block.base_seq()
    }

    /// Rows, present or not.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.block.rows()
    }

    /// Where the rows are: maximal runs of (first row, first slot, rows).
    #[must_use]
    pub fn map(&self) -> &'a [RowRun] {
        self.block.map()
    }

    /// Bit `row % 64` of word `row / 64` says whether the row is there.
    #[must_use]
    pub fn bitmap(&self) -> &'a [u64] {
        self.block.bitmap()
    }

    /// Slot of row 0 of a contiguous tensor: row `r` is `r` slots further, and what is there of rows
    /// that are missing means nothing. `None` if the row map is to be followed.
    #[must_use]
    pub fn tensor(&self) -> Option<u32> {
        self.tensor
    }

    /// Bytes from one slot to the next.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.view.stride()
    }

    /// What is known of a row that is there.
    #[must_use]
    pub fn info(&self, row: u32) -> RowInfo {
        self.block.info(row)
    }

    /// The rows that are there, with their slots, in order: along the tensor if there is one, along
    /// the row map otherwise.
    pub fn present(&self) -> impl Iterator<Item = (u32, u32)> + use<'a> {
        let tensor = self.tensor;
        self.block.map().iter().flat_map(move |run| {
            (0..run.len).map(move |at| {
                let row = run.first_row + at;
                (row, tensor.map_or(run.first_slot + at, |base| base + row))
            })
        })
    }

    /// Reads the first bytes of a slot.
    ///
    /// # Errors
    /// The memory has no way out, or the slot is the device's.
    #[inline]
    pub fn read(&self, slot: u32, into: &mut [u8]) -> Result<(), CopyError> {
        let frame = self.store.frame(slot).ok_or(CopyError::NoWay { what: "read" })?;
        self.view.read(frame, into)
    }
}

/// What a consumer found in a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Rows that are what was sent.
    pub ok: u64,
    /// Rows that are not, or could not be read.
    pub bad: u64,
}

/// Takes blocks, in order. The slots are the consumer's until it returns.
pub trait Consumer: Send {
    /// One block.
    fn block(&mut self, block: &BlockView<'_>) -> Verdict;

    /// A digest of all bytes so far, if it makes one.
    fn digest(&self) -> Option<u32> {
        None
    }
}
