//! What the kernel and this driver say to each other: the structures of `<linux/if_packet.h>`,
//! `<linux/virtio_net.h>` and `<linux/if.h>`, in the machine's own byte order. Knows no socket.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A block of the receive ring starts with this (`struct tpacket_block_desc`).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct BlockHeader {
    pub(super) version: u32,
    pub(super) private: u32,
    pub(super) status: u32,
    pub(super) frames: u32,
    pub(super) first: u32,
    pub(super) len: u32,
    pub(super) sequence: u64,
    pub(super) first_time: [u32; 2],
    pub(super) last_time: [u32; 2],
}
const _: () = assert!(size_of::<BlockHeader>() == 48);
const _: () = assert!(size_of::<libc::tpacket_block_desc>() == 48);

impl BlockHeader {
    /// Where the status word stands in the block.
    pub(super) const STATUS: usize = 8;
}

/// A frame in a block starts with this (`struct tpacket3_hdr`), up to what is said of its tag.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct FrameHeader {
    pub(super) next: u32,
    pub(super) seconds: u32,
    pub(super) nanoseconds: u32,
    /// Bytes kept.
    pub(super) kept: u32,
    /// Bytes the frame had.
    pub(super) len: u32,
    pub(super) status: u32,
    /// Where the bytes start, counted from this header.
    pub(super) mac: u16,
    pub(super) network: u16,
    pub(super) hash: u32,
}
const _: () = assert!(size_of::<FrameHeader>() == 32);

impl FrameHeader {
    /// Bytes of all of it.
    pub(super) const WHOLE: usize = 48;
    /// Where the tag is described.
    pub(super) const TAG: usize = size_of::<Self>();
}
const _: () = assert!(size_of::<libc::tpacket3_hdr>() == FrameHeader::WHOLE);

/// The VLAN tag that the kernel took out of a frame: the last that a frame's header says (`struct tpacket_hdr_variant1`).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct FrameTag {
    pub(super) tci: u32,
    pub(super) tpid: u16,
    pub(super) padding: [u16; 5],
}
const _: () = assert!(FrameHeader::TAG + size_of::<FrameTag>() == FrameHeader::WHOLE);

/// Stands right before a frame's bytes (`struct virtio_net_hdr`): what a local sender left to
/// hardware.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Offloads {
    pub(super) flags: u8,
    pub(super) gso_type: u8,
    pub(super) header_len: u16,
    pub(super) gso_size: u16,
    pub(super) checksum_start: u16,
    pub(super) checksum_offset: u16,
}
const _: () = assert!(size_of::<Offloads>() == 10);

impl Offloads {
    /// The checksum is still to be filled in.
    pub(super) const NEEDS_CHECKSUM: u8 = 1;
    /// TCP over IPv4, to be cut.
    pub(super) const TCP4: u8 = 1;
    /// TCP over IPv6, to be cut.
    pub(super) const TCP6: u8 = 4;
    /// UDP datagrams of equal length, to be cut.
    pub(super) const UDP: u8 = 5;
    /// Congestion flags are in use.
    pub(super) const ECN: u8 = 0x80;
}

/// A slot of the transmit ring starts with this (`struct tpacket2_hdr`).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct SlotHeader {
    pub(super) status: u32,
    pub(super) len: u32,
    pub(super) kept: u32,
    pub(super) mac: u16,
    pub(super) network: u16,
    pub(super) seconds: u32,
    pub(super) nanoseconds: u32,
    pub(super) vlan_tci: u16,
    pub(super) vlan_tpid: u16,
    pub(super) padding: [u8; 4],
}
const _: () = assert!(size_of::<SlotHeader>() == 32);
const _: () = assert!(size_of::<libc::tpacket2_hdr>() == 32);

impl SlotHeader {
    /// Where the length stands in the slot.
    pub(super) const LEN: usize = 4;
    /// Where the frame starts in the slot: the header, aligned to 16.
    pub(super) const DATA: usize = 32;
}

/// Asks for a ring of version 2 (`struct tpacket_req`).
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct TxRingRequest {
    pub(super) block_size: u32,
    pub(super) blocks: u32,
    pub(super) slot_size: u32,
    pub(super) slots: u32,
}
const _: () = assert!(size_of::<TxRingRequest>() == size_of::<libc::tpacket_req>());

/// Asks for a ring of version 3 (`struct tpacket_req3`).
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct RxRingRequest {
    pub(super) block_size: u32,
    pub(super) blocks: u32,
    pub(super) slot_size: u32,
    pub(super) slots: u32,
    pub(super) timeout_ms: u32,
    pub(super) private: u32,
    pub(super) features: u32,
}
const _: () = assert!(size_of::<RxRingRequest>() == size_of::<libc::tpacket_req3>());

/// What the kernel counted since it was last asked (`struct tpacket_stats_v3`).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Statistics {
    /// Frames that came, those dropped included.
    pub(super) frames: u32,
    /// Frames for which the ring had no room.
    pub(super) drops: u32,
    /// Times the ring was found full.
    pub(super) freezes: u32,
}
const _: () = assert!(size_of::<Statistics>() == size_of::<libc::tpacket_stats_v3>());

/// The address of a packet socket (`struct sockaddr_ll`).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct LinkAddress {
    pub(super) family: u16,
    /// In network byte order.
    pub(super) protocol: u16,
    pub(super) index: i32,
    pub(super) hardware: u16,
    pub(super) kind: u8,
    pub(super) address_len: u8,
    pub(super) address: [u8; 8],
}
const _: () = assert!(size_of::<LinkAddress>() == size_of::<libc::sockaddr_ll>());

/// Membership of a socket in what an interface receives (`struct packet_mreq`).
#[derive(Clone, Copy, Debug, Default, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Membership {
    pub(super) index: i32,
    pub(super) kind: u16,
    pub(super) address_len: u16,
    pub(super) address: [u8; 8],
}
const _: () = assert!(size_of::<Membership>() == size_of::<libc::packet_mreq>());

/// The argument of interface ioctls (`struct ifreq`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct InterfaceRequest {
    pub(super) name: [u8; 16],
    pub(super) data: [u8; 24],
}
const _: () = assert!(size_of::<InterfaceRequest>() == size_of::<libc::ifreq>());

impl InterfaceRequest {
    /// The first bytes of the answer, as an integer.
    pub(super) fn integer(&self) -> i32 {
        let [a, b, c, d, ..] = self.data;
        i32::from_ne_bytes([a, b, c, d])
    }

    /// The first bytes of the answer, as a short integer.
    pub(super) fn short(&self) -> u16 {
        let [a, b, ..] = self.data;
        u16::from_ne_bytes([a, b])
    }
}
