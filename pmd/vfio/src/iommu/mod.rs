//! Address spaces: what devices see of this process's memory. Knows which bytes are mapped where, and
//! asks one of the kernel's interfaces to make it so.
#![allow(unsafe_code, reason = "maps memory that devices will write")]
#![expect(
    clippy::disallowed_types,
    reason = "control plane: touched when memory or devices come and go"
)]

mod books;
mod container;
pub(crate) mod iommufd;
pub(crate) mod limits;
mod map;
mod node;
mod physical;
pub(crate) mod space;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    os::fd::{AsFd, OwnedFd},
    ptr::NonNull,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use books::Books;
use container::{Container, Group};
use iommufd::Iommufd;

use crate::{
    Error, Result,
    pci::{Function, Sysfs},
    sys,
};

/// Which interface of the kernel's makes the address space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// iommufd where the first device has a character device that may be opened, and `/dev/iommu` is
    /// there; else type1.
    #[default]
    Auto,
    /// Group and container, `VFIO_TYPE1v2_IOMMU`.
    Type1,
    /// Character device and `/dev/iommu`.
    Iommufd,
    /// No IOMMU: the device may write any memory of the machine.
    NoIommu(UnsafeDmaAccepted),
}

/// The user's word that a device may write any memory of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsafeDmaAccepted(());

impl UnsafeDmaAccepted {
    /// Only for a user who said `--i-accept-unsafe-dma`: a stray descriptor, or a broken or hostile
    /// device, then corrupts the machine.
    #[must_use]
    pub fn i_accept_unsafe_dma() -> Self {
        Self(())
    }
}

/// What devices may do with a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Read it: frames to send.
    Read,
    /// Read and write it.
    ReadWrite,
}

/// An address space. Clones are the same one; it ends with the last clone, and devices hold one.
///
/// A mapping stays until it is taken back, whether devices come or go.
#[derive(Clone)]
pub struct Iommu(Arc<Mutex<State>>);

struct State {
    kind: Kind,
    backend: Option<Backend>,
    books: Books,
}

#[derive(Debug)]
enum Backend {
    Type1(Container),
    Iommufd(Iommufd),
    NoIommu(Container),
}

impl Iommu {
    /// An address space without devices. The kernel is asked when the first device is opened into it.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self(Arc::new(Mutex::new(State { kind, backend: None, books: Books::default() })))
    }

    /// The interface in use, for reports: `type1`, `iommufd` or `none`; `auto` before the first device
    /// decides.
    #[must_use]
    pub fn name(&self) -> &'static str {
        let state = self.state();
        match (&state.backend, state.kind) {
            (Some(Backend::Type1(_)), _) | (None, Kind::Type1) => "type1",
            (Some(Backend::Iommufd(_)), _) | (None, Kind::Iommufd) => "iommufd",
            (Some(Backend::NoIommu(_)), _) | (None, Kind::NoIommu(_)) => "none",
            (None, Kind::Auto) => "auto",
        }
    }

    /// Whether devices see physical addresses: then memory must be single hugepages.
    #[must_use]
    pub fn is_unprotected(&self) -> bool {
        matches!(self.state().backend, Some(Backend::NoIommu(_)))
    }

    /// Mappings of this address space: one for each region, however often it was mapped.
    #[must_use]
    pub fn mappings(&self) -> usize {
        self.state().books.mappings()
    }

    /// Opens a function's device in this address space.
    pub(crate) fn attach(&self, sysfs: &Sysfs, function: &Function) -> Result<Attachment> {
        let mut state = self.state();
        let State { kind, backend, books } = &mut *state;
        let is_first = backend.is_none();
        let chosen = match backend {
            Some(backend) => backend,
            None => backend.insert(Backend::choose(*kind, sysfs, function)?),
        };
        let attached = chosen.attach(sysfs, function, books);
        if is_first && attached.is_err() {
            *backend = None;
        }
        let (device, group) = attached?;
        Ok(Attachment { device: Some(Arc::new(device)), group, iommu: self.clone() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Iommu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Iommu({}, {} mappings)", self.name(), self.mappings())
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // No device is left. What nobody took back is taken back here, before the container closes.
        for (iova, len) in self.books.drain() {
            if let Some(backend) = &mut self.backend
                && let Err(error) = backend.unmap(iova, len)
            {
                tracing::debug!(%error, "a mapping would not go before its address space");
            }
        }
    }
}

impl Backend {
    fn choose(kind: Kind, sysfs: &Sysfs, function: &Function) -> Result<Self> {
        let address = function.address;
        if let Kind::NoIommu(_) = kind {
            if !is_noiommu(sysfs, function) {
                return Err(Error::AddressSpace(format!(
                    "{address}: an IOMMU stands before this function (group {}): use it, by type1 or \
                     iommufd",
                    function
                        .iommu_group
                        .map_or_else(|| "none".to_owned(), |group| group.to_string())
                )));
            }
            tracing::warn!(
                "{address}: DMA WITHOUT AN IOMMU: the device can write any memory of this machine, \
                 and the kernel is tainted"
            );
            return Container::open(sysfs, false).map(Self::NoIommu);
        }
        if function.iommu_group.is_none() || is_noiommu(sysfs, function) {
            return Err(Error::NoGroup(address));
        }
        match kind {
            Kind::Iommufd => Iommufd::open(sysfs).map(Self::Iommufd),
            Kind::Auto if has_iommufd(sysfs, function) => Iommufd::open(sysfs).map(Self::Iommufd),
            _ => Container::open(sysfs, true).map(Self::Type1),
        }
    }

    /// Opens the device, and learns what all devices together can reach. Mappings that the kernel forgot
    /// with the last device come back.
    fn attach(
        &mut self,
        sysfs: &Sysfs,
        function: &Function,
        books: &mut Books,
    ) -> Result<(OwnedFd, Option<Arc<Group>>)> {
        if !matches!(self, Self::NoIommu(_)) && is_noiommu(sysfs, function) {
            return Err(Error::NoGroup(function.address));
        }
        match self {
            Self::Iommufd(iommufd) => {
                let device = iommufd.attach(sysfs, function)?;
                let (ranges, page) = iommufd.ranges()?;
                books.set_ranges(&ranges, page.max(page_size()));
                Ok((device, None))
            }
            Self::NoIommu(container) => {
                let (device, group) = container.attach(sysfs, function)?;
                books.set_ranges(&[(0, u64::MAX)], page_size());
                Ok((device, Some(group)))
            }
            Self::Type1(container) => {
                let was_empty = container.is_empty();
                let (device, group) = container.attach(sysfs, function)?;
                let info = container.info()?;
                // The smallest page, and never less than ours: mappings are pinned by those.
                let page = info.page_sizes & info.page_sizes.wrapping_neg();
                let ranges = info.ranges.unwrap_or_else(|| vec![(0, u64::MAX)]);
                books.set_ranges(&ranges, page.max(page_size()));
                if was_empty {
                    self.map_again(books)?;
                }
                Ok((device, Some(group)))
            }
        }
    }

    fn map_again(&mut self, books: &Books) -> Result<()> {
        for (iova, base, len, access) in books.memory() {
            // SAFETY: it was given until it is unmapped, which it has not been.
            let mapped = unsafe { self.map_memory(base, len, iova, access) };
            mapped.map_err(Error::system(format!(
                "mapping {len:#x} bytes at iova {iova:#x} again"
            )))?;
        }
        Ok(())
    }

    /// Whether the kernel keeps one more mapping.
    fn check_room(&self, books: &Books) -> Result<()> {
        let Self::Type1(container) = self else { return Ok(()) };
        match container.info()?.available {
            Some(0) => Err(Error::TooManyMaps { used: books.mappings() }),
            _ => Ok(()),
        }
    }

    /// Maps memory.
    ///
    /// # Safety
    /// Devices may write it until it is unmapped.
    unsafe fn map_memory(
        &mut self,
        base: NonNull<u8>,
        len: u64,
        iova: u64,
        access: Access,
    ) -> std::io::Result<()> {
        match self {
            Self::Type1(container) => {
                let fd = container.fd().as_fd();
                // SAFETY: the caller's promise.
                unsafe { sys::type1_map(fd, base, len, iova, access) }
            }
            Self::Iommufd(iommufd) => {
                // SAFETY: the caller's promise.
                unsafe { sys::ioas_map(iommufd.id(), base, len, iova, access) }
            }
            Self::NoIommu(_) => Ok(()),
        }
    }

    fn unmap(&mut self, iova: u64, len: u64) -> Result<()> {
        let unmapped = match self {
            // Without a group the kernel has forgotten the mapping already.
            Self::Type1(container) if container.is_empty() => Ok(()),
            Self::Type1(container) => {
                sys::type1_unmap(container.fd().as_fd(), iova, len).map(|_bytes| ())
            }
            Self::Iommufd(iommufd) => sys::ioas_unmap(iommufd.id(), iova, len),
            Self::NoIommu(_) => Ok(()),
        };
        unmapped.map_err(Error::system(format!("unmapping {len:#x} bytes at iova {iova:#x}")))
    }
}

/// A device in an address space. Dropping it detaches the device, closes it, and leaves its group: in
/// this order, and the address space goes last.
#[derive(Debug)]
pub(crate) struct Attachment {
    device: Option<Arc<OwnedFd>>,
    group: Option<Arc<Group>>,
    iommu: Iommu,
}

impl Attachment {
    pub(crate) fn iommu(&self) -> &Iommu {
        &self.iommu
    }

    /// The device. Who holds on to the descriptor keeps the device open.
    pub(crate) fn device(&self) -> &Arc<OwnedFd> {
        self.device.as_ref().expect("there until it is dropped")
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // The lock keeps a group from being left and entered at the same time.
        let state = self.iommu.state();
        if self.group.is_none()
            && let Some(device) = &self.device
            && let Err(error) = sys::detach_iommufd(device.as_fd())
        {
            tracing::debug!(%error, "a device would not leave its address space before it closed");
        }
        self.device = None;
        self.group = None;
        drop(state);
    }
}

fn no_device() -> Error {
    Error::AddressSpace(
        "the address space has no device yet, and so no ranges: open one first".to_owned(),
    )
}

/// Whether the kernel made up the function's group because there is no IOMMU.
pub(crate) fn is_noiommu(sysfs: &Sysfs, function: &Function) -> bool {
    let name = function.iommu_group.and_then(|group| {
        std::fs::read_to_string(sysfs.path(format!("sys/kernel/iommu_groups/{group}/name"))).ok()
    });
    name.is_some_and(|name| name.trim() == "vfio-noiommu")
}

/// Whether the function can be had by iommufd, by this user.
fn has_iommufd(sysfs: &Sysfs, function: &Function) -> bool {
    let may_open = |path: &std::path::Path| {
        let access = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
        rustix::fs::access(path, access).is_ok()
    };
    let device = iommufd::character_device(sysfs, function.address);
    device.is_some_and(|device| may_open(&device)) && may_open(&sysfs.path("dev/iommu"))
}

pub(crate) fn page_size() -> u64 {
    rustix::param::page_size() as u64
}
