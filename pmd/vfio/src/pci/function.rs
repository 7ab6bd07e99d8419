//! One function, as its folder in sysfs describes it.

use super::{Address, Sysfs};
use crate::Result;

/// A PCI function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Where it stands.
    pub address: Address,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Subsystem vendor and device.
    pub subsystem: (u16, u16),
    /// What it is.
    pub class: Class,
    /// Revision id.
    pub revision: u8,
    /// NUMA node; none where the firmware does not say (the kernel's -1).
    pub numa_node: Option<u32>,
    /// The IOMMU group; none without an IOMMU.
    pub iommu_group: Option<u32>,
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// BARs (0–5), expansion ROM (6), and windows of bridges.
    pub resources: Vec<Resource>,
    /// Network interfaces: its own, or of a virtio device below it.
    pub interfaces: Vec<String>,
}

/// Base class, subclass and programming interface: `0x020000` is an Ethernet controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class(pub u32);

/// One line of `resource`: a BAR, or another window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// First bus address.
    pub start: u64,
    /// Last bus address.
    pub end: u64,
    /// `IORESOURCE_*` of `<linux/ioport.h>`.
    pub flags: u64,
}

impl Function {
    /// Reads one function.
    ///
    /// # Errors
    /// There is none there, or its files do not say what they should.
    pub fn read(sysfs: &Sysfs, address: Address) -> Result<Self> {
        let _ = (sysfs, address);
        todo!()
    }
}
