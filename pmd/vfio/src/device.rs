//! A PCI function in our hands.

use std::{os::fd::OwnedFd, sync::Arc};

use crate::{
    Bar, DmaBlock, Iommu, Result,
    pci::{Address, Function, Sysfs},
};

/// An open device. Dropping it turns bus mastering and interrupts off, then gives it back.
#[derive(Debug)]
pub struct Device {
    iommu: Iommu,
}

/// What the kernel says about a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notices {
    /// Somebody wants it back (unplugged, unbound): close it soon, and touch its files no more.
    pub removal: bool,
    /// The bus reported an error of it (PCIe AER).
    pub error: bool,
}

/// A region of a device: a BAR, or its configuration space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Bytes.
    pub size: u64,
    /// Whether parts of it can be mapped.
    pub is_mappable: bool,
    /// Which parts, if not all: offset and bytes.
    pub windows: Option<Vec<(u64, u64)>>,
}

impl Device {
    /// Opens a function that is bound to vfio-pci, into an address space. Memory decode is on, bus
    /// mastering off.
    ///
    /// # Errors
    /// It is not there, not bound, in a group that is not viable, not permitted, or in use.
    pub fn open(sysfs: &Sysfs, address: Address, iommu: &Iommu) -> Result<Self> {
        let _ = (sysfs, address, iommu);
        todo!()
    }

    /// What it was when it was opened. Reads no file.
    #[must_use]
    pub fn function(&self) -> &Function {
        todo!()
    }

    /// Where it stands.
    #[must_use]
    pub fn address(&self) -> Address {
        self.function().address
    }

    /// Its address space.
    #[must_use]
    pub fn iommu(&self) -> &Iommu {
        &self.iommu
    }

    /// What the kernel says of a region: 0–5 are the BARs, 7 the configuration space.
    ///
    /// # Errors
    /// There is none.
    pub fn region(&self, index: u32) -> Result<Region> {
        let _ = index;
        todo!()
    }

    /// The registers or the memory behind BAR 0–5.
    ///
    /// # Errors
    /// I/O ports, size 0, or the kernel refused.
    pub fn bar(&self, index: u8) -> Result<Bar> {
        let _ = index;
        todo!()
    }

    /// Reads configuration space.
    ///
    /// # Errors
    /// Beyond its end, or the device is gone.
    pub fn read_config(&self, offset: u16, bytes: &mut [u8]) -> Result<()> {
        let _ = (offset, bytes);
        todo!()
    }

    /// Writes configuration space, as far as VFIO lets it through.
    ///
    /// # Errors
    /// Beyond its end, or the device is gone.
    pub fn write_config(&mut self, offset: u16, bytes: &[u8]) -> Result<()> {
        let _ = (offset, bytes);
        todo!()
    }

    /// Lets the device read and write memory, or stops it.
    ///
    /// # Errors
    /// The configuration space cannot be written.
    pub fn set_bus_master(&mut self, on: bool) -> Result<()> {
        let _ = on;
        todo!()
    }

    /// Resets the function. DMA has stopped when this returns: bus mastering is off, memory decode on.
    ///
    /// # Errors
    /// It cannot be reset alone, or did not come back.
    pub fn reset(&mut self) -> Result<()> {
        todo!()
    }

    /// Turns `vectors` MSI-X interrupts on, each with an eventfd that becomes readable; turns off those
    /// that were on.
    ///
    /// # Errors
    /// The function has fewer.
    pub fn enable_msix(&mut self, vectors: usize) -> Result<Vec<Arc<OwnedFd>>> {
        let _ = vectors;
        todo!()
    }

    /// As [`enable_msix`](Self::enable_msix), with MSI where the function has no or too few MSI-X.
    ///
    /// # Errors
    /// The function has fewer of both.
    pub fn enable_interrupts(&mut self, vectors: usize) -> Result<Vec<Arc<OwnedFd>>> {
        let _ = vectors;
        todo!()
    }

    /// Turns message-signalled interrupts off.
    ///
    /// # Errors
    /// The device is gone.
    pub fn disable_interrupts(&mut self) -> Result<()> {
        todo!()
    }

    /// What the kernel had to say since it was asked last. Never waits; one read each.
    pub fn notices(&mut self) -> Notices {
        todo!()
    }

    /// Zeroed memory in pages that hold nothing else, mapped for the device.
    ///
    /// # Errors
    /// No memory, or it cannot be mapped.
    pub fn dma_block(&self, bytes: usize) -> Result<DmaBlock> {
        let _ = bytes;
        todo!()
    }
}
