//! What a sending chip does to a frame: checksums inserted where a context says, segmentation of TCP
//! (82574 §7.3.6, 82576 §7.2.4). Pure functions of bytes.

use super::{
    options::Chip,
    ring::Words,
    transmit::{Descriptor, checksum},
};

/// A context descriptor, as the chip keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Context {
    /// Where the IP header starts and ends (82576), or the range and place of its checksum (82574).
    ip: Range,
    transport: Range,
    is_tcp: bool,
    is_ipv4: bool,
    pub(super) vlan: u16,
    /// 82576: bytes of the transport header.
    transport_len: usize,
    /// Bytes of payload in a segment.
    mss: usize,
}

/// Bytes `start..=end` (to the end of the frame for 0), and where their sum goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Range {
    start: usize,
    place: usize,
    end: usize,
}

fn field(word: u64, low: u32, count: u32) -> usize {
    usize::try_from(word >> low & ((1 << count) - 1)).unwrap_or(0)
}

impl Context {
    pub(super) fn parse(chip: Chip, words: &Words) -> Self {
        let [low, high, ..] = *words;
        let vlan = u16::try_from(low >> 16 & 0xffff).unwrap_or(0);
        match chip {
            // 82574 §7.2.10.2: start, place and end of both sums.
            Chip::I82574 => Self {
                ip: Range {
                    start: field(low, 0, 8),
                    place: field(low, 8, 8),
                    end: field(low, 16, 16),
                },
                transport: Range {
                    start: field(low, 32, 8),
                    place: field(low, 40, 8),
                    end: field(low, 48, 16),
                },
                is_tcp: high >> 24 & 1 == 1,
                is_ipv4: high >> 25 & 1 == 1,
                vlan: 0,
                transport_len: 0,
                mss: field(high, 48, 16),
            },
            // 82576 §7.2.2.2: lengths of the headers and their kinds.
            Chip::I82576 => {
                let (ip_len, mac_len) = (field(low, 0, 9), field(low, 9, 7));
                let (is_ipv4, is_tcp) = (high >> 10 & 1 == 1, high >> 11 & 3 == 1);
                let start = mac_len + ip_len;
                Self {
                    ip: Range { start: mac_len, place: mac_len + 10, end: start.saturating_sub(1) },
                    transport: Range { start, place: start + if is_tcp { 16 } else { 6 }, end: 0 },
                    is_tcp,
                    is_ipv4,
                    vlan,
                    transport_len: field(high, 40, 8),
                    mss: field(high, 48, 16),
                }
            }
        }
    }

    /// Bytes of all headers of a frame that is segmented.
    pub(super) fn headers(&self) -> usize {
        self.transport.start + self.transport_len
    }
}

/// Inserts a sum over what stands there, the field itself included.
fn insert(frame: &mut [u8], range: Range, never_zero: bool) -> Result<(), String> {
    let len = frame.len();
    let end = if range.end == 0 { len } else { range.end + 1 };
    if range.start >= end || end > len || range.place + 2 > len {
        return Err(format!("a checksum over {range:?} of a frame of {len} B"));
    }
    let sum = checksum(&frame[range.start..end]);
    let sum = if sum == 0 && never_zero { 0xffff } else { sum };
    frame[range.place..range.place + 2].copy_from_slice(&sum.to_be_bytes());
    Ok(())
}

/// Inserts the checksums that the first descriptor asks for.
pub(super) fn insert_sums(
    frame: &mut [u8],
    first: &Descriptor,
    context: Option<&Context>,
    chip: Chip,
) -> Result<(), String> {
    if first.wants_legacy_sum() {
        let range = Range { start: first.start, place: first.place, end: 0 };
        return insert(frame, range, false);
    }
    let Some(context) = context.filter(|_| !first.is_legacy()) else { return Ok(()) };
    if first.options & 1 != 0 {
        if chip == Chip::I82576 && !context.is_ipv4 {
            return Err("an IP checksum asked for, and the context says IPv6".into());
        }
        insert(frame, context.ip, false)?;
    }
    if first.options & 2 != 0 {
        insert(frame, context.transport, !context.is_tcp)?;
    }
    Ok(())
}

/// One frame's segments.
pub(super) struct Segmentation<'f> {
    frame: &'f [u8],
    context: Context,
    /// Which checksums are asked for.
    options: u32,
    at: usize,
    count: u16,
}

impl<'f> Segmentation<'f> {
    pub(super) fn new(frame: &'f [u8], context: &Context, options: u32) -> Result<Self, String> {
        let context = *context;
        let headers = context.headers();
        if !context.is_tcp || context.mss == 0 || context.transport_len < 20 {
            return Err(format!("segmentation asked for with {context:?}"));
        }
        if headers >= frame.len() {
            return Err(format!("segmentation of {} B with {headers} B of headers", frame.len()));
        }
        // Both sums are part of segmentation (82576 §7.2.4.2).
        if options & 2 == 0 || context.is_ipv4 && options & 1 == 0 {
            return Err("segmentation without its checksums".into());
        }
        Ok(Self { frame, context, options, at: headers, count: 0 })
    }
}

fn add16(bytes: &mut [u8], at: usize, by: u16) {
    let value = u16::from_be_bytes([bytes[at], bytes[at + 1]]).wrapping_add(by);
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn set16(bytes: &mut [u8], at: usize, value: usize) {
    let value = u16::try_from(value).unwrap_or(u16::MAX);
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

impl Iterator for Segmentation<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let (context, headers) = (self.context, self.context.headers());
        let end = (self.at + context.mss).min(self.frame.len());
        if self.at >= end {
            return None;
        }
        let mut segment = self.frame[..headers].to_vec();
        segment.extend(&self.frame[self.at..end]);
        let ip = context.ip.start;
        if context.is_ipv4 {
            let len = segment.len() - ip;
            set16(&mut segment, ip + 2, len);
            add16(&mut segment, ip + 4, self.count);
        } else {
            let len = segment.len() - ip - 40;
            set16(&mut segment, ip + 4, len);
        }
        let tcp = context.transport.start;
        let sent = u32::try_from(self.at - headers).unwrap_or(0);
        let sequence: [u8; 4] = segment[tcp + 4..tcp + 8].try_into().unwrap_or_default();
        let sequence = u32::from_be_bytes(sequence).wrapping_add(sent);
        segment[tcp + 4..tcp + 8].copy_from_slice(&sequence.to_be_bytes());
        if end < self.frame.len() {
            // FIN and PSH are the last segment's (82576 §8.12.3, DTXTCPFLGL).
            segment[tcp + 13] &= !(1 | 8);
        }
        if context.is_ipv4 && self.options & 1 != 0 {
            let _in_bounds = insert(&mut segment, context.ip, false);
        }
        // The driver's sum of the pseudo header has no length: it is another for each segment.
        let len = u16::try_from(segment.len() - tcp).unwrap_or(u16::MAX);
        let place = context.transport.place;
        let seed = u32::from(u16::from_be_bytes([segment[place], segment[place + 1]]));
        set16(&mut segment, place, usize::from(super::frame::ones_sum(&len.to_be_bytes(), seed)));
        let _in_bounds = insert(&mut segment, context.transport, false);
        self.at = end;
        self.count += 1;
        Some(segment)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::cast_possible_truncation, reason = "patterns of bytes")]

    use super::{super::frame, *};

    fn tcp4(payload: usize) -> Vec<u8> {
        let mut bytes = vec![2; 12];
        bytes
            .extend([8, 0, 0x45, 0, 0, 0, 0x11, 0x11, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend([
            0, 80, 1, 1, 0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 0, 0x50, 0x19, 0, 9, 0, 0, 0, 0,
        ]);
        bytes.extend((0..payload).map(|at| (at * 7) as u8));
        // The pseudo header without a length.
        let seed = frame::ones_sum(&bytes[26..34], 6);
        bytes[50..52].copy_from_slice(&seed.to_be_bytes());
        bytes
    }

    fn context(mss: u64) -> Context {
        let low = 20 | 14 << 9 | 5 << 16;
        let high = 1 << 10 | 1 << 11 | 2 << 20 | 20 << 40 | mss << 48;
        Context::parse(Chip::I82576, &[low, high, 0, 0])
    }

    #[test]
    fn segments_add_up_and_their_sums_are_right() {
        let whole = tcp4(2500);
        let segments: Vec<_> = Segmentation::new(&whole, &context(1000), 3).unwrap().collect();
        assert_eq!(segments.iter().map(Vec::len).collect::<Vec<_>>(), [1054, 1054, 554]);
        let payload: Vec<u8> = segments.iter().flat_map(|one| &one[54..]).copied().collect();
        assert_eq!(payload, whole[54..]);
        for (at, segment) in segments.iter().enumerate() {
            let ip = frame::ip(segment, 0x8100).unwrap();
            assert_eq!(ip.packet_end, segment.len());
            assert_eq!(ip.header_sum_is_right(segment), Some(true));
            assert_eq!(ip.transport_sum_is_right(segment), Some(true));
            let sequence = u32::from_be_bytes(segment[38..42].try_into().unwrap());
            assert_eq!(sequence, 0xffff_fff0u32.wrapping_add(1000 * at as u32));
            assert_eq!(segment[47], if at == 2 { 0x19 } else { 0x10 }, "flags");
            assert_eq!(segment[19], 0x11 + at as u8, "identification");
        }
    }

    #[test]
    fn segmentation_without_what_it_needs_is_refused() {
        let whole = tcp4(100);
        assert!(Segmentation::new(&whole, &context(0), 3).is_err());
        assert!(Segmentation::new(&whole, &context(100), 2).is_err());
        assert!(Segmentation::new(&whole[..54], &context(100), 3).is_err());
    }
}
