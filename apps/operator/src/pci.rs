//! Functions on the PCI bus as the operator sees them: lines in the manner of `dpdk-devbind`. Reads;
//! binds nothing.

use std::{fmt, path::Path};

use memwire_apps::AppError;
use serde::Serialize;
use vfio::pci::{Function, Names, Sysfs, USER_SPACE_DRIVERS, routed_interfaces};

/// A function of the bus: a NIC, as a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Nic {
    pub(crate) address: String,
    /// Vendor and device: `1af4:1041`.
    pub(crate) id: String,
    /// From pci.ids; none where it does not know the device or is not here.
    pub(crate) name: Option<String>,
    pub(crate) interfaces: Vec<String>,
    /// The driver that it is bound to.
    pub(crate) driver: Option<String>,
    /// Drivers for user space that are loaded and could have it instead.
    pub(crate) unused: Vec<String>,
    pub(crate) numa_node: Option<u32>,
    pub(crate) iommu_group: Option<u32>,
    /// Whether a route leads through it: who takes it away cuts a connection.
    pub(crate) is_active: bool,
}

impl fmt::Display for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = self.id.rsplit(':').next().unwrap_or(&self.id);
        write!(f, "{} '{} {device}'", self.address, self.name.as_deref().unwrap_or("Device"))?;
        if !self.interfaces.is_empty() {
            write!(f, " if={}", self.interfaces.join(","))?;
        }
        if let Some(driver) = &self.driver {
            write!(f, " drv={driver}")?;
        }
        write!(f, " unused={}", self.unused.join(","))?;
        if self.is_active { f.write_str(" *Active*") } else { Ok(()) }
    }
}

impl Nic {
    /// Whether programs, not the kernel, may drive it.
    pub(crate) fn is_for_user_space(&self) -> bool {
        let driver = self.driver.as_deref();
        driver.is_some_and(|driver| USER_SPACE_DRIVERS.contains(&driver) || driver.contains("vfio"))
    }
}

/// The NICs below `root`, by address; none where the bus cannot be read.
pub(crate) fn nics(root: &Path) -> Vec<Nic> {
    functions(root, |function| function.class.is_network()).unwrap_or_default()
}

/// The functions below `root` that are `wanted`, by address. What cannot be read of the others is told
/// in the log.
pub(crate) fn functions(
    root: &Path,
    wanted: impl Fn(&Function) -> bool,
) -> Result<Vec<Nic>, AppError> {
    let sysfs = Sysfs::at(root);
    let scan = sysfs.scan().map_err(|error| AppError::missing(error.to_string()))?;
    for problem in &scan.problems {
        tracing::warn!("{problem}; it is left out");
    }
    let (names, routed) = (Names::load(&sysfs), routed_interfaces(&sysfs));
    let drivers = root.join("sys/bus/pci/drivers");
    let loaded: Vec<&str> =
        USER_SPACE_DRIVERS.into_iter().filter(|name| drivers.join(name).is_dir()).collect();
    let shown = |function: Function| Nic {
        address: function.address.to_string(),
        id: function.id(),
        name: names.device(function.vendor, function.device).map(str::to_owned),
        is_active: function.interfaces.iter().any(|name| routed.contains(name)),
        unused: loaded
            .iter()
            .filter(|name| function.driver.as_deref() != Some(name))
            .map(ToString::to_string)
            .collect(),
        numa_node: function.numa_node,
        iommu_group: function.iommu_group,
        interfaces: function.interfaces,
        driver: function.driver,
    };
    Ok(scan.functions.into_iter().filter(|function| wanted(function)).map(shown).collect())
}

/// What an error of VFIO's means for the exit code.
pub(crate) fn app_error(error: &vfio::Error) -> AppError {
    let text = error.to_string();
    match error {
        vfio::Error::Address(_) => AppError::usage(text),
        vfio::Error::NoFunction(_) | vfio::Error::Binding { is_refusal: true, .. } => {
            AppError::missing(text)
        }
        _ => AppError::failed(text),
    }
}

/// Trees of files that stand for machines.
#[cfg(test)]
pub(crate) mod fixture {
    use std::{fs, os::unix::fs::symlink, path::Path};

    pub(crate) const IDS: &str = "1af4  Red Hat, Inc.\n\t1041  Virtio 1.0 network device\n";

    pub(crate) fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A function with class, vendor and device; yields its folder.
    pub(crate) fn function(
        root: &Path,
        address: &str,
        [class, vendor, device]: [&str; 3],
    ) -> String {
        let folder = format!("sys/bus/pci/devices/{address}");
        let resource = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n".repeat(7);
        for (name, text) in
            [("class", class), ("vendor", vendor), ("device", device), ("resource", &resource)]
        {
            put(root, &format!("{folder}/{name}"), &format!("{}\n", text.trim_end()));
        }
        folder
    }

    /// Binds the function in that folder.
    pub(crate) fn bind(root: &Path, folder: &str, driver: &str) {
        let drivers = root.join("sys/bus/pci/drivers");
        fs::create_dir_all(drivers.join(driver)).unwrap();
        symlink(format!("../../drivers/{driver}"), root.join(folder).join("driver")).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::{
        fixture::{IDS, bind, function, put},
        *,
    };

    #[test]
    fn a_nic_is_shown_as_devbind_shows_it() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let folder = function(root, "0000:00:03.0", ["0x020000", "0x1af4", "0x1041"]);
        let disk = function(root, "0000:00:01.0", ["0x010000", "0x1af4", "0x1042"]);
        put(root, &format!("{folder}/virtio2/net/eth0/address"), "");
        put(root, &format!("{folder}/numa_node"), "-1\n");
        bind(root, &folder, "virtio-pci");
        bind(root, &disk, "vfio-pci");
        put(root, "usr/share/misc/pci.ids", IDS);
        put(root, "proc/net/route", "Iface\tDestination\neth0\t00000000\n");
        let nics = nics(root);
        assert_eq!(nics.len(), 1);
        assert_eq!(
            nics[0].to_string(),
            "0000:00:03.0 'Virtio 1.0 network device 1041' if=eth0 drv=virtio-pci \
             unused=vfio-pci *Active*"
        );
        assert_eq!((nics[0].numa_node, nics[0].iommu_group), (None, None));
        assert!(!nics[0].is_for_user_space());
    }

    #[test]
    fn a_nic_without_driver_and_name_is_shown_with_what_is_known() {
        let root = tempfile::tempdir().unwrap();
        function(root.path(), "0000:01:00.0", ["0x020000", "0x8086", "0x10d3"]);
        put(root.path(), "sys/bus/pci/devices/0000:01:00.0/numa_node", "1\n");
        let nics = nics(root.path());
        assert_eq!(nics[0].to_string(), "0000:01:00.0 'Device 10d3' unused=");
        assert_eq!(nics[0].numa_node, Some(1));
    }

    #[test]
    fn a_tree_without_pci_has_no_nics() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(nics(root.path()), []);
    }
}
