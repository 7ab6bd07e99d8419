//! Real functions, by vfio-pci: in the testbed's guest, or on a machine that has the NICs. `MEMWIRE_DPDK` names
//! pairs of functions that are bound to vfio-pci and wired back to back; without it the tests say SKIP. DPDK
//! is initialised on hugepages here, so these tests run without the others, one at a time:
//! `--test-threads=1 guest::`.

mod frames;
mod rig;
mod sharing;
mod suite;
