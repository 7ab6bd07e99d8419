//! Ports of DPDK's: virtual devices of this process, without hardware, hugepages or privileges, and with
//! DPDK's own application at the other end. DPDK is initialised once for all of them; what needs it otherwise
//! runs in a process of its own. With `MEMWIRE_FULL=1` more frames, and more peers killed.
#![cfg(feature = "dpdk")]

mod af_packet;
mod build_script;
mod errors;
mod flight;
mod guest;
#[path = "../netns/lab.rs"]
#[allow(dead_code, reason = "shared with other tests, which use other parts of it")]
mod lab;
mod lanes;
mod lifecycle;
mod model;
mod peer;
mod refusals;
mod rig;
mod silent;
mod split;
mod suite;
mod testpmd;
mod vhost;
