//! The sequence field of a frame: where it stands by preset, how many bytes behind the UDP header
//! belong to the head (none, where the field stands before it), and how short counters grow to 64 bits. Arithmetic on head bytes.

use std::{fmt, str::FromStr};

use memwire_apps::traffic::{HeaderForm, Stamp, TestHeader};
use pmd::headers::{self, ethertype};

/// RFC 3550 §5.1: the fixed header.
const RTP: usize = 12;
/// SPEAD-64-48: the header, and each item pointer behind it.
const SPEAD: usize = 8;
const SPEAD_ITEMS: usize = 8;
/// VITA 49.0 §6.1: header, stream id, class id, integer and fractional timestamp.
const VITA49: usize = 28;
/// Longest application header that may be named: what a head's buffer surely holds.
const LONGEST: usize = 128;

/// Byte order of a raw field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endian {
    /// Most significant byte first.
    Big,
    /// Least significant byte first.
    Little,
}

/// Which header carries the sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeqField {
    /// memwire's own test header: 64 bits at offset 8.
    Memwire,
    /// Its short form: 64 bits at offset 8, without a timestamp behind them.
    MemwireShort,
    /// RTP: 16 bits at offset 2; the head ends behind `csrcs` contributing sources.
    Rtp {
        /// Contributing sources, 0..=15.
        csrcs: usize,
    },
    /// SPEAD-64-48: the heap counter (item 0x0001), one packet per heap; the head ends behind
    /// `items` item pointers.
    Spead {
        /// Item pointers, 1..=15.
        items: usize,
    },
    /// VITA 49: the 4-bit packet count of the first word; the head ends behind `header` bytes.
    Vita49 {
        /// Bytes of the packet's prologue.
        header: usize,
    },
    /// The identification of the IPv4 header, RFC 791 §3.1: 16 bits. All of the UDP payload is the row.
    IpId,
    /// A number of `bytes` bytes at `offset`; the head ends behind it.
    Raw {
        /// First byte, behind the UDP header.
        offset: usize,
        /// Bytes, 1..=8.
        bytes: usize,
        /// Their order.
        endian: Endian,
    },
}

/// What a head says about its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The counter as it stands in the frame.
    pub value: u64,
    /// CRC32C of the payload, where the header carries one.
    pub crc: Option<u32>,
}

impl SeqField {
    /// Bytes behind the UDP header that belong to the head; what lies beyond is the row.
    #[must_use]
    pub const fn extra(&self) -> usize {
        match *self {
            Self::Memwire => TestHeader::LEN,
            Self::MemwireShort => HeaderForm::Short.len(),
            Self::Rtp { csrcs } => RTP + 4 * csrcs,
            Self::Spead { items } => SPEAD + SPEAD * items,
            Self::Vita49 { header } => header,
            Self::IpId => 0,
            Self::Raw { offset, bytes, .. } => offset + bytes,
        }
    }

    /// Bits of the counter.
    #[must_use]
    pub const fn bits(&self) -> u32 {
        match *self {
            Self::Memwire | Self::MemwireShort => 64,
            Self::Rtp { .. } | Self::IpId => 16,
            Self::Spead { .. } => 48,
            Self::Vita49 { .. } => 4,
            #[expect(clippy::cast_possible_truncation, reason = "1..=8 bytes")]
            Self::Raw { bytes, .. } => bytes as u32 * 8,
        }
    }

    /// The number a fresh sender starts with, where the protocol says so.
    #[must_use]
    pub const fn origin(&self) -> Option<u64> {
        match self {
            Self::Memwire | Self::MemwireShort => Some(0),
            _ => None,
        }
    }

    /// Whether the row holds all of the UDP payload, and with it what else an application's header says.
    #[must_use]
    pub const fn is_outside(&self) -> bool {
        matches!(self, Self::IpId)
    }

    /// Reads the field from a frame whose UDP payload starts at `payload`; `None` if it has none that is
    /// valid.
    #[must_use]
    #[inline]
    pub fn find(&self, frame: &[u8], payload: usize) -> Option<Reading> {
        match self {
            Self::IpId => Some(Reading { value: u64::from(ip_id(frame)?), crc: None }),
            _ => self.read(&frame[payload..]),
        }
    }

    /// Reads the field from the head's bytes behind the UDP header; `None` if that is no valid
    /// header, or the field stands before it.
    #[must_use]
    #[inline]
    pub fn read(&self, header: &[u8]) -> Option<Reading> {
        let plain = |value| Some(Reading { value, crc: None });
        match *self {
            Self::Memwire => {
                let (header, _) = TestHeader::read(header)?;
                Some(Reading { value: header.sequence(), crc: Some(header.crc()) })
            }
            Self::MemwireShort => {
                let stamp = Stamp::read(header).filter(|stamp| stamp.timestamp_ns.is_none())?;
                Some(Reading { value: stamp.sequence, crc: Some(stamp.crc) })
            }
            Self::Rtp { .. } => {
                let header: &[u8; RTP] = header.first_chunk()?;
                let version_2 = header[0] >> 6 == 2;
                version_2.then_some(())?;
                plain(u64::from(u16::from_be_bytes([header[2], header[3]])))
            }
            Self::Spead { .. } => plain(spead_heap(header)?),
            Self::Vita49 { .. } => {
                let first = u32::from_be_bytes(*header.first_chunk()?);
                // §6.1.1: packet types 0..=7 are assigned; a packet is at least its header.
                let assigned = first >> 28 <= 7 && first & 0xffff != 0;
                assigned.then_some(())?;
                plain(u64::from(first >> 16 & 0xf))
            }
            Self::IpId => None,
            Self::Raw { offset, bytes, endian } => {
                let field = header.get(offset..offset + bytes)?;
                let append = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
                plain(match endian {
                    Endian::Big => field.iter().fold(0, append),
                    Endian::Little => field.iter().rev().fold(0, append),
                })
            }
        }
    }
}

/// The identification of an IPv4 datagram that came in one piece: fragments share theirs.
#[inline]
fn ip_id(frame: &[u8]) -> Option<u16> {
    const MORE_FRAGMENTS: u8 = 0x20;
    let layers = headers::layers(frame).filter(|layers| layers.ethertype == ethertype::IPV4)?;
    let header: &[u8; 20] = frame.get(layers.network..)?.first_chunk()?;
    (header[6] & MORE_FRAGMENTS == 0).then(|| u16::from_be_bytes([header[4], header[5]]))
}

/// SPEAD: the heap counter of a heap that is one packet.
fn spead_heap(header: &[u8]) -> Option<u64> {
    const MAGIC_VERSION_WIDTHS: [u8; 4] = [0x53, 4, 2, 6];
    const IMMEDIATE: u64 = 1 << 63;
    const HEAP_COUNTER: u64 = 1;
    const HEAP_OFFSET: u64 = 3;
    let fixed: &[u8; SPEAD] = header.first_chunk()?;
    if fixed[..4] != MAGIC_VERSION_WIDTHS {
        return None;
    }
    let items = usize::from(u16::from_be_bytes([fixed[6], fixed[7]]));
    let mut heap = None;
    let (pointers, _) = header[SPEAD..].as_chunks::<SPEAD>();
    for pointer in pointers.iter().take(items) {
        let item = u64::from_be_bytes(*pointer);
        let (id, value) = ((item & !IMMEDIATE) >> 48, item & 0xffff_ffff_ffff);
        match id {
            HEAP_COUNTER => heap = heap.or(Some(value)),
            // A further packet of a heap: its counter names no row of its own.
            HEAP_OFFSET if value != 0 => return None,
            _ => {}
        }
    }
    heap
}

/// A sequence field cannot be read from its text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}': {why}; a sequence field is memwire, memwire-short, rtp[:CSRCS], spead[:ITEMS], \
     vita49[:BYTES], ipid or offset:bytes:endian such as 0:4:be"
)]
pub struct SeqError {
    text: String,
    why: &'static str,
}

impl FromStr for SeqField {
    type Err = SeqError;

    fn from_str(text: &str) -> Result<Self, SeqError> {
        let wrong = |why| SeqError { text: text.chars().take(60).collect(), why };
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let rest: Vec<&str> = parts.collect();
        let count = |default: usize, limits: std::ops::RangeInclusive<usize>, why| match rest[..] {
            [] => Ok(default),
            [one] => match one.parse() {
                Ok(value) if limits.contains(&value) => Ok(value),
                _ => Err(wrong(why)),
            },
            _ => Err(wrong("too many parts")),
        };
        match name {
            "memwire" if rest.is_empty() => Ok(Self::Memwire),
            "memwire-short" if rest.is_empty() => Ok(Self::MemwireShort),
            "memwire" | "memwire-short" => Err(wrong("memwire takes no parts")),
            "rtp" => Ok(Self::Rtp { csrcs: count(0, 0..=15, "CSRCS is 0..=15")? }),
            "spead" => Ok(Self::Spead { items: count(SPEAD_ITEMS, 1..=15, "ITEMS is 1..=15")? }),
            "vita49" => {
                Ok(Self::Vita49 { header: count(VITA49, 4..=LONGEST, "BYTES is 4..=128")? })
            }
            "ipid" if rest.is_empty() => Ok(Self::IpId),
            "ipid" => Err(wrong("ipid takes no parts")),
            _ => raw(name, &rest).map_err(wrong),
        }
    }
}

fn raw(offset: &str, rest: &[&str]) -> Result<SeqField, &'static str> {
    let offset: usize = offset.parse().map_err(|_| "neither a preset nor an offset")?;
    let [bytes, endian] = rest else { return Err("three parts are needed") };
    let bytes = bytes.parse().ok().filter(|bytes| (1..=8).contains(bytes));
    let bytes = bytes.ok_or("the number of bytes is 1..=8")?;
    let endian = match *endian {
        "be" => Endian::Big,
        "le" => Endian::Little,
        _ => return Err("the byte order is be or le"),
    };
    if offset > LONGEST - bytes {
        return Err("the field ends more than 128 B behind the UDP header");
    }
    Ok(SeqField::Raw { offset, bytes, endian })
}

impl fmt::Display for SeqField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memwire => f.write_str("memwire"),
            Self::MemwireShort => f.write_str("memwire-short"),
            Self::Rtp { csrcs } => write!(f, "rtp:{csrcs}"),
            Self::Spead { items } => write!(f, "spead:{items}"),
            Self::Vita49 { header } => write!(f, "vita49:{header}"),
            Self::IpId => f.write_str("ipid"),
            Self::Raw { offset, bytes, endian } => {
                let endian = if *endian == Endian::Big { "be" } else { "le" };
                write!(f, "{offset}:{bytes}:{endian}")
            }
        }
    }
}

/// Grows a short counter to 64 bits: each value is the one nearest to the highest seen so far, like
/// RFC 3550's extended sequence number. Half the counter's range may be lost or swapped at most.
#[derive(Clone, Copy, Debug)]
pub struct Unwrap {
    bits: u32,
    highest: Option<u64>,
}

impl Unwrap {
    /// For counters of that many bits, 1..=64.
    #[must_use]
    pub const fn new(bits: u32) -> Self {
        Self { bits, highest: None }
    }

    /// The full number of a counter value.
    #[inline]
    pub fn extend(&mut self, value: u64) -> u64 {
        if self.bits >= 64 {
            return value;
        }
        let range = 1u64 << self.bits;
        // The first value stands one range up, so that what was sent just before it has a number.
        let highest = *self.highest.get_or_insert(range + value);
        let ahead = value.wrapping_sub(highest) & (range - 1);
        let full = if ahead < range / 2 { highest + ahead } else { highest + ahead - range };
        self.highest = Some(highest.max(full));
        full
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    fn field(text: &str) -> SeqField {
        text.parse().unwrap()
    }

    #[test]
    fn every_preset_states_how_long_its_head_is() {
        for (text, extra, bits) in [
            ("memwire", 24, 64),
            ("memwire-short", 16, 64),
            ("rtp", 12, 16),
            ("rtp:2", 20, 16),
            ("spead", 72, 48),
            ("spead:4", 40, 48),
            ("vita49", 28, 4),
            ("vita49:8", 8, 4),
            ("ipid", 0, 16),
            ("0:4:be", 4, 32),
            ("8:8:le", 16, 64),
        ] {
            let field = field(text);
            assert_eq!((field.extra(), field.bits()), (extra, bits), "{text}");
            assert_eq!(field.to_string().parse(), Ok(field));
        }
    }

    #[test]
    fn a_field_that_cannot_be_is_refused_with_what_can() {
        for (text, why) in [
            ("rtq", "neither a preset"),
            ("rtp:16", "CSRCS is 0..=15"),
            ("0:9:be", "bytes is 1..=8"),
            ("0:4:xe", "be or le"),
            ("0:4", "three parts"),
            ("126:4:be", "128 B behind"),
            ("memwire:1", "takes no parts"),
            ("ipid:2", "takes no parts"),
            ("vita49:1:2", "too many parts"),
            ("", "neither a preset"),
        ] {
            let error = text.parse::<SeqField>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("offset:bytes:endian"), "{error}");
        }
    }

    #[test]
    fn the_memwire_header_yields_sequence_and_checksum() {
        let mut header = [0u8; 24];
        TestHeader::new(0x0102_0304_0506_0708, 9, b"row").write_to(&mut header).unwrap();
        let reading = SeqField::Memwire.read(&header).unwrap();
        let crc = Some(crc32c::crc32c(b"row"));
        assert_eq!(reading, Reading { value: 0x0102_0304_0506_0708, crc });
        assert_eq!(SeqField::Memwire.read(&header[..23]), None, "too short");
        header[0] ^= 1;
        assert_eq!(SeqField::Memwire.read(&header), None, "wrong magic");
        assert_eq!(SeqField::MemwireShort.read(&header), None, "neither is it the short one");
        header[..4].copy_from_slice(b"mems");
        assert_eq!(SeqField::MemwireShort.read(&header[..16]), Some(reading));
    }

    #[test]
    fn rtp_wants_version_2() {
        let header = [0x80, 96, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(field("rtp").read(&header).unwrap().value, 0x1234);
        assert_eq!(field("rtp").read(&[0x40; 12]), None);
        assert_eq!(field("rtp").read(&header[..11]), None);
    }

    #[test]
    fn spead_finds_the_heap_counter_among_the_items() {
        let item = |id: u64, value: u64| (1 << 63 | id << 48 | value).to_be_bytes();
        let packet = |offset| {
            let mut packet = vec![0x53, 4, 2, 6, 0, 0, 0, 3];
            packet.extend(item(4, 1024));
            packet.extend(item(1, 0x1234_5678_9abc));
            packet.extend(item(3, offset));
            packet
        };
        assert_eq!(field("spead").read(&packet(0)).unwrap().value, 0x1234_5678_9abc);
        assert_eq!(field("spead").read(&packet(1024)), None, "a heap of several packets");
        assert_eq!(field("spead").read(&packet(0)[..16]), None, "the counter is cut off");
        assert_eq!(field("spead").read(&[0; 64]), None);
    }

    #[test]
    fn vita49_counts_in_four_bits() {
        let first = 0x1c6b_0100_u32.to_be_bytes();
        assert_eq!(field("vita49").read(&first).unwrap().value, 0xb);
        assert_eq!(field("vita49").read(&[0xff; 4]), None, "an unassigned type");
    }

    #[test]
    fn the_identification_is_that_of_a_whole_ipv4_datagram() {
        let frame = |tags: &[u8], flags: u8| {
            let mut frame = vec![2; 12];
            frame.extend(tags);
            frame.extend([8, 0, 0x46, 0, 0, 40, 0x12, 0x34, flags, 0, 64, 17, 0, 0]);
            frame.extend([10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 0]);
            frame.extend([0, 9, 0, 9, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
            frame
        };
        let seq = field("ipid");
        for tags in [&[][..], &[0x81, 0, 0, 5]] {
            let frame = frame(tags, 0x40);
            let payload = headers::transport_payload(&frame).unwrap();
            assert_eq!(seq.find(&frame, payload), Some(Reading { value: 0x1234, crc: None }));
        }
        assert_eq!(seq.find(&frame(&[], 0x20), 46), None, "the first of several fragments");
        let mut v6 = vec![2; 12];
        v6.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 16, 17, 64]);
        v6.resize(14 + 40 + 16, 1);
        assert_eq!(seq.find(&v6, 62), None, "no such field");
    }

    #[test]
    fn raw_fields_are_read_in_either_order() {
        let header = [1, 2, 3, 4, 5];
        assert_eq!(field("1:2:be").read(&header).unwrap().value, 0x0203);
        assert_eq!(field("1:4:le").read(&header).unwrap().value, 0x0504_0302);
        assert_eq!(field("2:4:be").read(&header), None);
    }

    #[test]
    fn what_was_sent_before_the_first_frame_has_a_number() {
        let mut unwrap = Unwrap::new(16);
        assert_eq!(unwrap.extend(0), 0x1_0000);
        assert_eq!(unwrap.extend(0xffff), 0xffff);
        assert_eq!(unwrap.extend(1), 0x1_0001);
    }

    proptest! {
        #[test]
        fn a_short_counter_follows_the_true_one(
            bits in 4u32..=56,
            start in any::<u32>(),
            steps in prop::collection::vec(-6i64..=7, 1..200),
        ) {
            let mut unwrap = Unwrap::new(bits);
            let range = 1u64 << bits;
            let first = u64::from(start) + range;
            let mut truth = first;
            let shift = unwrap.extend(truth & (range - 1)).wrapping_sub(truth);
            let mut highest = truth;
            for step in steps {
                // Never further from the highest than half the smallest range.
                let next = truth.saturating_add_signed(step).clamp(highest.saturating_sub(7), highest + 7);
                if next < first.saturating_sub(range / 2) { continue; }
                truth = next;
                highest = highest.max(truth);
                prop_assert_eq!(unwrap.extend(truth & (range - 1)), truth.wrapping_add(shift));
            }
        }
    }
}
