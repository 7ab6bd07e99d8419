//! Which PCI address a device gets. Firmware numbers the buses depth first in the order of the slots,
//! and the slots are ours to choose; so the file says it all, and nobody need look.

use super::{Bus, Device, Topology};
use crate::error::Result;

/// One root port and what is behind it.
pub(super) struct RootPort<'a> {
    /// The name of its slot's device, or of the switch.
    pub(super) name: &'a str,
    /// The number of the bus that starts here.
    pub(super) bus: usize,
    pub(super) behind: Behind<'a>,
}

pub(super) enum Behind<'a> {
    Device(&'a Device),
    /// Each on a downstream port of its own.
    Switch(Vec<&'a Device>),
}

impl Topology {
    /// Where the kernel finds the device, as `0000:02:00.0`.
    ///
    /// # Errors
    /// If no device has that name.
    pub fn address(&self, id: &str) -> Result<String> {
        let wanted = self.device(id)?;
        let mut bus = 0;
        for port in self.root_ports() {
            match port.behind {
                Behind::Device(device) if device.id == wanted.id => bus = port.bus,
                Behind::Device(_) => {}
                Behind::Switch(devices) => {
                    let place = devices.iter().position(|device| device.id == wanted.id);
                    // The upstream port, then the bus between it and the downstream ports.
                    bus = place.map_or(bus, |place| port.bus + 2 + place);
                }
            }
        }
        Ok(format!("0000:{bus:02x}:00.0"))
    }

    /// The root ports in the order of their slots: as their devices first appear in the file.
    pub(super) fn root_ports(&self) -> Vec<RootPort<'_>> {
        let mut ports: Vec<RootPort<'_>> = Vec::new();
        for device in &self.devices {
            match &device.bus {
                Bus::Root => {
                    ports.push(RootPort {
                        name: &device.id,
                        bus: 0,
                        behind: Behind::Device(device),
                    });
                }
                Bus::Switch(switch) => {
                    let known = ports.iter_mut().find_map(|port| match &mut port.behind {
                        Behind::Switch(devices) if port.name == switch => Some(devices),
                        _ => None,
                    });
                    if let Some(devices) = known {
                        devices.push(device);
                    } else {
                        let behind = Behind::Switch(vec![device]);
                        ports.push(RootPort { name: switch, bus: 0, behind });
                    }
                }
            }
        }
        let mut next = 1;
        for port in &mut ports {
            port.bus = next;
            next += match &port.behind {
                Behind::Device(_) => 1,
                Behind::Switch(devices) => 2 + devices.len(),
            };
        }
        ports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nvme(id: &str, bus: &str) -> String {
        format!("[[device]]\nid = \"{id}\"\nkind = \"nvme\"\nbus = \"{bus}\"\n")
    }

    #[test]
    fn a_root_port_is_a_bus() {
        let topology = Topology::load("default").expect("sound");
        assert_eq!(topology.address("e1000e0").expect("there"), "0000:01:00.0");
        assert_eq!(topology.address("igb0").expect("there"), "0000:02:00.0");
    }

    #[test]
    fn what_follows_a_switch_is_counted_past_its_buses() {
        let text = nvme("a", "sw") + &nvme("b", "root") + &nvme("c", "sw");
        let topology = Topology::parse(&text).expect("sound");

        // 01 is the upstream port, 02 the bus inside, 03 and 04 the two slots.
        assert_eq!(topology.address("a").expect("there"), "0000:03:00.0");
        assert_eq!(topology.address("c").expect("there"), "0000:04:00.0");
        assert_eq!(topology.address("b").expect("there"), "0000:05:00.0");
        assert!(topology.address("d").is_err());
    }
}
