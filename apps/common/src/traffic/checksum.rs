//! The Internet checksum (RFC 1071), in parts: sums of what never changes are kept, and what changes
//! is added to them.

/// Adds the 16-bit words of `bytes`, most significant byte first; an odd byte counts as the first of
/// a word.
#[must_use]
pub fn add(sum: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let sum = words.iter().fold(sum, |sum, word| {
        let word = u32::from_be_bytes(*word);
        sum + u64::from(word >> 16) + u64::from(word & 0xffff)
    });
    let (words, rest) = rest.as_chunks::<2>();
    let sum = words.iter().fold(sum, |sum, word| sum + u64::from(u16::from_be_bytes(*word)));
    rest.iter().fold(sum, |sum, byte| sum + (u64::from(*byte) << 8))
}

/// Adds the four 16-bit words of a 64-bit number.
#[inline]
#[must_use]
pub(super) fn add_u64(sum: u64, value: u64) -> u64 {
    sum + (value >> 48) + (value >> 32 & 0xffff) + (value >> 16 & 0xffff) + (value & 0xffff)
}

/// The checksum that goes with a sum: its complement, folded to 16 bits.
#[inline]
#[must_use]
pub fn finish(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    #[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
    let folded = sum as u16;
    !folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_comes_out() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(finish(add(0, &bytes)), !0xddf2);
        assert_eq!(add_u64(0, u64::from_be_bytes(bytes)), add(0, &bytes));
    }

    #[test]
    fn odd_bytes_are_padded_behind_and_large_sums_fold() {
        assert_eq!(add(0, &[0xab]), 0xab00);
        assert_eq!(add(0, &[1, 2, 3]), 0x0102 + 0x0300);
        assert_eq!(finish(u64::from(u32::MAX) * 9), 0);
        assert_eq!(finish(0), 0xffff);
    }
}
