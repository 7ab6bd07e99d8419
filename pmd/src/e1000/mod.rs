//! `pci`, the NICs of the e1000 family: 82574L ("e1000e") and 82576 ("igb"), both with hardware header
//! split. One skeleton, two chips; each file can be held against a chapter of the datasheets (82574
//! revision 3.4, 82576EB revision 2.9). Knows no VFIO: what it needs of the machine is a
//! [`crate::pci::Bus`], which a [`model`] is too.

mod chip;
mod chip_82574;
mod chip_82576;
mod descriptor;
#[cfg(test)]
mod desk;
mod device;
mod filters;
mod held;
mod init;
mod interrupts;
mod link;
pub mod model;
mod options;
mod plan;
mod queues;
mod register;
mod registers;
mod ring;
mod rx;
mod stats;
mod tx;

pub use chip::{Chip, LONGEST, VENDOR};
pub use device::E1000;
pub use options::Options;
