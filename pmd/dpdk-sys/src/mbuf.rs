//! The fields of an mbuf that memwire reads and writes, as pointers: nothing is dereferenced here, so nothing
//! is unsafe. Offsets are the C compiler's.

use std::ffi::c_void;

use crate::{
    MEMWIRE_MBUF_SIZE, MEMWIRE_OFF_BUF_ADDR, MEMWIRE_OFF_BUF_IOVA, MEMWIRE_OFF_BUF_LEN,
    MEMWIRE_OFF_DATA_LEN, MEMWIRE_OFF_DATA_OFF, MEMWIRE_OFF_HASH_RSS, MEMWIRE_OFF_NB_SEGS,
    MEMWIRE_OFF_NEXT, MEMWIRE_OFF_OL_FLAGS, MEMWIRE_OFF_PKT_LEN, MEMWIRE_OFF_POOL,
    MEMWIRE_OFF_PORT, MEMWIRE_OFF_PRIV_SIZE, MEMWIRE_OFF_REFCNT, MEMWIRE_OFF_SHINFO,
    MEMWIRE_OFF_TX_OFFLOAD, MEMWIRE_OFF_VLAN_TCI, rte_mbuf, rte_mbuf_ext_shared_info, rte_mempool,
};

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident: $kind:ty = $offset:ident;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        #[must_use]
        pub const fn $name(mbuf: *mut rte_mbuf) -> *mut $kind {
            const {
                assert!(($offset as usize).is_multiple_of(align_of::<$kind>()));
                assert!($offset as usize + size_of::<$kind>() <= MEMWIRE_MBUF_SIZE as usize);
            }
            mbuf.cast::<u8>().wrapping_add($offset as usize).cast()
        }
    )*};
}

const _: () = assert!(size_of::<rte_mbuf>() == MEMWIRE_MBUF_SIZE as usize);
const _: () = assert!(MEMWIRE_OFF_NB_SEGS == MEMWIRE_OFF_REFCNT + 2);

fields! {
    /// Start of the segment's buffer.
    buf_addr: *mut c_void = MEMWIRE_OFF_BUF_ADDR;
    /// The same, as a device sees it.
    buf_iova: u64 = MEMWIRE_OFF_BUF_IOVA;
    /// Where the data starts in the buffer, in bytes.
    data_off: u16 = MEMWIRE_OFF_DATA_OFF;
    /// Who refers to it.
    refcnt: u16 = MEMWIRE_OFF_REFCNT;
    /// Segments of the packet.
    nb_segs: u16 = MEMWIRE_OFF_NB_SEGS;
    /// `refcnt` and `nb_segs`, for one look at both.
    counts: [u16; 2] = MEMWIRE_OFF_REFCNT;
    /// The port it came in by.
    port: u16 = MEMWIRE_OFF_PORT;
    /// `RTE_MBUF_F_…`.
    ol_flags: u64 = MEMWIRE_OFF_OL_FLAGS;
    /// Bytes of the packet.
    pkt_len: u32 = MEMWIRE_OFF_PKT_LEN;
    /// Bytes of the segment.
    data_len: u16 = MEMWIRE_OFF_DATA_LEN;
    /// Tag that was stripped, or is to be inserted.
    vlan_tci: u16 = MEMWIRE_OFF_VLAN_TCI;
    /// RSS hash.
    hash_rss: u32 = MEMWIRE_OFF_HASH_RSS;
    /// Bytes of the buffer.
    buf_len: u16 = MEMWIRE_OFF_BUF_LEN;
    /// Where it goes when it is freed.
    pool: *mut rte_mempool = MEMWIRE_OFF_POOL;
    /// The next segment.
    next: *mut rte_mbuf = MEMWIRE_OFF_NEXT;
    /// Lengths of headers and of segments to cut, by bits.
    tx_offload: u64 = MEMWIRE_OFF_TX_OFFLOAD;
    /// Whose memory an external buffer is.
    shinfo: *mut rte_mbuf_ext_shared_info = MEMWIRE_OFF_SHINFO;
    /// Bytes behind the mbuf that are the application's.
    priv_size: u16 = MEMWIRE_OFF_PRIV_SIZE;
}
