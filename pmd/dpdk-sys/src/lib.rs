//! The system's libdpdk: what `memwire-pmd` calls of it, as bindgen sees it. Knows nothing of memwire, and
//! decides nothing.
//!
//! Functions that DPDK's headers define `static inline` are not bound. The two hot ones, `rx_burst` and
//! `tx_burst`, are written here over the exported table `rte_eth_fp_ops`; fields of an mbuf, which stand
//! in unnamed unions and move between releases, are reached by offsets that the C compiler computed.
//!
//! Without the feature `system` this crate is empty.

#[cfg(feature = "system")]
mod bindings;
#[cfg(feature = "system")]
mod burst;
#[cfg(feature = "system")]
pub mod mbuf;

#[cfg(feature = "system")]
pub use self::{
    bindings::*,
    burst::{rx_burst, tx_burst},
};
