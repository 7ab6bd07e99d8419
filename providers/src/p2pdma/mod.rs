//! Memory of another PCI device: a range of one of its BARs, carved into regions, which NICs reach by
//! peer-to-peer DMA. Knows BARs and ranges; knows no NIC, and maps nothing for one.
//!
//! What a region is called for others ([`Backing::Bar`]) has all of its names: where it is in the BAR, where on
//! the bus, and a dma-buf of exactly its bytes where VFIO could export one.
#![expect(clippy::disallowed_types, reason = "control plane: BARs are carved when pools are built")]

mod memory;
mod source;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mempool::{CpuAccess, Provider, ProviderError, ProviderInfo, Region, RegionRequest};
use vfio::{
    Iommu,
    pci::{Address, Sysfs},
};

use self::{memory::BarMemory, source::Source};
use crate::{Revocable, Revocations, carve::Carver, request};

/// Bytes of a page of a BAR: what the IOMMU and `mmap` count in.
const PAGE: usize = 4096;

/// Which part of a BAR, and how it may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BarOptions {
    /// Where the part begins, in bytes; a multiple of 4096.
    pub offset: u64,
    /// Its bytes; up to the end of the BAR if none.
    pub len: Option<u64>,
    /// Whether a BAR that is not prefetchable will do: its bytes may be registers.
    pub allow_non_prefetchable: bool,
    /// Whether the CPU has no way in at all: then nothing can be copied there, and only iommufd can map it.
    pub without_cpu: bool,
}

/// Hands out regions of a BAR.
#[derive(Debug)]
pub struct P2pDma {
    name: String,
    shared: Arc<Shared>,
    options: BarOptions,
    revocations: Revocations,
}

/// What regions hold on to.
#[derive(Debug)]
struct Shared {
    source: Source,
    carver: Mutex<Carver>,
}

impl Shared {
    fn carver(&self) -> MutexGuard<'_, Carver> {
        self.carver.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl P2pDma {
    /// A BAR of a function that is bound to vfio-pci, opened into that address space.
    ///
    /// # Errors
    /// The function cannot be opened, or the BAR is not memory that can be shared; the text says what it is
    /// and what to do.
    pub fn vfio(
        sysfs: &Sysfs,
        address: Address,
        bar: u8,
        iommu: &Iommu,
        options: BarOptions,
    ) -> Result<Self, ProviderError> {
        let name = format!("p2p:{address}/bar{bar}");
        let source = Source::vfio(&name, sysfs, address, bar, iommu, &options)?;
        let end = options.len.map_or(source.size(), |len| options.offset.saturating_add(len));
        if options.offset % PAGE as u64 != 0 || end > source.size() || options.offset >= end {
            let why = format!(
                "bytes {:#x}..{end:#x} are asked for, and the BAR has {:#x}; whole pages of 4096 within it \
                 can be had",
                options.offset,
                source.size()
            );
            return Err(ProviderError::BadRequest { provider: name, why });
        }
        let end = end / PAGE as u64 * PAGE as u64;
        let carver = Mutex::new(Carver::new(options.offset..end));
        let shared = Arc::new(Shared { source, carver });
        Ok(Self { name, shared, options, revocations: Revocations::default() })
    }

    /// Bytes handed out and not given back.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.shared.carver().used()
    }

    /// Regions handed out whose memory still exists.
    #[must_use]
    pub fn live(&self) -> usize {
        self.revocations.live()
    }
}

impl Provider for P2pDma {
    fn info(&self) -> ProviderInfo {
        ProviderInfo {
            name: self.name.clone(),
            cpu_access: CpuAccess::None,
            page_size: PAGE,
            available: Some(self.shared.carver().largest()),
            numa_node: self.shared.source.numa_node(),
        }
    }

    fn alloc(&self, request: &RegionRequest) -> Result<Region, ProviderError> {
        self.revocations.check(&self.name)?;
        let len = request::check(&self.name, request, PAGE)?;
        let memory = BarMemory::carve(&self.name, &self.shared, len, request.align, &self.options)?;
        tracing::debug!(provider = %self.name, region = %request.name, len, "handed out");
        self.revocations.track(&self.name, Region::new(memory))
    }
}

impl Revocable for P2pDma {
    fn revoke(&self) -> usize {
        self.revocations.revoke()
    }
}
