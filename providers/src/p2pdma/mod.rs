//! Memory of another PCI device: a range of one of its BARs, carved into regions, which NICs reach by
//! peer-to-peer DMA. Knows BARs and ranges; knows no NIC, and maps nothing for one.
//!
//! What a region is called for others ([`mempool::Backing::Bar`]) has all of its names: where it is in the BAR,
//! where on the bus, and a dma-buf of exactly its bytes where VFIO could export one.
//!
//! A BAR's memory arrives as the device has it, **not zeroed**: writing gigabytes over a bus takes seconds, what
//! is there may be its owner's, and readers of device memory read only what they were told was written.
//!
//! The device may go at any time: [`P2pDma::check`], called now and then off the packet path, sees that and takes
//! every region back; the device is closed when the last of them is given up, which
//! [`P2pDma::wait_released`] waits for.
#![expect(clippy::disallowed_types, reason = "control plane: BARs are carved when pools are built")]

mod check;
mod memory;
mod p2pmem;
mod source;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use mempool::{
    CpuAccess, Provider, ProviderError, ProviderInfo, Region, RegionRequest, format_bytes,
};
use vfio::{
    Iommu,
    pci::{Address, Sysfs},
};

use self::{
    check::{Part, Way},
    memory::BarMemory,
    source::Source,
    watch::{Ended, Ending, HEADER},
};
pub use self::{p2pmem::P2pMem, watch::Cause};
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
    numa_node: Option<u32>,
    hold: Mutex<Hold>,
    shared: Weak<Shared>,
    ended: Ended,
    revocations: Revocations,
}

/// What keeps the BAR open for more regions.
#[derive(Debug)]
enum Hold {
    Open(Arc<Shared>),
    /// Regions alone keep it now.
    Closed(Cause),
}

/// What regions hold on to.
#[derive(Debug)]
struct Shared {
    source: Source,
    carver: Mutex<Carver>,
    address: Address,
    index: u8,
    /// Where the BAR is on the bus.
    bus_address: u64,
    numa_node: Option<u32>,
    /// How the function was when it was opened.
    before: [u8; HEADER],
    /// What was the end of it, seen by whichever provider looked first.
    end: OnceLock<Cause>,
    /// Last, when the source is closed.
    ending: Ending,
}

impl Shared {
    fn carver(&self) -> MutexGuard<'_, Carver> {
        self.carver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has become of the device.
    fn look(&self) -> Option<Cause> {
        let source = &self.source;
        let vanished = || source.has_vanished().then_some(Cause::Vanished);
        let judged = || watch::judge(&self.before, source.header().as_ref(), self.index);
        // A device that is wanted back is left alone.
        source.told().or_else(judged).or_else(vanished)
    }
}

/// How much of a BAR is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that may be handed out in all; 0 once the provider was revoked and every region went.
    pub capacity: u64,
    /// Bytes that are out.
    pub used: u64,
    /// Bytes of the largest region that could be had.
    pub largest: u64,
    /// Regions that are out.
    pub regions: usize,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [used, capacity, largest] = [self.used, self.capacity, self.largest].map(format_bytes);
        write!(f, "{used} of {capacity} in {} regions, {largest} in one piece left", self.regions)
    }
}

/// Regions are still in use, and with them the device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{provider}: still in use after {} ms by {regions} of its regions, so that the device stays open: stop \
     the queues that receive there, and drop the pools made of it",
    .limit.as_millis()
)]
pub struct StillInUse {
    /// Whose regions.
    pub provider: String,
    /// How many.
    pub regions: usize,
    /// How long was waited.
    pub limit: Duration,
}

impl P2pDma {
    /// A BAR of a function that is bound to vfio-pci, opened into that address space.
    ///
    /// # Errors
    /// The function cannot be opened, or the BAR is not memory that can be shared; the text says what it is
    /// and what to do. Nothing is held then.
    pub fn vfio(
        sysfs: &Sysfs,
        address: Address,
        bar: u8,
        iommu: &Iommu,
        options: BarOptions,
    ) -> Result<Self, ProviderError> {
        let (name, at) = (name_of(address, bar), (address, bar));
        let part = check::part(&name, sysfs, at, &options, Way::Vfio)?;
        let source = Source::vfio(&name, sysfs, at, iommu, &options, &part.range)?;
        Self::new(name, at, &part, source)
    }

    /// A BAR by its file in sysfs, `resourceN_wc` or `resourceN`: of a function that no driver has, or one that is
    /// bound to vfio-pci and that nobody resets meanwhile. As root. There is no dma-buf of it, so that iommufd
    /// cannot map it; type1 can, and without an IOMMU its address on the bus serves.
    ///
    /// # Errors
    /// As [`vfio`](Self::vfio); or memory decode is off, or the function is asleep.
    pub fn sysfs(
        sysfs: &Sysfs,
        address: Address,
        bar: u8,
        options: BarOptions,
    ) -> Result<Self, ProviderError> {
        let (name, at) = (name_of(address, bar), (address, bar));
        let part = check::part(&name, sysfs, at, &options, Way::Sysfs)?;
        let source = Source::sysfs(&name, sysfs, at)?;
        Self::new(name, at, &part, source)
    }

    fn new(
        name: String,
        (address, index): (Address, u8),
        part: &Part,
        source: Source,
    ) -> Result<Self, ProviderError> {
        let Some(before) = source.header() else {
            let why = "its configuration space cannot be read: the device is gone, or broken";
            return Err(ProviderError::BadRequest { provider: name, why: why.to_owned() });
        };
        let shared = Shared {
            source,
            carver: Mutex::new(Carver::new(part.range.clone())),
            address,
            index,
            bus_address: part.bus_address,
            numa_node: part.numa_node,
            before,
            end: OnceLock::new(),
            ending: Ending::default(),
        };
        Ok(Self::of(name, Arc::new(shared)))
    }

    fn of(name: String, shared: Arc<Shared>) -> Self {
        Self {
            name,
            numa_node: shared.numa_node,
            ended: shared.ending.watcher(),
            shared: Arc::downgrade(&shared),
            hold: Mutex::new(Hold::Open(shared)),
            revocations: Revocations::default(),
        }
    }

    /// Another provider of the same bytes, with revocations of its own, while the device is open: for whoever
    /// resumes after [`revoke`](Revocable::revoke) while regions of before are still out, which keep others from
    /// opening the function anew.
    ///
    /// # Errors
    /// The device is closed, or its memory was what failed.
    pub fn again(&self) -> Result<Self, ProviderError> {
        let shared = self.shared.upgrade().filter(|shared| shared.end.get().is_none());
        let shared =
            shared.ok_or_else(|| ProviderError::Revoked { provider: self.name.clone() })?;
        Ok(Self::of(self.name.clone(), shared))
    }

    /// How much of it is in use.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let Some(shared) = self.shared.upgrade() else { return Usage::default() };
        let carver = shared.carver();
        Usage {
            capacity: carver.capacity(),
            used: carver.used(),
            largest: if self.cause().is_none() { carver.largest() } else { 0 },
            regions: carver.parts(),
        }
    }

    /// Bytes handed out and not given back.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.usage().used
    }

    /// Regions handed out whose memory still exists.
    #[must_use]
    pub fn live(&self) -> usize {
        self.revocations.live()
    }

    /// Looks after the device, in a few microseconds and without waiting: for the main thread of an app, every
    /// 10 ms or so. If its memory can no longer be used, every region is revoked, once, and the cause is told
    /// then and ever after.
    ///
    /// A reset by somebody else that puts everything back within one interval is not seen: the kernel says nothing
    /// of it, and the memory is where it was.
    pub fn check(&self) -> Option<Cause> {
        let cause = match &*self.hold() {
            Hold::Closed(cause) => return Some(*cause),
            Hold::Open(shared) => {
                let known = shared.end.get().copied();
                let cause = known.or_else(|| shared.look())?;
                *shared.end.get_or_init(|| cause)
            }
        };
        self.close(cause);
        Some(cause)
    }

    /// Why regions were revoked, if they were.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        match &*self.hold() {
            Hold::Closed(cause) => Some(*cause),
            Hold::Open(_) => None,
        }
    }

    /// Revoked, waits until the last region has been given up and the device is closed: then nothing of ours can
    /// reach it. Nobody waits longer than `limit`.
    ///
    /// # Errors
    /// Regions are still in use; or the provider was not revoked.
    pub fn wait_released(&self, limit: Duration) -> Result<(), StillInUse> {
        if self.ended.wait(limit) {
            return Ok(());
        }
        Err(StillInUse { provider: self.name.clone(), regions: self.live(), limit })
    }

    /// Takes all regions back, and lets go of the device.
    fn close(&self, cause: Cause) -> usize {
        let revoked = self.revocations.revoke();
        let mut hold = self.hold();
        if let Hold::Closed(_) = *hold {
            return revoked;
        }
        let before = std::mem::replace(&mut *hold, Hold::Closed(cause));
        drop(hold);
        tracing::warn!(provider = %self.name, %cause, regions = revoked, "memory revoked");
        // Without the lock: it may be the last to hold the device, which is closed then.
        drop(before);
        revoked
    }

    fn hold(&self) -> MutexGuard<'_, Hold> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Provider for P2pDma {
    fn info(&self) -> ProviderInfo {
        ProviderInfo {
            name: self.name.clone(),
            cpu_access: CpuAccess::None,
            page_size: PAGE,
            available: Some(self.usage().largest),
            numa_node: self.numa_node,
        }
    }

    fn alloc(&self, request: &RegionRequest) -> Result<Region, ProviderError> {
        self.revocations.check(&self.name)?;
        let shared = match &*self.hold() {
            Hold::Open(shared) => Arc::clone(shared),
            Hold::Closed(_) => {
                return Err(ProviderError::Revoked { provider: self.name.clone() });
            }
        };
        let len = request::check(&self.name, request, PAGE)?;
        let memory = BarMemory::carve(&self.name, &shared, len, request.align)?;
        drop(shared);
        tracing::debug!(provider = %self.name, region = %request.name, len, "handed out");
        self.revocations.track(&self.name, Region::new(memory))
    }

    fn check(&self) -> Option<String> {
        P2pDma::check(self).map(|cause| cause.to_string())
    }
}

impl Revocable for P2pDma {
    fn revoke(&self) -> usize {
        self.close(Cause::Asked)
    }
}

fn name_of(address: Address, bar: u8) -> String {
    format!("p2p:{address}/bar{bar}")
}
