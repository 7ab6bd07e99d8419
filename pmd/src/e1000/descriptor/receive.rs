//! Receive descriptors: extended and packet split of the 82574 (§7.1.4.2, §7.1.5), advanced of the
//! 82576 (§7.1.4).
//!
//! Extended and advanced one-buffer descriptors are the same to a driver: an address going in; hash
//! type, hash, status and errors, length and tag coming out, at the same bits. Neither chip puts
//! timestamps there.

use mempool::{Offload, RxMeta};

use crate::{
    Iova,
    e1000::ring::{Long, Short},
};

/// Status: the device is done with the descriptor.
const DONE: u64 = 1;
/// Status: the last descriptor of a frame.
const LAST: u64 = 1 << 1;
/// Status (82574): nothing is said about checksums.
const IGNORE_CHECKSUMS: u32 = 1 << 2;
/// Status: the tag was taken out, if the queue strips.
const VLAN: u32 = 1 << 3;
/// Status: a UDP or TCP checksum was looked at (UDPCS; TCPCS, or L4I on the 82576).
const L4_SEEN: u32 = 3 << 4;
/// Status: the IPv4 header's checksum was looked at.
const IP_SEEN: u32 = 1 << 6;
/// Errors, behind the 20 status bits: the UDP or TCP checksum is wrong.
const L4_BAD: u32 = 1 << 29;
/// Errors: the IPv4 header's checksum is wrong.
const IP_BAD: u32 = 1 << 30;
/// Errors that spoil a frame: CRC, symbol, sequence, carrier extension, receive data.
const SPOILT: u64 = 1 << 24 | 1 << 25 | 1 << 26 | 1 << 28 | 1 << 31;

/// Our copy of what the device wrote back, read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::e1000) struct Arrived {
    /// Bits 3:0 hash type, 31:16 header length on the 82576, 63:32 hash.
    low: u64,
    /// Bits 19:0 status, 31:20 errors, 47:32 length, 63:48 VLAN tag.
    high: u64,
}

impl Arrived {
    /// A place for copies.
    pub(in crate::e1000) const NONE: Self = Self { low: 0, high: 0 };

    /// Whether the device is done with the descriptor; else nothing here means anything.
    #[inline(always)]
    pub(in crate::e1000) const fn is_done(self) -> bool {
        self.high & DONE != 0
    }

    /// Bytes in the buffer, as the device says: to be checked against the buffer.
    #[inline(always)]
    pub(in crate::e1000) const fn len(self) -> usize {
        (self.high >> 32 & 0xffff) as usize
    }

    /// Whether the frame ends here.
    #[inline(always)]
    pub(in crate::e1000) const fn is_last(self) -> bool {
        self.high & LAST != 0
    }

    /// Whether this is all of a frame, and nothing is wrong with it but perhaps checksums.
    #[inline(always)]
    pub(in crate::e1000) const fn is_whole(self) -> bool {
        self.high & (DONE | LAST | SPOILT) == DONE | LAST
    }

    /// Whether the frame is damaged; only the last descriptor of a frame can say.
    pub(in crate::e1000) const fn is_spoilt(self) -> bool {
        self.is_last() && self.high & SPOILT != 0
    }

    /// Status and errors.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is asked for")]
    pub(in crate::e1000) const fn status(self) -> u32 {
        self.high as u32
    }

    /// What was found out about the frame that ends here.
    #[inline(always)]
    pub(in crate::e1000) fn meta(self, strip: Strip) -> RxMeta {
        self.meta_after(strip, &mut Found::default())
    }

    /// The same; frames that follow each other are mostly alike, and `last` keeps what was found out
    /// about the one before.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is asked for")]
    pub(in crate::e1000) fn meta_after(self, strip: Strip, last: &mut Found) -> RxMeta {
        let (status, kind) = (self.status(), self.low as u32);
        if (status, kind) != (last.status, last.kind) {
            *last = Found { status, kind, offload: found_by(status & strip.0, kind) };
        }
        let (vlan, hash) = ((self.high >> 48) as u16, (self.low >> 32) as u32);
        RxMeta { port: 0, vlan, offload: last.offload, hash, timestamp: 0 }
    }
}

/// What was found out about the last frame.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::e1000) struct Found {
    /// Status and errors. 0, which is not done, is of no frame.
    status: u32,
    /// Hash type in bits 3:0, and what else the chip says of the kind of frame.
    kind: u32,
    offload: Offload,
}

fn found_by(status: u32, kind: u32) -> Offload {
    // VLAN, checksums seen and to be ignored are bits 6:2, their errors 30:29.
    let found = FOUND[(status >> 2 & 0x1f | status >> 24 & 0x60) as usize];
    if kind & 0xf == 0 { found } else { found.with(Offload::RX_HASH) }
}

/// Whether the queue's tags are taken out: without, the device's bit says that there is one, no more.
#[derive(Clone, Copy, Debug)]
pub(in crate::e1000) struct Strip(u32);

impl Strip {
    pub(in crate::e1000) const fn new(on: bool) -> Self {
        Self(if on { u32::MAX } else { !VLAN })
    }
}

/// What the bits of VLAN, checksums and their errors mean, by all their combinations.
static FOUND: [Offload; 128] = {
    let mut table = [Offload::NONE; 128];
    let mut at = 0;
    while at < table.len() {
        #[expect(clippy::cast_possible_truncation, reason = "below 128")]
        let index = at as u32;
        table[at] = found((index & 0x1f) << 2 | (index & 0x60) << 24);
        at += 1;
    }
    table
};

const fn found(status: u32) -> Offload {
    let mut found = Offload::NONE;
    if status & VLAN != 0 {
        found = found.with(Offload::RX_VLAN_STRIPPED);
    }
    if status & IGNORE_CHECKSUMS != 0 {
        return found;
    }
    if status & IP_SEEN != 0 {
        let bad = status & IP_BAD != 0;
        found = found.with(if bad { Offload::RX_IP_CSUM_BAD } else { Offload::RX_IP_CSUM_GOOD });
    }
    if status & L4_SEEN != 0 {
        let bad = status & L4_BAD != 0;
        found = found.with(if bad { Offload::RX_L4_CSUM_BAD } else { Offload::RX_L4_CSUM_GOOD });
    }
    found
}

/// Gives a buffer for (a piece of) a whole frame: 82574 extended, 82576 advanced one-buffer.
#[inline(always)]
pub(in crate::e1000) fn give_whole(to: &Short, buffer: Iova) {
    to.store([buffer.0, 0]);
}

/// What came back, if something did ([`Arrived::is_done`]).
#[inline(always)]
pub(in crate::e1000) fn take_whole(from: &Short) -> Arrived {
    // In this order: the word with the done bit first.
    let high = from.load_done(1);
    Arrived { low: from.load(0), high }
}

/// A piece of a frame that was split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::e1000) struct SplitArrived {
    /// The rest.
    pub(in crate::e1000) arrived: Arrived,
    /// Bytes in the head's buffer, as the device says.
    pub(in crate::e1000) head: usize,
    /// Bytes in the payload's buffer, as the device says.
    pub(in crate::e1000) data: usize,
}

/// How a chip lays out descriptors that split frames.
pub(in crate::e1000) trait SplitFormat: Send + 'static {
    /// The descriptor.
    type Descriptor: Send;
    /// What one descriptor counts in the tail register.
    const UNIT: usize;
    /// Whether a further descriptor of a frame puts bytes into its head buffer if it states a length for
    /// it; else it repeats what the first one said.
    const FURTHER_HEADS: bool;

    /// Gives a pair of buffers.
    fn give(to: &Self::Descriptor, head: Iova, data: Iova);

    /// What came back, if something did ([`Arrived::is_done`]). `head_buffer` is the size of head buffers.
    fn take(from: &Self::Descriptor, head_buffer: usize) -> SplitArrived;
}

/// 82574: header and up to three payload buffers (§7.1.5); one is used, so that a frame takes as many
/// payload buffers as it fills. A frame without headers that it knows fills the head's buffer and goes
/// on in the other.
pub(in crate::e1000) struct PacketSplit;

impl SplitArrived {
    /// A place for copies.
    pub(in crate::e1000) const NONE: Self = Self { arrived: Arrived::NONE, head: 0, data: 0 };
}

impl SplitFormat for PacketSplit {
    type Descriptor = Long;
    /// The register counts 16 bytes.
    const UNIT: usize = 2;
    const FURTHER_HEADS: bool = true;

    #[inline(always)]
    fn give(to: &Long, head: Iova, data: Iova) {
        to.store([head.0, data.0, 0, 0]);
    }

    #[inline(always)]
    fn take(from: &Long, _head_buffer: usize) -> SplitArrived {
        let high = from.load_done(1);
        let lens = from.load(2);
        let arrived = Arrived { low: from.load(0), high };
        // Header status 15:0, then the lengths of buffers 1 to 3. There are no buffers 2 and 3: what
        // claims bytes there comes out longer than any buffer, and is refused.
        let beyond = (lens >> 32) as usize;
        let data = (lens >> 16 & 0xffff) as usize | beyond << 16;
        SplitArrived { arrived, head: arrived.len(), data }
    }
}

/// 82576: packet and header buffer (§7.1.4.1, §7.1.10), "split always": a frame whose headers it does
/// not know is cut where the head's buffer ends.
pub(in crate::e1000) struct HeaderSplit;

impl SplitFormat for HeaderSplit {
    type Descriptor = Short;
    const UNIT: usize = 1;
    const FURTHER_HEADS: bool = false;

    #[inline(always)]
    fn give(to: &Short, head: Iova, data: Iova) {
        to.store([data.0, head.0]);
    }

    #[inline(always)]
    fn take(from: &Short, head_buffer: usize) -> SplitArrived {
        let arrived = take_whole(from);
        // HDR_LEN, bits 14:5 of HDR_INFO, is the length of the headers, which may be longer than what
        // fits: the rest is in the packet buffer then (§7.1.10.1).
        let head = (arrived.low >> 21 & 0x3ff) as usize;
        SplitArrived { arrived, head: head.min(head_buffer), data: arrived.len() }
    }
}
