//! The Internet checksum (RFC 1071), and completing one that a local sender left to hardware.

/// The one's complement sum of big-endian 16-bit words, not yet folded. An odd last byte counts as
/// the high half of a word.
pub(super) fn sum(bytes: &[u8], start: u64) -> u64 {
    // Four bytes at a time: 2^32 of them fit a u64. Folding a sum of 32-bit words gives the same as
    // one of 16-bit words (RFC 1071 §2, parallel summation).
    let (words, rest) = bytes.as_chunks::<4>();
    let mut sum = start;
    for word in words {
        sum += u64::from(u32::from_be_bytes(*word));
    }
    match *rest {
        [a] => sum += u64::from(u16::from_be_bytes([a, 0])),
        [a, b] => sum += u64::from(u16::from_be_bytes([a, b])),
        [a, b, c] => {
            sum += u64::from(u16::from_be_bytes([a, b])) + u64::from(u16::from_be_bytes([c, 0]));
        }
        _ => {}
    }
    sum
}

/// Folds a sum into 16 bits.
pub(super) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// Completes a frame's transport checksum: it covers everything from `start` on and goes `offset`
/// bytes behind that, where the sender left the sum of the pseudo header. False, and nothing done,
/// if that place is not in the frame.
#[must_use]
pub(super) fn complete(frame: &mut [u8], start: usize, offset: usize) -> bool {
    let at = start + offset;
    if at + 2 > frame.len() {
        return false;
    }
    let value = !fold(sum(&frame[start..], 0));
    // 0 means "no checksum" in UDP (RFC 768); for the others both zeros are the same number.
    let value = if value == 0 { 0xffff } else { value };
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_sums_as_it_says() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes, 0)), 0xddf2);
    }

    #[test]
    fn an_ipv4_header_with_its_checksum_sums_to_all_ones() {
        let header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert_eq!(fold(sum(&header, 0)), 0xffff);
    }

    #[test]
    fn an_odd_last_byte_is_the_high_half_of_a_word() {
        assert_eq!(fold(sum(&[0x12], 0)), 0x1200);
        assert_eq!(fold(sum(&[1, 2, 3], 0)), 0x0102 + 0x0300);
        assert_eq!(fold(sum(&[1, 2, 3, 4, 5], 0)), 0x0102 + 0x0304 + 0x0500);
    }

    /// UDP 10.0.0.1:1000 -> 10.0.0.2:2000 "hi": words summed by hand.
    #[test]
    fn a_udp_checksum_is_completed_over_the_pseudo_header_left_by_the_sender() {
        // Pseudo header: 0a00 + 0001 + 0a00 + 0002 + 0011 + 000a = 141e.
        let mut frame = vec![0xaa; 34];
        frame.extend([0x03, 0xe8, 0x07, 0xd0, 0x00, 0x0a, 0x14, 0x1e, b'h', b'i']);
        assert!(complete(&mut frame, 34, 6));
        // 03e8 + 07d0 + 000a + 141e + 6869 = 8849 -> its complement.
        assert_eq!(frame[40..42], 0x77b6_u16.to_be_bytes());
    }

    #[test]
    fn a_checksum_that_comes_out_as_zero_is_sent_as_all_ones() {
        let mut frame = vec![0xff, 0xff, 0, 0];
        assert!(complete(&mut frame, 0, 2));
        assert_eq!(frame, [0xff, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn a_place_outside_the_frame_is_refused() {
        let mut frame = vec![0; 20];
        assert!(!complete(&mut frame, 14, 5));
        assert!(!complete(&mut frame, 65535, 65535));
        assert_eq!(frame, [0; 20]);
    }
}
