//! One address space for all devices of a registry, and the mapper of pools into it. Each region is
//! mapped once, however many queues use it. Knows no device; what can be mapped how is the kernel's to
//! say, and written down here.
#![allow(unsafe_code, reason = "gives devices access to memory of this process")]
#![expect(clippy::disallowed_types, reason = "control plane: regions are mapped when queues start")]

use std::{
    collections::HashMap,
    os::fd::{AsFd, OwnedFd},
    ptr::NonNull,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use mempool::{Backing, RegionHandle};
use vfio::{Access, Iommu};

use crate::{DmaMapper, Iova, MapError};

/// An address space, and what is mapped there. Clones are the same one; it ends with the last.
#[derive(Clone)]
pub struct VfioMapper {
    space: Arc<Space>,
}

/// What clones of a mapper share.
pub(crate) struct Space {
    iommu: Iommu,
    /// Regions by their first byte, which is theirs alone while they are held here.
    mapped: Mutex<HashMap<usize, Mapped>>,
}

struct Mapped {
    iova: u64,
    len: usize,
    /// How many asked for it.
    uses: usize,
    /// Keeps the memory where it is.
    _region: RegionHandle,
}

/// How a region is named to the kernel.
enum Name {
    /// By a file.
    File(Arc<OwnedFd>, u64),
    /// By an address that this process may read and write.
    Address(NonNull<u8>),
}

impl VfioMapper {
    /// The mapper into an address space.
    #[must_use]
    pub fn new(iommu: Iommu) -> Self {
        Self { space: Arc::new(Space { iommu, mapped: Mutex::default() }) }
    }

    /// The address space, if a device still uses it.
    pub(crate) fn upgrade(space: &Weak<Space>) -> Option<Self> {
        space.upgrade().map(|space| Self { space })
    }

    /// The address space, without keeping it.
    pub(crate) fn downgrade(&self) -> Weak<Space> {
        Arc::downgrade(&self.space)
    }

    /// The address space, to open devices into.
    #[must_use]
    pub fn iommu(&self) -> &Iommu {
        &self.space.iommu
    }

    /// Regions that are mapped now.
    #[must_use]
    pub fn regions(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Mapped>> {
        self.space.mapped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn map_name(&self, name: &Name, len: usize) -> vfio::Result<u64> {
        let iommu = &self.space.iommu;
        match name {
            Name::File(file, offset) => {
                iommu.map_file(file.as_fd(), *offset, len, Access::ReadWrite)
            }
            Name::Address(base) => {
                // SAFETY: the bytes stay mapped for as long as the region lives, which `Mapped` holds
                // until after `unmap`; devices are only given buffers that no handle exists for
                // (`mempool::InFlight`), so nobody holds a reference to what they write.
                unsafe { iommu.map(*base, len, Access::ReadWrite) }
            }
        }
    }
}

/// How the kernel can be told of this region, and why not.
fn name(region: &RegionHandle, by_file: bool) -> Result<Name, String> {
    match region.backing() {
        Backing::Memfd { fd, offset } if by_file => return Ok(Name::File(fd, offset)),
        Backing::Memfd { .. } | Backing::Anonymous => {}
        Backing::Bar { .. } | Backing::DmaBuf { .. } => {
            return Err(
                "memory of another device cannot be mapped yet; receive into host memory and \
                        copy payloads in bulk (the bounce path)"
                    .into(),
            );
        }
        other => return Err(format!("{} is not known to VFIO; use hugepages", other.name())),
    }
    // The kernel pins pages through an address with rights: the region's own may have none.
    region.window().map(|window| Name::Address(window.base())).ok_or_else(|| {
        "it has no address in this process; use hugepages, or iommu=iommufd where it is a memory file"
            .into()
    })
}

impl DmaMapper for VfioMapper {
    fn name(&self) -> &'static str {
        match self.space.iommu.name() {
            "type1" => "VFIO type1",
            "iommufd" => "iommufd",
            "none" => "VFIO without an IOMMU",
            _ => "VFIO",
        }
    }

    fn map(&mut self, region: &RegionHandle) -> Result<Iova, MapError> {
        if region.is_revoked() {
            return Err(MapError::Revoked);
        }
        let (backing, mapper, len) = (region.backing().name(), DmaMapper::name(self), region.len());
        let by_file = self.space.iommu.name() == "iommufd";
        let name =
            name(region, by_file).map_err(|why| MapError::Unsupported { backing, mapper, why })?;
        // What has a name has its base in this process, where nothing else is.
        let (mut mapped, base) = (self.lock(), region.base().as_ptr().addr());
        if let Some(known) = mapped.get_mut(&base) {
            known.uses += 1;
            return Ok(Iova(known.iova));
        }
        let iova = self.map_name(&name, len).map_err(|error| MapError::Refused {
            backing,
            mapper,
            why: error.to_string(),
        })?;
        mapped.insert(base, Mapped { iova, len, uses: 1, _region: region.clone() });
        Ok(Iova(iova))
    }

    fn unmap(&mut self, region: &RegionHandle) {
        let mut mapped = self.lock();
        let base = region.base().as_ptr().addr();
        let Some(known) = mapped.get_mut(&base) else { return };
        known.uses -= 1;
        if known.uses > 0 {
            return;
        }
        let (iova, len) = (known.iova, known.len);
        match self.space.iommu.unmap(iova, len) {
            Ok(()) => drop(mapped.remove(&base)),
            // The devices may still reach it, so the memory is kept for good: law 4, leak rather than
            // dangle.
            Err(error) => {
                tracing::warn!(%error, "a region stays mapped for devices");
                known.uses = 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mempool::{CpuAccess, Memory, Region, Window};

    use super::*;

    /// A page that is named in some way.
    struct Page {
        backing: Backing,
        window: bool,
    }

    // SAFETY: the address is never used: nothing is mapped, and nobody reads or writes through it.
    unsafe impl Memory for Page {
        fn base(&self) -> NonNull<u8> {
            NonNull::dangling()
        }

        fn len(&self) -> usize {
            4096
        }

        fn page_size(&self) -> usize {
            4096
        }

        fn cpu_access(&self) -> CpuAccess {
            CpuAccess::None
        }

        fn backing(&self) -> Backing {
            self.backing.clone()
        }

        fn window(&self) -> Option<Window> {
            self.window.then(|| Window::new(NonNull::dangling(), 4096))
        }
    }

    fn named(backing: Backing, window: bool, by_file: bool) -> Result<&'static str, String> {
        let region = Region::new(Page { backing, window });
        name(&region.handle(), by_file).map(|name| match name {
            Name::File(..) => "file",
            Name::Address(_) => "address",
        })
    }

    fn file() -> Arc<OwnedFd> {
        Arc::new(std::fs::File::open("/dev/null").unwrap().into())
    }

    #[test]
    fn a_memory_file_goes_by_file_where_the_kernel_takes_one_and_by_its_window_elsewhere() {
        let memfd = || Backing::Memfd { fd: file(), offset: 0 };
        assert_eq!(named(memfd(), true, true), Ok("file"));
        assert_eq!(named(memfd(), false, true), Ok("file"));
        assert_eq!(named(memfd(), true, false), Ok("address"));
        assert_eq!(named(Backing::Anonymous, true, true), Ok("address"));
        let hidden = named(memfd(), false, false).unwrap_err();
        assert!(hidden.contains("no address in this process; use hugepages"), "{hidden}");
    }

    #[test]
    fn memory_of_other_devices_is_refused_and_the_bounce_path_is_named() {
        let bar =
            Backing::Bar { address: "0000:05:00.0".into(), index: 2, offset: 0, bus_address: 0 };
        for backing in [bar, Backing::DmaBuf { fd: file(), offset: 0 }] {
            let why = named(backing, true, true).unwrap_err();
            assert!(why.contains("the bounce path"), "{why}");
        }
    }
}
