//! The release binaries on real PCI NICs, in the testbed's guest: emulated 82574L and 82576 behind an
//! IOMMU, driven through VFIO.
//!
//! Needs `cargo xtask testbed setup`, and says SKIP otherwise; needs `cargo build --release --bins`
//! before, and fails otherwise. `MEMWIRE_BIN_DIR` names another folder with the binaries. Figures are
//! printed: run with `--nocapture`.

mod apps;
mod bus;
mod conformance;
mod direct;
mod dmabuf;
mod doctor;
mod ethdev;
mod far;
mod flaps;
mod forward;
mod kills;
mod machine;
mod peers;
mod price;
mod probe;
mod providers;
mod revoke;
mod shared;
mod shortage;
mod strays;
mod traffic;
mod unplug;
mod unprivileged;
