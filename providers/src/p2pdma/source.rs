//! Who lets us use a BAR, and what is known of it.
#![expect(clippy::disallowed_types, reason = "control plane: asked when pools are built")]

use std::{os::fd::OwnedFd, ptr::NonNull};

use mempool::ProviderError;
use vfio::{
    Bar, Device, Iommu,
    pci::{Address, Function, Sysfs},
};

use super::BarOptions;

/// A BAR that may be shared.
#[derive(Debug)]
pub(super) struct Source {
    device: Device,
    /// Its mapping, if the CPU may have one.
    mapped: Option<Bar>,
    index: u8,
    size: u64,
    /// Where it is on the bus.
    bus_address: u64,
    numa_node: Option<u32>,
}

impl Source {
    /// By VFIO: the function is ours while the source lives.
    pub(super) fn vfio(
        name: &str,
        sysfs: &Sysfs,
        address: Address,
        index: u8,
        iommu: &Iommu,
        options: &BarOptions,
    ) -> Result<Self, ProviderError> {
        let bad = |why: String| ProviderError::BadRequest { provider: name.to_owned(), why };
        let refused = |error: vfio::Error| bad(error.to_string());
        let function = Function::read(sysfs, address).map_err(refused)?;
        let resource = function.resources.get(usize::from(index)).copied().unwrap_or_default();
        if resource.is_memory() && !resource.is_prefetchable() && !options.allow_non_prefetchable {
            return Err(bad(format!(
                "{address} BAR{index}: not prefetchable: its bytes may be registers, and reads may have \
                 effects; add allow-nonpref if it is memory all the same"
            )));
        }
        let device = Device::open(sysfs, address, iommu).map_err(refused)?;
        // Says what is wrong with I/O ports, and with a BAR that is not there.
        let mapped = device.bar(index).map_err(refused)?;
        let size = mapped.size();
        let mapped = (!options.without_cpu).then_some(mapped);
        let (bus_address, numa_node) = (resource.start, function.numa_node);
        Ok(Self { device, mapped, index, size, bus_address, numa_node })
    }

    /// Bytes of the BAR.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn address(&self) -> Address {
        self.device.address()
    }

    pub(super) fn index(&self) -> u8 {
        self.index
    }

    /// Where a byte of the BAR is on the bus.
    pub(super) fn bus_address(&self, offset: u64) -> u64 {
        self.bus_address + offset
    }

    pub(super) fn numa_node(&self) -> Option<u32> {
        self.numa_node
    }

    /// The CPU's way to a part, if there is one.
    pub(super) fn window(&self, offset: u64, len: u64) -> Option<NonNull<u8>> {
        self.mapped.as_ref()?.window(offset, len)
    }

    /// A dma-buf of a part, if the kernel makes one.
    pub(super) fn export(&self, offset: u64, len: u64) -> Option<OwnedFd> {
        let exported = self.device.export(self.index, offset, len);
        exported.inspect_err(|error| tracing::debug!(%error, "no dma-buf")).ok()
    }
}
