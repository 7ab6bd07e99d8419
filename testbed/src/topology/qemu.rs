//! A topology in QEMU's words. Devices carry their own ids, so that the monitor finds them by name.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::address::Behind;
use super::{Bus, Device, Iommu, Kind, Model, Topology};

/// The slot of a virtio-iommu on bus 0; root ports stand below it.
const IOMMU_SLOT: &str = "1b.0";

impl Topology {
    /// The arguments that make these devices, with their files and sockets under `out`.
    pub(crate) fn qemu_arguments(&self, out: &Path) -> Vec<String> {
        let mut arguments = Arguments { words: Vec::new(), out, topology: self };
        match self.iommu {
            Iommu::Intel => arguments.device("intel-iommu,intremap=on,eim=on,caching-mode=on"),
            Iommu::Virtio => arguments.device(&format!("virtio-iommu-pci,addr={IOMMU_SLOT}")),
            Iommu::None => {}
        }
        for (index, port) in self.root_ports().iter().enumerate() {
            let (name, slot) = (port.name, index + 1);
            arguments.device(&format!(
                "pcie-root-port,id=root-{name},bus=pcie.0,addr={slot:02x}.0,chassis={slot},slot={slot}"
            ));
            match &port.behind {
                Behind::Device(device) => arguments.plug(device, &format!("root-{name}")),
                Behind::Switch(devices) => {
                    arguments.device(&format!("x3130-upstream,id=up-{name},bus=root-{name}"));
                    for (place, device) in devices.iter().enumerate() {
                        // A chassis of its own: slot numbers need only differ within one.
                        arguments.device(&format!(
                            "xio3130-downstream,id=down-{id},bus=up-{name},\
                             addr={place:02x}.0,chassis={chassis},slot={place}",
                            id = device.id,
                            chassis = 64 + index,
                        ));
                        arguments.plug(device, &format!("down-{}", device.id));
                    }
                }
            }
        }
        arguments.words
    }

    /// What the monitor's `device_add` needs to put a device that was deleted back into its place.
    pub(crate) fn device_properties(&self, device: &Device) -> Map<String, Value> {
        let all = properties(device, &device.port(), self.iommu);
        all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// What the monitor's `object-add` needs for the memory behind a device, if it has such.
    pub(crate) fn memory_properties(&self, device: &Device, out: &Path) -> Option<Value> {
        let Kind::Ivshmem { size_mib } = device.kind else { return None };
        Some(json!({
            "qom-type": "memory-backend-file",
            "id": format!("mem-{}", device.id),
            "mem-path": out.join(format!("{}.img", device.id)),
            "size": u64::from(size_mib) << 20,
            "share": true,
        }))
    }

    /// The files of this many MiB that QEMU expects under `out`.
    pub(crate) fn images(&self, out: &Path) -> Vec<(PathBuf, u64)> {
        let image = |device: &Device| match device.kind {
            Kind::Nic { .. } => None,
            Kind::Ivshmem { size_mib } | Kind::Nvme { size_mib, .. } => {
                Some((out.join(format!("{}.img", device.id)), u64::from(size_mib)))
            }
        };
        self.devices.iter().filter_map(image).collect()
    }
}

impl Device {
    /// The id of the port that it is plugged into.
    pub(crate) fn port(&self) -> String {
        match &self.bus {
            Bus::Root => format!("root-{}", self.id),
            Bus::Switch(_) => format!("down-{}", self.id),
        }
    }
}

/// The third port of the hub that a wire is: the one beside its first NIC.
pub(crate) fn inlet(first: &str) -> String {
    format!("inlet-{first}")
}

/// The socket that QEMU receives a NIC's frames on.
pub(crate) fn qemu_socket(out: &Path, nic: &str) -> PathBuf {
    out.join("net").join(format!("{nic}.q"))
}

/// The socket that QEMU sends a NIC's frames to.
pub(crate) fn host_socket(out: &Path, nic: &str) -> PathBuf {
    out.join("net").join(format!("{nic}.h"))
}

struct Arguments<'a> {
    words: Vec<String>,
    out: &'a Path,
    topology: &'a Topology,
}

impl Arguments<'_> {
    fn device(&mut self, text: &str) {
        self.words.extend(["-device".to_owned(), text.to_owned()]);
    }

    fn backend(&mut self, option: &str, text: String) {
        self.words.extend([option.to_owned(), text]);
    }

    /// Frames by datagram, in and out.
    fn sockets(&mut self, name: &str, nic: &str) {
        let local = escaped(&qemu_socket(self.out, nic));
        let remote = escaped(&host_socket(self.out, nic));
        self.backend(
            "-netdev",
            format!(
                "dgram,id={name},local.type=unix,local.path={local},\
                 remote.type=unix,remote.path={remote}"
            ),
        );
    }

    fn plug(&mut self, device: &Device, bus: &str) {
        let (id, out) = (&device.id, self.out);
        match &device.kind {
            Kind::Nic { .. } => match self.topology.wire(device) {
                None => self.sockets(&format!("net-{id}"), id),
                Some((wire, first)) => {
                    // A hub, since frames cross it within the sender's doorbell; between two pairs of
                    // sockets QEMU's main loop would carry them, one a turn.
                    self.backend("-netdev", format!("hubport,id=net-{id},hubid={wire}"));
                    if first == device {
                        self.sockets(&format!("in-{id}"), id);
                        let inlet = inlet(id);
                        let port = format!("hubport,id={inlet},hubid={wire},netdev=in-{id}");
                        self.backend("-netdev", port);
                    }
                }
            },
            Kind::Ivshmem { size_mib } => {
                let path = escaped(&out.join(format!("{id}.img")));
                self.backend(
                    "-object",
                    format!(
                        "memory-backend-file,id=mem-{id},mem-path={path},size={size_mib}M,share=on"
                    ),
                );
            }
            Kind::Nvme { .. } => {
                let path = escaped(&out.join(format!("{id}.img")));
                self.backend("-drive", format!("file={path},format=raw,if=none,id=drive-{id}"));
            }
        }
        let properties = properties(device, bus, self.topology.iommu);
        let text: Vec<_> = properties.iter().map(|(key, value)| shown(key, value)).collect();
        self.device(&text.join(","));
    }
}

/// A property as `-device` wants it; the driver stands there without its key.
fn shown(key: &str, value: &Value) -> String {
    match value {
        Value::String(text) if key == "driver" => text.clone(),
        Value::String(text) => format!("{key}={text}"),
        Value::Bool(true) => format!("{key}=on"),
        Value::Bool(false) => format!("{key}=off"),
        other => format!("{key}={other}"),
    }
}

/// The driver first.
fn properties(device: &Device, bus: &str, iommu: Iommu) -> Vec<(&'static str, Value)> {
    let id = &device.id;
    let driver = match &device.kind {
        Kind::Nic { model: Model::E1000e, .. } => "e1000e",
        Kind::Nic { model: Model::Igb, .. } => "igb",
        Kind::Nic { model: Model::VirtioNet, .. } => "virtio-net-pci",
        Kind::Nic { model: Model::Vmxnet3, .. } => "vmxnet3",
        Kind::Ivshmem { .. } => "ivshmem-plain",
        Kind::Nvme { .. } => "nvme",
    };
    let mut all = vec![("driver", json!(driver)), ("id", json!(id)), ("bus", json!(bus))];
    match &device.kind {
        Kind::Nic { model, mac, .. } => {
            all.push(("netdev", json!(format!("net-{id}"))));
            all.push(("mac", json!(mac)));
            if *model == Model::VirtioNet {
                all.push(("disable-legacy", json!("on")));
                all.push(("iommu_platform", json!(iommu != Iommu::None)));
            }
        }
        Kind::Ivshmem { .. } => all.push(("memdev", json!(format!("mem-{id}")))),
        Kind::Nvme { cmb_mib, .. } => {
            all.push(("serial", json!(id)));
            all.push(("drive", json!(format!("drive-{id}"))));
            if *cmb_mib > 0 {
                all.push(("cmb_size_mb", json!(cmb_mib)));
            }
        }
    }
    all
}

/// A path as a value in a list that commas separate.
pub(crate) fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> Vec<String> {
        Topology::parse(text).expect("sound").qemu_arguments(Path::new("/o"))
    }

    #[test]
    fn a_nic_for_the_host_gets_a_root_port_and_two_sockets() {
        let words = arguments("[[device]]\nid = \"n\"\nkind = \"e1000e\"\nwire = \"host\"\n");
        assert_eq!(
            words,
            [
                "-device",
                "intel-iommu,intremap=on,eim=on,caching-mode=on",
                "-device",
                "pcie-root-port,id=root-n,bus=pcie.0,addr=01.0,chassis=1,slot=1",
                "-netdev",
                "dgram,id=net-n,local.type=unix,local.path=/o/net/n.q,\
                 remote.type=unix,remote.path=/o/net/n.h",
                "-device",
                "e1000e,id=n,bus=root-n,netdev=net-n,mac=52:54:00:00:00:01",
            ]
        );
    }

    #[test]
    fn wired_nics_share_a_hub_with_an_inlet() {
        let text = "[[device]]\nid = \"a\"\nkind = \"igb\"\nwire = \"b\"\n\
                    [[device]]\nid = \"b\"\nkind = \"virtio-net\"\nwire = \"a\"\n";
        let words = arguments(text).join(" ");
        for part in [
            "-netdev hubport,id=net-a,hubid=1 -netdev dgram,id=in-a,local.type=unix,\
             local.path=/o/net/a.q,remote.type=unix,remote.path=/o/net/a.h \
             -netdev hubport,id=inlet-a,hubid=1,netdev=in-a -device igb,id=a",
            "-netdev hubport,id=net-b,hubid=1 -device virtio-net-pci,id=b",
            "disable-legacy=on,iommu_platform=on",
        ] {
            assert!(words.contains(part), "{part} in {words}");
        }
    }

    #[test]
    fn a_switch_has_one_downstream_port_for_each_device() {
        let words = arguments(
            "iommu = \"none\"\n\
             [[device]]\nid = \"m\"\nkind = \"ivshmem\"\nbus = \"sw\"\n\
             [[device]]\nid = \"d\"\nkind = \"nvme\"\nbus = \"sw\"\ncmb_mib = 8\n",
        );
        assert_eq!(
            words,
            [
                "-device",
                "pcie-root-port,id=root-sw,bus=pcie.0,addr=01.0,chassis=1,slot=1",
                "-device",
                "x3130-upstream,id=up-sw,bus=root-sw",
                "-device",
                "xio3130-downstream,id=down-m,bus=up-sw,addr=00.0,chassis=64,slot=0",
                "-object",
                "memory-backend-file,id=mem-m,mem-path=/o/m.img,size=64M,share=on",
                "-device",
                "ivshmem-plain,id=m,bus=down-m,memdev=mem-m",
                "-device",
                "xio3130-downstream,id=down-d,bus=up-sw,addr=01.0,chassis=64,slot=1",
                "-drive",
                "file=/o/d.img,format=raw,if=none,id=drive-d",
                "-device",
                "nvme,id=d,bus=down-d,serial=d,drive=drive-d,cmb_size_mb=8",
            ]
        );
    }

    #[test]
    fn a_comma_in_a_path_stays_in_the_path() {
        assert_eq!(escaped(Path::new("/a,b")), "/a,,b");
    }
}
