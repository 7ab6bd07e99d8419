//! Root complexes that are known to send a peer's writes down again: the kernel's list, as data.

use std::{fmt, fs};

use super::{acs::config, place::Place};
use crate::pci::{Address, Class, Function, Sysfs, capabilities};

/// A line of `pci_p2pdma_whitelist[]` (Linux 7.3, drivers/pci/p2pdma.c).
struct Entry {
    vendor: u16,
    /// None: all of this vendor's.
    device: Option<u16>,
    /// Only between devices below one host bridge (`REQ_SAME_HOST_BRIDGE`).
    within_one: bool,
}

const INTEL: u16 = 0x8086;

const fn entry(vendor: u16, device: u16) -> Entry {
    Entry { vendor, device: Some(device), within_one: false }
}

const fn within_one(device: u16) -> Entry {
    Entry { vendor: INTEL, device: Some(device), within_one: true }
}

/// The devices by which the kernel knows a host bridge.
const LIST: [Entry; 25] = [
    // Xeon E5, Core i7.
    within_one(0x3c00),
    within_one(0x3c01),
    // Xeon E7 v3, Xeon E5 v3, Core i7.
    within_one(0x2f00),
    within_one(0x2f01),
    // Skylake-E: root ports A to D, and the bridge.
    entry(INTEL, 0x2030),
    entry(INTEL, 0x2031),
    entry(INTEL, 0x2032),
    entry(INTEL, 0x2033),
    entry(INTEL, 0x2020),
    // Ice Lake and Sapphire Rapids.
    entry(INTEL, 0x09a2),
    // DSA and IAX/IAA of Sapphire Rapids, Granite Rapids D, Diamond Rapids: first on their root bus.
    entry(INTEL, 0x0b25),
    entry(INTEL, 0x0cfe),
    entry(INTEL, 0x11fb),
    entry(INTEL, 0x1212),
    entry(INTEL, 0x1216),
    // QAT: the same.
    entry(INTEL, 0x4940),
    entry(INTEL, 0x4942),
    entry(INTEL, 0x4944),
    entry(INTEL, 0x4946),
    entry(INTEL, 0x4948),
    // Google's.
    Entry { vendor: 0x1ae0, device: None, within_one: false },
    // NVIDIA's CPUs.
    entry(0x10de, 0x2f95),
    entry(0x10de, 0x2f96),
    entry(0x10de, 0x2f97),
    entry(0x10de, 0x2f98),
];

/// A host bridge: where a hierarchy of PCI begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostBridge {
    /// As sysfs names it: `pci0000:00`.
    pub name: String,
    /// The device that it is known by, with vendor and device: the first on its root bus, if that is device
    /// 00.0 or a root port (`pci_host_bridge_dev()`).
    pub device: Option<(Address, u16, u16)>,
}

impl HostBridge {
    pub(super) fn read(sysfs: &Sysfs, place: &Place) -> Self {
        let device = first(place).and_then(|address| {
            let function = Function::read(sysfs, address).ok()?;
            let at_zero = (address.device(), address.function()) == (0, 0);
            let stands_for_it = at_zero || is_root_port(&function, place);
            stands_for_it.then_some((address, function.vendor, function.device))
        });
        Self { name: place.host_bridge.clone(), device }
    }

    /// Whether the list names it, for devices below the `same` host bridge or below two.
    fn is_listed(&self, same: bool) -> bool {
        let Some((_, vendor, device)) = self.device else { return false };
        let named = |entry: &&Entry| {
            entry.vendor == vendor && entry.device.is_none_or(|listed| listed == device)
        };
        LIST.iter().find(named).is_some_and(|entry| same || !entry.within_one)
    }
}

/// `pci0000:00 (8086:29c0)`.
impl fmt::Display for HostBridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.device {
            Some((_, vendor, device)) => write!(f, "{} ({vendor:04x}:{device:04x})", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// The first function on the root bus; the kernel has them in the order of their numbers.
fn first(place: &Place) -> Option<Address> {
    let entries = fs::read_dir(&place.host_folder).ok()?.filter_map(Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).min()
}

/// Whether a function of the root bus is a root port (type 4 of PCI Express Base 5.0 §7.5.3.2). Without the
/// right to read that far, any bridge there counts as one.
fn is_root_port(function: &Function, place: &Place) -> bool {
    const PCI_EXPRESS: u8 = 0x10;
    let config = config(&place.host_folder.join(function.address.to_string()));
    let Ok(found) = capabilities(&config) else {
        return config.len() <= 64
            && function.class.is_bridge()
            && function.class != Class(0x06_0000);
    };
    let express = found.into_iter().find(|found| found.id == PCI_EXPRESS);
    let flags = express.and_then(|found| config.get(usize::from(found.offset) + 2).copied());
    flags.is_some_and(|flags| flags >> 4 == 4)
}

/// Whether writes that went up to the root complex are known to come down again at the peer's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// The processor's do (`cpu_supports_p2pdma()`: AMD's, from Zen on).
    ByCpu,
    /// The kernel's list names the host bridges.
    Listed,
    /// Nobody vouches for it.
    Unlisted,
}

impl Forwarding {
    pub(super) fn between(sysfs: &Sysfs, one: &HostBridge, other: &HostBridge) -> Self {
        let same = one.name == other.name;
        if is_zen(sysfs) {
            Self::ByCpu
        } else if one.is_listed(same) && other.is_listed(same) {
            Self::Listed
        } else {
            Self::Unlisted
        }
    }
}

/// Whether the processor is AMD's of family 0x17 or later.
fn is_zen(sysfs: &Sysfs) -> bool {
    let text = fs::read_to_string(sysfs.path("proc/cpuinfo")).unwrap_or_default();
    let field = |name: &str| {
        let line = text
            .lines()
            .find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
        Some(line.split_once(':')?.1.trim())
    };
    let family = field("cpu family").and_then(|family| family.parse().ok());
    field("vendor_id") == Some("AuthenticAMD") && family.is_some_and(|family: u32| family >= 0x17)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridge(name: &str, vendor: u16, device: u16) -> HostBridge {
        let address = "0000:00:00.0".parse().expect("an address");
        HostBridge { name: name.to_owned(), device: Some((address, vendor, device)) }
    }

    fn on(cpuinfo: &str, one: &HostBridge, other: &HostBridge) -> Forwarding {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir(root.path().join("proc")).expect("a folder");
        fs::write(root.path().join("proc/cpuinfo"), cpuinfo).expect("a file");
        Forwarding::between(&Sysfs::at(root.path()), one, other)
    }

    #[test]
    fn a_host_bridge_may_be_listed_for_devices_below_it_alone() {
        let (old, same) =
            (bridge("pci0000:00", INTEL, 0x2f00), bridge("pci0000:00", INTEL, 0x2f00));
        let other = bridge("pci0000:80", INTEL, 0x2f01);
        assert_eq!(on("", &old, &same), Forwarding::Listed);
        assert_eq!(on("", &old, &other), Forwarding::Unlisted);
        let (one, two) = (bridge("pci0000:00", INTEL, 0x2020), bridge("pci0000:80", INTEL, 0x2030));
        assert_eq!(on("", &one, &two), Forwarding::Listed);
        assert_eq!(on("", &one, &other), Forwarding::Unlisted, "both must be");
    }

    #[test]
    fn all_of_a_vendors_are_listed_where_the_list_names_no_device() {
        let google = bridge("pci0000:00", 0x1ae0, 0x1234);
        assert_eq!(on("", &google, &google.clone()), Forwarding::Listed);
        let nameless = HostBridge { device: None, ..google };
        assert_eq!(on("", &nameless, &nameless.clone()), Forwarding::Unlisted);
    }

    #[test]
    fn processors_of_amd_forward_from_zen_on() {
        let q35 = bridge("pci0000:00", INTEL, 0x29c0);
        let cpu = |vendor: &str, family: u32| {
            format!("processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: 1\n")
        };
        for (vendor, family, forwarding) in [
            ("AuthenticAMD", 23, Forwarding::ByCpu),
            ("AuthenticAMD", 25, Forwarding::ByCpu),
            ("AuthenticAMD", 21, Forwarding::Unlisted),
            ("GenuineIntel", 25, Forwarding::Unlisted),
            ("HygonGenuine", 24, Forwarding::Unlisted),
        ] {
            assert_eq!(on(&cpu(vendor, family), &q35, &q35), forwarding, "{vendor} {family}");
        }
    }
}
