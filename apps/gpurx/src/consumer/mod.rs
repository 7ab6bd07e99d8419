//! Who gets the blocks. The CPU consumers here are the reference: they read through the device's own
//! view, as a kernel would. One that runs elsewhere, in another process or on a GPU, stands behind the same
//! trait: it keeps what it is shown, and returns it later.

mod remote;
mod report;
mod tensor;
mod unread;
mod verify;

use mempool::{CopyError, DeviceView};

use crate::{
    place::{Block, BlockId, RowInfo, RowRun, Store},
    totals::Totals,
};

pub(crate) use remote::{Manners, Remote};
pub use report::ConsumerReport;
pub use tensor::Tensor;
pub use unread::Unread;
pub use verify::{Verify, row_bits};

/// The rows of a block, and a way to their bytes: in this process or in another.
pub trait Rows {
    /// Sequence number of row 0.
    fn base_seq(&self) -> u64;
    /// What is known of a row that is there.
    fn info(&self, row: u32) -> RowInfo;
    /// The rows that are there, with their slots, in order.
    fn present(&self) -> impl Iterator<Item = (u32, u32)>;
    /// Copies the first bytes of a slot; false if they cannot be read.
    fn read(&self, slot: u32, into: &mut [u8]) -> bool;
}

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

impl Rows for BlockView<'_> {
    #[inline]
    fn base_seq(&self) -> u64 {
        self.block.base_seq()
    }

    #[inline]
    fn info(&self, row: u32) -> RowInfo {
        self.block.info(row)
    }

    #[inline]
    fn present(&self) -> impl Iterator<Item = (u32, u32)> {
        BlockView::present(self)
    }

    #[inline]
    fn read(&self, slot: u32, into: &mut [u8]) -> bool {
        BlockView::read(self, slot, into).is_ok()
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

/// What became of a block that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The consumer is done with it: its slots are ours again.
    Done(Verdict),
    /// The consumer keeps it, until [`Consumer::returned`] names it.
    Kept,
}

/// Takes blocks, in order. Times are in nanoseconds since the worker started.
pub trait Consumer: Send {
    /// Whether it takes a block now. One that does not leaves it where it is.
    fn has_room(&self) -> bool {
        true
    }

    /// One block.
    fn block(&mut self, id: BlockId, block: &BlockView<'_>, now: u64) -> Shown;

    /// The next of the blocks that it kept and has returned, or cannot return any more.
    fn returned(&mut self) -> Option<BlockId> {
        None
    }

    /// Whether it is there at all: blocks that wait for one that is may be dropped when memory is short. For one
    /// that is to come they wait as was asked.
    fn is_there(&self) -> bool {
        true
    }

    /// A block that it had no room for is dropped unseen.
    fn skipped(&mut self) {}

    /// Whether it ever keeps blocks, and so has to be asked for them.
    fn keeps(&self) -> bool {
        false
    }

    /// Once per poll, if it keeps blocks.
    fn tick(&mut self, _now: u64) {}

    /// So many slots more may be with it, or fewer.
    fn may_keep(&mut self, _more: i64) {}

    /// The memory is given up: what it keeps is taken back, at once, by [`Consumer::returned`], and blocks that
    /// come yet are not for it.
    fn let_go(&mut self) {}

    /// The end: waits a little for what it keeps, and returns whether to take and to show more before it
    /// is asked again. After a no, [`Consumer::returned`] names all that is still out.
    fn lingers(&mut self) -> bool {
        false
    }

    /// A digest of all bytes so far, if it makes one.
    fn digest(&self) -> Option<u32> {
        None
    }

    /// Adds what it alone counts.
    fn count(&self, _totals: &mut Totals) {}
}
