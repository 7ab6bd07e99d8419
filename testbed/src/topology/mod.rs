//! What hangs on the guest's PCI buses, as a small TOML file says it. Knows what a line means and what
//! makes no sense; knows no QEMU option ([`qemu`]) and no bus number ([`address`]).
//!
//! ```toml
//! iommu = "intel"
//!
//! [[device]]
//! id = "igb0"            # its name everywhere: here, in QEMU, in the harness
//! kind = "igb"           # e1000e, igb, virtio-net, vmxnet3, ivshmem, nvme
//! bus = "root"           # a root port of its own, or the name of a switch that it shares
//! wire = "host"          # datagram sockets for the host's end, or the id of the NIC it is wired to
//! ```

mod address;
mod qemu;

pub(crate) use qemu::{escaped, host_socket, qemu_socket};

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use crate::error::{At, Error, Result};

/// The files in `testbed/topologies`, by name.
const KNOWN: [(&str, &str); 6] = [
    ("default", include_str!("../../topologies/default.toml")),
    ("forward", include_str!("../../topologies/forward.toml")),
    ("noiommu", include_str!("../../topologies/noiommu.toml")),
    ("pairs", include_str!("../../topologies/pairs.toml")),
    ("switch", include_str!("../../topologies/switch.toml")),
    ("virtio-iommu", include_str!("../../topologies/virtio-iommu.toml")),
];
/// What QEMU's TCG has of an EPYC, without what it would warn about. The kernel takes AMD Zen for a
/// machine that routes peer-to-peer DMA between root ports.
const CPU: &str = "EPYC,-topoext,-xsavec,-nrip-save,-osvw,-misalignsse,-fxsr-opt";
/// Root ports stand in slots 1.. of bus 0; the testbed's own devices from slot 0x1b on.
const ROOT_PORTS: usize = 24;

/// The machine around the CPU, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    pub(crate) iommu: Iommu,
    pub(crate) cpu: String,
    devices: Vec<Device>,
}

/// Who translates the devices' addresses.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Iommu {
    /// VT-d with interrupt remapping.
    Intel,
    /// virtio-iommu; no interrupt remapping, so VFIO is told that this is all right.
    Virtio,
    /// Nobody; VFIO's no-IOMMU mode is allowed.
    None,
}

/// One PCI device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name: here, in QEMU, and in the harness.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    bus: Bus,
}

/// What a device is, and what belongs to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A network interface.
    Nic {
        /// Which one.
        model: Model,
        /// Where its frames go.
        wire: Wire,
        /// Its address, as text.
        mac: String,
    },
    /// A BAR 2 of this many MiB, whose bytes are the file `$OUT/ID.img`.
    Ivshmem {
        /// MiB.
        size_mib: u32,
    },
    /// A disk, whose bytes are the file `$OUT/ID.img`.
    Nvme {
        /// MiB of the disk.
        size_mib: u32,
        /// MiB of controller memory, which the kernel offers for peer-to-peer DMA; 0 is none.
        cmb_mib: u32,
    },
}

/// NICs that QEMU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Intel 82574L.
    E1000e,
    /// Intel 82576.
    Igb,
    /// Virtio 1.x, behind the IOMMU if there is one.
    VirtioNet,
    /// VMware's.
    Vmxnet3,
}

/// Where a NIC's frames go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Datagram sockets in `$OUT/net`: one datagram is one frame.
    Host,
    /// Straight into this other NIC.
    Nic(String),
}

/// What a device is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Bus {
    /// A root port of its own.
    Root,
    /// A downstream port of this switch.
    Switch(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "intel")]
    iommu: Iommu,
    cpu: Option<String>,
    #[serde(default)]
    device: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: Spanned<String>,
    kind: Spanned<String>,
    bus: Option<Spanned<String>>,
    wire: Option<Spanned<String>>,
    mac: Option<Spanned<String>>,
    size_mib: Option<Spanned<u32>>,
    cmb_mib: Option<Spanned<u32>>,
}

fn intel() -> Iommu {
    Iommu::Intel
}

impl Topology {
    /// One that comes with the testbed, by name, or a file's, by path.
    ///
    /// # Errors
    /// If there is neither, or the text makes no sense; the message has the line.
    pub fn load(name: &str) -> Result<Self> {
        if let Some((_, text)) = KNOWN.iter().find(|(known, _)| *known == name) {
            return Self::parse(text).map_err(|error| prefixed(name, &error));
        }
        let path = Path::new(name);
        if path.extension().is_none() {
            let known: Vec<_> = KNOWN.iter().map(|(name, _)| *name).collect();
            return Err(Error::Invalid(format!(
                "no topology is called {name:?}: take one of {}, or a file NAME.toml",
                known.join(", ")
            )));
        }
        let text = std::fs::read_to_string(path).at("read", path)?;
        Self::parse(&text).map_err(|error| prefixed(name, &error))
    }

    /// The names that [`Topology::load`] knows without a file.
    pub fn names() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().map(|(name, _)| *name)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// If it makes no sense; the message has the line.
    pub fn parse(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text).map_err(|error| {
            let line = line_of(text, error.span().map_or(0, |span| span.start));
            Error::Invalid(format!("line {line}: {}", error.message()))
        })?;
        let ids: HashSet<&str> =
            file.device.iter().map(|entry| entry.id.as_ref().as_str()).collect();
        let mut devices: Vec<Device> = Vec::new();
        for (index, entry) in file.device.iter().enumerate() {
            let device = entry.check(text, index, &ids)?;
            if devices.iter().any(|other| other.id == device.id) {
                return Err(at(text, &entry.id, format!("{:?} is there twice", device.id)));
            }
            devices.push(device);
        }
        for (entry, device) in file.device.iter().zip(&devices) {
            check_wire(text, entry, device, &devices)?;
        }
        let topology =
            Self { iommu: file.iommu, cpu: file.cpu.unwrap_or_else(|| CPU.to_owned()), devices };
        let ports = topology.root_ports().len();
        if ports > ROOT_PORTS {
            return Err(Error::Invalid(format!(
                "{ports} root ports are asked for, and there are {ROOT_PORTS}: put devices on a switch"
            )));
        }
        Ok(topology)
    }

    /// All devices, in the order of the file.
    #[must_use]
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The device of that name.
    ///
    /// # Errors
    /// If there is none; the message names those there are.
    pub fn device(&self, id: &str) -> Result<&Device> {
        self.devices.iter().find(|device| device.id == id).ok_or_else(|| {
            let ids: Vec<_> = self.devices.iter().map(|device| device.id.as_str()).collect();
            Error::Invalid(format!(
                "this topology has no device {id:?}; it has {}",
                if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
            ))
        })
    }

    /// What the kernel's command line must say for these devices to be usable from user space.
    pub(crate) fn kernel_arguments(&self) -> &'static [&'static str] {
        match self.iommu {
            Iommu::Intel => &["intel_iommu=on"],
            Iommu::Virtio => {
                &["vfio_iommu_type1.allow_unsafe_interrupts=1", "iommufd.allow_unsafe_interrupts=1"]
            }
            Iommu::None => &["vfio.enable_unsafe_noiommu_mode=1"],
        }
    }
}

impl Device {
    pub(crate) fn is_wired_to_the_host(&self) -> bool {
        matches!(self.kind, Kind::Nic { wire: Wire::Host, .. })
    }
}

impl Entry {
    fn check(&self, text: &str, index: usize, ids: &HashSet<&str>) -> Result<Device> {
        let id = self.id.as_ref();
        if id.is_empty() || id == "root" || id == "host" || !id.bytes().all(is_plain) {
            let what =
                format!("{id:?} is no id: take letters and digits, and neither root nor host");
            return Err(at(text, &self.id, what));
        }
        let size_mib = || self.size_mib.as_ref().map_or(64, |size| *size.as_ref());
        let kind = match self.kind.as_ref().as_str() {
            "e1000e" => self.nic(text, index, Model::E1000e, ids)?,
            "igb" => self.nic(text, index, Model::Igb, ids)?,
            "virtio-net" => self.nic(text, index, Model::VirtioNet, ids)?,
            "vmxnet3" => self.nic(text, index, Model::Vmxnet3, ids)?,
            "ivshmem" => Kind::Ivshmem { size_mib: size_mib() },
            "nvme" => Kind::Nvme {
                size_mib: size_mib(),
                cmb_mib: self.cmb_mib.as_ref().map_or(0, |size| *size.as_ref()),
            },
            other => {
                let what = format!(
                    "{other:?} is no kind of device: \
                     take e1000e, igb, virtio-net, vmxnet3, ivshmem or nvme"
                );
                return Err(at(text, &self.kind, what));
            }
        };
        self.refuse_strangers(text, &kind)?;
        let bus = match &self.bus {
            None => Bus::Root,
            Some(bus) if bus.as_ref() == "root" => Bus::Root,
            Some(bus) if bus.as_ref().bytes().all(is_plain) && !bus.as_ref().is_empty() => {
                Bus::Switch(bus.as_ref().clone())
            }
            Some(bus) => {
                let what = format!("{:?} is no bus: take root, or a switch's name", bus.as_ref());
                return Err(at(text, bus, what));
            }
        };
        Ok(Device { id: id.clone(), kind, bus })
    }

    fn nic(&self, text: &str, index: usize, model: Model, ids: &HashSet<&str>) -> Result<Kind> {
        let id = self.id.as_ref();
        let Some(wire) = &self.wire else {
            let what = format!("{id} needs a wire: \"host\", or the id of another NIC");
            return Err(at(text, &self.id, what));
        };
        let wire = match wire.as_ref().as_str() {
            "host" => Wire::Host,
            other if other != id && ids.contains(other) => Wire::Nic(other.to_owned()),
            other => {
                let what =
                    format!("{id} cannot be wired to {other:?}: no other device has that id");
                return Err(at(text, wire, what));
            }
        };
        let mac = match &self.mac {
            None => format!("52:54:00:00:00:{:02x}", index + 1),
            Some(mac) if is_unicast_mac(mac.as_ref()) => mac.as_ref().clone(),
            Some(mac) => {
                let what = format!("{:?} is no address of one NIC", mac.as_ref());
                return Err(at(text, mac, what));
            }
        };
        Ok(Kind::Nic { model, wire, mac })
    }

    /// Keys that mean nothing to this kind of device.
    fn refuse_strangers(&self, text: &str, kind: &Kind) -> Result<()> {
        let is_nic = matches!(kind, Kind::Nic { .. });
        let is_nvme = matches!(kind, Kind::Nvme { .. });
        let (id, kind) = (self.id.as_ref(), self.kind.as_ref());
        let refuse = |key: &str| format!("{id} is of kind {kind}, which has no {key}");
        match self {
            Self { wire: Some(wire), .. } if !is_nic => Err(at(text, wire, refuse("wire"))),
            Self { mac: Some(mac), .. } if !is_nic => Err(at(text, mac, refuse("mac"))),
            Self { size_mib: Some(size), .. } if is_nic => Err(at(text, size, refuse("size_mib"))),
            Self { size_mib: Some(size), .. } if !size.as_ref().is_power_of_two() => {
                Err(at(text, size, format!("{id}: size_mib must be a power of two")))
            }
            Self { cmb_mib: Some(cmb), .. } if !is_nvme => Err(at(text, cmb, refuse("cmb_mib"))),
            _ => Ok(()),
        }
    }
}

/// A wire has two ends, and both must say so.
fn check_wire(text: &str, entry: &Entry, device: &Device, all: &[Device]) -> Result<()> {
    let (Kind::Nic { wire: Wire::Nic(peer), .. }, Some(span)) = (&device.kind, &entry.wire) else {
        return Ok(());
    };
    let back = all.iter().find(|other| other.id == *peer).map(|other| &other.kind);
    match back {
        Some(Kind::Nic { wire: Wire::Nic(id), .. }) if *id == device.id => Ok(()),
        _ => {
            let id = &device.id;
            Err(at(text, span, format!("{id} is wired to {peer}, but {peer} is not wired to {id}")))
        }
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn is_unicast_mac(text: &str) -> bool {
    let bytes: Vec<_> = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    bytes.len() == 6
        && text.len() == 17
        && bytes.iter().all(Result::is_ok)
        && bytes[0].as_ref().is_ok_and(|first| first & 1 == 0)
}

fn at<T>(text: &str, place: &Spanned<T>, what: impl AsRef<str>) -> Error {
    Error::Invalid(format!("line {}: {}", line_of(text, place.span().start), what.as_ref()))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn prefixed(name: &str, error: &Error) -> Error {
    Error::Invalid(format!("topology {name}, {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Topology::parse(text).expect_err("it makes no sense").to_string()
    }

    #[test]
    fn every_topology_that_comes_with_the_testbed_is_sound() {
        for name in Topology::names() {
            let topology = Topology::load(name).expect(name);
            assert!(!topology.devices().is_empty(), "{name}");
        }
    }

    #[test]
    fn a_device_says_what_it_is_and_gets_an_address_of_its_own() {
        let text = "iommu = \"none\"\n\
                    [[device]]\nid = \"a\"\nkind = \"igb\"\nwire = \"host\"\n\
                    [[device]]\nid = \"m\"\nkind = \"ivshmem\"\nsize_mib = 16\n";

        let topology = Topology::parse(text).expect("sound");

        assert_eq!(topology.iommu, Iommu::None);
        let mac = "52:54:00:00:00:01".to_owned();
        let nic = Kind::Nic { model: Model::Igb, wire: Wire::Host, mac };
        assert_eq!(topology.device("a").expect("there").kind, nic);
        assert_eq!(topology.device("m").expect("there").kind, Kind::Ivshmem { size_mib: 16 });
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        let cases = [
            ("iommu = \"amd\"", "line 1: unknown variant"),
            ("\n[[device]]\nid = \"a\"\nkind = \"tulip\"\n", "line 4: \"tulip\" is no kind"),
            ("[[device]]\nid = \"a\"\nkind = \"igb\"\n", "line 2: a needs a wire"),
            ("[[device]]\nid = \"a-b\"\nkind = \"nvme\"\n", "line 2: \"a-b\" is no id"),
            (
                "[[device]]\nid = \"a\"\nkind = \"nvme\"\nwire = \"host\"\n",
                "line 4: a is of kind nvme",
            ),
            ("[[device]]\nid = \"a\"\nkind = \"nvme\"\nsize_mib = 3\n", "line 4: a: size_mib must"),
            ("[[device]]\nid = \"a\"\nkind = \"nvme\"\nsped = 3\n", "line 4: unknown field `sped`"),
            ("[[device]]\nid = \"a\"\nkind = \"igb\"\nwire = \"b\"\n", "line 4: a cannot be wired"),
            (
                "[[device]]\nid = \"a\"\nkind = \"igb\"\nwire = \"host\"\nmac = \"53:54:0:0:0:1\"\n",
                "line 5: \"53:54:0:0:0:1\" is no address",
            ),
            (
                "[[device]]\nid = \"a\"\nkind = \"nvme\"\n[[device]]\nid = \"a\"\nkind = \"nvme\"\n",
                "line 5: \"a\" is there twice",
            ),
        ];
        for (text, expected) in cases {
            let message = refusal(text);
            assert!(message.starts_with(expected), "{text}: {message}");
        }
    }

    #[test]
    fn a_wire_must_be_known_at_both_ends() {
        let nic = |id: &str, wire: &str| {
            format!("[[device]]\nid = \"{id}\"\nkind = \"igb\"\nwire = \"{wire}\"\n")
        };

        let message = refusal(&(nic("a", "b") + &nic("b", "host")));

        assert_eq!(message, "line 4: a is wired to b, but b is not wired to a");
        assert!(Topology::parse(&(nic("a", "b") + &nic("b", "a"))).is_ok());
    }

    #[test]
    fn an_unknown_name_tells_the_known_ones() {
        let message = Topology::load("defualt").expect_err("a typo").to_string();
        assert!(message.contains("default, forward"), "{message}");
    }
}
