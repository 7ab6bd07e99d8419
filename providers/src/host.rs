//! Ordinary pages, for machines without hugepages: works everywhere, costs TLB misses. Transparent
//! hugepages are asked for, and had if the kernel finds some.

use std::{io, os::fd::AsFd, sync::Arc};

use mempool::{
    Backing, CpuAccess, Provider, ProviderError, ProviderInfo, Region, RegionRequest, format_bytes,
};

use crate::{
    PageSize, Revocable, Revocations, Sysfs,
    mapped::Mapped,
    mapping::{Mapping, Protection, Wish},
    memfd, numa, request,
    shortage::{Refusal, hint},
};

const NAME: &str = "host";
/// Left to the rest of the machine: what is free changes while memory is taken, and running out of
/// it ends processes.
const MARGIN: u64 = 64 << 20;

/// Hands out ordinary process memory, present from the start.
#[derive(Debug)]
pub struct Host {
    node: Option<u32>,
    is_shareable: bool,
    sysfs: Sysfs,
    revocations: Revocations,
}

impl Host {
    /// Ordinary memory, from whichever node has it.
    #[must_use]
    pub fn new() -> Self {
        Self::at(Sysfs::system())
    }

    fn at(sysfs: Sysfs) -> Self {
        Self { node: None, is_shareable: false, sysfs, revocations: Revocations::default() }
    }

    /// Only from NUMA node `node`: where the NIC or the GPU is attached.
    ///
    /// # Errors
    /// There is no such node, or it has no memory.
    pub fn on_node(mut self, node: u32) -> Result<Self, ProviderError> {
        numa::check(NAME, &self.sysfs, node)?;
        self.node = Some(node);
        Ok(self)
    }

    /// In a sealed memory file, which another process can be given.
    #[must_use]
    pub fn shareable(self) -> Self {
        Self { is_shareable: true, ..self }
    }

    /// As [`Revocable::revoke`].
    pub fn revoke(&self) -> usize {
        self.revocations.revoke()
    }

    fn make(&self, request: &RegionRequest, len: usize) -> Result<Mapped, Refusal> {
        let step = |what| move |error: io::Error| (what, error);
        let huge = PageSize::TwoMiB.bytes();
        let align = if len >= huge { request.align.max(huge) } else { request.align };
        let file = if self.is_shareable {
            Some(memfd::create(&request.name, len, None).map_err(step("memfd_create"))?)
        } else {
            None
        };
        let mapping = match &file {
            Some(file) => Mapping::shared(file.as_fd(), len, align, Protection::ReadWrite),
            None => Mapping::anonymous(len, align),
        };
        let mapping = mapping.map_err(step("mmap"))?;
        if let Some(node) = self.node {
            numa::bind(&mapping, node).map_err(step("mbind"))?;
        }
        mapping.wish(Wish::NotInChildren).map_err(step("madvise"))?;
        mapping.wish(Wish::NotInDumps).map_err(step("madvise"))?;
        if let Err(error) = mapping.wish(Wish::HugePages) {
            tracing::debug!(%error, "no transparent hugepages");
        }
        let page = page_size();
        let touch = || match &file {
            Some(file) => memfd::take_pages(file, len),
            None => {
                mapping.touch(page);
                Ok(())
            }
        };
        mapping.populate_or(touch).map_err(step("populating"))?;
        let backing = match file {
            Some(file) => {
                memfd::seal(&file).map_err(step("sealing"))?;
                Backing::Memfd { fd: Arc::new(file), offset: 0 }
            }
            None => Backing::Anonymous,
        };
        Ok(Mapped {
            numa_node: self.node.or_else(|| numa::home(&mapping)),
            mapping,
            page_size: page,
            backing,
        })
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Provider for Host {
    fn info(&self) -> ProviderInfo {
        ProviderInfo {
            name: NAME.into(),
            cpu_access: CpuAccess::ReadWrite,
            page_size: page_size(),
            available: room(&self.sysfs),
            numa_node: self.node,
        }
    }

    fn alloc(&self, request: &RegionRequest) -> Result<Region, ProviderError> {
        self.revocations.check(NAME)?;
        let len = request::check(NAME, request, page_size())?;
        check_room(NAME, &self.sysfs, len)?;
        let memory = self.make(request, len).map_err(|refusal| refused(NAME, len, refusal))?;
        tracing::debug!(provider = NAME, region = %request.name, len, "handed out");
        self.revocations.track(NAME, Region::new(memory))
    }
}

impl Revocable for Host {
    fn revoke(&self) -> usize {
        Self::revoke(self)
    }
}

/// Bytes of an ordinary page.
pub(crate) fn page_size() -> usize {
    rustix::param::page_size()
}

/// Bytes of ordinary memory that may be taken.
pub(crate) fn room(sysfs: &Sysfs) -> Option<u64> {
    sysfs.available_memory().map(|bytes| bytes.saturating_sub(MARGIN))
}

/// Refuses what would drive the machine, or this process's control group, out of memory: that is no
/// error return but a killed process.
pub(crate) fn check_room(name: &str, sysfs: &Sysfs, len: usize) -> Result<(), ProviderError> {
    let (needed, Some(available)) = (len as u64, room(sysfs)) else {
        return Ok(());
    };
    if needed <= available {
        return Ok(());
    }
    Err(ProviderError::Exhausted {
        provider: name.into(),
        needed,
        available,
        fix: "ask for fewer or smaller buffers, or free memory".into(),
    })
}

/// Says which step of a checked request the system refused.
pub(crate) fn refused(name: &str, len: usize, (step, source): Refusal) -> ProviderError {
    ProviderError::System {
        provider: name.into(),
        what: format!("{step} of {}", format_bytes(len as u64)),
        hint: match source.raw_os_error() {
            Some(libc::ENOMEM) => "a limit on address space (`ulimit -v`), locked memory or \
                                   overcommit (`sysctl vm.overcommit_memory`) stands in the way"
                .into(),
            _ => hint(step, &source).into(),
        },
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysfs::fixture::tree;

    #[test]
    fn more_than_is_available_is_an_error_and_not_the_end_of_the_process() {
        let (_root, sysfs) = tree(&[("proc/meminfo", "MemAvailable: 102400 kB\n")]);
        let host = Host::at(sysfs);
        let ask = |len| host.alloc(&RegionRequest { name: "rx".into(), len, align: 64 });
        let error = ask(48 << 20).unwrap_err();
        assert_eq!(
            error.to_string(),
            "host: needs 48 MiB, but only 36 MiB can be had; ask for fewer or smaller buffers, or \
             free memory"
        );
        assert!(ask(1 << 20).is_ok());
        assert_eq!(host.info().available, Some(36 << 20));
    }
}
