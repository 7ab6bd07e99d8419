//! Where DPDK's drivers can cut frames (buffer split), in our words and theirs. Calls nothing but the question
//! which headers a driver knows.
#![allow(unsafe_code, reason = "asks DPDK")]

use std::ptr::null_mut;

use dpdk_sys as sys;

use super::port::Port;
use crate::{HardwareSplit, SplitAt, SplitConfig, SplitSupport};

/// Bytes that DPDK leaves free in front of what it receives (`RTE_PKTMBUF_HEADROOM`).
pub(super) const HEADROOM: usize = sys::MEMWIRE_HEADROOM as usize;

/// Where a frame is cut, as `rte_eth_rxseg_split` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// After that many bytes.
    After(u16),
    /// Behind these headers (`RTE_PTYPE_*`).
    Behind(u32),
}

/// What a port can do about header/data split.
///
/// A driver that names headers cuts behind those, and is not asked for lengths; one that names none cuts after
/// lengths.
pub(super) fn support(port: &Port) -> SplitSupport {
    let info = port.info();
    let can = info.rx_seg_capa;
    let splits = info.rx_offload_capa & sys::MEMWIRE_RX_BUFFER_SPLIT != 0;
    if !splits || can.multi_pools() == 0 || can.max_nseg < 2 {
        return SplitSupport::None;
    }
    let known = headers(port.id());
    let protocol = behind_transport(&known).is_some();
    if !known.is_empty() && !protocol {
        return SplitSupport::None;
    }
    SplitSupport::Hardware(HardwareSplit {
        longest_head: usize::from(u16::MAX) - HEADROOM,
        protocol,
        length_step: (!protocol).then_some(1),
        head_offset: HEADROOM,
        data_offset: if can.offset_allowed() == 0 { HEADROOM } else { 0 },
    })
}

/// Where a port that can ([`support`]) cuts, and how far into its buffer a payload starts.
///
/// # Errors
/// It cannot cut there, or not into such buffers.
pub(super) fn cut(port: &Port, config: &SplitConfig) -> Result<(Cut, u16), String> {
    let SplitConfig { heads, data, at, .. } = config;
    support(port).check(*at)?;
    if heads.headroom() != HEADROOM {
        let has = heads.headroom();
        return Err(format!(
            "leaves {HEADROOM} B free in front of each head, and the heads' pool has a headroom of {has} B; \
             build it with headroom({HEADROOM})"
        ));
    }
    let (can, headroom) = (port.info().rx_seg_capa, data.headroom());
    if can.offset_allowed() == 0 && headroom != HEADROOM {
        return Err(format!(
            "leaves {HEADROOM} B free in front of each payload, and the payloads' pool has a headroom of \
             {headroom} B; build it with headroom({HEADROOM})"
        ));
    }
    let step = 1usize << can.offset_align_log2();
    if headroom % step != 0 {
        return Err(format!(
            "takes a headroom in multiples of {step} B, and the payloads' pool has {headroom} B"
        ));
    }
    let offset = u16::try_from(headroom).unwrap_or(u16::MAX);
    match *at {
        SplitAt::Length(len) if len > heads.room() => {
            let room = heads.room();
            Err(format!("cannot put heads of {len} B into buffers with room for {room} B"))
        }
        SplitAt::Length(len) => Ok((Cut::After(u16::try_from(len).unwrap_or(u16::MAX)), offset)),
        SplitAt::Protocol { .. } => behind_transport(&headers(port.id()))
            .map(|headers| (Cut::Behind(headers), offset))
            .ok_or_else(|| "names no transport header any more".into()),
    }
}

/// The headers behind which a driver can cut.
fn headers(port: u16) -> Vec<u32> {
    // SAFETY: without places DPDK says how many there are.
    let count = unsafe { sys::rte_eth_buffer_split_get_supported_hdr_ptypes(port, null_mut(), 0) };
    let mut all = vec![0; usize::try_from(count).unwrap_or(0)];
    let places = i32::try_from(all.len()).unwrap_or(0);
    // SAFETY: as many places as are said.
    let count = unsafe {
        sys::rte_eth_buffer_split_get_supported_hdr_ptypes(port, all.as_mut_ptr(), places)
    };
    all.truncate(usize::try_from(count).unwrap_or(0));
    all
}

/// Of the headers that a driver names, those to cut behind for "behind the transport header": UDP over IPv4, not
/// in a tunnel. What drivers cut of frames with other transport headers is theirs: Intel's cut TCP and UDP alike.
fn behind_transport(known: &[u32]) -> Option<u32> {
    let is_plain_udp = |headers: &u32| {
        let l3 = headers & sys::MEMWIRE_PTYPE_L3;
        let is_ipv4 =
            [sys::MEMWIRE_PTYPE_IPV4, sys::MEMWIRE_PTYPE_IPV4_EXT, sys::MEMWIRE_PTYPE_IPV4_ANY]
                .contains(&l3);
        is_ipv4
            && headers & sys::MEMWIRE_PTYPE_L4 == sys::MEMWIRE_PTYPE_UDP
            && headers & sys::MEMWIRE_PTYPE_TUNNELS == 0
    };
    known.iter().copied().find(is_plain_udp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_udp_is_found_among_the_headers_that_a_driver_names() {
        let udp = sys::MEMWIRE_PTYPE_IPV4_ANY | sys::MEMWIRE_PTYPE_UDP;
        let ethernet = 1;
        let tcp = sys::MEMWIRE_PTYPE_IPV4_ANY | (sys::MEMWIRE_PTYPE_UDP >> 1);
        let in_tunnel =
            udp | sys::MEMWIRE_PTYPE_TUNNELS & sys::MEMWIRE_PTYPE_TUNNELS.wrapping_neg();
        assert_eq!(behind_transport(&[]), None);
        assert_eq!(behind_transport(&[ethernet, tcp, in_tunnel]), None);
        assert_eq!(
            behind_transport(&[ethernet, tcp, in_tunnel, ethernet | udp]),
            Some(ethernet | udp)
        );
        assert_eq!(behind_transport(&[udp]), Some(udp));
    }
}
