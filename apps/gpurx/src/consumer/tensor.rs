//! A consumer that reads whole blocks as a kernel would and folds every byte, in row order, into one
//! digest: the same for a consumer that follows the row map and one that wants a tensor.

use super::{BlockView, Consumer, Verdict};

/// CRC32C over all rows there were, in order.
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
}

impl Consumer for Tensor {
    fn block(&mut self, block: &BlockView<'_>) -> Verdict {
        let mut verdict = Verdict::default();
        for (row, slot) in block.present() {
            let bytes = self.row.get_mut(..block.info(row).len as usize);
            match bytes.map(|bytes| (block.read(slot, bytes), bytes)) {
                Some((Ok(()), bytes)) => {
                    self.digest = crc32c::crc32c_append(self.digest, bytes);
                    verdict.ok += 1;
                }
                _ => verdict.bad += 1,
            }
        }
        verdict
    }

    fn digest(&self) -> Option<u32> {
        Some(self.digest)
    }
}
