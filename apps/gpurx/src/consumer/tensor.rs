//! A consumer that reads whole blocks as a kernel would: every byte of every row, in row order, into
//! one digest, the same for a consumer that follows the row map and one that wants a tensor.

use super::{BlockView, Consumer, Rows, Shown, Verdict};
use crate::place::BlockId;

/// CRC32C over the CRC32Cs of all rows there were, in order. Rows whose head states a checksum are
/// held against it in passing.
#[derive(Debug)]
pub struct Tensor {
    row: Vec<u8>,
    digest: u32,
}

impl Tensor {
    /// For rows of up to `longest` bytes.
    #[must_use]
    pub fn new(longest: usize) -> Self {
        Self { row: vec![0; longest], digest: 0 }
    }

    /// Reads the rows of a block into the digest.
    #[inline]
    pub fn judge(&mut self, block: &impl Rows) -> Verdict {
        let mut verdict = Verdict::default();
        for (row, slot) in block.present() {
            let info = block.info(row);
            let found = self
                .row
                .get_mut(..info.len as usize)
                .and_then(|bytes| block.read(slot, bytes).then(|| crc32c::crc32c(bytes)));
            if let Some(found) = found {
                self.digest = crc32c::crc32c_append(self.digest, &found.to_be_bytes());
            }
            let is_good = found.is_some_and(|found| info.crc.is_none_or(|crc| crc == found));
            *(if is_good { &mut verdict.ok } else { &mut verdict.bad }) += 1;
        }
        verdict
    }
}

impl Consumer for Tensor {
    fn block(&mut self, _id: BlockId, block: &BlockView<'_>, _now: u64) -> Shown {
        Shown::Done(self.judge(block))
    }

    fn digest(&self) -> Option<u32> {
        Some(self.digest)
    }
}
