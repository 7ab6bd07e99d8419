//! Receive and transmit bursts: one indirect call through `rte_eth_fp_ops` (rte_ethdev_core.h), as DPDK's own
//! inline functions do it, without the callbacks that an application can hang into a queue.
#![allow(unsafe_code, reason = "calls a driver's function through DPDK's exported table")]

use crate::{RTE_MAX_ETHPORTS, rte_mbuf};

/// Receives up to `count` packets of a queue into `packets`; returns how many.
///
/// # Safety
/// The port exists and is started, the queue is set up and nobody else receives from it meanwhile;
/// `packets` has room for `count` pointers.
#[inline(always)]
pub unsafe fn rx_burst(port: u16, queue: u16, packets: *mut *mut rte_mbuf, count: u16) -> u16 {
    debug_assert!(u32::from(port) < RTE_MAX_ETHPORTS, "port {port}");
    // SAFETY: ports that exist have a place in the table (caller).
    let ops = unsafe { table().add(usize::from(port)) };
    // SAFETY: as above; DPDK writes it only when the port starts and stops.
    let Some(receive) = (unsafe { (*ops).rx_pkt_burst }) else { return 0 };
    // SAFETY: as above.
    let queues = unsafe { (*ops).rxq.data };
    // The queue is set up (caller), so it has a place among the port's.
    let place = queues.wrapping_add(usize::from(queue));
    // SAFETY: as above; DPDK writes the places only when the port is set up.
    let queue = unsafe { place.read() };
    // SAFETY: a started queue, no second caller, room for `count` (caller).
    unsafe { receive(queue, packets, count) }
}

/// Sends up to `count` packets from the front of `packets`; returns how many the driver took.
///
/// # Safety
/// As for [`rx_burst`], of a transmit queue; `packets` are mbufs that the caller owns, and gives away as far
/// as they are taken.
#[inline(always)]
pub unsafe fn tx_burst(port: u16, queue: u16, packets: *mut *mut rte_mbuf, count: u16) -> u16 {
    debug_assert!(u32::from(port) < RTE_MAX_ETHPORTS, "port {port}");
    // SAFETY: ports that exist have a place in the table (caller).
    let ops = unsafe { table().add(usize::from(port)) };
    // SAFETY: as above; DPDK writes it only when the port starts and stops.
    let Some(transmit) = (unsafe { (*ops).tx_pkt_burst }) else { return 0 };
    // SAFETY: as above.
    let queues = unsafe { (*ops).txq.data };
    // The queue is set up (caller), so it has a place among the port's.
    let place = queues.wrapping_add(usize::from(queue));
    // SAFETY: as above; DPDK writes the places only when the port is set up.
    let queue = unsafe { place.read() };
    // SAFETY: a started queue, no second caller, `count` mbufs (caller).
    unsafe { transmit(queue, packets, count) }
}

/// The table's first entry.
#[inline(always)]
fn table() -> *const crate::rte_eth_fp_ops {
    (&raw const crate::bindings::rte_eth_fp_ops).cast()
}
