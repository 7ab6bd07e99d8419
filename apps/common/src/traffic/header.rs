//! The memwire test header: 24 bytes, big-endian, at the start of the UDP or TCP payload; and its
//! short form of 16, without the timestamp, for frames that have no room for more. Knows no frame.
//!
//! | bytes | long (`memw`) | short (`mems`) |
//! |---|---|---|
//! | 0..4 | magic | magic |
//! | 4..8 | CRC-32C of what follows the header | the same |
//! | 8..16 | number of the frame in its flow, from 0 | the same |
//! | 16..24 | when it was made, nanoseconds since 1970 | payload |

use serde::Serialize;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    byteorder::network_endian::{U32, U64},
};

/// First four bytes of the header: `memw`.
pub const MAGIC: u32 = 0x6d65_6d77;

/// First four bytes of the short form: `mems`.
pub const SHORT_MAGIC: u32 = 0x6d65_6d73;

/// Which header a frame carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderForm {
    /// None: nothing is numbered.
    None,
    /// 16 bytes: checksum and sequence number.
    Short,
    /// 24 bytes: checksum, sequence number, timestamp.
    #[default]
    Long,
}

impl HeaderForm {
    /// Bytes of the header.
    #[must_use]
    pub const fn len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Short => TestHeader::TIMESTAMP_AT,
            Self::Long => TestHeader::LEN,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        matches!(self, Self::None)
    }

    /// The number that the header starts with.
    pub(super) const fn magic(self) -> Option<u32> {
        match self {
            Self::None => None,
            Self::Short => Some(SHORT_MAGIC),
            Self::Long => Some(MAGIC),
        }
    }
}

/// What a header of either form says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the frame in its flow.
    pub sequence: u64,
    /// When it was made, in nanoseconds since 1970, if the form says.
    pub timestamp_ns: Option<u64>,
    /// CRC-32C of what follows the header.
    pub crc: u32,
    /// Bytes of the header.
    pub len: usize,
}

impl Stamp {
    /// The header at the start of `payload`, of either form; `None` if there is no whole header
    /// with a magic number.
    #[inline]
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        if let Some((header, _)) = TestHeader::read(payload) {
            return Some(Self {
                sequence: header.sequence(),
                timestamp_ns: Some(header.timestamp_ns()),
                crc: header.crc(),
                len: TestHeader::LEN,
            });
        }
        let short = payload.first_chunk::<{ TestHeader::TIMESTAMP_AT }>()?;
        let [magic, crc] = [0, 4]
            .map(|at| u32::from_be_bytes([short[at], short[at + 1], short[at + 2], short[at + 3]]));
        let sequence = u64::from_be_bytes(*short.last_chunk()?);
        let stamp = Self { sequence, timestamp_ns: None, crc, len: short.len() };
        (magic == SHORT_MAGIC).then_some(stamp)
    }
}

/// The header. The checksum covers what follows it, so a sender that reuses a payload rewrites
/// sequence and timestamp alone.
#[derive(
    FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct TestHeader {
    magic: U32,
    crc: U32,
    sequence: U64,
    timestamp_ns: U64,
}

const _: () = assert!(size_of::<TestHeader>() == TestHeader::LEN);

impl TestHeader {
    /// Bytes of the header.
    pub const LEN: usize = 24;
    /// Where the sequence number stands, in bytes.
    pub const SEQUENCE_AT: usize = 8;
    /// Where the timestamp stands, in bytes.
    pub const TIMESTAMP_AT: usize = 16;

    /// The header of `payload`, which follows it.
    #[must_use]
    pub fn new(sequence: u64, timestamp_ns: u64, payload: &[u8]) -> Self {
        Self {
            magic: MAGIC.into(),
            crc: crc32c::crc32c(payload).into(),
            sequence: sequence.into(),
            timestamp_ns: timestamp_ns.into(),
        }
    }

    /// The header at the start of a UDP payload and what follows it; `None` if there is no whole
    /// header with the magic number.
    #[inline]
    #[must_use]
    pub fn read(udp_payload: &[u8]) -> Option<(&Self, &[u8])> {
        let (header, payload) = Self::ref_from_prefix(udp_payload).ok()?;
        (header.magic.get() == MAGIC).then_some((header, payload))
    }

    /// Number of the frame in its flow, from 0.
    #[inline]
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence.get()
    }

    /// When it was sent, in nanoseconds since 1970.
    #[inline]
    #[must_use]
    pub fn timestamp_ns(&self) -> u64 {
        self.timestamp_ns.get()
    }

    /// CRC-32C of the payload behind the header.
    #[inline]
    #[must_use]
    pub fn crc(&self) -> u32 {
        self.crc.get()
    }

    /// Whether `payload` is what was sent.
    #[inline]
    #[must_use]
    pub fn is_intact(&self, payload: &[u8]) -> bool {
        crc32c::crc32c(payload) == self.crc()
    }

    /// Rewrites sequence and timestamp of a header that stands in a buffer.
    ///
    /// # Panics
    /// If `header` is shorter than [`TestHeader::LEN`].
    #[inline]
    pub fn restamp(header: &mut [u8], sequence: u64, timestamp_ns: u64) {
        header[Self::SEQUENCE_AT..Self::TIMESTAMP_AT].copy_from_slice(&sequence.to_be_bytes());
        header[Self::TIMESTAMP_AT..Self::LEN].copy_from_slice(&timestamp_ns.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut frame = TestHeader::new(7, 1_000, b"payload").as_bytes().to_vec();
        frame.extend(b"payload");
        assert_eq!(&frame[..4], b"memw");
        TestHeader::restamp(&mut frame, 8, 2_000);
        let (header, payload) = TestHeader::read(&frame).unwrap();
        assert_eq!((header.sequence(), header.timestamp_ns()), (8, 2_000));
        assert_eq!(payload, b"payload");
        assert!(header.is_intact(payload));
        assert!(!header.is_intact(b"payloae"));
    }

    #[test]
    fn both_forms_are_read_alike() {
        let long = TestHeader::new(7, 1_000, b"payload");
        let stamp = Stamp::read(long.as_bytes()).unwrap();
        assert_eq!((stamp.sequence, stamp.timestamp_ns, stamp.len), (7, Some(1_000), 24));
        let mut short = b"mems".to_vec();
        short.extend(crc32c::crc32c(b"xy").to_be_bytes());
        short.extend(9u64.to_be_bytes());
        short.extend(b"xy");
        let stamp = Stamp::read(&short).unwrap();
        assert_eq!((stamp.sequence, stamp.timestamp_ns, stamp.len), (9, None, 16));
        assert_eq!(stamp.crc, crc32c::crc32c(&short[stamp.len..]));
        assert_eq!(Stamp::read(&short[..15]), None);
        assert_eq!(Stamp::read(&[0; 24]), None);
    }

    #[test]
    fn short_and_foreign_payloads_have_no_header() {
        assert_eq!(TestHeader::read(&[0; 23]), None);
        assert_eq!(TestHeader::read(&[0; 64]), None);
        assert_eq!(TestHeader::read(&[]), None);
    }
}
