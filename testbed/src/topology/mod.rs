//! What hangs on the guest's PCI buses, as a small TOML file says it. Knows what a line means and
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
mod file;
mod qemu;

pub(crate) use qemu::{escaped, host_socket, inlet, qemu_socket};

use std::path::Path;

use serde::Deserialize;

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
    /// This other NIC; `Guest::inject` adds frames.
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

    /// Whether QEMU is to emulate all CPUs by one thread. With one for each, QEMU 10.0 may take an access
    /// to one piece of the address space for one to another while BARs move, which a reset makes them do.
    /// Where a BAR of memory comes or goes it aborts (`iotlb_to_section`); where the end of an interrupt
    /// is written to memory (xAPIC, without Intel's remapping) it loses that, and the CPU has had its
    /// last timer interrupt. In x2APIC mode the end of an interrupt is no access to memory.
    #[must_use]
    pub(crate) fn wants_one_thread(&self) -> bool {
        let has_memory =
            self.devices().iter().any(|device| matches!(device.kind, Kind::Ivshmem { .. }));
        has_memory || self.iommu != Iommu::Intel
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

    /// The wire to another NIC that a NIC is on: its number, from 1, and its first NIC in the file.
    pub(crate) fn wire(&self, nic: &Device) -> Option<(usize, &Device)> {
        let Kind::Nic { wire: Wire::Nic(peer), .. } = &nic.kind else { return None };
        let first = self.devices.iter().position(|it| it.id == nic.id || it.id == *peer)?;
        Some((first + 1, &self.devices[first]))
    }

    /// The first NIC of each wire.
    pub(crate) fn wires(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter().filter(|nic| self.wire(nic).is_some_and(|(_, first)| first == *nic))
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

fn prefixed(name: &str, error: &Error) -> Error {
    Error::Invalid(format!("topology {name}, {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn an_unknown_name_tells_the_known_ones() {
        let message = Topology::load("defualt").expect_err("a typo").to_string();
        assert!(message.contains("default, forward"), "{message}");
    }
}
