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
    /// Whether nothing had to be mapped: its address on the bus serves.
    is_on_bus: bool,
    /// Keeps the memory where it is.
    _region: RegionHandle,
}

/// How a region is named to the kernel.
enum Name {
    /// By a file.
    File(Arc<OwnedFd>, u64),
    /// By a dma-buf of a BAR's.
    DmaBuf(Arc<OwnedFd>, u64),
    /// By an address that this process may read and write.
    Address(NonNull<u8>),
    /// By the address where a BAR is mapped.
    Bar(NonNull<u8>),
    /// By where it is on the bus, which is where devices see it.
    Bus(u64),
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
            Name::DmaBuf(file, offset) => {
                iommu.map_dma_buf(file.as_fd(), *offset, len, Access::ReadWrite)
            }
            Name::Bus(address) => Ok(*address),
            Name::Bar(base) => {
                // SAFETY: as below; and the region keeps the device that owns the BAR open.
                unsafe { iommu.map_bar(*base, len, Access::ReadWrite) }
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

/// Who asks for a name: the interfaces of VFIO's, which differ in what they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Importer {
    /// Addresses of this process: its memory, and the mapped BAR of another device.
    Type1,
    /// The same but for BARs, and files: memory files, and dma-bufs that VFIO exported.
    Iommufd,
    /// Nobody translates: physical addresses.
    NoIommu,
}

impl Importer {
    fn of(iommu: &Iommu) -> Self {
        match iommu.name() {
            "iommufd" => Self::Iommufd,
            "none" => Self::NoIommu,
            _ => Self::Type1,
        }
    }
}

const BOUNCE: &str = "receive into host memory and copy payloads in bulk (the bounce path)";

/// How the kernel can be told of this region, and why not: the table of what reaches a NIC through VFIO,
/// as seen on Linux 7.3 (ADR 19).
fn name(region: &RegionHandle, importer: Importer) -> Result<Name, String> {
    // The kernel pins pages, or finds a BAR, through an address with rights: the region's own may have none.
    let here = || region.window().map(|window| window.base());
    let address = || here().map(Name::Address);
    match (region.backing(), importer) {
        (Backing::Memfd { fd, offset }, Importer::Iommufd)
        | (Backing::DmaBuf { memory: Some(fd), offset, .. }, Importer::Iommufd) => {
            Ok(Name::File(fd, offset))
        }
        (Backing::Memfd { .. } | Backing::Anonymous, _) => address().ok_or_else(|| {
            "it has no address in this process; use hugepages, or iommu=iommufd where it is a memory file"
                .into()
        }),
        (Backing::Bar { export: Some(fd), .. }, Importer::Iommufd) => Ok(Name::DmaBuf(fd, 0)),
        (Backing::Bar { export: None, address, index, .. }, Importer::Iommufd) => Err(format!(
            "iommufd takes a BAR as a dma-buf that VFIO exported, and {address} BAR{index} came without \
             one (CONFIG_VFIO_PCI_DMABUF, Linux 6.19); use iommu=type1, which takes its mapping, or {BOUNCE}"
        )),
        (Backing::Bar { address: bar, index, .. }, Importer::Type1) => {
            here().map(Name::Bar).ok_or_else(|| {
                format!(
                    "type1 takes a BAR by its mapping in this process, and {bar} BAR{index} has none, without \
                     which the CPU cannot copy there either: leave cpu=off away, or use iommu=iommufd"
                )
            })
        }
        (Backing::Bar { bus_address, .. }, Importer::NoIommu) => Ok(Name::Bus(bus_address)),
        (Backing::P2pMem { address }, _) => Err(format!(
            "VFIO pins what it maps, and the kernel lets nobody pin p2pmem for long (EFAULT), since it must go \
             when the driver does; bind {address} to vfio-pci and give its BAR (-m p2p:{address}/barN), or {BOUNCE}"
        )),
        (Backing::DmaBuf { memory: None, fd, offset }, Importer::Iommufd) => {
            Ok(Name::DmaBuf(fd, offset))
        }
        (Backing::DmaBuf { memory: Some(_), .. }, Importer::Type1 | Importer::NoIommu) => {
            address().ok_or_else(|| {
                format!("the memory file behind it is not mapped here; use iommu=iommufd, or {BOUNCE}")
            })
        }
        (Backing::DmaBuf { memory: None, .. }, Importer::Type1) => Err(format!(
            "type1 takes neither a dma-buf nor its mapping (EFAULT: no struct pages); use iommu=iommufd if \
             VFIO exported it, give the device itself (-m p2p:...) if it is a BAR, or {BOUNCE}"
        )),
        (Backing::DmaBuf { memory: None, .. }, Importer::NoIommu) => Err(format!(
            "without an IOMMU a NIC needs addresses on the bus, and a dma-buf tells this process none; give the \
             device itself (-m p2p:...) if it is a BAR, or {BOUNCE}"
        )),
        (other, _) => Err(format!("{} is not known to VFIO; use hugepages", other.name())),
    }
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
        let importer = Importer::of(&self.space.iommu);
        let name =
            name(region, importer).map_err(|why| MapError::Unsupported { backing, mapper, why })?;
        // What has a name has its base in this process, where nothing else is.
        let (mut mapped, base) = (self.lock(), region.base().as_ptr().addr());
        if let Some(known) = mapped.get_mut(&base) {
            known.uses += 1;
            return Ok(Iova(known.iova));
        }
        let mapped_at = self.map_name(&name, len);
        let iova = mapped_at.map_err(|error| refused((backing, mapper), &name, &error))?;
        let is_on_bus = matches!(name, Name::Bus(_));
        mapped.insert(base, Mapped { iova, len, uses: 1, is_on_bus, _region: region.clone() });
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
        let unmapped = if known.is_on_bus { Ok(()) } else { self.space.iommu.unmap(iova, len) };
        match unmapped {
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

/// What the kernel's refusal means. Whose a dma-buf is, it alone decides, when it is asked to map it.
fn refused(
    (backing, mapper): (&'static str, &'static str),
    name: &Name,
    error: &vfio::Error,
) -> MapError {
    let is_dma_buf = matches!(name, Name::DmaBuf(..));
    match error {
        vfio::Error::Unsupported { .. } if is_dma_buf => MapError::Unsupported {
            backing,
            mapper,
            why: format!(
                "the kernel lets devices reach the dma-bufs that VFIO exported of a BAR, and no other exporter's \
                 (EOPNOTSUPP); use a udmabuf whose memory file comes along (memwire dmabuf export --udmabuf), \
                 or {BOUNCE}"
            ),
        },
        vfio::Error::System { source, .. }
            if is_dma_buf && source.raw_os_error() == Some(libc::ENODEV) =>
        {
            let why = "its exporter has revoked it (ENODEV): the BAR's device was reset, closed, or decodes no \
                       memory; import it again when the device is back";
            MapError::Refused { backing, mapper, why: why.into() }
        }
        error => MapError::Refused { backing, mapper, why: error.to_string() },
    }
}

/// What each interface of VFIO's makes of a region, by its name in port specs (`iommu=`): why not, and what works
/// instead, where it does not work. A dma-buf's exporter is the kernel's to judge, when it is mapped.
pub fn answers(region: &RegionHandle) -> [(&'static str, Result<(), String>); 3] {
    let all =
        [("type1", Importer::Type1), ("iommufd", Importer::Iommufd), ("none", Importer::NoIommu)];
    all.map(|(known_as, importer)| (known_as, name(region, importer).map(drop)))
}

#[cfg(test)]
mod tests {
    use mempool::Region;

    use super::*;
    use crate::pci::table::Sample;

    const IMPORTERS: [Importer; 3] = [Importer::Type1, Importer::Iommufd, Importer::NoIommu];

    /// What each importer makes of a region: what it takes, or the words that its refusal must have.
    fn told(backing: &Backing, window: bool) -> [Result<&'static str, String>; 3] {
        IMPORTERS.map(|importer| {
            let region = Region::new(Sample { backing: backing.clone(), is_mapped: window });
            name(&region.handle(), importer).map(|name| match name {
                Name::File(..) => "file",
                Name::DmaBuf(..) => "dma-buf",
                Name::Address(_) => "address",
                Name::Bar(_) => "bar",
                Name::Bus(_) => "bus",
            })
        })
    }

    fn file() -> Arc<OwnedFd> {
        Arc::new(std::fs::File::open("/dev/null").unwrap().into())
    }

    fn bar(export: Option<Arc<OwnedFd>>) -> Backing {
        let address = "0000:05:00.0".into();
        Backing::Bar { address, index: 2, offset: 0, bus_address: 0, export }
    }

    #[test]
    fn each_importer_is_named_what_it_takes() {
        let memfd = Backing::Memfd { fd: file(), offset: 0 };
        let made = Backing::DmaBuf { fd: file(), offset: 0, memory: Some(file()) };
        for (backing, told_as) in [
            (memfd, ["address", "file", "address"]),
            (Backing::Anonymous, ["address"; 3]),
            (bar(Some(file())), ["bar", "dma-buf", "bus"]),
            (made, ["address", "file", "address"]),
        ] {
            assert_eq!(told(&backing, true), told_as.map(Ok), "{backing:?}");
        }
    }

    #[test]
    fn a_dma_buf_that_the_kernel_refuses_is_told_by_the_reason() {
        let dma_buf = Name::DmaBuf(file(), 0);
        let told = |name: &Name, error: &vfio::Error| refused(("dma-buf", "iommufd"), name, error);
        let foreign = vfio::Error::Unsupported { what: "mapping".into(), why: "not pinned".into() };
        let refusal = told(&dma_buf, &foreign);
        assert!(matches!(refusal, MapError::Unsupported { .. }), "{refusal:?}");
        let says = "iommufd cannot reach dma-buf: the kernel lets devices reach the dma-bufs that VFIO exported";
        assert!(refusal.to_string().starts_with(says), "{refusal}");
        assert!(refusal.to_string().ends_with(BOUNCE), "{refusal}");
        let system = |errno| vfio::Error::System {
            what: "mapping".into(),
            source: std::io::Error::from_raw_os_error(errno),
        };
        let revoked = told(&dma_buf, &system(libc::ENODEV)).to_string();
        assert!(revoked.contains("its exporter has revoked it (ENODEV)"), "{revoked}");
        let other = told(&dma_buf, &system(libc::EIO)).to_string();
        assert!(other.contains("mapping: Input/output error"), "{other}");
        let memory = told(&Name::File(file(), 0), &foreign);
        assert!(matches!(memory, MapError::Refused { .. }), "{memory:?}");
    }

    #[test]
    fn what_cannot_work_says_why_and_what_does() {
        let foreign = Backing::DmaBuf { fd: file(), offset: 0, memory: None };
        let memfd = Backing::Memfd { fd: file(), offset: 0 };
        let p2pmem = Backing::P2pMem { address: "0000:04:00.0".into() };
        for (backing, window, importer, words) in [
            (&memfd, false, 0, "no address in this process; use hugepages"),
            (&bar(None), true, 1, "0000:05:00.0 BAR2 came without one"),
            (&bar(None), true, 1, "use iommu=type1"),
            (&bar(Some(file())), false, 0, "use iommu=iommufd"),
            (&foreign, true, 0, "use iommu=iommufd if VFIO exported it"),
            (&foreign, true, 2, "the bounce path"),
            (&p2pmem, true, 0, "lets nobody pin p2pmem for long"),
            (&p2pmem, true, 1, "bind 0000:04:00.0 to vfio-pci"),
            (&p2pmem, true, 2, "the bounce path"),
        ] {
            let why = told(backing, window)[importer].clone().unwrap_err();
            assert!(why.contains(words), "{backing:?}: {why}");
        }
        assert_eq!(
            told(&foreign, false)[1],
            Ok("dma-buf"),
            "iommufd may take it, and says so if not"
        );
    }
}
