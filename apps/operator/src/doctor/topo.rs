//! Which NIC reaches which device's memory: every pair on the bus, as `vfio::topology` sees it.

use mempool::format_bytes;
use serde::Serialize;
use vfio::{
    pci::{Address, Function},
    topology::{self, Path, Translated, Verdict},
};

use super::{finding::Finding, machine::Machine};

/// Smaller BARs are registers, whatever their flags say.
const SMALLEST: u64 = 1 << 20;

/// A pair, for programs.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Pair {
    nic: String,
    memory: String,
    /// What it offers.
    offers: String,
    /// Steps, as the kernel counts them.
    distance: u32,
    letters: &'static str,
    common_bridge: Option<String>,
    redirects: Vec<String>,
    acs_unknown: Vec<String>,
    kernel: &'static str,
    kernel_says: String,
    vfio: &'static str,
    vfio_says: String,
    numa_nodes: [Option<u32>; 2],
    iommu_groups: [Option<u32>; 2],
    narrowest_link: Option<Narrowest>,
}

#[derive(Clone, Debug, Serialize)]
struct Narrowest {
    at: String,
    link: String,
    mbps: u64,
}

/// The BAR that serves as memory best: prefetchable, and not too small.
pub(super) fn largest_bar(function: &Function) -> Option<(usize, u64)> {
    let bars = function.resources.iter().take(6).enumerate();
    let memory = bars.filter(|(_, bar)| bar.is_memory() && bar.is_prefetchable());
    memory
        .map(|(index, bar)| (index, bar.size()))
        .filter(|(_, size)| *size >= SMALLEST)
        .max_by_key(|bar| bar.1)
}

/// Whether a function offers memory: a BAR that looks like it, or what the kernel's driver gave to p2pdma. The
/// BARs of NICs and bridges are registers, or windows to others.
pub(super) fn is_memory(machine: &Machine, function: &Function) -> bool {
    let is_candidate = !function.class.is_network() && !function.class.is_bridge();
    has_p2pmem(machine, function) || is_candidate && largest_bar(function).is_some()
}

fn has_p2pmem(machine: &Machine, function: &Function) -> bool {
    machine.pci.function(function.address).join("p2pmem").is_dir()
}

/// Every NIC with every device that offers memory, and what is said of it.
pub(super) fn pairs(machine: &Machine) -> (Vec<Pair>, Vec<Finding>) {
    let nics = machine.functions.iter().filter(|function| function.class.is_network());
    let memories: Vec<_> =
        machine.functions.iter().filter(|function| is_memory(machine, function)).collect();
    let (mut pairs, mut findings) = (Vec::new(), Vec::new());
    for nic in nics.clone() {
        for memory in &memories {
            match topology::between(&machine.pci, nic.address, memory.address) {
                Ok(path) => {
                    let offers = offers(machine, memory);
                    let mut finding = finding(&path, &offers);
                    finding.details.extend(holders(machine, [nic, memory]));
                    findings.push(finding);
                    pairs.push(pair(&path, offers));
                }
                Err(error) => {
                    findings
                        .push(Finding::skip(arrow(nic.address, memory.address), error.to_string()));
                }
            }
        }
    }
    if findings.is_empty() {
        let says = if nics.count() == 0 {
            "no NIC on the PCI bus"
        } else {
            "no device with memory on the PCI bus: a prefetchable BAR of 1 MiB or more, or p2pmem"
        };
        findings.push(Finding::skip("pairs", says));
    }
    findings
        .extend(machine.problems.iter().map(|problem| Finding::skip("unread", problem.clone())));
    (pairs, findings)
}

fn offers(machine: &Machine, memory: &Function) -> String {
    let bar =
        largest_bar(memory).map(|(index, size)| format!("BAR{index}, {}", format_bytes(size)));
    let p2pmem = has_p2pmem(machine, memory).then(|| "p2pmem of the kernel's driver".to_owned());
    bar.into_iter().chain(p2pmem).collect::<Vec<_>>().join("; ")
}

/// Who has the two now, if that is not VFIO: a line each.
fn holders(machine: &Machine, functions: [&Function; 2]) -> Vec<String> {
    let taken = functions.into_iter().filter(|function| !function.is_on_vfio());
    let line = |function: &Function| {
        let driver = function.driver.as_deref().unwrap_or("no driver");
        let p2pmem = if has_p2pmem(machine, function) {
            ", whose p2pmem is for the CPU and for disks: VFIO may not pin it"
        } else {
            ""
        };
        format!(
            "{} is on {driver}{p2pmem}; through VFIO only once it is bound to vfio-pci",
            function.address
        )
    };
    taken.map(line).collect()
}

fn arrow(nic: Address, memory: Address) -> String {
    format!("{nic} -> {memory}")
}

/// A pair as a finding: good if the root complex is known to forward.
pub(super) fn finding(path: &Path, offers: &str) -> Finding {
    let what = arrow(path.nic.address, path.memory.address);
    let (letters, distance) = (path.letters.name(), path.distance);
    let kernel = path.kernel().name();
    let says = format!(
        "{letters} {distance}, {offers}: kernel {kernel}, VFIO {}",
        path.translated().name()
    );
    let finding = match (path.translated(), path.kernel()) {
        (Translated::Known, _) => Finding::ok(what, says),
        (Translated::Unproved, _) => Finding::warn(what, says)
            .fix("try it: a probe through the NIC tells; else the bounce path"),
        (Translated::NoIommu, Verdict::NotSupported) => Finding::warn(what, says)
            .fix("an IOMMU, and then a try: a probe tells; else the bounce path"),
        (Translated::NoIommu, _) => Finding::warn(what, says)
            .fix("an IOMMU, so that devices are kept apart; without: iommu=none, at your own risk"),
    };
    finding.details(details(path))
}

/// What there is to know, a line each.
fn details(path: &Path) -> Vec<String> {
    let mut lines = vec![
        format!("{}: {}", path.letters.name(), path.letters.words()),
        format!("kernel: {}", path.kernel_words()),
        format!("VFIO: {}", path.translated_words()),
    ];
    if let Some(bridge) = path.shortcut() {
        lines.push(format!(
            "{bridge} routes by bus address before the IOMMU sees anything: an address of VFIO's in one of \
             its windows would not be translated"
        ));
    }
    if let (Some(nic), Some(memory)) = (path.nic.numa_node, path.memory.numa_node)
        && nic != memory
    {
        lines
            .push(format!("NUMA nodes {nic} and {memory}: every write crosses between processors"));
    }
    if let Some((at, link)) = path.narrowest {
        let (whole, tenth) = (link.mbps() / 1000, link.mbps() % 1000 / 100);
        lines.push(format!("narrowest link: {link} at {at}, {whole}.{tenth} Gb/s"));
    }
    lines.extend(path.hint());
    lines
}

fn pair(path: &Path, offers: String) -> Pair {
    let names =
        |addresses: &[Address]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    Pair {
        nic: path.nic.address.to_string(),
        memory: path.memory.address.to_string(),
        offers,
        distance: path.distance,
        letters: path.letters.name(),
        common_bridge: path.common.map(|common| common.to_string()),
        redirects: names(&path.redirects),
        acs_unknown: names(&path.unread),
        kernel: path.kernel().name(),
        kernel_says: path.kernel_words(),
        vfio: path.translated().name(),
        vfio_says: path.translated_words(),
        numa_nodes: [path.nic.numa_node, path.memory.numa_node],
        iommu_groups: [path.nic.iommu_group, path.memory.iommu_group],
        narrowest_link: path.narrowest.map(|(at, link)| Narrowest {
            at: at.to_string(),
            link: link.to_string(),
            mbps: link.mbps(),
        }),
    }
}
