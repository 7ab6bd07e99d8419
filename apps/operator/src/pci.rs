//! NICs on the PCI bus as the kernel lists them, for lines in the manner of `dpdk-devbind`. Reads
//! sysfs; binds nothing.

use std::{
    collections::HashSet,
    fmt, fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

/// Drivers that hand a device to user space.
const HANDING_OVER: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];
/// Where distributions keep the names of devices.
const NAMES: [&str; 3] =
    ["usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids", "var/lib/pciutils/pci.ids"];
/// The class of network controllers, in the top byte of three.
const NETWORK: u32 = 0x02;

/// A NIC on the PCI bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Nic {
    pub(crate) address: String,
    /// Vendor and device: `1af4:1041`.
    pub(crate) id: String,
    /// From pci.ids; none where it does not know the device or is not here.
    pub(crate) name: Option<String>,
    pub(crate) interfaces: Vec<String>,
    /// The kernel's driver that it is bound to.
    pub(crate) driver: Option<String>,
    /// Drivers that are loaded and could have it instead.
    pub(crate) unused: Vec<String>,
    pub(crate) numa_node: Option<u32>,
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

/// The NICs below `root`, by address.
pub(crate) fn nics(root: &Path) -> Vec<Nic> {
    let Ok(entries) = fs::read_dir(root.join("sys/bus/pci/devices")) else {
        return Vec::new();
    };
    let mut found: Vec<(String, PathBuf)> = entries
        .filter_map(Result::ok)
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .filter(|(_, path)| class(path) == Some(NETWORK))
        .collect();
    found.sort();
    let names = names(root);
    let routed = routed(root);
    found
        .into_iter()
        .filter_map(|(address, path)| nic(root, address, &path, names.as_deref(), &routed))
        .collect()
}

fn class(device: &Path) -> Option<u32> {
    Some(hex(&device.join("class"))? >> 16)
}

fn nic(
    root: &Path,
    address: String,
    path: &Path,
    names: Option<&str>,
    routed: &HashSet<String>,
) -> Option<Nic> {
    let (vendor, device) = (hex(&path.join("vendor"))?, hex(&path.join("device"))?);
    let id = format!("{vendor:04x}:{device:04x}");
    let driver = fs::read_link(path.join("driver")).ok();
    let driver = driver.and_then(|link| Some(link.file_name()?.to_string_lossy().into_owned()));
    let drivers = root.join("sys/bus/pci/drivers");
    let unused = HANDING_OVER.into_iter().filter(|name| drivers.join(name).is_dir());
    let unused = unused.filter(|name| driver.as_deref() != Some(name)).map(str::to_owned);
    let interfaces = interfaces(path);
    let node = fs::read_to_string(path.join("numa_node")).ok();
    Some(Nic {
        name: names.and_then(|names| device_name(names, vendor, device)),
        is_active: interfaces.iter().any(|name| routed.contains(name)),
        unused: unused.collect(),
        // The kernel says -1 where there is none.
        numa_node: node.and_then(|node| node.trim().parse().ok()),
        address,
        id,
        interfaces,
        driver,
    })
}

/// Network interfaces of a device: its own, or those of a bus below it (virtio).
fn interfaces(device: &Path) -> Vec<String> {
    let list = |folder: &Path| -> Vec<(String, PathBuf)> {
        let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        entries.map(|e| (e.file_name().to_string_lossy().into_owned(), e.path())).collect()
    };
    let mut names: Vec<String> =
        list(&device.join("net")).into_iter().map(|(name, _)| name).collect();
    for (name, below) in list(device) {
        if name.starts_with("virtio") {
            names.extend(list(&below.join("net")).into_iter().map(|(name, _)| name));
        }
    }
    names.sort();
    names
}

/// Interfaces that a route leads through, of both address families.
fn routed(root: &Path) -> HashSet<String> {
    let read =
        |name: &str| fs::read_to_string(root.join("proc/net").join(name)).unwrap_or_default();
    let (four, six) = (read("route"), read("ipv6_route"));
    let first = four.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    // Every interface has a link-local route; a flag says which came from a router or a person.
    let last = six.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_link_local = words.first()?.starts_with("fe80") || words.first()?.starts_with("ff");
        (!is_link_local).then(|| *words.last().unwrap_or(&""))
    });
    first.chain(last).map(str::to_owned).collect()
}

fn names(root: &Path) -> Option<String> {
    // Some releases hold a name that is not UTF-8.
    let bytes = NAMES.iter().find_map(|path| fs::read(root.join(path)).ok())?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The device's name: below its vendor's line, by one tab.
fn device_name(names: &str, vendor: u32, device: u32) -> Option<String> {
    let (vendor, device) = (format!("{vendor:04x}  "), format!("\t{device:04x}  "));
    let mut lines = names.lines().skip_while(|line| !line.starts_with(&vendor)).skip(1);
    let mut below = lines.by_ref().take_while(|line| line.starts_with(['\t', '#']));
    below.find_map(|line| line.strip_prefix(&device)).map(|name| name.trim().to_owned())
}

fn hex(file: &Path) -> Option<u32> {
    let text = fs::read_to_string(file).ok()?;
    u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const IDS: &str = "# names\n1af3  Other\n\t1041  Not this\n1af4  Red Hat, Inc.\n\t1000  Old\n\
                       \t1041  Virtio 1.0 network device\n\t\t1af4 1041  A subsystem\n1af5  Next\n\
                       \t10d3  Beyond\n";

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn device(root: &Path, address: &str, [class, vendor, device]: [&str; 3]) -> String {
        let folder = format!("sys/bus/pci/devices/{address}");
        for (name, text) in [("class", class), ("vendor", vendor), ("device", device)] {
            put(root, &format!("{folder}/{name}"), &format!("{text}\n"));
        }
        folder
    }

    #[test]
    fn a_nic_is_shown_as_devbind_shows_it() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let folder = device(root, "0000:00:03.0", ["0x020000", "0x1af4", "0x1041"]);
        device(root, "0000:00:01.0", ["0x010000", "0x1af4", "0x1042"]);
        put(root, &format!("{folder}/virtio2/net/eth0/address"), "");
        put(root, &format!("{folder}/numa_node"), "-1\n");
        fs::create_dir_all(root.join("sys/bus/pci/drivers/virtio-pci")).unwrap();
        fs::create_dir_all(root.join("sys/bus/pci/drivers/vfio-pci")).unwrap();
        symlink("../../drivers/virtio-pci", root.join(&folder).join("driver")).unwrap();
        put(root, "usr/share/misc/pci.ids", IDS);
        put(root, "proc/net/route", "Iface\tDestination\neth0\t00000000\n");
        let nics = nics(root);
        assert_eq!(nics.len(), 1);
        assert_eq!(
            nics[0].to_string(),
            "0000:00:03.0 'Virtio 1.0 network device 1041' if=eth0 drv=virtio-pci \
             unused=vfio-pci *Active*"
        );
        assert_eq!(nics[0].numa_node, None);
    }

    #[test]
    fn a_nic_without_driver_and_name_is_shown_with_what_is_known() {
        let root = tempfile::tempdir().unwrap();
        device(root.path(), "0000:01:00.0", ["0x020000", "0x8086", "0x10d3"]);
        put(root.path(), "sys/bus/pci/devices/0000:01:00.0/numa_node", "1\n");
        let nics = nics(root.path());
        assert_eq!(nics[0].to_string(), "0000:01:00.0 'Device 10d3' unused=");
        assert_eq!(nics[0].numa_node, Some(1));
    }

    #[test]
    fn names_are_those_of_the_right_vendor() {
        assert_eq!(device_name(IDS, 0x1af4, 0x1041).as_deref(), Some("Virtio 1.0 network device"));
        assert_eq!(device_name(IDS, 0x1af4, 0x10d3), None);
        assert_eq!(device_name(IDS, 0x8086, 0x10d3), None);
        assert_eq!(device_name("", 0, 0), None);
    }

    #[test]
    fn a_tree_without_pci_has_no_nics() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(nics(root.path()), []);
    }

    #[test]
    fn a_route_of_ipv6_makes_an_interface_active_and_its_link_local_ones_do_not() {
        let root = tempfile::tempdir().unwrap();
        let line =
            |to: &str, name: &str| format!("{to} 40 {} 00 x 00000001 {name}\n", "0".repeat(32));
        let far = format!("2001{}", "0".repeat(28));
        let near = format!("fe80{}", "0".repeat(28));
        put(root.path(), "proc/net/ipv6_route", &(line(&far, "eth1") + &line(&near, "eth2")));
        let routed = routed(root.path());
        assert!(routed.contains("eth1") && !routed.contains("eth2"));
    }
}
