//! How two PCI functions stand to each other: how far, over which bridges, and whether one's writes reach
//! the other's memory. A pure function over a tree of sysfs; opens no device, and moves no byte: a path that
//! is good here is still to be proved by one that was written through.
//!
//! Two questions, two answers. What the kernel's own peer-to-peer DMA would do ([`Verdict`]) follows
//! `calc_map_type_and_dist()` of Linux 7.3, drivers/pci/p2pdma.c, number for number. What a NIC meets that is
//! driven through VFIO ([`Translated`]) is something else: it speaks addresses that the IOMMU translates, so
//! its writes go up to the root complex whatever the switches could do, and the root complex must send them
//! down again.

mod acs;
mod forwarding;
mod letters;
mod link;
mod nodes;
mod path;
mod place;
mod verdict;

pub use acs::Acs;
pub use forwarding::{Forwarding, HostBridge};
pub use letters::Letters;
pub use link::Link;
pub use nodes::Nodes;
pub use path::{End, Path};
pub use verdict::{Translated, Verdict};

use crate::{
    Result,
    pci::{Address, Sysfs},
};

/// How `memory` is reached from `nic`, by this tree of sysfs.
///
/// # Errors
/// One of the two is not there (any more), or its files do not say what they should.
pub fn between(sysfs: &Sysfs, nic: Address, memory: Address) -> Result<Path> {
    Path::read(sysfs, nic, memory)
}
