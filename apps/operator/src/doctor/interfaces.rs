//! AF_XDP, as far as it can be told without binding a socket: whether the kernel has it, who may use it, and by
//! interface the driver and its queues.

use super::{
    finding::Finding,
    machine::{BPF, Machine, NET_ADMIN, NET_RAW, SYS_ADMIN},
};

/// Drivers that offer zero-copy sockets (`NETDEV_XDP_ACT_XSK_ZEROCOPY` below drivers/net of Linux 7.3), by the
/// names they have in sysfs.
const ZERO_COPY: [&str; 15] = [
    "fec",
    "fsl_dpaa2_eth",
    "gve",
    "i40e",
    "ice",
    "icssg-prueth",
    "idpf",
    "igb",
    "igc",
    "ixgbe",
    "mlx5_core",
    "nfp",
    "rvu_nicpf",
    "tsnep",
    "virtio_net",
];

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    let protocols = machine.text("proc/net/protocols");
    let has =
        |text: &String| text.lines().any(|line| line.split_whitespace().next() == Some("XDP"));
    let mut findings = vec![match protocols.as_ref().map(has) {
        Some(true) => Finding::ok("sockets", format!("this kernel has them{}", ours())),
        Some(false) => {
            Finding::skip("sockets", "this kernel has none").fix("a kernel with CONFIG_XDP_SOCKETS")
        }
        None => Finding::skip("sockets", "unknown: no /proc/net/protocols"),
    }];
    if machine.process.is_some() {
        findings.push(rights(machine));
    }
    let names = machine.names("sys/class/net");
    let (hardware, virtual_ones): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| driver(machine, name).is_some());
    findings.extend(hardware.iter().map(|name| interface(machine, name)));
    if !virtual_ones.is_empty() {
        findings.push(Finding::skip(virtual_ones.join(" "), "no hardware below: copies at best"));
    }
    findings
}

/// Whether ports of ours use them.
fn ours() -> &'static str {
    let is_ours = pmd::Registry::drivers().iter().any(|driver| driver.name == "af_xdp");
    if is_ours { "" } else { "; no port of memwire's uses them yet" }
}

/// A socket needs CAP_NET_RAW; a program that feeds it CAP_NET_ADMIN and CAP_BPF.
fn rights(machine: &Machine) -> Finding {
    let can = |capability| machine.can(capability);
    let wanted = [
        ("CAP_NET_RAW", can(NET_RAW)),
        ("CAP_NET_ADMIN", can(NET_ADMIN)),
        ("CAP_BPF", can(BPF) || can(SYS_ADMIN)),
    ];
    let lacks: Vec<_> = wanted.iter().filter(|(_, has)| !has).map(|(name, _)| *name).collect();
    if lacks.is_empty() {
        return Finding::ok("rights", "this process may open and feed them");
    }
    Finding::warn("rights", format!("this process lacks {}", lacks.join(", ")))
        .fix(format!("run as root, or setcap {}+ep on the program", lacks.join(",").to_lowercase()))
}

/// The kernel's driver of an interface's hardware.
fn driver(machine: &Machine, name: &str) -> Option<String> {
    let link = machine.root.join("sys/class/net").join(name).join("device/driver");
    let to = std::fs::read_link(link).ok()?;
    Some(to.file_name()?.to_string_lossy().into_owned())
}

fn interface(machine: &Machine, name: &str) -> Finding {
    let driver = driver(machine, name).unwrap_or_default();
    let queues = machine.names(&format!("sys/class/net/{name}/queues"));
    let count = |kind: &str| queues.iter().filter(|queue| queue.starts_with(kind)).count();
    let says = format!("{driver}, {} rx and {} tx queues", count("rx-"), count("tx-"));
    if ZERO_COPY.contains(&driver.as_str()) {
        Finding::ok(name, format!("{says}: its driver has zero-copy sockets"))
    } else {
        Finding::warn(name, format!("{says}: copies, its driver has no zero-copy sockets"))
            .fix("bind the NIC to vfio-pci (memwire bind), or take one whose driver has them")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_listed_once_and_in_order() {
        assert!(ZERO_COPY.is_sorted_by(|one, next| one < next));
    }
}
