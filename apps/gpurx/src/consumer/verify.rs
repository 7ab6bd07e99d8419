//! The reference consumer: holds every row against the checksum in its head, or, where the row is all of
//! the UDP payload, against the test header that the row itself begins with.

use memwire_apps::traffic::Stamp;

use super::{BlockView, Consumer, Rows, Shown, Verdict};
use crate::{place::BlockId, seq::SeqField};

/// Checks every row.
#[derive(Debug)]
pub struct Verify {
    row: Vec<u8>,
    /// Bits of the row's number that its test header is held against, if it has one.
    in_row: Option<u32>,
}

impl Verify {
    /// For rows of up to `longest` bytes that are numbered by `seq`.
    ///
    /// Where the number stands among an application's header, the head may state a CRC32C, which the
    /// row is held against; rows of flows that carry none pass if they can be read by their number
    /// alone, and are not touched. Where it stands before ([`SeqField::is_outside`]), each row has to
    /// begin with a test header whose number and CRC32C are right.
    #[must_use]
    pub fn new(longest: usize, seq: SeqField) -> Self {
        Self::with_bits(longest, row_bits(seq))
    }

    /// The same, where it is known of how many bits the number is that rows begin with; 0: with none.
    #[must_use]
    pub fn with_bits(longest: usize, bits: u32) -> Self {
        Self { row: vec![0; longest], in_row: (bits > 0).then_some(bits) }
    }

    /// Checks the rows of a block.
    #[inline]
    pub fn judge(&mut self, block: &impl Rows) -> Verdict {
        let mut verdict = Verdict::default();
        for (row, slot) in block.present() {
            let info = block.info(row);
            let seq = block.base_seq().wrapping_add(u64::from(row));
            let is_good = if self.in_row.is_none() && info.crc.is_none() {
                true
            } else if let Some(bytes) = self.row.get_mut(..info.len as usize)
                && block.read(slot, bytes)
            {
                match (self.in_row, info.crc) {
                    (Some(bits), _) => is_intact(bytes, seq, bits),
                    (None, crc) => crc == Some(crc32c::crc32c(bytes)),
                }
            } else {
                false
            };
            *(if is_good { &mut verdict.ok } else { &mut verdict.bad }) += 1;
        }
        verdict
    }
}

/// Bits of the number in the test header that rows begin with; 0 if the header does not come with the row.
#[must_use]
pub fn row_bits(seq: SeqField) -> u32 {
    if seq.is_outside() { seq.bits() } else { 0 }
}

impl Consumer for Verify {
    fn block(&mut self, _id: BlockId, block: &BlockView<'_>, _now: u64) -> Shown {
        Shown::Done(self.judge(block))
    }
}

/// Whether a row is what was sent as number `seq`, of which `bits` bits are known.
fn is_intact(row: &[u8], seq: u64, bits: u32) -> bool {
    Stamp::read(row).is_some_and(|stamp| {
        (stamp.sequence ^ seq) & ((1 << bits) - 1) == 0
            && crc32c::crc32c(&row[stamp.len..]) == stamp.crc
    })
}

#[cfg(test)]
mod tests {
    use memwire_apps::traffic::TestHeader;
    use zerocopy::IntoBytes;

    use super::*;

    #[test]
    fn a_row_is_held_against_the_header_it_begins_with() {
        let mut row = TestHeader::new(0x5_0007, 9, b"payload").as_bytes().to_vec();
        row.extend(b"payload");
        assert!(is_intact(&row, 0x1_0007, 16), "the same in 16 bits");
        assert!(!is_intact(&row, 0x1_0008, 16), "another row");
        for at in [0, 4, 12, 24, 30] {
            let mut bad = row.clone();
            bad[at] ^= if at == 12 { 0 } else { 1 };
            assert_eq!(is_intact(&bad, 7, 16), at == 12, "byte {at}");
        }
        assert!(!is_intact(&row[..30], 7, 16), "cut off");
        assert!(!is_intact(&[], 7, 16));
    }
}
