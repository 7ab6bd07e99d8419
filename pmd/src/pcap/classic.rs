//! The classic format: a header of 24 bytes, then records of 16 bytes and data
//! (draft-ietf-opsawg-pcap).

use std::io::Read;

use super::{
    reader::{Fault, Head, Step, broken, check_link, lengths},
    window::{Fill, Window},
};

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
const RECORD: usize = 16;

/// A classic capture, past its header.
pub(super) struct Classic {
    big: bool,
    /// Nanoseconds of a unit of the second half of a timestamp.
    unit: u64,
    snaplen: u32,
    fcs: usize,
}

/// Four bytes of either byte order.
#[inline(always)]
pub(super) fn word(bytes: &[u8], at: usize, big: bool) -> u32 {
    let raw = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    if big { u32::from_be_bytes(raw) } else { u32::from_le_bytes(raw) }
}

/// Two bytes of either byte order.
#[inline(always)]
pub(super) fn half(bytes: &[u8], at: usize, big: bool) -> u16 {
    let raw = [bytes[at], bytes[at + 1]];
    if big { u16::from_be_bytes(raw) } else { u16::from_le_bytes(raw) }
}

/// The byte order that a magic number tells, or what else the file is.
pub(super) fn is_big_endian(magic: [u8; 4]) -> Result<bool, String> {
    for big in [false, true] {
        if matches!(word(&magic, 0, big), MICROSECONDS | NANOSECONDS) {
            return Ok(big);
        }
    }
    Err(match magic {
        [0x1f, 0x8b, ..] => "the file is compressed (gzip); decompress it first".into(),
        [0x28, 0xb5, 0x2f, 0xfd] => "the file is compressed (zstd); decompress it first".into(),
        [0x04, 0x22, 0x4d, 0x18] => "the file is compressed (lz4); decompress it first".into(),
        _ => format!(
            "magic number {:#010x} is neither that of pcap nor that of pcapng",
            u32::from_be_bytes(magic)
        ),
    })
}

impl Classic {
    /// Bytes of the file header.
    pub(super) const HEADER: usize = 24;

    /// Reads the file header, whose magic number is known.
    pub(super) fn parse(header: &[u8], big: bool) -> Result<Self, String> {
        let (major, minor) = (half(header, 4, big), half(header, 6, big));
        if major != 2 || !(3..=4).contains(&minor) {
            return Err(format!("version {major}.{minor} of the pcap format is not known; 2.4 is"));
        }
        // The upper half of the link type: FCS length in units of two bytes, if bit 26 is set.
        let network = word(header, 20, big);
        let [_, _, low, high] = network.to_be_bytes();
        check_link(u16::from_be_bytes([low, high]))?;
        let fcs = if network & 1 << 26 == 0 { 0 } else { (network >> 28) as usize * 2 };
        let unit = if word(header, 0, big) == NANOSECONDS { 1 } else { 1000 };
        Ok(Self { big, unit, snaplen: word(header, 16, big), fcs })
    }

    /// Reads the record at the front of the window.
    #[inline]
    pub(super) fn record<R: Read>(
        &self,
        window: &mut Window<R>,
        strict: bool,
    ) -> Result<(Step, Head), Fault> {
        match window.need(RECORD)? {
            Fill::Ready => {}
            Fill::Pending => return Ok((Step::Pending, Head::default())),
            Fill::Ended(0) => return Ok((Step::End, Head::default())),
            Fill::Ended(there) => {
                return Err(broken(format_args!(
                    "the file ends inside the record's header: {there} of {RECORD} bytes"
                )));
            }
        }
        let header = window.bytes();
        let field = |at| word(header, at, self.big);
        let (seconds, fraction) = (u64::from(field(0)), u64::from(field(4)));
        let captured = field(8);
        let snaplen = if strict { self.snaplen } else { 0 };
        let (len, original) = lengths(captured, field(12), snaplen, self.fcs)?;
        let total = RECORD + captured as usize;
        match window.need(total)? {
            Fill::Ready => {}
            Fill::Pending => return Ok((Step::Pending, Head::default())),
            Fill::Ended(there) => {
                return Err(broken(format_args!(
                    "the file ends inside the record: {} of {captured} bytes of data",
                    there - RECORD
                )));
            }
        }
        // 32 bits of seconds and 32 bits of microseconds, in nanoseconds, stay below 2^63.
        let timestamp = Some(seconds * 1_000_000_000 + fraction * self.unit);
        Ok((Step::Frame, Head { timestamp, original, at: RECORD, len, total }))
    }
}
