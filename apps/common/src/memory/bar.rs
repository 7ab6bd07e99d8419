//! `p2p:BDF/barN`: another device's BAR as memory for payloads. Text in, fields out, and the address space that
//! it has to be opened in: its ports'. Knows no NIC.

use std::{collections::BTreeSet, fmt};

use mempool::ProviderError;
use providers::{P2pDma, p2pdma::BarOptions};
use vfio::pci::{Address, Sysfs};

use super::Neighbours;
use crate::{AppError, units::parse_size};

/// How it is written.
pub(super) const USAGE: &str = "p2p:BDF/barN[,offset=SIZE][,len=SIZE][,allow-nonpref][,cpu=off]\
                                [,iommu=auto|type1|iommufd]";

/// The address space of ports without an IOMMU.
const NO_IOMMU: &str = "none";

/// A part of a BAR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BarSpec {
    /// Whose BAR.
    pub address: Address,
    /// Which, 0 to 5.
    pub bar: u8,
    /// Which part, and how it may be used.
    pub options: BarOptions,
    /// The address space that it is opened in, where that is said; else the ports'.
    pub iommu: Option<String>,
}

impl BarSpec {
    /// Reads what stands behind `p2p:`; an error says what is wrong.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let place = parts.next().unwrap_or_default();
        let (address, bar) = place.split_once('/').ok_or_else(|| {
            format!("'{place}' names no BAR; write {USAGE}, as in p2p:0000:03:00.0/bar2")
        })?;
        let address = address.parse().map_err(|error: vfio::Error| error.to_string())?;
        let number = bar.strip_prefix("bar").and_then(|digits| digits.parse().ok());
        let bar = number.filter(|number| *number < 6);
        let bar = bar.ok_or_else(|| format!("'{place}': BARs are bar0 to bar5"))?;
        let mut spec = Self { address, bar, options: BarOptions::default(), iommu: None };
        let mut seen = BTreeSet::new();
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            if !seen.insert(key) {
                return Err(format!("option '{key}' is given twice"));
            }
            spec.option(key, value)?;
        }
        Ok(spec)
    }

    fn option(&mut self, key: &str, value: &str) -> Result<(), String> {
        let size = || {
            let bytes = parse_size(value).map_err(|error| format!("{key}: {error}"))?;
            u64::try_from(bytes).map_err(|_| format!("{key}={value}: more than 64 bits"))
        };
        match (key, value) {
            ("offset", _) => self.options.offset = size()?,
            ("len", _) => self.options.len = Some(size()?),
            ("allow-nonpref", "") => self.options.allow_non_prefetchable = true,
            ("cpu", "off") => self.options.without_cpu = true,
            ("cpu", "on") => self.options.without_cpu = false,
            ("cpu", _) => return Err(format!("cpu={value}: on or off")),
            ("iommu", "auto" | "type1" | "iommufd") => self.iommu = Some(value.to_owned()),
            ("iommu", _) => return Err(format!("iommu={value}: auto, type1 or iommufd")),
            _ => return Err(format!("unknown option '{key}'; write {USAGE}")),
        }
        Ok(())
    }

    /// Opens it into the address space of the ports that are to write there.
    pub(super) fn open(&self, beside: &Neighbours) -> Result<P2pDma, AppError> {
        let space = self.space(&beside.ports)?;
        let missing = |error: ProviderError| AppError::missing(error.to_string());
        if space == NO_IOMMU {
            // Nobody translates: what its ports are told is where it is on the bus.
            let opened = P2pDma::sysfs(&Sysfs::system(), self.address, self.bar, self.options);
            return opened.map_err(missing);
        }
        let mut registry = beside.registry.clone();
        let iommu = registry.address_space(&space).ok_or_else(|| {
            let why = format!(
                "memory '{self}': its ports' address space, iommu={space}, is not to be had here"
            );
            AppError::missing(why).hint("memwire doctor says what VFIO can do here")
        })?;
        let opened = P2pDma::vfio(&Sysfs::system(), self.address, self.bar, &iommu, self.options);
        opened.map_err(missing)
    }

    /// The name of the address space that all of the ports are in.
    fn space(&self, ports: &[String]) -> Result<String, AppError> {
        let spaces: BTreeSet<&str> = ports.iter().filter_map(|port| space_of(port)).collect();
        let mut names = spaces.iter().copied();
        let (first, second) = (names.next(), names.next());
        if second.is_some() {
            let names: Vec<_> = spaces.into_iter().collect();
            let why = format!(
                "memory '{self}': the ports are in {} address spaces ({}), and a BAR can be opened in one",
                names.len(),
                names.join(", ")
            );
            return Err(AppError::usage(why).hint("give all ports the same iommu="));
        }
        match (first, self.iommu.as_deref()) {
            (Some(theirs), Some(ours)) if theirs != ours => {
                let why = format!(
                    "memory '{self}': its ports are in the address space iommu={theirs}, and a NIC reaches only \
                     what is in its own"
                );
                let hint =
                    format!("leave iommu= of the memory away, or give the ports iommu={ours}");
                Err(AppError::usage(why).hint(hint))
            }
            (theirs, ours) => Ok(theirs.or(ours).unwrap_or("auto").to_owned()),
        }
    }
}

/// The `iommu=` of a PCI port's name, with whatever is wrapped around it.
fn space_of(port: &str) -> Option<&str> {
    let innermost = port.rsplit('@').next().unwrap_or(port);
    let mut parts = innermost.strip_prefix("pci:")?.split(',');
    Some(parts.find_map(|part| part.strip_prefix("iommu=")).unwrap_or("auto"))
}

impl fmt::Display for BarSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, bar, options, iommu } = self;
        write!(f, "p2p:{address}/bar{bar}")?;
        if options.offset > 0 {
            write!(f, ",offset={}", options.offset)?;
        }
        if let Some(len) = options.len {
            write!(f, ",len={len}")?;
        }
        if options.allow_non_prefetchable {
            f.write_str(",allow-nonpref")?;
        }
        if options.without_cpu {
            f.write_str(",cpu=off")?;
        }
        iommu.iter().try_for_each(|iommu| write!(f, ",iommu={iommu}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(memory: &str, ports: &[&str]) -> Result<String, String> {
        let ports: Vec<_> = ports.iter().map(|port| (*port).to_owned()).collect();
        BarSpec::read(memory).unwrap().space(&ports).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bar_is_printed_as_it_is_read() {
        for text in [
            "p2p:0000:03:00.0/bar2",
            "p2p:0000:03:00.0/bar0,offset=4096,len=65536,allow-nonpref,cpu=off,iommu=iommufd",
        ] {
            let spec = BarSpec::read(text.strip_prefix("p2p:").unwrap()).unwrap();
            assert_eq!(spec.to_string(), text);
        }
        let spec = BarSpec::read("03:00.0/bar2,offset=1M,len=2M,cpu=on").unwrap();
        assert_eq!(spec.to_string(), "p2p:0000:03:00.0/bar2,offset=1048576,len=2097152");
    }

    #[test]
    fn what_is_no_bar_is_refused_with_what_is() {
        for (text, words) in [
            ("0000:03:00.0", "names no BAR; write p2p:BDF/barN"),
            ("03:00/bar2", "03:00"),
            ("03:00.0/bar6", "BARs are bar0 to bar5"),
            ("03:00.0/rom", "BARs are bar0 to bar5"),
            ("03:00.0/bar2,offset=much", "offset: "),
            ("03:00.0/bar2,cpu=no", "cpu=no: on or off"),
            ("03:00.0/bar2,iommu=none", "iommu=none: auto, type1 or iommufd"),
            ("03:00.0/bar2,len=1M,len=2M", "option 'len' is given twice"),
            ("03:00.0/bar2,fast", "unknown option 'fast'"),
        ] {
            let why = BarSpec::read(text).unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
    }

    #[test]
    fn memory_goes_into_the_address_space_of_its_ports() {
        let bar = "03:00.0/bar2";
        assert_eq!(space(bar, &["pci:0000:01:00.0"]).unwrap(), "auto");
        let port = "trace:x@pci:0000:01:00.0,iommu=type1,itr=20";
        assert_eq!(space(bar, &[port, "pci:0000:02:00.0,iommu=type1"]).unwrap(), "type1");
        assert_eq!(space("03:00.0/bar2,iommu=iommufd", &["ring:a"]).unwrap(), "iommufd");
        assert_eq!(space(bar, &["ring:a"]).unwrap(), "auto");
    }

    #[test]
    fn memory_in_another_address_space_than_its_ports_is_refused() {
        let why = space("03:00.0/bar2,iommu=iommufd", &["pci:0000:01:00.0,iommu=type1"]);
        let why = why.unwrap_err();
        assert!(why.contains("its ports are in the address space iommu=type1"), "{why}");
        assert!(why.contains("give the ports iommu=iommufd"), "{why}");
        let ports = ["pci:0000:01:00.0,iommu=type1", "pci:0000:02:00.0"];
        let why = space("03:00.0/bar2", &ports).unwrap_err();
        assert!(why.contains("2 address spaces (auto, type1)"), "{why}");
    }
}
