//! The reference consumer: holds every row against the checksum in its head.

use super::{BlockView, Consumer, Verdict};

/// Checks the CRC32C of every row. Rows of flows that carry no checksum pass if they can be read by
/// their number alone, and are not touched.
#[derive(Debug)]
pub struct Verify {
    row: Vec<u8>,
}

impl Verify {
    /// For rows of up to `longest` bytes.
    #[must_use]
    pub fn new(longest: usize) -> Self {
        Self { row: vec![0; longest] }
    }
}

impl Consumer for Verify {
    fn block(&mut self, block: &BlockView<'_>) -> Verdict {
        let mut verdict = Verdict::default();
        for (row, slot) in block.present() {
            let info = block.info(row);
            let is_good = info.crc.is_none_or(|crc| {
                let bytes = self.row.get_mut(..info.len as usize);
                bytes.is_some_and(|bytes| {
                    block.read(slot, bytes).is_ok() && crc32c::crc32c(bytes) == crc
                })
            });
            *(if is_good { &mut verdict.ok } else { &mut verdict.bad }) += 1;
        }
        verdict
    }
}
