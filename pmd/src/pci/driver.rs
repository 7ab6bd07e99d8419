//! `pci`: which driver drives which function, and how a port spec becomes an open one. The only place
//! that knows both VFIO and the chips.

use vfio::{
    Iommu, Kind, UnsafeDmaAccepted,
    pci::{Address, Function, Sysfs},
};

use super::{VfioBus, VfioMapper};
use crate::{
    Device, Error, Found, Link, PortSpec, Registry,
    e1000::{Chip, E1000, Options, VENDOR},
};

/// The driver's entry in the registry.
pub const DRIVER: crate::Driver = crate::Driver {
    name: "pci",
    usage: "[pci:]0000:01:00.0[,iommu=auto|type1|iommufd|none][,max_frame=9018][,itr=20]\
            [,i-accept-unsafe-dma]",
    about: "a NIC that is bound to vfio-pci: 82574L (e1000e), 82576 (igb); splits headers in hardware",
    open: |registry, spec| open(registry, spec),
    capabilities: || Chip::E82576.capabilities(),
    find: || find(&Sysfs::system()),
};

/// The word of a user who lets devices write any memory of the machine.
const CONSENT: &str = "i-accept-unsafe-dma";

/// Whether a spec without a driver's name is the address of a function.
pub(crate) fn is_address(spec: &str) -> bool {
    spec.split(',').next().is_some_and(|head| head.parse::<Address>().is_ok())
}

fn open(registry: &mut Registry, spec: &PortSpec) -> Result<Box<dyn Device>, Error> {
    let bad = |why: String| Error::BadOption { port: spec.to_string(), why };
    let known: Vec<_> = ["iommu", CONSENT].into_iter().chain(Options::KEYS).collect();
    spec.only(&known)?;
    let options = Options::of(spec)?;
    let address: Address =
        spec.addr.parse().map_err(|error: vfio::Error| bad(error.to_string()))?;
    let kind = kind(spec)?;
    // In canonical form, so that a port has one name however it was written.
    let spec = PortSpec { addr: address.to_string(), ..spec.clone() };
    let port = spec.to_string();
    let refused = |error| refused(&port, error);
    let sysfs = Sysfs::system();
    let function = Function::read(&sysfs, address).map_err(refused)?;
    let chip = Chip::of(function.vendor, function.device)
        .ok_or_else(|| Error::NotThere { port: port.clone(), why: unknown(&function) })?;
    let claim = registry.claim(&spec, format!("pci:{address}"), 1)?;
    let mapper = registry.mapper(kind.0, || VfioMapper::new(Iommu::new(kind.1)));
    let bus = VfioBus::open(&sysfs, address, mapper, chip.registers(), claim).map_err(refused)?;
    Ok(Box::new(E1000::open(port, chip, bus, options)?))
}

/// The address space that a spec asks for, and its name.
fn kind(spec: &PortSpec) -> Result<(&'static str, Kind), Error> {
    let bad = |why: String| Error::BadOption { port: spec.to_string(), why };
    let asked = spec.options.get("iommu").map_or("auto", String::as_str);
    if let Some(kind) = space_kind(asked) {
        return Ok(kind);
    }
    match asked {
        "none" if spec.flag(CONSENT) => {
            Ok(("none", Kind::NoIommu(UnsafeDmaAccepted::i_accept_unsafe_dma())))
        }
        "none" => Err(bad(format!(
            "option iommu=none: without an IOMMU the device can write any memory of this machine; add \
             {CONSENT} if that is what you want"
        ))),
        other => Err(bad(format!("option iommu={other}: should be auto, type1, iommufd or none"))),
    }
}

/// A protected address space by its name in specs.
pub(crate) fn space_kind(name: &str) -> Option<(&'static str, Kind)> {
    match name {
        "auto" => Some(("auto", Kind::Auto)),
        "type1" => Some(("type1", Kind::Type1)),
        "iommufd" => Some(("iommufd", Kind::Iommufd)),
        _ => None,
    }
}

fn unknown(function: &Function) -> String {
    let known =
        Chip::ALL.map(|chip| format!("{VENDOR:04x}:{:04x} ({})", chip.device(), chip.name()));
    format!(
        "no driver for {:04x}:{:04x}; known: {}",
        function.vendor,
        function.device,
        known.join(", ")
    )
}

/// What VFIO says, as the error of a port.
fn refused(port: &str, error: vfio::Error) -> Error {
    let port = port.to_owned();
    match error {
        vfio::Error::System { .. } => {
            let what = error.to_string();
            Error::System { port, what, source: error.into() }
        }
        other => Error::NotThere { port, why: other.to_string() },
    }
}

/// The functions of known chips.
fn find(sysfs: &Sysfs) -> Vec<Found> {
    let Ok(scan) = sysfs.scan() else {
        return Vec::new();
    };
    scan.functions.iter().filter_map(found).collect()
}

fn found(function: &Function) -> Option<Found> {
    let chip = Chip::of(function.vendor, function.device)?;
    let address = function.address.to_string();
    let below = function.driver.clone().unwrap_or_default();
    let trouble = match (below.as_str(), function.interfaces.first()) {
        ("vfio-pci", _) => None,
        ("", _) => Some(format!("bound to no driver: `memwire bind {address}`")),
        (driver, Some(interface)) => Some(format!(
            "bound to the kernel's {driver}, as {interface}: `memwire bind {address}`"
        )),
        (driver, None) => Some(format!("bound to the kernel's {driver}: `memwire bind {address}`")),
    };
    Some(Found {
        port: format!("pci:{address}"),
        mac: [0; 6],
        below,
        bus: address,
        numa_node: function.numa_node,
        link: Link::default(),
        capabilities: chip.capabilities(),
        trouble,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(text: &str) -> Result<&'static str, String> {
        let spec: PortSpec = text.parse().unwrap();
        kind(&spec).map(|(name, _)| name).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bare_address_is_told_from_interfaces_and_drivers() {
        assert!(is_address("0000:01:00.0") && is_address("01:00.0,iommu=type1"));
        assert!(!is_address("eth0") && !is_address("ring:a") && !is_address("pci:01:00.0"));
    }

    #[test]
    fn a_port_without_an_iommu_needs_the_users_word() {
        assert_eq!(kind_of("pci:01:00.0"), Ok("auto"));
        assert_eq!(kind_of("pci:01:00.0,iommu=none,i-accept-unsafe-dma"), Ok("none"));
        let error = kind_of("pci:01:00.0,iommu=none").unwrap_err();
        assert!(error.contains("can write any memory of this machine"), "{error}");
        let error = kind_of("pci:01:00.0,iommu=type2").unwrap_err();
        assert!(error.contains("iommu=type2: should be auto, type1, iommufd or none"), "{error}");
    }
}
