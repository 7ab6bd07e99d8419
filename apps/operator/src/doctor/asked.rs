//! `--for`: an app, its ports and its memory, as its command line would name them, and whether they can work
//! together here. Opens nothing.

use std::str::Split;

use memwire_apps::{
    AppError,
    memory::{BarSpec, MemorySpec},
};
use pmd::e1000::Chip;
use vfio::{
    pci::{Address, Function},
    topology::{self, Nodes, Translated, Verdict},
};

use super::{
    finding::{Finding, Status},
    machine::{Machine, NET_RAW},
    memory, process, topo, vfio_nodes,
};
use crate::apps;

/// Words of port and memory specs that are options without a value.
const FLAGS: [&str; 2] = ["i-accept-unsafe-dma", "allow-nonpref"];

/// One thing that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    App(String),
    /// A function to be driven, and its options.
    Pci(Address, Vec<String>),
    /// A BAR to be written to.
    Bar(BarSpec),
    Interface(String),
    Memory(MemorySpec),
    /// What needs nothing of the machine that could be looked at.
    Other(String),
}

/// What is said of all that was asked for.
pub(super) fn findings(machine: &Machine, text: &str) -> Result<Vec<Finding>, AppError> {
    let items = parse(text)?;
    let mut findings: Vec<Finding> = items.iter().flat_map(|item| one(machine, item)).collect();
    for (nic, options) in items.iter().filter_map(|item| match item {
        Item::Pci(address, options) => Some((address, options)),
        _ => None,
    }) {
        for spec in items.iter().filter_map(|item| match item {
            Item::Bar(spec) => Some(spec),
            _ => None,
        }) {
            findings.push(reach(machine, *nic, options, spec));
        }
    }
    Ok(findings)
}

fn parse(text: &str) -> Result<Vec<Item>, AppError> {
    // An option belongs to what stands before it.
    let mut specs: Vec<String> = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let is_option = word.contains('=') || FLAGS.contains(&word);
        match specs.last_mut() {
            Some(spec) if is_option => {
                spec.push(',');
                spec.push_str(word);
            }
            _ => specs.push(word.to_owned()),
        }
    }
    if specs.is_empty() {
        return Err(AppError::usage("--for names nothing"));
    }
    specs.iter().map(|spec| item(spec)).collect()
}

fn item(spec: &str) -> Result<Item, AppError> {
    let mut words = spec.split(',');
    let name = words.next().unwrap_or_default();
    if apps::names().contains(&name) {
        return Ok(Item::App(name.to_owned()));
    }
    let function = |text: &str, options: Split<'_, char>| {
        let address = text.parse::<Address>();
        let address = address.map_err(|error| AppError::usage(format!("--for {spec}: {error}")))?;
        Ok(Item::Pci(address, options.map(str::to_owned).collect()))
    };
    match name.split_once(':') {
        _ if name.parse::<Address>().is_ok() => return function(name, words),
        Some(("pci", rest)) => return function(rest, words),
        Some(("af_packet", name)) => return Ok(Item::Interface(name.to_owned())),
        Some((driver, _)) if pmd::Registry::drivers().iter().any(|known| known.name == driver) => {
            return Ok(Item::Other(spec.to_owned()));
        }
        _ => {}
    }
    match spec.parse::<MemorySpec>() {
        Ok(MemorySpec::Bar(bar)) => Ok(Item::Bar(bar)),
        Ok(MemorySpec::DmaBuf(_)) => Ok(Item::Other(spec.to_owned())),
        Ok(memory) => Ok(Item::Memory(memory)),
        // A bare name is an interface's, as in port specs.
        Err(_) if !name.contains(':') => Ok(Item::Interface(name.to_owned())),
        Err(error) => Err(AppError::usage(format!("--for {spec}: {error}")).hint(
            "an app, ports (pci:0000:02:00.0, eth0) and memory (p2p:0000:03:00.0/bar2, hugepage)",
        )),
    }
}

fn one(machine: &Machine, item: &Item) -> Vec<Finding> {
    match item {
        Item::App(name) => hugepages(machine, name),
        Item::Pci(address, options) => port(machine, *address, options),
        Item::Bar(spec) => bar(machine, spec),
        Item::Interface(name) => vec![interface(machine, name)],
        Item::Memory(spec) => vec![named_memory(machine, spec)],
        Item::Other(spec) => {
            vec![Finding::skip(
                spec.clone(),
                "only opening it tells; nothing of the machine's is needed",
            )]
        }
    }
}

/// Heads and rings of any app are best off in hugepages.
fn hugepages(machine: &Machine, app: &str) -> Vec<Finding> {
    let worse = |finding: &Finding| finding.status == Status::Warn;
    let mut found: Vec<_> = memory::findings(machine).into_iter().filter(worse).collect();
    for finding in &mut found {
        finding.what = format!("{app}: hugepages {}", finding.what);
    }
    if found.is_empty() {
        found.push(Finding::ok(format!("{app}: hugepages"), "there are some"));
    }
    found
}

/// The function, or the finding that it is not there.
fn here(machine: &Machine, address: Address) -> Result<&Function, Finding> {
    machine.function(address).ok_or_else(|| {
        Finding::fail(address.to_string(), "no such PCI function here")
            .fix("memwire status --all lists them")
    })
}

/// Whether the function is on VFIO and can be had, behind an IOMMU unless the user gave that up.
fn held(machine: &Machine, function: &Function, is_unprotected: bool) -> Finding {
    let address = function.address;
    if !function.is_on_vfio() {
        let driver = function.driver.as_deref();
        let says = format!("bound to {}, not to vfio-pci", driver.unwrap_or("no driver"));
        return Finding::fail(address.to_string(), says)
            .fix(format!("as root: memwire bind {address}"));
    }
    let nodes = Nodes::of(&machine.pci, function);
    if !nodes.is_protected && !is_unprotected {
        let says = "no IOMMU before it, and VFIO hands it out only unprotected";
        return Finding::fail(address.to_string(), says).fix(
            "boot with intel_iommu=on (AMD: on by itself); or add iommu=none,i-accept-unsafe-dma to the port",
        );
    }
    vfio_nodes::device(machine, function)
}

fn is_unprotected(options: &[String]) -> bool {
    options.iter().any(|option| option == "iommu=none")
}

fn port(machine: &Machine, address: Address, options: &[String]) -> Vec<Finding> {
    let function = match here(machine, address) {
        Ok(function) => function,
        Err(finding) => return vec![finding],
    };
    let chip = match Chip::of(function.vendor, function.device) {
        Some(chip) => Finding::ok(
            format!("{address}: driver"),
            format!("{} ({})", chip.driver(), chip.name()),
        ),
        None => Finding::fail(format!("{address}: driver"), format!("none for {}", function.id()))
            .fix("leave it to the kernel and open its interface (af_packet:NAME)"),
    };
    let memlock = process::memlock(machine);
    vec![chip, held(machine, function, is_unprotected(options)), memlock]
}

fn bar(machine: &Machine, spec: &BarSpec) -> Vec<Finding> {
    let BarSpec { address, bar, .. } = *spec;
    let function = match here(machine, address) {
        Ok(function) => function,
        Err(finding) => return vec![finding],
    };
    let what = format!("{address}: BAR{bar}");
    let resource = function.resources.get(usize::from(bar)).copied().unwrap_or_default();
    let size = mempool::format_bytes(resource.size());
    let fix = match topo::largest_bar(function) {
        Some((index, _)) => format!("p2p:{address}/bar{index} is memory"),
        None => "name another device: this one has no BAR that looks like memory".to_owned(),
    };
    let window = if resource.size() == 0 {
        Finding::fail(what, "there is none").fix(fix)
    } else if !resource.is_memory() {
        Finding::fail(what, "I/O ports, not memory").fix(fix)
    } else if resource.is_prefetchable() {
        Finding::ok(what, format!("{size} of memory"))
    } else if spec.options.allow_non_prefetchable {
        Finding::warn(what, format!("{size}, not prefetchable: its bytes may be registers"))
    } else {
        Finding::fail(what, format!("{size}, not prefetchable: its bytes may be registers"))
            .fix(format!("{fix}; add allow-nonpref if this is memory all the same"))
    };
    vec![window, held(machine, function, true)]
}

/// Whether what the NIC writes arrives at the memory.
fn reach(machine: &Machine, nic: Address, options: &[String], spec: &BarSpec) -> Finding {
    let BarSpec { address: memory, bar, .. } = *spec;
    let what = format!("{nic} -> {memory}");
    let path = match topology::between(&machine.pci, nic, memory) {
        Ok(path) => path,
        Err(error) => return Finding::fail(what, error.to_string()),
    };
    if path.translated() != Translated::NoIommu || is_unprotected(options) {
        let mut finding = topo::finding(&path, &format!("BAR{bar}"));
        finding.details.push(mapped_by(machine, [nic, memory], options));
        return finding;
    }
    let says = format!("no IOMMU before both; by bus address: {}", path.kernel_words());
    match path.kernel() {
        Verdict::NotSupported => Finding::fail(what, says).fix("use the bounce path"),
        _ => Finding::fail(what, says)
            .fix("an IOMMU; or add iommu=none,i-accept-unsafe-dma to the port, at your own risk"),
    }
}

/// By which interface of VFIO's the BAR would be mapped for the NIC, and what that asks of it.
fn mapped_by(machine: &Machine, functions: [Address; 2], options: &[String]) -> String {
    let asked = options.iter().find_map(|option| option.strip_prefix("iommu=")).unwrap_or("auto");
    let opens = |path: Option<std::path::PathBuf>| path.is_some_and(|path| machine.may_open(&path));
    let has_character = |address: Address| {
        let function = machine.function(address);
        opens(function.and_then(|function| Nodes::of(&machine.pci, function).character))
    };
    // As `vfio::Kind::Auto` chooses, where all have what the first has.
    let by = match asked {
        "auto"
            if machine.may_open(&machine.root.join("dev/iommu"))
                && functions.into_iter().all(has_character) =>
        {
            "iommufd"
        }
        "auto" => "type1",
        other => other,
    };
    match by {
        "iommufd" => "mapped by iommufd, as a dma-buf that VFIO exports (Linux 6.19 with CONFIG_VFIO_PCI_DMABUF); \
                      iommu=type1 does without"
            .to_owned(),
        "type1" => "mapped by type1, by its mapping in this process".to_owned(),
        other => format!("iommu={other}: by its address on the bus"),
    }
}

fn interface(machine: &Machine, name: &str) -> Finding {
    if name.is_empty() || name.contains('/') || !machine.exists(&format!("sys/class/net/{name}")) {
        return Finding::fail(name, "no such interface, port or memory here")
            .fix("memwire info lists interfaces");
    }
    if machine.process.is_some() && !machine.can(NET_RAW) {
        return Finding::fail(name, "this process may open no packet socket (CAP_NET_RAW)")
            .fix("run as root, or setcap cap_net_raw+ep on the program");
    }
    Finding::ok(name, "an interface of the kernel's: frames are copied out of it")
}

fn named_memory(machine: &Machine, spec: &MemorySpec) -> Finding {
    let what = spec.to_string();
    let size = match spec {
        MemorySpec::Hugepage(size) => *size,
        _ => return Finding::ok(what, "needs nothing that could be missing"),
    };
    let pages = providers::Sysfs::at(&machine.root).available_hugepages(size, None);
    match pages {
        None => Finding::fail(what, "this kernel has no hugepages of that size"),
        Some(0) => Finding::fail(what, "none is free")
            .fix(format!("as root: memwire hugepages set 1G --size {size}")),
        Some(pages) => Finding::ok(what, format!("{pages} to be had")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_as_apps_read_it() {
        let nic = "0000:02:00.0".parse().unwrap();
        let Ok(MemorySpec::Bar(bar)) = "p2p:03:00.0/bar2,offset=1M".parse() else { panic!() };
        let text = "gpurx,pci:0000:02:00.0,iommu=none,i-accept-unsafe-dma,p2p:03:00.0/bar2,offset=1M,eth0,host";
        let options = |all: &[&str]| all.iter().map(ToString::to_string).collect();
        assert_eq!(
            parse(text).unwrap(),
            [
                Item::App("gpurx".into()),
                Item::Pci(nic, options(&["iommu=none", "i-accept-unsafe-dma"])),
                Item::Bar(bar),
                Item::Interface("eth0".into()),
                Item::Memory(MemorySpec::Host),
            ]
        );
        assert_eq!(parse("02:00.0").unwrap(), [Item::Pci(nic, Vec::new())]);
        assert_eq!(
            parse("pcap:in.pcap,loop=1").unwrap(),
            [Item::Other("pcap:in.pcap,loop=1".into())]
        );
    }

    #[test]
    fn what_cannot_be_read_is_usage_with_the_word() {
        for (text, says) in [
            ("", "--for names nothing"),
            ("pci:02:00", "'02:00' is no PCI address"),
            ("p2p:03:00.0", "write p2p:BDF/barN"),
            ("p2p:03:00.0/bar7", "BARs are bar0 to bar5"),
            ("hugepage:3M", "hugepages are 2M or 1G"),
            ("cuda:0", "--for cuda:0"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.code(), memwire_apps::Exit::Usage, "{text}");
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
    }
}
