//! VFIO: its modules, its device nodes, and who may open them.

use std::path::Path;

use vfio::{pci::Function, topology::Nodes};

use super::{finding::Finding, machine::Machine};

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![match machine.exists("sys/bus/pci/drivers/vfio-pci") {
        true => Finding::ok("vfio-pci", "loaded"),
        false => Finding::warn("vfio-pci", "not loaded; `memwire bind` loads it")
            .fix("as root: modprobe vfio-pci"),
    }];
    for (what, path, missing) in [
        ("type1", "dev/vfio/vfio", "modprobe vfio_iommu_type1 as root, where the kernel has it"),
        ("iommufd", "dev/iommu", "a kernel with CONFIG_IOMMUFD; without it type1 serves"),
    ] {
        findings.push(node(machine, what, &machine.root.join(path), missing));
    }
    let bound: Vec<_> = machine.functions.iter().filter(|function| function.is_on_vfio()).collect();
    if bound.is_empty() {
        findings.push(
            Finding::skip("devices", "none is on vfio-pci").fix("as root: memwire bind ADDRESS"),
        );
    }
    findings.extend(bound.into_iter().map(|function| device(machine, function)));
    findings
}

/// A node of the machine's.
fn node(machine: &Machine, what: &str, path: &Path, missing: &str) -> Finding {
    let shown = machine.shown(path);
    if !path.exists() {
        Finding::skip(what, format!("no {shown}")).fix(missing)
    } else if machine.may_open(path) {
        Finding::ok(what, format!("{shown} may be opened"))
    } else {
        Finding::warn(what, format!("{shown} may not be opened")).fix(machine.give(path))
    }
}

/// Whether a function that is on vfio-pci can be had, and how.
pub(super) fn device(machine: &Machine, function: &Function) -> Finding {
    let nodes = Nodes::of(&machine.pci, function);
    let address = function.address.to_string();
    let ways = [("type1", &nodes.group), ("iommufd", &nodes.character)];
    let ways: Vec<_> =
        ways.into_iter().filter_map(|(way, path)| Some((way, path.as_deref()?))).collect();
    if ways.is_empty() {
        return Finding::fail(address, "on vfio-pci, and no device node for it")
            .fix("look what the kernel's log says of vfio; bind it again");
    }
    let (open, closed): (Vec<_>, Vec<_>) =
        ways.into_iter().partition(|(_, path)| machine.may_open(path));
    let protection = if nodes.is_protected { "" } else { ", unprotected (no IOMMU)" };
    if open.is_empty() {
        let names: Vec<_> = closed.iter().map(|(_, path)| machine.shown(path)).collect();
        return Finding::fail(address, format!("{} may not be opened", names.join(" and ")))
            .fix(machine.give(closed[0].1));
    }
    let names: Vec<_> =
        open.iter().map(|(way, path)| format!("{way} ({})", machine.shown(path))).collect();
    let says = format!("can be had by {}{protection}", names.join(", "));
    if nodes.is_protected { Finding::ok(address, says) } else { Finding::warn(address, says) }
}
