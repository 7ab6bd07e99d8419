//! Whether an IOMMU stands between devices and memory, and who shares a group.

use vfio::pci::Function;

use super::{finding::Finding, machine::Machine};

/// What vfio::Error::NoGroup says too.
const SWITCH_ON: &str = "boot with intel_iommu=on (AMD: on by itself) and switch VT-d or AMD-Vi on in the \
                         firmware";

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    let units = machine.names("sys/class/iommu");
    let groups = machine.names("sys/kernel/iommu_groups");
    let mut findings = Vec::new();
    if units.is_empty() {
        findings.push(
            Finding::warn(
                "IOMMU",
                "none: VFIO hands devices out only in its no-IOMMU mode, unprotected",
            )
            .fix(SWITCH_ON),
        );
    } else {
        let says = format!("{}: {}; {} groups", vendor(&units[0]), units.join(", "), groups.len());
        findings.push(Finding::ok("IOMMU", says));
    }
    if machine.text("sys/module/vfio/parameters/enable_unsafe_noiommu_mode").as_deref() == Some("Y")
    {
        let says = "on: a device may then write any memory of this machine";
        let fix = "echo N > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode, as root, where there is \
                   an IOMMU";
        findings.push(Finding::warn("no-IOMMU mode", says).fix(fix));
    }
    for (group, functions) in machine.groups() {
        let is_of_interest = |function: &&Function| {
            function.class.is_network() || super::topo::is_memory(machine, function)
        };
        if functions.len() > 1 && functions.iter().any(is_of_interest) {
            let names: Vec<_> =
                functions.iter().map(|function| function.address.to_string()).collect();
            let says =
                format!("shared by {}: they go to VFIO together or not at all", names.join(", "));
            findings.push(
                Finding::warn(format!("group {group}"), says)
                    .fix("bind all of them, or move one to a slot whose port has ACS"),
            );
        }
    }
    findings
}

/// Whose it is, by the names that drivers give their units.
fn vendor(unit: &str) -> &'static str {
    match unit {
        unit if unit.starts_with("dmar") => "Intel",
        unit if unit.starts_with("ivhd") => "AMD",
        unit if unit.starts_with("smmu") => "Arm",
        unit if unit.starts_with("virtio") => "virtio",
        _ => "there",
    }
}
