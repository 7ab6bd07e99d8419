//! Hugepages that nobody else can ever map, by `hugepage-rs`: private, anonymous, of the default
//! size.
//!
//! When to use them: the memory is only for this process and devices that are given its address
//! (VFIO type1, `AF_XDP`), and it must be certain that no file descriptor to it exists that could
//! leak to another process. Everything else is better off with [`crate::Hugepages`]: private pages
//! have no file, so no peer, no iommufd `MAP_FILE` and no udmabuf can be given them; there is no
//! choice of page size; and if the process forks, an inherited page is copied on write, away from
//! the device. That is why these are kept out of children (`MADV_DONTFORK`).

use std::{alloc::Layout, io};

use mempool::{Backing, CpuAccess, Provider, ProviderError, ProviderInfo, Region, RegionRequest};

use crate::{
    PageSize, Revocable, Revocations, Sysfs,
    mapped::Mapped,
    mapping::{Mapping, Wish},
    numa, request,
    shortage::{Refusal, Want},
};

/// Hands out private hugepages of the default size.
#[derive(Debug)]
pub struct Private {
    name: String,
    size: PageSize,
    node: Option<u32>,
    sysfs: Sysfs,
    revocations: Revocations,
}

impl Private {
    /// Private hugepages, from whichever node has them.
    ///
    /// # Errors
    /// The kernel has no hugepages, or its default size is neither 2 MiB nor 1 GiB.
    pub fn new() -> Result<Self, ProviderError> {
        Self::at(Sysfs::system())
    }

    fn at(sysfs: Sysfs) -> Result<Self, ProviderError> {
        // Asked first, since `hugepage_rs` panics where there is no default size.
        let size = sysfs.default_hugepage().and_then(PageSize::from_bytes).ok_or_else(|| {
            ProviderError::BadRequest {
                provider: "hugepage-private".into(),
                why: "this kernel's default hugepages are neither 2M nor 1G; use Hugepages with a \
                      size, or Host"
                    .into(),
            }
        })?;
        let (name, revocations) = (format!("hugepage-private:{size}"), Revocations::default());
        Ok(Self { name, size, node: None, sysfs, revocations })
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

    /// As [`Revocable::revoke`].
    pub fn revoke(&self) -> usize {
        self.revocations.revoke()
    }

    fn want(&self) -> Want<'_> {
        Want { provider: &self.name, sysfs: &self.sysfs, size: self.size, node: self.node }
    }

    fn make(&self, layout: Layout) -> Result<Mapped, Refusal> {
        let step = |what| move |error: io::Error| (what, error);
        // The reason is lost on the way; for a valid layout it is a shortage, and the counts tell.
        let mapping = Mapping::hugepages(layout)
            .ok_or_else(|| ("mmap", io::Error::from_raw_os_error(libc::ENOMEM)))?;
        if let Some(node) = self.node {
            numa::bind(&mapping, node).map_err(step("mbind"))?;
        }
        mapping.wish(Wish::NotInChildren).map_err(step("madvise"))?;
        mapping.wish(Wish::NotInDumps).map_err(step("madvise"))?;
        // Without a file there is no second way that cannot end in a SIGBUS.
        let old_kernel = || Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        mapping.populate_or(old_kernel).map_err(step("populating"))?;
        Ok(Mapped {
            numa_node: self.node.or_else(|| numa::home(&mapping)),
            mapping,
            page_size: self.size.bytes(),
            backing: Backing::Anonymous,
        })
    }
}

impl Provider for Private {
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
        let page = self.size.bytes();
        let len = request::check(&self.name, request, page)?;
        let layout = Layout::from_size_align(len, request.align.max(page)).ok();
        let layout = layout.filter(|layout| layout.align() == page).ok_or_else(|| {
            ProviderError::BadRequest {
                provider: self.name.clone(),
                why: format!(
                    "alignment {} is more than a page of {}; use Hugepages",
                    request.align, self.size
                ),
            }
        })?;
        let memory = self.make(layout).map_err(|refusal| self.want().explain(len, refusal))?;
        tracing::debug!(provider = %self.name, region = %request.name, len, "handed out");
        self.revocations.track(&self.name, Region::new(memory))
    }
}

impl Revocable for Private {
    fn revoke(&self) -> usize {
        Self::revoke(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysfs::fixture::tree;

    #[test]
    fn a_kernel_without_hugepages_is_an_error_and_no_panic() {
        for meminfo in ["MemTotal: 9 kB\n", "Hugepagesize: 16384 kB\n"] {
            let (_root, sysfs) = tree(&[("proc/meminfo", meminfo)]);
            let error = Private::at(sysfs).unwrap_err().to_string();
            assert!(error.contains("neither 2M nor 1G"), "{error}");
        }
    }
}
