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
        assert!(len <= stride - self.offset(), "{len} B leave the slot of {stride} B");
        #[expect(clippy::cast_possible_truncation, reason = "at most the stride, 2^30")]
        let len = len as u32;
        let RxMeta { port, vlan, offload, hash, timestamp } = *rx;
        (self.len, self.port, self.vlan, self.offload) = (len, port, vlan, offload);
        (self.hash, self.timestamp) = (hash, timestamp);
        self
    }

    /// What the driver stated about the frame besides its bytes.
    #[must_use]
    pub const fn rx(&self) -> RxMeta {
        let Self { port, vlan, offload, hash, timestamp, .. } = *self;
        RxMeta { port, vlan, offload, hash, timestamp }
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
