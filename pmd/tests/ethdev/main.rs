//! Ports of DPDK's: virtual devices of this process, without hardware, hugepages or privileges. DPDK is
//! initialised once for all of them; what needs it otherwise runs in a process of its own.
#![cfg(feature = "dpdk")]

mod errors;
mod guest;
mod lanes;
mod lifecycle;
mod peer;
mod rig;
mod suite;
