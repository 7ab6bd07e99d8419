//! Peer-to-peer memory that a kernel driver gives away, such as the controller memory buffer of an NVMe drive:
//! `p2pmem/allocate` in the function's folder in sysfs (kernel documentation, `driver-api/pci/p2pdma.rst`).
//!
//! It is for the CPU, and for direct I/O between it and files, where the kernel has the drive read and write it.
//! The kernel lets nobody pin it for long, so that no NIC of ours can be given it: mappers say so by its name,
//! [`Backing::P2pMem`]. When the driver goes, the memory goes with it: see [`P2pMem::check`].

use std::{
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use mempool::{Backing, CpuAccess, Provider, ProviderError, ProviderInfo, Region, RegionRequest};
use rustix::fs::{Mode, OFlags};
use vfio::pci::{Address, Function, Sysfs};

use super::PAGE;
use crate::{
    Revocable, Revocations,
    mapped::Mapped,
    mapping::{Mapping, Protection, Wish},
    request,
    sysfs::number,
};

/// Hands out memory that a kernel driver gives away.
#[derive(Debug)]
pub struct P2pMem {
    name: String,
    address: Address,
    folder: PathBuf,
    numa_node: Option<u32>,
    revocations: Revocations,
}

impl P2pMem {
    /// What the driver of that function gives away.
    ///
    /// # Errors
    /// There is no such function, or its driver gives nothing away.
    pub fn new(sysfs: &Sysfs, address: Address) -> Result<Self, ProviderError> {
        let name = format!("p2pmem:{address}");
        let bad = |why: String| ProviderError::BadRequest { provider: name.clone(), why };
        let function = Function::read(sysfs, address).map_err(|error| bad(error.to_string()))?;
        let folder = sysfs.function(address).join("p2pmem");
        if !folder.is_dir() {
            let driver = function.driver.as_deref().unwrap_or("none");
            return Err(bad(format!(
                "the function's driver ({driver}) gives no memory away: an NVMe drive with a controller memory \
                 buffer does, bound to the driver nvme of a kernel with CONFIG_PCI_P2PDMA; of another \
                 function, bind it to vfio-pci and use its BAR (p2p:{address}/barN)"
            )));
        }
        if !folder.join("allocate").exists() {
            let why = "the kernel lets programs have none of it (Linux before 6.2)";
            return Err(bad(why.to_owned()));
        }
        let (numa_node, revocations) = (function.numa_node, Revocations::default());
        Ok(Self { name, address, folder, numa_node, revocations })
    }

    /// Regions handed out whose memory still exists.
    #[must_use]
    pub fn live(&self) -> usize {
        self.revocations.live()
    }

    /// Whether the driver still gives memory away. If it does not, every region is revoked; one that is touched
    /// after that ends the process (SIGBUS), as the kernel has taken its pages away.
    pub fn check(&self) -> bool {
        let is_there = self.folder.join("allocate").exists();
        if !is_there {
            self.revocations.revoke();
        }
        is_there
    }

    /// Bytes that the driver gives away in all, and bytes that are left, as the kernel counts.
    #[must_use]
    pub fn usage(&self) -> Option<(u64, u64)> {
        Some((number(&self.folder.join("size"))?, self.available()?))
    }

    fn available(&self) -> Option<u64> {
        number(&self.folder.join("available"))
    }

    fn make(&self, len: usize, align: usize) -> Result<Mapped, ProviderError> {
        let path = self.folder.join("allocate");
        let failed = |what: &str, hint: &str| {
            let (provider, hint) = (self.name.clone(), hint.to_owned());
            let what = format!("{what} {}", path.display());
            move |source: std::io::Error| ProviderError::System { provider, what, source, hint }
        };
        let file: OwnedFd = rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed("opening", "it is root's")(errno.into()))?;
        let mapping = Mapping::shared(file.as_fd(), len, align, Protection::ReadWrite);
        let mapping = mapping.map_err(|error| match error.raw_os_error() {
            // The allocator counts in pieces of its own, and may be left with holes.
            Some(libc::ENOMEM) => ProviderError::Exhausted {
                provider: self.name.clone(),
                needed: len as u64,
                available: self.available().unwrap_or(0).min(len as u64 - 1),
                fix: "it is in pieces: ask for smaller regions, or end who else uses it".into(),
            },
            _ => failed("mapping", "")(error),
        })?;
        mapping.wish(Wish::NotInChildren).map_err(failed("advice on", ""))?;
        mapping.wish(Wish::NotInDumps).map_err(failed("advice on", ""))?;
        let backing = Backing::P2pMem { address: self.address.to_string() };
        Ok(Mapped { mapping, page_size: PAGE, backing, numa_node: self.numa_node })
    }
}

impl Provider for P2pMem {
    fn info(&self) -> ProviderInfo {
        ProviderInfo {
            name: self.name.clone(),
            cpu_access: CpuAccess::ReadWrite,
            page_size: PAGE,
            available: self.available(),
            numa_node: self.numa_node,
        }
    }

    fn alloc(&self, request: &RegionRequest) -> Result<Region, ProviderError> {
        self.revocations.check(&self.name)?;
        let len = request::check(&self.name, request, PAGE)?;
        if let Some(available) = self.available()
            && available < len as u64
        {
            return Err(ProviderError::Exhausted {
                provider: self.name.clone(),
                needed: len as u64,
                available,
                fix: "ask for fewer or smaller buffers, or end who else uses it".into(),
            });
        }
        let mut region = Region::new(self.make(len, request.align)?);
        // The kernel hands it out as the one before left it.
        let zeroes = [0; PAGE];
        for offset in (0..len).step_by(PAGE) {
            region.write(offset, &zeroes).map_err(|error| ProviderError::BadRequest {
                provider: self.name.clone(),
                why: error.to_string(),
            })?;
        }
        tracing::debug!(provider = %self.name, region = %request.name, len, "handed out");
        self.revocations.track(&self.name, region)
    }

    fn check(&self) -> Option<String> {
        (!P2pMem::check(self)).then(|| "its driver gives no memory away any more".to_owned())
    }
}

impl Revocable for P2pMem {
    fn revoke(&self) -> usize {
        self.revocations.revoke()
    }
}
