//! A function on VFIO, as drivers see a bus. Passes on, and gives the kernel's answers their types here;
//! knows no NIC.

use std::{any::Any, io, os::fd::OwnedFd, sync::Arc};

use vfio::{
    Bar, Device,
    pci::{Address, Sysfs},
};

use super::{Bus, Mmio, Notices, SharedMemory, VfioMapper};
use crate::Iova;

impl Mmio for Bar {
    #[inline(always)]
    fn read(&self, offset: u32) -> u32 {
        self.read32(offset)
    }

    #[inline(always)]
    fn write(&self, offset: u32, value: u32) {
        self.write32(offset, value);
    }
}

/// One function that is bound to vfio-pci.
pub struct VfioBus {
    registers: Bar,
    /// Before the address space, which it is in.
    device: Device,
    mapper: VfioMapper,
    address: String,
    numa_node: Option<u32>,
    _keep: Box<dyn Any + Send>,
}

impl VfioBus {
    /// Opens a function into `mapper`'s address space; its BAR 0 must hold `registers` bytes. `keep` is
    /// dropped with it.
    ///
    /// # Errors
    /// The function is not there, not bound, not permitted, in use, or not what it should be.
    pub fn open(
        sysfs: &Sysfs,
        address: Address,
        mapper: VfioMapper,
        registers: u64,
        keep: impl Any + Send,
    ) -> vfio::Result<Self> {
        let device = Device::open(sysfs, address, mapper.iommu())?;
        let registers = device.bar(0)?.at_least(registers)?;
        let numa_node = device.function().numa_node;
        let (address, keep) = (address.to_string(), Box::new(keep));
        Ok(Self { registers, device, mapper, address, numa_node, _keep: keep })
    }
}

impl Bus for VfioBus {
    type Mmio = Bar;
    type Mapper = VfioMapper;

    fn address(&self) -> &str {
        &self.address
    }

    fn numa_node(&self) -> Option<u32> {
        self.numa_node
    }

    fn mmio(&self) -> Bar {
        self.registers.clone()
    }

    fn mapper(&self) -> VfioMapper {
        self.mapper.clone()
    }

    fn share(&self, bytes: usize) -> io::Result<SharedMemory> {
        let block = self.device.dma_block(bytes)?;
        let (base, iova, len) = (block.base(), Iova(block.iova()), block.len());
        Ok(SharedMemory::new(base, iova, len, block))
    }

    fn set_bus_master(&mut self, on: bool) -> io::Result<()> {
        Ok(self.device.set_bus_master(on)?)
    }

    fn reset(&mut self) -> io::Result<()> {
        Ok(self.device.reset()?)
    }

    fn interrupts(&mut self, vectors: usize) -> io::Result<Vec<Arc<OwnedFd>>> {
        if vectors == 0 {
            self.device.disable_interrupts()?;
            return Ok(Vec::new());
        }
        Ok(self.device.enable_msix(vectors)?)
    }

    fn notices(&mut self) -> Notices {
        let vfio::Notices { removal, error } = self.device.notices();
        Notices { removal, error }
    }
}
