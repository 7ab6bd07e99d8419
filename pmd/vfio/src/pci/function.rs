//! One function, as its folder in sysfs describes it.

use std::{fmt, io, path::Path};

use super::{
    Address, Sysfs,
    sysfs::{has_vanished, link, names, text},
    text::{hex, number, resources},
};
use crate::{Error, Result};

/// A PCI function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Where it stands.
    pub address: Address,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Subsystem vendor and device.
    pub subsystem: (u16, u16),
    /// What it is.
    pub class: Class,
    /// Revision id.
    pub revision: u8,
    /// NUMA node; none where the firmware does not say (the kernel's -1).
    pub numa_node: Option<u32>,
    /// The IOMMU group; none without an IOMMU.
    pub iommu_group: Option<u32>,
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// BARs (0–5), expansion ROM (6), and windows of bridges.
    pub resources: Vec<Resource>,
    /// Network interfaces: its own, or of a virtio device below it.
    pub interfaces: Vec<String>,
}

/// Base class, subclass and programming interface: `0x020000` is an Ethernet controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class(pub u32);

impl Class {
    /// Whether it is a network controller.
    #[must_use]
    pub fn is_network(self) -> bool {
        self.0 >> 16 == 0x02
    }

    /// Whether it is a bridge: no driver for user space may have one.
    #[must_use]
    pub fn is_bridge(self) -> bool {
        self.0 >> 16 == 0x06
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

/// One line of `resource`: a BAR, or another window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// First bus address.
    pub start: u64,
    /// Last bus address.
    pub end: u64,
    /// `IORESOURCE_*` of `<linux/ioport.h>`.
    pub flags: u64,
}

impl Resource {
    /// Bytes; 0 where there is nothing.
    #[must_use]
    pub fn size(self) -> u64 {
        if self.flags == 0 { 0 } else { (self.end - self.start).saturating_add(1) }
    }

    /// Whether it is memory (`IORESOURCE_MEM`), not I/O ports.
    #[must_use]
    pub fn is_memory(self) -> bool {
        self.flags & 0x200 != 0
    }

    /// Whether reads have no side effects and writes may be combined (`IORESOURCE_PREFETCH`): memory, not
    /// registers.
    #[must_use]
    pub fn is_prefetchable(self) -> bool {
        self.flags & 0x2000 != 0
    }
}

impl Function {
    /// Reads one function.
    ///
    /// # Errors
    /// There is none there, or its files do not say what they should.
    pub fn read(sysfs: &Sysfs, address: Address) -> Result<Self> {
        let folder = Folder { path: &sysfs.function(address), address };
        let group = folder.link("iommu_group")?;
        Ok(Self {
            address,
            vendor: folder.hex("vendor")?,
            device: folder.hex("device")?,
            subsystem: (
                folder.optional("subsystem_vendor", hex)?.unwrap_or(0),
                folder.optional("subsystem_device", hex)?.unwrap_or(0),
            ),
            class: Class(folder.hex("class")?),
            revision: folder.optional("revision", hex)?.unwrap_or(0),
            // -1 where there is none.
            numa_node: folder
                .optional("numa_node", number::<i64>)?
                .and_then(|node| u32::try_from(node).ok()),
            iommu_group: match group {
                Some(group) => Some(folder.parsed("iommu_group", number(&group))?),
                None => None,
            },
            driver: folder.link("driver")?,
            resources: folder.required("resource", resources)?,
            interfaces: interfaces(folder.path),
        })
    }

    /// `vendor:device`, as in `8086:10d3`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{:04x}:{:04x}", self.vendor, self.device)
    }

    /// Whether a driver for user space by VFIO has it: vfio-pci, or a variant for one device.
    #[must_use]
    pub fn is_on_vfio(&self) -> bool {
        self.driver.as_deref().is_some_and(|driver| driver.contains("vfio"))
    }
}

/// A function's folder: reads files, and words what is wrong with them.
struct Folder<'a> {
    path: &'a Path,
    address: Address,
}

impl Folder<'_> {
    fn hex<T: TryFrom<u64>>(&self, name: &str) -> Result<T> {
        self.required(name, hex)
    }

    fn required<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T> {
        self.optional(name, parse)?.ok_or(Error::NoFunction(self.address))
    }

    fn optional<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>> {
        match text(&self.path.join(name)) {
            Ok(text) => self.parsed(name, parse(&text)).map(Some),
            Err(error) if has_vanished(&error) => Ok(None),
            Err(error) => Err(self.malformed(name, error.to_string())),
        }
    }

    fn link(&self, name: &str) -> Result<Option<String>> {
        link(&self.path.join(name))
            .map_err(|error: io::Error| self.malformed(name, error.to_string()))
    }

    fn parsed<T>(&self, name: &str, parsed: Result<T, String>) -> Result<T> {
        parsed.map_err(|problem| self.malformed(name, problem))
    }

    fn malformed(&self, name: &str, problem: String) -> Error {
        let path = self.path.join(name).display().to_string();
        // "line 3: …" reads on from the path.
        match problem.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
            Some((line, rest)) => {
                Error::Malformed { path: format!("{path} line {line}"), problem: rest.to_owned() }
            }
            None => Error::Malformed { path, problem },
        }
    }
}

/// Network interfaces of a function: its own, or those of a bus below it (virtio).
fn interfaces(folder: &Path) -> Vec<String> {
    let mut found = names(&folder.join("net"));
    let below = names(folder).into_iter().filter(|name| name.starts_with("virtio"));
    found.extend(below.flat_map(|name| names(&folder.join(name).join("net"))));
    found.sort();
    found
}
