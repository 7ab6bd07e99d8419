//! PCI functions as sysfs shows them, and VFIO: devices, BARs, interrupts and address spaces. Opens,
//! maps and exports; knows neither pools nor NICs.
//!
//! One [`Iommu`] is one address space; the devices that are opened into it see the same memory at the
//! same addresses. A [`Device`] holds on to its address space, so teardown has one order: mappings,
//! device, group or character device, container.
//!
//! ```no_run
//! use vfio::{Device, Iommu, Kind, pci::Sysfs};
//! # fn main() -> Result<(), vfio::Error> {
//! let iommu = Iommu::new(Kind::Auto);
//! let mut device = Device::open(&Sysfs::system(), "0000:01:00.0".parse()?, &iommu)?;
//! let registers = device.bar(0)?.at_least(128 << 10)?;
//! let status = registers.read32(0x8);
//! let ring = device.dma_block(4096)?;
//! device.set_bus_master(true)?;
//! # let _ = (status, ring.iova());
//! # Ok(())
//! # }
//! ```

mod abi;
mod bar;
mod device;
mod dma;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod guard;
mod interrupts;
mod iommu;
pub mod pci;
mod resource;
mod sys;
pub mod topology;

pub use bar::Bar;
pub use device::{Device, Notices, Region};
pub use dma::DmaBlock;
pub use error::Error;
pub use iommu::{Access, Iommu, Kind, UnsafeDmaAccepted};

/// What this crate's functions yield.
pub type Result<T, E = Error> = std::result::Result<T, E>;
