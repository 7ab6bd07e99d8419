//! What lies between two functions, and the words for it.

use std::{collections::HashMap, fs};

use super::{
    Acs, Forwarding, HostBridge, Letters, Link, Translated, Verdict,
    place::{Node, Place},
};
use crate::{
    Result,
    iommu::is_noiommu,
    pci::{Address, Function, Sysfs},
};

/// One of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Which function.
    pub address: Address,
    /// Its NUMA node, if the firmware says.
    pub numa_node: Option<u32>,
    /// Its IOMMU group; none without an IOMMU.
    pub iommu_group: Option<u32>,
    /// The host bridge that it is below.
    pub host_bridge: HostBridge,
    /// What its link runs at; none for one that has no link.
    pub link: Option<Link>,
}

/// What lies between a NIC and a device with memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Who writes.
    pub nic: End,
    /// Who is written to.
    pub memory: End,
    /// Steps from one to the other, as the kernel counts: each step up to the nearest common bridge and down
    /// from it. 0 for one function, 2 for two of one device, 4 across one switch. Without a common bridge,
    /// all functions on both ways up, the two ends among them: 4 for devices on two root ports.
    pub distance: u32,
    /// The nearest bridge above both (or the one function itself); none if only the root complex is.
    pub common: Option<Address>,
    /// Functions on the way, the common bridge among them, that redirect to the root complex.
    pub redirects: Vec<Address>,
    /// Functions on the way of which that is unknown.
    pub unread: Vec<Address>,
    /// Whether the root complex is known to send writes down again.
    pub forwarding: Forwarding,
    /// How near, for people.
    pub letters: Letters,
    /// The slowest link on the way.
    pub narrowest: Option<(Address, Link)>,
}

impl Path {
    pub(super) fn read(sysfs: &Sysfs, nic: Address, memory: Address) -> Result<Self> {
        let (client, provider) = (Place::read(sysfs, nic)?, Place::read(sysfs, memory)?);
        let end = |place: &Place, address| -> Result<End> {
            let function = Function::read(sysfs, address)?;
            let link = place.chain.first().and_then(|node| Link::read(&node.folder, "current"));
            let host_bridge = HostBridge::read(sysfs, place);
            // The kernel makes groups up for functions without an IOMMU.
            let iommu_group = function.iommu_group.filter(|_| !is_noiommu(sysfs, &function));
            let numa_node = function.numa_node;
            Ok(End { address, numa_node, iommu_group, host_bridge, link })
        };
        let (nic, memory) = (end(&client, nic)?, end(&provider, memory)?);
        let walk = Walk::between(&provider.chain, &client.chain);
        let (mut redirects, mut unread) = (Vec::new(), Vec::new());
        for node in &walk.checked {
            match Acs::read(&node.folder) {
                Acs::Direct => {}
                Acs::Redirects => redirects.push(node.address),
                Acs::Unknown => unread.push(node.address),
            }
        }
        let distance = u32::try_from(walk.distance).unwrap_or(u32::MAX);
        let links = walk
            .between
            .iter()
            .filter_map(|node| Some((node.address, Link::read(&node.folder, "current")?)));
        let same_host_bridge = nic.host_bridge.name == memory.host_bridge.name;
        Ok(Self {
            distance,
            common: walk.common,
            letters: Letters::of(
                walk.common.map(|_| distance),
                same_host_bridge,
                [nic.numa_node, memory.numa_node],
                is_one_node(sysfs),
            ),
            forwarding: Forwarding::between(sysfs, &nic.host_bridge, &memory.host_bridge),
            narrowest: links.min_by_key(|(_, link)| link.mbps()),
            redirects,
            unread,
            nic,
            memory,
        })
    }

    /// Whether there is no bridge above both but the root complex, or one on the way sends all up there.
    #[must_use]
    pub fn is_through_host_bridge(&self) -> Option<bool> {
        match self.common {
            None => Some(true),
            Some(_) if !self.redirects.is_empty() => Some(true),
            Some(_) if !self.unread.is_empty() => None,
            Some(_) => Some(false),
        }
    }

    /// What the kernel's own peer-to-peer DMA (`pci_p2pdma_map_type()`) would do.
    #[must_use]
    pub fn kernel(&self) -> Verdict {
        match (self.is_through_host_bridge(), self.forwarding) {
            (Some(false), _) => Verdict::BusAddr,
            (None, _) => Verdict::Unknown,
            (Some(true), Forwarding::Unlisted) => Verdict::NotSupported,
            (Some(true), Forwarding::ByCpu | Forwarding::Listed) => Verdict::ThruHostBridge,
        }
    }

    /// What a NIC meets that is driven through VFIO.
    #[must_use]
    pub fn translated(&self) -> Translated {
        if self.nic.iommu_group.is_none() || self.memory.iommu_group.is_none() {
            return Translated::NoIommu;
        }
        match self.forwarding {
            Forwarding::ByCpu | Forwarding::Listed => Translated::Known,
            Forwarding::Unlisted => Translated::Unproved,
        }
    }

    /// What the kernel would do and why, in a sentence.
    #[must_use]
    pub fn kernel_words(&self) -> String {
        let common = self.common.map(|common| common.to_string()).unwrap_or_default();
        let why_up = match (self.common, self.redirects.is_empty()) {
            (Some(_), false) => format!("ACS at {} sends it there", list(&self.redirects, ", ")),
            _ if self.is_same_host_bridge() => "no switch above both".to_owned(),
            _ => "below two host bridges".to_owned(),
        };
        match self.kernel() {
            Verdict::BusAddr if self.distance == 0 => {
                "the same function: its own memory".to_owned()
            }
            Verdict::BusAddr => format!("straight across {common}, by bus address"),
            Verdict::ThruHostBridge => {
                format!("through the root complex ({why_up}), {}", self.vouched())
            }
            Verdict::NotSupported => {
                format!("refused: through the root complex ({why_up}), {}", self.vouched())
            }
            Verdict::Unknown => format!(
                "unknown: whether ACS of {} redirects cannot be read without root",
                list(&self.unread, ", ")
            ),
        }
    }

    /// What a NIC meets that is driven through VFIO, in a sentence.
    #[must_use]
    pub fn translated_words(&self) -> String {
        match self.translated() {
            Translated::NoIommu => {
                "no IOMMU before both: bus addresses only (iommu=none), and nothing stops a device that strays"
                    .to_owned()
            }
            Translated::Known => {
                format!("translated by the IOMMU; the root complex forwards: {}", self.vouched())
            }
            Translated::Unproved => format!(
                "translated by the IOMMU; whether the root complex forwards is unknown ({}): a probe before \
                 the first frame tells",
                self.vouched()
            ),
        }
    }

    /// What would let the kernel take a shorter way, or this process know more; none if there is nothing to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self.kernel() {
            Verdict::Unknown => {
                Some("run as root, which may read all of the configuration space".to_owned())
            }
            _ if self.common.is_some() && !self.redirects.is_empty() => Some(format!(
                "the kernel goes straight across the switch after a boot with \
                 pci=disable_acs_redir={}, which also joins their IOMMU groups",
                list(&self.redirects, ";")
            )),
            Verdict::NotSupported => Some(
                "the kernel goes straight across where both are below one PCIe switch".to_owned(),
            ),
            Verdict::BusAddr | Verdict::ThruHostBridge => None,
        }
    }

    /// The bridge that may take an address of the IOMMU's for one of its own: without ACS a switch routes by
    /// bus address before the IOMMU sees anything, so what lies in one of its windows never arrives there.
    #[must_use]
    pub fn shortcut(&self) -> Option<Address> {
        let is_translated = self.translated() != Translated::NoIommu;
        (is_translated && self.distance > 0 && self.is_through_host_bridge() == Some(false))
            .then_some(self.common)?
    }

    fn is_same_host_bridge(&self) -> bool {
        self.nic.host_bridge.name == self.memory.host_bridge.name
    }

    fn vouched(&self) -> String {
        let bridges = match self.is_same_host_bridge() {
            true => format!("{}", self.nic.host_bridge),
            false => format!("{} and {}", self.nic.host_bridge, self.memory.host_bridge),
        };
        match self.forwarding {
            Forwarding::ByCpu => "as AMD's processors do from Zen on".to_owned(),
            Forwarding::Listed => format!("{bridges} being on the kernel's list"),
            Forwarding::Unlisted if self.is_same_host_bridge() => {
                format!("{bridges} not being on the kernel's list")
            }
            Forwarding::Unlisted => format!("{bridges} not both being on the kernel's list"),
        }
    }
}

/// The way between two chains, walked as `calc_map_type_and_dist()` does.
struct Walk<'a> {
    distance: usize,
    common: Option<Address>,
    /// Functions whose ACS matters: the provider's up to and with the common bridge, the client's below it.
    /// The two ends are among them, as in the kernel: functions of one device may have ACS between them.
    checked: Vec<&'a Node>,
    /// Functions that have a link that the data uses: all below the common bridge.
    between: Vec<&'a Node>,
}

impl<'a> Walk<'a> {
    fn between(provider: &'a [Node], client: &'a [Node]) -> Self {
        let places: HashMap<Address, usize> =
            client.iter().enumerate().map(|(at, node)| (node.address, at)).collect();
        let met = provider
            .iter()
            .enumerate()
            .find_map(|(up, node)| Some((up, *places.get(&node.address)?)));
        match met {
            Some((up, down)) => Self {
                distance: up + down,
                common: Some(provider[up].address),
                checked: provider[..=up].iter().chain(&client[..down]).collect(),
                between: provider[..up].iter().chain(&client[..down]).collect(),
            },
            // Everything goes up to the root complex anyway.
            None => Self {
                distance: provider.len() + client.len(),
                common: None,
                checked: Vec::new(),
                between: provider.iter().chain(client).collect(),
            },
        }
    }
}

/// Whether the machine has one NUMA node, or does not say.
fn is_one_node(sysfs: &Sysfs) -> bool {
    let online =
        fs::read_to_string(sysfs.path("sys/devices/system/node/online")).unwrap_or_default();
    matches!(online.trim(), "" | "0")
}

fn list(addresses: &[Address], between: &str) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}
