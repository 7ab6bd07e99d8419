//! Character devices and `/dev/iommu`: the newer of VFIO's interfaces.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use super::{
    container::{blockers, no_interrupt_remapping},
    node,
};
use crate::{
    Error, Result,
    pci::{Address, Function, Sysfs},
    sys,
};

/// An iommufd with one address space.
#[derive(Debug)]
pub(super) struct Iommufd {
    fd: OwnedFd,
    ioas: u32,
}

impl Iommufd {
    /// An address space without devices.
    pub(super) fn open(sysfs: &Sysfs) -> Result<Self> {
        let path = sysfs.path("dev/iommu");
        let missing = "the kernel has no iommufd (CONFIG_IOMMUFD), or it is not loaded: run modprobe \
                       iommufd, or use type1";
        let fd = node::open(&path, missing)?;
        let ioas = sys::ioas_alloc(fd.as_fd())
            .map_err(Error::system(format!("{}: making an address space", path.display())))?;
        Ok(Self { fd, ioas })
    }

    /// Opens the function's character device and attaches it.
    pub(super) fn attach(&self, sysfs: &Sysfs, function: &Function) -> Result<OwnedFd> {
        let address = function.address;
        let path = character_device(sysfs, address).ok_or_else(|| Error::Unsupported {
            what: format!("{address}: a character device for iommufd"),
            why: "the kernel makes none (CONFIG_VFIO_DEVICE_CDEV): use type1".to_owned(),
        })?;
        let device = node::open(&path, "no driver of VFIO's has the function any more")?;
        sys::bind_iommufd(device.as_fd(), self.fd.as_fd()).map_err(|error| {
            match error.raw_os_error() {
                // A device that is open already, by whomever, is an invalid argument.
                Some(libc::EBUSY | libc::EINVAL) => taken(sysfs, function, path.clone()),
                Some(libc::EPERM) => no_interrupt_remapping(error),
                _ => Error::system(format!("{address}: binding to iommufd"))(error),
            }
        })?;
        sys::attach_iommufd(device.as_fd(), self.ioas).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::EPERM) => no_interrupt_remapping(error),
                _ => Error::system(format!("{address}: attaching to the address space"))(error),
            }
        })?;
        Ok(device)
    }

    /// What every attached device can reach, and the smallest page.
    pub(super) fn ranges(&self) -> Result<(Vec<(u64, u64)>, u64)> {
        sys::ioas_ranges(self.fd.as_fd(), self.ioas)
            .map_err(Error::system("asking the address space for its ranges"))
    }

    /// How requests name the address space.
    pub(super) fn id(&self) -> (BorrowedFd<'_>, u32) {
        (self.fd.as_fd(), self.ioas)
    }
}

impl Drop for Iommufd {
    fn drop(&mut self) {
        // Every device is detached, or holds on to us: what is still mapped goes with it.
        if let Err(error) = sys::ioas_destroy(self.fd.as_fd(), self.ioas) {
            tracing::debug!(%error, "an address space would not go before its iommufd");
        }
    }
}

/// Why a device cannot be bound: a neighbour of its group is the kernel's, or somebody has it.
fn taken(sysfs: &Sysfs, function: &Function, path: PathBuf) -> Error {
    let group = function.iommu_group;
    let blockers = group.and_then(|group| Some((group, blockers(&sysfs.group(group))?)));
    match blockers {
        Some((group, blockers)) => Error::NotViable { group, blockers },
        None => Error::Busy { path },
    }
}

/// The function's character device, if it is there.
pub(crate) fn character_device(sysfs: &Sysfs, address: Address) -> Option<PathBuf> {
    let folder = sysfs.function(address).join("vfio-dev");
    let names = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let name = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .find(|name| name.starts_with("vfio") || name.starts_with("noiommu-vfio"))?;
    let path = sysfs.path("dev/vfio/devices").join(name);
    path.exists().then_some(path)
}
