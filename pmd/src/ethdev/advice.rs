//! What a user can do about a device that DPDK cannot attach. Reads what the system says of it; calls nothing
//! of DPDK's.

use std::fs;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use vfio::pci::{Address, Function, Sysfs};

use crate::Error;

/// Virtual devices that an ordinary user may not have: their names, the capability's bit, and its name.
const PRIVILEGED: [(&str, u32, &str); 3] = [
    ("net_af_packet", 13, "CAP_NET_RAW"),
    ("net_af_xdp", 13, "CAP_NET_RAW"),
    ("net_tap", 12, "CAP_NET_ADMIN"),
];
/// What DPDK says of a name that is no driver's.
const UNKNOWN: &str = "failed to parse device";

/// What stands in the way.
#[derive(Debug, PartialEq, Eq)]
enum Obstacle {
    /// A permission, and how to get it.
    Permission(String),
    /// Something else, and what to do.
    Other(String),
}

/// The error of a port whose device DPDK cannot attach, for the reason `why`.
pub(super) fn refused(port: String, name: &str, why: &str) -> Error {
    let what = format!("DPDK cannot attach '{name}': {why}");
    match obstacle(name, why) {
        Obstacle::Permission(needs) => Error::NoPermission { port, what, needs },
        Obstacle::Other(advice) => Error::NotThere { port, why: format!("{what}; {advice}") },
    }
}

fn obstacle(name: &str, why: &str) -> Obstacle {
    if let Ok(address) = name.parse() {
        return of_hardware(&Sysfs::system(), address);
    }
    if let Some(needs) = lacks(name, capabilities()) {
        return Obstacle::Permission(needs);
    }
    Obstacle::Other(if why.contains(UNKNOWN) {
        "no driver has that name: a virtual device is named by its driver and a number, such as net_null0, \
         net_ring0 or net_memif0, hardware by its address, such as 0000:01:00.0"
            .to_owned()
    } else {
        "see what arguments its driver takes in DPDK's guide to drivers (doc.dpdk.org/guides/nics)"
            .to_owned()
    })
}

/// The privilege that a virtual device needs, and this process lacks.
fn lacks(name: &str, capabilities: u64) -> Option<String> {
    let (_, bit, capability) = PRIVILEGED.iter().find(|(device, ..)| name.starts_with(device))?;
    let low = capability.to_ascii_lowercase();
    (capabilities >> bit & 1 == 0)
        .then(|| format!("{capability}: run as root, or `setcap {low}+ep <binary>`"))
}

/// Effective capabilities of this process; all of them if the system does not say.
fn capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(u64::MAX)
}

/// What stands in the way of a PCI function.
fn of_hardware(sysfs: &Sysfs, address: Address) -> Obstacle {
    let function = match Function::read(sysfs, address) {
        Ok(function) => function,
        Err(error) => return Obstacle::Other(error.to_string()),
    };
    if !function.is_on_vfio() {
        let driver = function.driver.as_deref().unwrap_or("no driver");
        return Obstacle::Other(format!(
            "{address} is bound to {driver}: `memwire bind {address}` gives it to vfio-pci, where DPDK's drivers \
             look for it (those of NVIDIA leave it with mlx5_core)"
        ));
    }
    let Some(group) = function.iommu_group else {
        return Obstacle::Other(format!(
            "{address} has no IOMMU group, and DPDK needs one: `memwire doctor` says why"
        ));
    };
    let node = sysfs.path(format!("dev/vfio/{group}"));
    match accessat(CWD, &node, Access::READ_OK | Access::WRITE_OK, AtFlags::EACCESS) {
        Ok(()) => Obstacle::Other(format!(
            "its VFIO group can be opened: either DPDK has no driver for {}, or somebody else has it open",
            function.id()
        )),
        Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => Obstacle::Permission(format!(
            "{}: run as root, or have root give it to this user (chown)",
            node.display()
        )),
        Err(error) => Obstacle::Other(format!("{}: {error}", node.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, path::Path};

    use super::*;

    /// A PCI function on that driver, in IOMMU group 7.
    fn machine(driver: Option<&str>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let function = root.path().join("sys/bus/pci/devices/0000:01:00.0");
        fs::create_dir_all(&function).unwrap();
        for (file, text) in [("vendor", "0x8086"), ("device", "0x10d3"), ("class", "0x020000")] {
            fs::write(function.join(file), text).unwrap();
        }
        fs::write(function.join("resource"), "0x0 0x0 0x0\n".repeat(7)).unwrap();
        symlink("../../../kernel/iommu_groups/7", function.join("iommu_group")).unwrap();
        if let Some(driver) = driver {
            symlink(format!("../../../bus/pci/drivers/{driver}"), function.join("driver")).unwrap();
        }
        root
    }

    fn said(root: &Path) -> String {
        let obstacle = of_hardware(&Sysfs::at(root), "0000:01:00.0".parse().unwrap());
        let (Obstacle::Permission(text) | Obstacle::Other(text)) = obstacle;
        text
    }

    #[test]
    fn hardware_is_looked_at_step_by_step() {
        let nowhere = tempfile::tempdir().unwrap();
        let text = said(nowhere.path());
        assert!(text.contains("0000:01:00.0") && text.contains("memwire status --all"), "{text}");
        for (driver, bound) in [(Some("e1000e"), "bound to e1000e"), (None, "bound to no driver")] {
            let text = said(machine(driver).path());
            assert!(text.contains(bound) && text.contains("memwire bind 0000:01:00.0"), "{text}");
        }
        let machine = machine(Some("vfio-pci"));
        let text = said(machine.path());
        assert!(text.ends_with("/7: No such file or directory (os error 2)"), "{text}");
        let nodes = machine.path().join("dev/vfio");
        fs::create_dir_all(&nodes).unwrap();
        fs::write(nodes.join("7"), "").unwrap();
        let text = said(machine.path());
        assert!(text.contains("DPDK has no driver for 8086:10d3"), "{text}");
    }

    #[test]
    fn a_missing_privilege_is_named_and_one_that_is_there_is_not() {
        let needs = lacks("net_af_packet0", 1 << 12).unwrap();
        assert_eq!(needs, "CAP_NET_RAW: run as root, or `setcap cap_net_raw+ep <binary>`");
        assert!(lacks("net_tap3", 1 << 13).unwrap().starts_with("CAP_NET_ADMIN: run as root"));
        assert_eq!((lacks("net_tap3", 1 << 12), lacks("net_null0", 0)), (None, None));
    }
}
