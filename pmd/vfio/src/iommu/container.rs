//! Groups and containers: the older of VFIO's interfaces, and the one that works without an IOMMU.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Weak},
};

use vfio_bindings::bindings::vfio::{
    VFIO_API_VERSION, VFIO_GROUP_FLAGS_VIABLE, VFIO_NOIOMMU_IOMMU, VFIO_TYPE1v2_IOMMU,
    vfio_iommu_type1_info,
};

use super::node;
use crate::{
    Error, Result, abi,
    pci::{Function, Sysfs},
    sys,
};

/// A container, and the groups that devices of ours keep in it.
#[derive(Debug)]
pub(super) struct Container {
    fd: OwnedFd,
    has_iommu: bool,
    groups: Vec<(u32, Weak<Group>)>,
}

/// A group in a container: left, then closed, when the last device of ours in it is.
#[derive(Debug)]
pub(super) struct Group(OwnedFd);

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = sys::unset_container(self.0.as_fd()) {
            tracing::debug!(%error, "a group would not leave its container");
        }
    }
}

impl Container {
    /// A container without groups.
    pub(super) fn open(sysfs: &Sysfs, has_iommu: bool) -> Result<Self> {
        let path = sysfs.path("dev/vfio/vfio");
        let what = || path.display().to_string();
        let unsupported = |why: &str| Error::Unsupported { what: what(), why: why.to_owned() };
        let fd = node::open(
            &path,
            "the kernel has no VFIO containers: run modprobe vfio-pci, or use iommufd",
        )?;
        let version = sys::api_version(fd.as_fd()).map_err(Error::system(what()))?;
        if u32::try_from(version) != Ok(VFIO_API_VERSION) {
            return Err(unsupported(&format!("VFIO's interface has version {version}, not 0")));
        }
        let this = Self { fd, has_iommu, groups: Vec::new() };
        if !sys::has_extension(this.fd.as_fd(), this.extension()).map_err(Error::system(what()))? {
            return Err(unsupported(match has_iommu {
                true => {
                    "the kernel has no type1 (v2) address spaces: run modprobe vfio_iommu_type1"
                }
                false => {
                    "the kernel gives no devices without an IOMMU: as root, write 1 to \
                          /sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
                }
            }));
        }
        Ok(this)
    }

    fn extension(&self) -> u32 {
        if self.has_iommu { VFIO_TYPE1v2_IOMMU } else { VFIO_NOIOMMU_IOMMU }
    }

    /// Puts the function's group into the container, if it is not there, and gets the device. The first
    /// group makes the container an address space.
    pub(super) fn attach(
        &mut self,
        sysfs: &Sysfs,
        function: &Function,
    ) -> Result<(OwnedFd, Arc<Group>)> {
        let address = function.address;
        let number = function.iommu_group.ok_or(Error::NoGroup(address))?;
        let group = match self.group(number) {
            Some(group) => group,
            None => self.enter(sysfs, number)?,
        };
        let name = CString::new(address.to_string()).map_err(io::Error::from);
        let device = name.and_then(|name| sys::device_of(group.0.as_fd(), &name));
        let device = device.map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY) => Error::Busy { path: sysfs.path(self.node(number)) },
            Some(libc::ENODEV) => Error::NoFunction(address),
            _ => Error::system(format!("{address}: getting the device of group {number}"))(error),
        })?;
        Ok((device, group))
    }

    fn group(&self, number: u32) -> Option<Arc<Group>> {
        self.groups.iter().find(|(n, _)| *n == number)?.1.upgrade()
    }

    fn node(&self, number: u32) -> String {
        format!("dev/vfio/{}{number}", if self.has_iommu { "" } else { "noiommu-" })
    }

    fn enter(&mut self, sysfs: &Sysfs, number: u32) -> Result<Arc<Group>> {
        let path = sysfs.path(self.node(number));
        let what = |doing: &str| format!("{}: {doing}", path.display());
        let fd =
            node::open(&path, "no driver of VFIO's has a function of this group, or not all do")?;
        let flags =
            sys::group_flags(fd.as_fd()).map_err(Error::system(what("asking its state")))?;
        if flags & VFIO_GROUP_FLAGS_VIABLE == 0 {
            return Err(not_viable(number, &sysfs.group(number)));
        }
        let is_first = self.is_empty();
        sys::set_container(fd.as_fd(), self.fd.as_fd()).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::EBUSY) => Error::Busy { path: path.clone() },
                _ => Error::system(what("entering the container"))(error),
            }
        })?;
        // From here on, dropping it leaves the container.
        let group = Arc::new(Group(fd));
        if is_first {
            sys::set_iommu(self.fd.as_fd(), self.extension()).map_err(no_interrupt_remapping)?;
        }
        self.groups.retain(|(n, weak)| *n != number && weak.strong_count() > 0);
        self.groups.push((number, Arc::downgrade(&group)));
        Ok(group)
    }

    /// Whether no device of ours keeps a group here: the kernel then forgets all mappings.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.iter().all(|(_, group)| group.strong_count() == 0)
    }

    /// What the kernel says of the address space.
    pub(super) fn info(&self) -> Result<abi::Type1Info> {
        let buffer = abi::Buffer::new(size_of::<vfio_iommu_type1_info>());
        let info = sys::info(self.fd.as_fd(), sys::Info::Iommu, buffer);
        let info = info.map_err(Error::system("asking the address space for its ranges"))?;
        abi::type1_info(&info.to_bytes())
            .map_err(|problem| Error::Malformed { path: "VFIO_IOMMU_GET_INFO".to_owned(), problem })
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

/// That a group is not viable, and because of whom.
fn not_viable(group: u32, functions: &[Function]) -> Error {
    let blockers = blockers(functions)
        .unwrap_or_else(|| "a function of it is on a driver of the kernel's".to_owned());
    Error::NotViable { group, blockers }
}

/// Who of a group stands in the way: a driver that is neither VFIO's nor a bridge's.
pub(super) fn blockers(functions: &[Function]) -> Option<String> {
    let harmless = ["pcieport", "pci-stub", "shpchp"];
    let blockers: Vec<String> = functions
        .iter()
        .filter(|function| !function.is_on_vfio())
        .filter_map(|function| Some((function.address, function.driver.as_deref()?)))
        .filter(|(_, driver)| !harmless.contains(driver))
        .map(|(address, driver)| format!("{address} still on {driver}"))
        .collect();
    (!blockers.is_empty()).then(|| blockers.join(", "))
}

/// `EPERM` here has one reason that a user can do something about.
pub(super) fn no_interrupt_remapping(error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EPERM) => Error::Unsupported {
            what: "an address space for devices".to_owned(),
            why: "the IOMMU does not remap interrupts, so that a device could forge them: switch \
                  interrupt remapping (x2APIC) on in the firmware, or accept the risk by \
                  vfio_iommu_type1.allow_unsafe_interrupts=1 (iommufd.allow_unsafe_interrupts=1)"
                .to_owned(),
        },
        _ => Error::system("making an address space for devices")(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::tests::function;

    #[test]
    fn a_group_that_is_not_viable_names_who_stands_in_the_way() {
        let on = |address: &str, driver: Option<&str>| Function {
            driver: driver.map(str::to_owned),
            ..function(address)
        };
        let group = [
            on("0000:00:1f.0", Some("pcieport")),
            on("0000:00:1f.2", Some("vfio-pci")),
            on("0000:00:1f.3", Some("snd_hda_intel")),
            on("0000:00:1f.4", None),
        ];
        assert_eq!(
            not_viable(26, &group).to_string(),
            "group 26 not viable: 0000:00:1f.3 still on snd_hda_intel: bind every function of the \
             group to vfio-pci, or to no driver"
        );
    }

    #[test]
    fn a_machine_without_vfio_is_told_what_to_load() {
        let root = tempfile::tempdir().expect("a folder");
        let error = Container::open(&Sysfs::at(root.path()), true).expect_err("no /dev/vfio");
        assert!(error.to_string().contains("run modprobe vfio-pci"), "{error}");
    }
}
