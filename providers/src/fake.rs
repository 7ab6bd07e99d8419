//! Device memory for tests and demos: pages that the CPU has no right to, behind an address that
//! faults, with a back door for software that plays the device.
//!
//! One memory file, mapped twice. [`mempool::Memory::base`] is a mapping without rights: a stray
//! `memcpy`, `Debug` or checksum that touches a payload dies at once, as it would read garbage or
//! worse from a GPU. [`mempool::Memory::window`] is the back door, a readable and writable mapping of
//! the same pages, through which a software NIC does DMA and a software GPU reads.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use mempool::{CpuAccess, Provider, ProviderError, ProviderInfo, Region, RegionRequest};

use crate::{
    PageSize, Revocable, Revocations, Sysfs, host,
    mapping::{Mapping, Protection, Wish},
    memfd, numa, request,
    shortage::{Refusal, Want},
};

mod memory;

use memory::FakeMemory;

/// Hands out memory that the CPU cannot touch, up to a capacity.
#[derive(Debug)]
pub struct Fake {
    name: String,
    pages: Option<PageSize>,
    sysfs: Sysfs,
    ledger: Arc<Ledger>,
    revocations: Revocations,
}

impl Fake {
    /// A device with as much memory as the machine can spare.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(u64::MAX)
    }

    /// A device with `bytes` of memory; what is released can be had again.
    #[must_use]
    pub fn with_capacity(bytes: u64) -> Self {
        Self {
            name: "fake".into(),
            pages: None,
            sysfs: Sysfs::system(),
            ledger: Arc::new(Ledger { capacity: bytes, used: AtomicU64::new(0) }),
            revocations: Revocations::default(),
        }
    }

    /// Of hugepages, where the demo's speed matters.
    ///
    /// # Errors
    /// The kernel has none of that size.
    pub fn on_hugepages(mut self, size: PageSize) -> Result<Self, ProviderError> {
        self.name = format!("fake:{size}");
        self.pages = Some(size);
        if let Err(error) = memfd::create("probe", 0, Some(size)) {
            return Err(self.want(size).unsupported(("memfd_create", error)));
        }
        Ok(self)
    }

    /// Bytes handed out and not released yet.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.ledger.used.load(Ordering::Acquire)
    }

    /// Regions handed out whose memory still exists.
    #[must_use]
    pub fn live(&self) -> usize {
        self.revocations.live()
    }

    /// As [`Revocable::revoke`]: what a GPU's driver does when its memory must move or go.
    pub fn revoke(&self) -> usize {
        self.revocations.revoke()
    }

    fn want(&self, size: PageSize) -> Want<'_> {
        Want { provider: &self.name, sysfs: &self.sysfs, size, node: None }
    }

    fn page_bytes(&self) -> usize {
        self.pages.map_or_else(host::page_size, PageSize::bytes)
    }

    fn make(
        &self,
        request: &RegionRequest,
        len: usize,
        lease: Lease,
    ) -> Result<FakeMemory, Refusal> {
        let step = |what| move |error: io::Error| (what, error);
        let file = memfd::create(&request.name, len, self.pages).map_err(step("memfd_create"))?;
        let map = |rights| {
            let mapping = Mapping::shared(file.as_fd(), len, request.align, rights);
            let mapping = mapping.map_err(step("mmap"))?;
            mapping.wish(Wish::NotInChildren).map_err(step("madvise"))?;
            mapping.wish(Wish::NotInDumps).map_err(step("madvise"))?;
            Ok(mapping)
        };
        let face = map(Protection::None)?;
        let door = map(Protection::ReadWrite)?;
        if self.pages.is_none()
            && let Err(error) = door.wish(Wish::HugePages)
        {
            tracing::debug!(%error, "no transparent hugepages");
        }
        door.populate_or(|| memfd::take_pages(&file, len)).map_err(step("populating"))?;
        memfd::seal(&file).map_err(step("sealing"))?;
        let (page_size, file): (_, Arc<OwnedFd>) = (self.page_bytes(), Arc::new(file));
        Ok(FakeMemory { numa_node: numa::home(&door), face, door, page_size, file, _lease: lease })
    }
}

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

impl Provider for Fake {
    fn info(&self) -> ProviderInfo {
        let machine = match self.pages {
            _ if self.ledger.is_limited() => None,
            Some(size) => self.want(size).available(),
            None => host::room(&self.sysfs),
        };
        ProviderInfo {
            name: self.name.clone(),
            cpu_access: CpuAccess::None,
            page_size: self.page_bytes(),
            available: machine.or_else(|| self.ledger.is_limited().then(|| self.ledger.left())),
            numa_node: None,
        }
    }

    fn alloc(&self, request: &RegionRequest) -> Result<Region, ProviderError> {
        self.revocations.check(&self.name)?;
        let len = request::check(&self.name, request, self.page_bytes())?;
        let lease = Ledger::lease(&self.ledger, len as u64).map_err(|available| {
            let fix = "ask for fewer or smaller buffers, or give the fake a larger capacity".into();
            ProviderError::Exhausted {
                provider: self.name.clone(),
                needed: len as u64,
                available,
                fix,
            }
        })?;
        if self.pages.is_none() {
            host::check_room(&self.name, &self.sysfs, len)?;
        }
        let memory = self.make(request, len, lease).map_err(|refusal| match self.pages {
            Some(size) => self.want(size).explain(len, refusal),
            None => host::refused(&self.name, len, refusal),
        })?;
        tracing::debug!(provider = %self.name, region = %request.name, len, "handed out");
        self.revocations.track(&self.name, Region::new(memory))
    }
}

impl Revocable for Fake {
    fn revoke(&self) -> usize {
        Self::revoke(self)
    }
}

/// How much of the pretended device's memory is out.
#[derive(Debug)]
struct Ledger {
    capacity: u64,
    used: AtomicU64,
}

impl Ledger {
    fn is_limited(&self) -> bool {
        self.capacity != u64::MAX
    }

    fn left(&self) -> u64 {
        self.capacity.saturating_sub(self.used.load(Ordering::Acquire))
    }

    /// Takes `bytes`, or says how many there are.
    fn lease(ledger: &Arc<Self>, bytes: u64) -> Result<Lease, u64> {
        let take = |used: u64| used.checked_add(bytes).filter(|total| *total <= ledger.capacity);
        match ledger.used.try_update(Ordering::AcqRel, Ordering::Acquire, take) {
            Ok(_) => Ok(Lease { ledger: Arc::clone(ledger), bytes }),
            Err(used) => Err(ledger.capacity.saturating_sub(used)),
        }
    }
}

/// Bytes that are out; they come back when this goes.
#[derive(Debug)]
struct Lease {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.ledger.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}
