//! Hugepages that can be shared: memory files, sealed. The default source of packet memory, since
//! everybody can be given such memory: VFIO, iommufd (`MAP_FILE`), `AF_XDP`, DPDK, vhost-user and
//! memif peers.
//!
//! No path is ever made in a hugetlbfs, so nothing is left behind whatever kills the process.

use std::{io, os::fd::AsFd, sync::Arc};

use mempool::{Backing, CpuAccess, Provider, ProviderError, ProviderInfo, Region, RegionRequest};

use crate::{
    PageSize, Revocable, Revocations, Sysfs,
    mapped::Mapped,
    mapping::{Mapping, Protection, Wish},
    memfd, numa, request,
    shortage::{Refusal, Want},
};

/// Hands out hugepages as sealed memory files, mapped shared.
#[derive(Debug)]
pub struct Hugepages {
    name: String,
    size: PageSize,
    node: Option<u32>,
    sysfs: Sysfs,
    revocations: Revocations,
}

impl Hugepages {
    /// Hugepages of one size, from whichever node has them.
    ///
    /// # Errors
    /// The kernel has none of that size. Whether any are free shows when memory is asked for.
    pub fn new(size: PageSize) -> Result<Self, ProviderError> {
        let provider = Self {
            name: format!("hugepage:{size}"),
            size,
            node: None,
            sysfs: Sysfs::system(),
            revocations: Revocations::default(),
        };
        match memfd::create("probe", 0, Some(size)) {
            Ok(_) => Ok(provider),
            Err(error) => Err(provider.want().unsupported(("memfd_create", error))),
        }
    }

    /// Only from NUMA node `node`: where the NIC or the GPU is attached.
    ///
    /// # Errors
    /// There is no such node, or it has no memory.
    pub fn on_node(mut self, node: u32) -> Result<Self, ProviderError> {
        numa::check(&self.name, &self.sysfs, node)?;
        self.node = Some(node);
        Ok(self)
    }

    /// Size of the pages.
    #[must_use]
    pub const fn page_size(&self) -> PageSize {
        self.size
    }

    /// As [`Revocable::revoke`].
    pub fn revoke(&self) -> usize {
        self.revocations.revoke()
    }

    pub(crate) fn want(&self) -> Want<'_> {
        Want { provider: &self.name, sysfs: &self.sysfs, size: self.size, node: self.node }
    }

    fn make(&self, request: &RegionRequest, len: usize) -> Result<Mapped, Refusal> {
        let step = |what| move |error: io::Error| (what, error);
        let file =
            memfd::create(&request.name, len, Some(self.size)).map_err(step("memfd_create"))?;
        // Without `MAP_NORESERVE`: the pages are promised here, or refused.
        let mapping = Mapping::shared(file.as_fd(), len, request.align, Protection::ReadWrite)
            .map_err(step("mmap"))?;
        if let Some(node) = self.node {
            numa::bind(&mapping, node).map_err(step("mbind"))?;
        }
        mapping.wish(Wish::NotInChildren).map_err(step("madvise"))?;
        mapping.wish(Wish::NotInDumps).map_err(step("madvise"))?;
        // A promise is not a page: a node or a control group may still be short of them.
        mapping.populate_or(|| memfd::take_pages(&file, len)).map_err(step("populating"))?;
        memfd::seal(&file).map_err(step("sealing"))?;
        Ok(Mapped {
            numa_node: self.node.or_else(|| numa::home(&mapping)),
            mapping,
            page_size: self.size.bytes(),
            backing: Backing::Memfd { fd: Arc::new(file), offset: 0 },
        })
    }
}

impl Provider for Hugepages {
    fn info(&self) -> ProviderInfo {
        ProviderInfo {
            name: self.name.clone(),
            cpu_access: CpuAccess::ReadWrite,
            page_size: self.size.bytes(),
            available: self.want().available(),
            numa_node: self.node,
        }
    }

    fn alloc(&self, request: &RegionRequest) -> Result<Region, ProviderError> {
        self.revocations.check(&self.name)?;
        let len = request::check(&self.name, request, self.size.bytes())?;
        let memory =
            self.make(request, len).map_err(|refusal| self.want().explain(len, refusal))?;
        tracing::debug!(provider = %self.name, region = %request.name, len, "handed out");
        self.revocations.track(&self.name, Region::new(memory))
    }
}

impl Revocable for Hugepages {
    fn revoke(&self) -> usize {
        Self::revoke(self)
    }
}
