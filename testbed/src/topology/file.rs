//! The text of a topology: read, checked against what makes sense, and refused with its line.

use std::collections::HashSet;

use serde::Deserialize;
use toml::Spanned;

use super::{Bus, Device, Iommu, Kind, Model, Topology, Wire};
use crate::error::{Error, Result};

/// What QEMU's TCG has of an EPYC, without what it would warn about. The kernel takes AMD Zen for a
/// machine that routes peer-to-peer DMA between root ports.
const CPU: &str = "EPYC,-topoext,-xsavec,-nrip-save,-osvw,-misalignsse,-fxsr-opt";
/// Root ports stand in slots 1.. of bus 0; the testbed's own devices from slot 0x1b on.
const ROOT_PORTS: usize = 24;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Topology::parse(text).expect_err("it makes no sense").to_string()
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
}
