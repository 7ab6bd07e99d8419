//! What DPDK's flags and ours say of each other. Bits in, bits out.

use dpdk_sys as sys;
use mempool::{Meta, Offload, RxMeta};

/// What DPDK can find out about received frames, in our words.
pub(super) fn received(capabilities: u64) -> Offload {
    let has = |bits: u64| capabilities & bits == bits;
    let mut all = Offload::NONE;
    if has(sys::MEMWIRE_RX_IPV4_CKSUM) {
        all = all.with(Offload::RX_IP_CSUM_GOOD).with(Offload::RX_IP_CSUM_BAD);
    }
    if has(sys::MEMWIRE_RX_UDP_CKSUM | sys::MEMWIRE_RX_TCP_CKSUM) {
        all = all.with(Offload::RX_L4_CSUM_GOOD).with(Offload::RX_L4_CSUM_BAD);
    }
    if has(sys::MEMWIRE_RX_VLAN_STRIP) {
        all = all.with(Offload::RX_VLAN_STRIPPED);
    }
    if has(sys::MEMWIRE_RX_RSS_HASH) {
        all = all.with(Offload::RX_HASH);
    }
    all
}

/// What a port with so many receive queues is to be set up for: what is free always, tags only if asked. Hashes
/// come with several queues: DPDK refuses them where they choose none.
pub(super) fn to_receive(capabilities: u64, asked: Offload, queues: usize) -> u64 {
    let free = sys::MEMWIRE_RX_IPV4_CKSUM
        | sys::MEMWIRE_RX_UDP_CKSUM
        | sys::MEMWIRE_RX_TCP_CKSUM
        | sys::MEMWIRE_RX_SCATTER;
    let hashes = if queues > 1 { sys::MEMWIRE_RX_RSS_HASH } else { 0 };
    let tags = if asked.has(Offload::RX_VLAN_STRIPPED) { sys::MEMWIRE_RX_VLAN_STRIP } else { 0 };
    capabilities & (free | hashes | tags)
}

const SENT: [(Offload, u64); 5] = [
    (Offload::TX_VLAN_INSERT, sys::MEMWIRE_TX_VLAN_INSERT),
    (Offload::TX_IP_CSUM, sys::MEMWIRE_TX_IPV4_CKSUM),
    (Offload::TX_TCP_CSUM, sys::MEMWIRE_TX_TCP_CKSUM),
    (Offload::TX_UDP_CSUM, sys::MEMWIRE_TX_UDP_CKSUM),
    (Offload::TX_TCP_SEGMENT, sys::MEMWIRE_TX_TCP_TSO),
];

/// What DPDK can do to frames it sends, in our words.
pub(super) fn sent(capabilities: u64) -> Offload {
    let able = SENT.iter().filter(|(_, bit)| capabilities & bit != 0);
    able.fold(Offload::NONE, |all, (offload, _)| all.with(*offload))
}

/// What a port is to be set up for.
pub(super) fn to_send(capabilities: u64) -> u64 {
    let all = SENT.iter().fold(sys::MEMWIRE_TX_MULTI_SEGS, |all, (_, bit)| all | bit);
    capabilities & all
}

/// Whether flags, of one frame or of several together, say nothing of what was received.
#[inline(always)]
pub(super) fn is_silent(flags: u64) -> bool {
    flags & !sys::MEMWIRE_F_EXTERNAL == 0
}

/// What DPDK found out about a frame.
#[inline(always)]
pub(super) fn of_flags(flags: u64, vlan: u16, hash: u32) -> RxMeta {
    // Most frames of most drivers: nothing.
    if is_silent(flags) { RxMeta::default() } else { told(flags, vlan, hash) }
}

fn told(flags: u64, vlan: u16, hash: u32) -> RxMeta {
    let mut meta = RxMeta::default();
    let mut state = |offload: Offload| meta.offload = meta.offload.with(offload);
    match flags & sys::MEMWIRE_F_RX_IP_CKSUM_MASK {
        sys::MEMWIRE_F_RX_IP_CKSUM_GOOD => state(Offload::RX_IP_CSUM_GOOD),
        sys::MEMWIRE_F_RX_IP_CKSUM_BAD => state(Offload::RX_IP_CSUM_BAD),
        _ => {}
    }
    match flags & sys::MEMWIRE_F_RX_L4_CKSUM_MASK {
        sys::MEMWIRE_F_RX_L4_CKSUM_GOOD => state(Offload::RX_L4_CSUM_GOOD),
        sys::MEMWIRE_F_RX_L4_CKSUM_BAD => state(Offload::RX_L4_CSUM_BAD),
        _ => {}
    }
    if flags & sys::MEMWIRE_F_RX_VLAN_STRIPPED != 0 {
        state(Offload::RX_VLAN_STRIPPED);
        meta.vlan = vlan;
    }
    if flags & sys::MEMWIRE_F_RX_RSS_HASH != 0 {
        meta.offload = meta.offload.with(Offload::RX_HASH);
        meta.hash = hash;
    }
    meta
}

/// What a frame asks of its sender, as flags and lengths of an mbuf. `ethertype` is the frame's, behind its
/// tags: DPDK wants to know the version of IP.
pub(super) fn asked(meta: &Meta, is_v6: bool) -> (u64, u64) {
    let tx = meta.tx();
    let mut flags = 0;
    let asks = |offload| tx.offload.has(offload);
    if asks(Offload::TX_VLAN_INSERT) {
        flags |= sys::MEMWIRE_F_TX_VLAN;
    }
    if asks(Offload::TX_IP_CSUM) {
        flags |= sys::MEMWIRE_F_TX_IP_CKSUM;
    }
    // One field of two bits: at most one of them.
    if asks(Offload::TX_TCP_CSUM) {
        flags |= sys::MEMWIRE_F_TX_TCP_CKSUM;
    } else if asks(Offload::TX_UDP_CSUM) {
        flags |= sys::MEMWIRE_F_TX_UDP_CKSUM;
    }
    if asks(Offload::TX_TCP_SEGMENT) {
        flags |= sys::MEMWIRE_F_TX_TCP_SEG;
    }
    if flags & !sys::MEMWIRE_F_TX_VLAN != 0 {
        flags |= if is_v6 { sys::MEMWIRE_F_TX_IPV6 } else { sys::MEMWIRE_F_TX_IPV4 };
    }
    let lengths = u64::from(tx.l2_len) << sys::MEMWIRE_TX_L2_SHIFT
        | u64::from(tx.l3_len) << sys::MEMWIRE_TX_L3_SHIFT
        | u64::from(tx.l4_len) << sys::MEMWIRE_TX_L4_SHIFT
        | u64::from(tx.mss) << sys::MEMWIRE_TX_MSS_SHIFT;
    (flags, lengths)
}

#[cfg(test)]
mod tests {
    use mempool::{Cpu, Pool, TxMeta, heap::Heap};

    use super::*;

    #[test]
    fn what_dpdk_found_out_is_said_in_our_words() {
        let flags = sys::MEMWIRE_F_EXTERNAL
            | sys::MEMWIRE_F_RX_IP_CKSUM_GOOD
            | sys::MEMWIRE_F_RX_L4_CKSUM_BAD
            | sys::MEMWIRE_F_RX_VLAN_STRIPPED
            | sys::MEMWIRE_F_RX_RSS_HASH;
        let meta = of_flags(flags, 7, 0xabc);
        let names: Vec<_> = meta.offload.names().collect();
        assert_eq!(names, ["rx_ip_csum", "rx_l4_csum_bad", "rx_vlan_strip", "rx_hash"]);
        assert_eq!((meta.vlan, meta.hash), (7, 0xabc));
        assert!(of_flags(sys::MEMWIRE_F_EXTERNAL, 7, 1).offload.is_empty());
    }

    #[test]
    fn hashes_are_asked_for_with_several_queues_and_tags_on_request() {
        let all = u64::MAX;
        let one = to_receive(all, Offload::NONE, 1);
        assert_eq!(one & (sys::MEMWIRE_RX_RSS_HASH | sys::MEMWIRE_RX_VLAN_STRIP), 0);
        assert_eq!(to_receive(all, Offload::NONE, 2), one | sys::MEMWIRE_RX_RSS_HASH);
        let tags = to_receive(all, Offload::RX_VLAN_STRIPPED, 1);
        assert_eq!(tags, one | sys::MEMWIRE_RX_VLAN_STRIP);
        assert_eq!(to_receive(0, Offload::RX_VLAN_STRIPPED, 2), 0, "what there is");
    }

    #[test]
    fn what_a_frame_asks_is_said_in_dpdks_words() {
        let pool = Pool::<Cpu>::builder().slots(64).memory(&Heap::new()).build().unwrap();
        let mut frame = pool.cache().take_one().unwrap();
        let offload = Offload::TX_TCP_SEGMENT.with(Offload::TX_TCP_CSUM).with(Offload::TX_IP_CSUM);
        let tx = TxMeta { offload, vlan: 0, l2_len: 14, l3_len: 20, l4_len: 20, mss: 1460 };
        frame.frame_mut().ask(&tx);
        let (flags, lengths) = asked(frame.frame().meta(), false);
        let all =
            sys::MEMWIRE_F_TX_TCP_SEG | sys::MEMWIRE_F_TX_TCP_CKSUM | sys::MEMWIRE_F_TX_IP_CKSUM;
        assert_eq!(flags, all | sys::MEMWIRE_F_TX_IPV4);
        // struct rte_mbuf: l2_len has 7 bits, l3_len 9, l4_len 8, tso_segsz 16.
        assert_eq!(lengths, 14 | 20 << 7 | 20 << 16 | 1460 << 24);
        assert_eq!(sent(sys::MEMWIRE_TX_TCP_TSO), Offload::TX_TCP_SEGMENT);
    }
}
