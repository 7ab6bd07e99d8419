//! A slot's metadata: 32 bytes in a host side table, never inside the packet memory.

use crate::slot::Slot;

/// What a NIC found out about a frame, or is asked to do with it. A bit set in [`Meta::offload`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Offload(u32);

impl Offload {
    /// Nothing known, nothing asked.
    pub const NONE: Self = Self(0);
    /// Receive: the IPv4 header checksum is right.
    pub const RX_IP_CSUM_GOOD: Self = Self(1);
    /// Receive: the IPv4 header checksum is wrong.
    pub const RX_IP_CSUM_BAD: Self = Self(1 << 1);
    /// Receive: the TCP or UDP checksum is right.
    pub const RX_L4_CSUM_GOOD: Self = Self(1 << 2);
    /// Receive: the TCP or UDP checksum is wrong.
    pub const RX_L4_CSUM_BAD: Self = Self(1 << 3);
    /// Receive: the VLAN tag was stripped into [`Meta::vlan`].
    pub const RX_VLAN_STRIPPED: Self = Self(1 << 4);
    /// Receive: [`Meta::hash`] holds the RSS hash.
    pub const RX_HASH: Self = Self(1 << 5);
    /// Receive: [`Meta::timestamp`] holds nanoseconds.
    pub const RX_TIMESTAMP: Self = Self(1 << 6);
    /// Receive: the frame was longer than what was kept of it.
    pub const RX_TRUNCATED: Self = Self(1 << 7);
    /// Receive: the L4 checksum is still to be filled in (a local sender left it to hardware).
    pub const RX_CSUM_PARTIAL: Self = Self(1 << 8);
    /// Transmit: insert [`TxMeta::vlan`] as an 802.1Q tag.
    pub const TX_VLAN_INSERT: Self = Self(1 << 16);
    /// Transmit: fill in the IPv4 header checksum.
    pub const TX_IP_CSUM: Self = Self(1 << 17);
    /// Transmit: fill in the TCP checksum; the field holds that of the pseudo-header.
    pub const TX_TCP_CSUM: Self = Self(1 << 18);
    /// Transmit: fill in the UDP checksum; the field holds that of the pseudo-header.
    pub const TX_UDP_CSUM: Self = Self(1 << 19);
    /// Transmit: cut the payload into TCP segments of [`TxMeta::mss`] bytes. The TCP checksum is asked
    /// for too, and over IPv4 that of its header; the pseudo-header's counts no length then.
    pub const TX_TCP_SEGMENT: Self = Self(1 << 20);
    /// Everything that is asked of a sender.
    pub const TX_ALL: Self = Self(0x1f << 16);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What both sets have.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// This set without what is in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names of what is set, for reports and errors.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        const NAMES: [(Offload, &str); 14] = [
            (Offload::RX_IP_CSUM_GOOD, "rx_ip_csum"),
            (Offload::RX_IP_CSUM_BAD, "rx_ip_csum_bad"),
            (Offload::RX_L4_CSUM_GOOD, "rx_l4_csum"),
            (Offload::RX_L4_CSUM_BAD, "rx_l4_csum_bad"),
            (Offload::RX_VLAN_STRIPPED, "rx_vlan_strip"),
            (Offload::RX_HASH, "rx_hash"),
            (Offload::RX_TIMESTAMP, "rx_timestamp"),
            (Offload::RX_TRUNCATED, "rx_truncated"),
            (Offload::RX_CSUM_PARTIAL, "rx_csum_partial"),
            (Offload::TX_VLAN_INSERT, "tx_vlan_insert"),
            (Offload::TX_IP_CSUM, "tx_ip_csum"),
            (Offload::TX_TCP_CSUM, "tx_tcp_csum"),
            (Offload::TX_UDP_CSUM, "tx_udp_csum"),
            (Offload::TX_TCP_SEGMENT, "tx_tcp_segment"),
        ];
        NAMES.into_iter().filter(move |(bit, _)| self.has(*bit)).map(|(_, name)| name)
    }
}

/// Metadata of one slot. Read through [`crate::Frame`], changed through [`crate::FrameMut`], which
/// keeps the one invariant: `offset + len <= stride`.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub struct Meta {
    /// Next segment of the frame, or `Slot::NONE`. Always `NONE` in a slot that is not in a chain.
    pub(crate) next: u32,
    pub(crate) len: u32,
    pub(crate) offset: u16,
    pub(crate) segments: u16,
    pub(crate) port: u16,
    pub(crate) vlan: u16,
    pub(crate) offload: Offload,
    pub(crate) hash: u32,
    pub(crate) timestamp: u64,
}

const _: () = assert!(size_of::<Meta>() == 32);

impl Meta {
    pub(crate) const fn fresh(headroom: u16) -> Self {
        Self {
            next: Slot::NONE,
            len: 0,
            offset: headroom,
            segments: 1,
            port: 0,
            vlan: 0,
            offload: Offload::NONE,
            hash: 0,
            timestamp: 0,
        }
    }

    /// This fresh metadata, as that of a frame of `len` bytes in a slot of `stride`.
    ///
    /// # Panics
    /// If the slot has no room for it.
    #[inline(always)]
    pub(crate) fn received(mut self, stride: usize, len: usize, rx: &RxMeta) -> Self {
        if len > self.longest(stride) {
            leaves(len, self.longest(stride));
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most the stride, 2^30")]
        let len = len as u32;
        let RxMeta { port, vlan, offload, hash, timestamp } = *rx;
        // As in every fresh one; said again, these are constants to the compiler.
        (self.next, self.segments) = (Slot::NONE, 1);
        (self.len, self.port, self.vlan, self.offload) = (len, port, vlan, offload);
        (self.hash, self.timestamp) = (hash, timestamp);
        self
    }

    /// The longest payload that a slot of `stride` bytes has room for, where this one starts.
    pub(crate) const fn longest(&self, stride: usize) -> usize {
        stride - self.offset()
    }

    /// What the driver stated about the frame besides its bytes.
    #[must_use]
    pub const fn rx(&self) -> RxMeta {
        let Self { port, vlan, offload, hash, timestamp, .. } = *self;
        RxMeta { port, vlan, offload, hash, timestamp }
    }

    /// Whether anything is asked of the sender.
    #[must_use]
    #[inline(always)]
    pub const fn asks(&self) -> bool {
        !self.offload.and(Offload::TX_ALL).is_empty()
    }

    /// What is asked of the sender; meaningful in the first segment.
    #[must_use]
    pub const fn tx(&self) -> TxMeta {
        let asked = self.offload.and(Offload::TX_ALL);
        if asked.is_empty() {
            return TxMeta::unpack(Offload::NONE, 0, 0);
        }
        TxMeta::unpack(asked, self.vlan, self.timestamp)
    }

    /// Asks the sender for `tx`.
    pub(crate) const fn set_tx(&mut self, tx: &TxMeta) {
        (self.offload, self.vlan, self.hash) = (tx.offload.and(Offload::TX_ALL), tx.vlan, 0);
        self.timestamp = tx.pack();
    }

    /// Bytes of payload in this segment.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether this segment carries no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the payload starts in the slot, in bytes.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset as usize
    }

    /// Segments of the frame; meaningful in the first one.
    #[must_use]
    pub const fn segments(&self) -> usize {
        self.segments as usize
    }

    /// Port the frame came in by, as the application numbered it.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// VLAN tag control information that the NIC stripped ([`Offload::RX_VLAN_STRIPPED`]).
    #[must_use]
    pub const fn vlan(&self) -> u16 {
        self.vlan
    }

    /// What is known of, or asked for, the frame.
    #[must_use]
    pub const fn offload(&self) -> Offload {
        self.offload
    }

    /// RSS hash ([`Offload::RX_HASH`]).
    #[must_use]
    pub const fn hash(&self) -> u32 {
        self.hash
    }

    /// Arrival, in nanoseconds of the clock that the driver names ([`Offload::RX_TIMESTAMP`]).
    #[must_use]
    pub const fn timestamp(&self) -> u64 {
        self.timestamp
    }
}

/// Out of line, so that who never gets here keeps its registers.
#[cold]
#[inline(never)]
pub(crate) fn leaves(len: usize, room: usize) -> ! {
    panic!("{len} B leave the slot, which has room for {room} B")
}

/// What an application asks of the sender of a frame besides its bytes; the default is "nothing". A
/// frame that was received asks for nothing, whatever was found out about it.
///
/// It stands where [`RxMeta`] stood: stating one forgets the other, but for the port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxMeta {
    /// What is asked: `Offload::TX_…`.
    pub offload: Offload,
    /// Tag control information to insert, with [`Offload::TX_VLAN_INSERT`].
    pub vlan: u16,
    /// Bytes of the link header (tags that are in the frame included), where a checksum is asked for.
    pub l2_len: u8,
    /// Bytes of the IP header, where a checksum is asked for: 20..=60 for IPv4, 40 or more for IPv6.
    pub l3_len: u16,
    /// Bytes of the TCP header, with [`Offload::TX_TCP_SEGMENT`].
    pub l4_len: u8,
    /// Payload bytes of a segment, with [`Offload::TX_TCP_SEGMENT`].
    pub mss: u16,
}

impl TxMeta {
    /// As it is kept: the lengths and the segment size in the 64 bits of the timestamp.
    const fn pack(self) -> u64 {
        self.l2_len as u64
            | (self.l4_len as u64) << 8
            | (self.l3_len as u64) << 16
            | (self.mss as u64) << 32
    }

    const fn unpack(offload: Offload, vlan: u16, packed: u64) -> Self {
        let [l2_len, l4_len, a, b, c, d, ..] = packed.to_le_bytes();
        let (l3_len, mss) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        Self { offload, vlan, l2_len, l3_len, l4_len, mss }
    }
}

/// What a driver states about a received frame besides its bytes; the default is "nothing known".
#[derive(Clone, Copy, Debug, Default)]
pub struct RxMeta {
    /// Port number to stamp.
    pub port: u16,
    /// Stripped VLAN tag, with [`Offload::RX_VLAN_STRIPPED`].
    pub vlan: u16,
    /// What is known of the frame.
    pub offload: Offload,
    /// RSS hash, with [`Offload::RX_HASH`].
    pub hash: u32,
    /// Arrival in nanoseconds, with [`Offload::RX_TIMESTAMP`].
    pub timestamp: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_a_sender_is_kept_and_what_was_received_asks_for_nothing() {
        let mut meta = Meta::fresh(128);
        let asked = TxMeta {
            offload: Offload::TX_TCP_SEGMENT.with(Offload::TX_TCP_CSUM).with(Offload::TX_IP_CSUM),
            vlan: 0x6fff,
            l2_len: 14,
            l3_len: 0x1ff,
            l4_len: 60,
            mss: 1460,
        };
        meta.set_tx(&asked);
        assert!(meta.asks());
        assert_eq!(meta.tx(), asked);

        let offload = Offload::RX_TIMESTAMP.with(Offload::RX_VLAN_STRIPPED);
        let rx = RxMeta { offload, vlan: 7, timestamp: u64::MAX, ..RxMeta::default() };
        let meta = Meta::fresh(128).received(2048, 60, &rx);
        assert!(!meta.asks());
        assert_eq!(meta.tx(), TxMeta::default());
    }
}
