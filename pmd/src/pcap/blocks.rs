//! The blocks of pcapng (draft-ietf-opsawg-pcapng): sections, interfaces, packets; all others are
//! passed over without being held.

use std::io::Read;

use super::{
    classic::{half, word},
    clock::Clock,
    reader::{Fault, Head, MAX_CAPTURED, broken, check_link, lengths},
    window::{Fill, WINDOW, Window},
};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Bytes of a block that is read in one piece, at most: a packet and 64 KiB of options.
const LONGEST: usize = MAX_CAPTURED + (64 << 10) + 64;
const _: () = assert!(LONGEST <= WINDOW);
/// Interfaces of a section, at most.
const INTERFACES: usize = 4096;
/// Type and length at the front of a block, and the length again behind it.
const FRAME: usize = 12;

/// What a block was.
pub(super) enum Block {
    /// A packet.
    Packet(Head),
    /// Something else, dealt with.
    Other,
    /// Not all there yet.
    Pending,
    /// The file ends here.
    End,
}

struct Interface {
    snaplen: u32,
    fcs: usize,
    clock: Clock,
}

/// A pcapng file, wherever it was read to.
#[derive(Default)]
pub(super) struct Blocks {
    big: bool,
    /// Whether a section has begun.
    begun: bool,
    interfaces: Vec<Interface>,
    /// Where the block in hand starts in the file.
    start: u64,
    /// A block being passed over: its length, and how much of it is left before the trailer.
    passing: Option<(u32, u64)>,
}

impl Blocks {
    /// What a pcapng file starts with.
    pub(super) const MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

    /// Where the block in hand starts in the file.
    pub(super) fn offset(&self) -> u64 {
        self.start
    }

    /// Reads the block at the front of the window.
    pub(super) fn block<R: Read>(
        &mut self,
        window: &mut Window<R>,
        strict: bool,
    ) -> Result<Block, Fault> {
        if let Some((length, left)) = self.passing.take() {
            return self.pass(window, length, left);
        }
        self.start = window.offset();
        match window.need(8)? {
            Fill::Ready => {}
            Fill::Pending => return Ok(Block::Pending),
            Fill::Ended(0) => return Ok(Block::End),
            Fill::Ended(there) => {
                return Err(self
                    .fault(format!("the file ends inside a block's header: {there} of 8 bytes")));
            }
        }
        let kind = word(window.bytes(), 0, self.big);
        if kind == SECTION {
            // Its own byte order counts, which stands behind the length.
            match window.need(FRAME)? {
                Fill::Ready => {}
                Fill::Pending => return Ok(Block::Pending),
                Fill::Ended(there) => {
                    return Err(self.fault(format!(
                        "the file ends inside a section header: {there} of 28 bytes"
                    )));
                }
            }
            self.big = match word(window.bytes(), 8, false) {
                BYTE_ORDER => false,
                swapped if swapped.swap_bytes() == BYTE_ORDER => true,
                other => {
                    return Err(self.fault(format!("section with byte-order magic {other:#010x}")));
                }
            };
        }
        let length = word(window.bytes(), 4, self.big);
        let total = length as usize;
        if total < FRAME {
            return Err(self.fault(format!("block length {length} is less than {FRAME}")));
        }
        if !total.is_multiple_of(4) {
            return Err(self.fault(format!("block length {length} is not a multiple of 4")));
        }
        if !matches!(kind, SECTION | INTERFACE | OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET)
        {
            window.consume(8);
            return self.pass(window, length, u64::from(length) - FRAME as u64);
        }
        if total > LONGEST {
            return Err(self.fault(self.too_long(window.bytes(), kind, length)));
        }
        match window.need(total)? {
            Fill::Ready => {}
            Fill::Pending => return Ok(Block::Pending),
            Fill::Ended(there) => {
                return Err(self
                    .fault(format!("the file ends inside the block: {there} of {length} bytes")));
            }
        }
        let block = &window.bytes()[..total];
        self.check_trailer(length, word(block, total - 4, self.big))?;
        let body = &block[8..total - 4];
        match kind {
            SECTION => self.section(body)?,
            INTERFACE => self.interface(body)?,
            _ => {
                let mut head = self.packet(kind, body, strict)?;
                head.at += 8;
                head.total = total;
                return Ok(Block::Packet(head));
            }
        }
        window.consume(total);
        Ok(Block::Other)
    }

    /// Goes on past a block nobody asked for.
    fn pass<R: Read>(
        &mut self,
        window: &mut Window<R>,
        length: u32,
        mut left: u64,
    ) -> Result<Block, Fault> {
        let filled = match window.skip(&mut left)? {
            Fill::Ready => window.need(4)?,
            other => other,
        };
        match filled {
            Fill::Ready => {
                self.check_trailer(length, word(window.bytes(), 0, self.big))?;
                window.consume(4);
                Ok(Block::Other)
            }
            Fill::Pending => {
                self.passing = Some((length, left));
                Ok(Block::Pending)
            }
            Fill::Ended(_) => {
                let there = window.offset() - self.start;
                Err(self
                    .fault(format!("the file ends inside the block: {there} of {length} bytes")))
            }
        }
    }

    fn check_trailer(&self, front: u32, behind: u32) -> Result<(), Fault> {
        if front == behind {
            return Ok(());
        }
        Err(self.fault(format!("block length is {front} in front and {behind} behind")))
    }

    /// A fault of the file as such before the first section is read, of a record afterwards.
    #[cold]
    fn fault(&self, why: String) -> Fault {
        if self.begun { Fault::Record(why) } else { Fault::Header(why) }
    }

    /// Why a block is too long: for the packets of a broken writer, their caplen says it better.
    fn too_long(&self, there: &[u8], kind: u32, length: u32) -> String {
        match there.get(20..24).map(|_| word(there, 20, self.big)) {
            Some(captured) if kind == ENHANCED_PACKET && captured as usize > MAX_CAPTURED => {
                format!("caplen {captured} is more than the limit {MAX_CAPTURED}")
            }
            _ => format!("block length {length} is more than the limit {LONGEST}"),
        }
    }

    /// §4.1. A section has its own byte order and interfaces.
    fn section(&mut self, body: &[u8]) -> Result<(), Fault> {
        if body.len() < 16 {
            return Err(self.fault(format!("section header of {} bytes", body.len() + FRAME)));
        }
        let (major, minor) = (half(body, 4, self.big), half(body, 6, self.big));
        if major != 1 {
            return Err(self.fault(format!(
                "version {major}.{minor} of the pcapng format is not known; 1.0 is"
            )));
        }
        self.begun = true;
        self.interfaces.clear();
        Ok(())
    }

    /// §4.2.
    fn interface(&mut self, body: &[u8]) -> Result<(), Fault> {
        const FCS_LENGTH: u16 = 13;
        const TIME_RESOLUTION: u16 = 9;
        const TIME_OFFSET: u16 = 14;
        if body.len() < 8 {
            return Err(broken(format_args!("interface block of {} bytes", body.len() + FRAME)));
        }
        if self.interfaces.len() == INTERFACES {
            return Err(broken(format_args!("more than {INTERFACES} interfaces in a section")));
        }
        check_link(half(body, 0, self.big)).map_err(Fault::Header)?;
        let (mut resolution, mut seconds, mut fcs) = (6, 0, 0);
        let mut rest = &body[8..];
        // §3.5: code, length, value padded to four bytes. An option that overruns ends the list.
        while let Some((option, behind)) = rest.split_at_checked(4) {
            let (code, len) = (half(option, 0, self.big), usize::from(half(option, 2, self.big)));
            let Some(value) = behind.get(..len).filter(|_| code != 0) else {
                break;
            };
            match (code, value) {
                (TIME_RESOLUTION, [byte]) => resolution = *byte,
                (FCS_LENGTH, [byte]) => fcs = usize::from(*byte),
                (TIME_OFFSET, &[a, b, c, d, e, f, g, h]) => {
                    let raw = [a, b, c, d, e, f, g, h];
                    seconds =
                        if self.big { i64::from_be_bytes(raw) } else { i64::from_le_bytes(raw) };
                }
                _ => {}
            }
            rest = behind.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        let (snaplen, clock) = (word(body, 4, self.big), Clock::new(resolution, seconds));
        self.interfaces.push(Interface { snaplen, fcs, clock });
        Ok(())
    }

    /// §4.3 and §4.4, and the obsolete block of appendix A.
    #[inline]
    fn packet(&self, kind: u32, body: &[u8], strict: bool) -> Result<Head, Fault> {
        let fixed = if kind == SIMPLE_PACKET { 4 } else { 20 };
        if body.len() < fixed {
            return Err(broken(format_args!("packet block of {} bytes", body.len() + FRAME)));
        }
        let index = match kind {
            ENHANCED_PACKET => word(body, 0, self.big),
            OBSOLETE_PACKET => u32::from(half(body, 0, self.big)),
            _ => 0,
        };
        let Some(interface) = self.interfaces.get(index as usize) else {
            return Err(broken(format_args!(
                "packet of interface {index}, of {} described before",
                self.interfaces.len()
            )));
        };
        let (captured, original, timestamp) = if kind == SIMPLE_PACKET {
            let original = word(body, 0, self.big);
            let most = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
            (original.min(most), original, None)
        } else {
            let (high, low) = (word(body, 4, self.big), word(body, 8, self.big));
            let timestamp = interface.clock.nanoseconds(u64::from(high) << 32 | u64::from(low));
            (word(body, 12, self.big), word(body, 16, self.big), Some(timestamp))
        };
        let snaplen = if strict { interface.snaplen } else { 0 };
        let (len, original) = lengths(captured, original, snaplen, interface.fcs)?;
        if captured as usize > body.len() - fixed {
            return Err(broken(format_args!(
                "caplen {captured} is more than the block has: {} bytes",
                body.len() - fixed
            )));
        }
        Ok(Head { timestamp, original, at: fixed, len, total: 0 })
    }
}
