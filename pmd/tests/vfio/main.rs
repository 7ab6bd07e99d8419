//! The e1000 drivers on real functions: in the testbed's guest, or on a machine that has the NICs.
//! `MEMWIRE_PCI=01:00.0,02:00.0` names pairs of functions that are bound to vfio-pci and wired back to
//! back; without it every test says SKIP. `MEMWIRE_IOMMU=type1` leaves out iommufd. Needs the VFIO nodes, no other privilege.
//!
//! ```text
//! cargo test -p memwire-pmd --test vfio --no-run
//! cargo xtask testbed run -t pairs --bind e1000e0,e1000e1,igb0,igb1 -- \
//!     env MEMWIRE_PCI=01:00.0,02:00.0,03:00.0,04:00.0 target/debug/deps/vfio-… --test-threads 1
//! ```

mod lifecycle;
mod rate;
mod rig;

mod stray;
mod suite;
