//! PCI functions as the kernel shows them in sysfs: what they are, who drives them, and handing them to
//! another driver. Touches no device.

mod address;
mod addresses;
mod bind;
mod capability;
mod function;
mod interface;
mod names;
mod sysfs;
pub(crate) mod text;

pub use address::Address;
pub use bind::{Rebound, USER_SPACE_DRIVERS, bind, unbind};
pub use capability::{
    Capability, ExtendedCapability, MsixTable, capabilities, extended_capabilities,
};
pub use function::{Class, Function, Resource};
pub use interface::{Interface, routed_interfaces};
pub use names::Names;
pub use sysfs::{Scan, Sysfs};
pub(crate) use sysfs::{has_vanished, text};

#[cfg(test)]
pub(crate) mod tests {
    use super::{Address, Class, Function, Resource};

    /// A NIC without group or driver.
    pub(crate) fn function(address: &str) -> Function {
        Function {
            address: address.parse::<Address>().expect("an address"),
            vendor: 0x8086,
            device: 0x10d3,
            subsystem: (0x8086, 0),
            class: Class(0x02_0000),
            revision: 0,
            numa_node: None,
            iommu_group: None,
            driver: None,
            resources: vec![Resource::default(); 13],
            interfaces: Vec::new(),
        }
    }
}
