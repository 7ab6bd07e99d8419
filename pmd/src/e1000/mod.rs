//! `pci`, the NICs of the e1000 family: 82574L ("e1000e") and 82576 ("igb"), both with hardware header
//! split. One skeleton, two chips; each file can be held against a chapter of the datasheets (82574
//! revision 3.4, 82576EB revision 2.9). Knows no VFIO: what it needs of the machine is a
//! [`crate::pci::Bus`], which a [`model`] is too.
//!
//! What the chips do not do, and the driver does not pretend:
//! - They cut frames behind the transport header and nowhere else; a head of fixed length cannot be had.
//!   What is not IP fills the head's buffer and goes on in the payload's.
//! - The 82574L has one form and one set of buffer sizes for both receive queues. In split form it takes
//!   frames longer than 1518 bytes only where a payload buffer holds the longest (9018), or where
//!   `max_frame` asks for them: QEMU's 82574L (10.0) aborts when a split frame goes on in a second
//!   descriptor. A frame that is not IP and does not fit one descriptor is dropped as too long.
//! - The 82574L hashes addresses and TCP ports, no UDP ports.
//! - The 82576 stamps time-sync frames only, one at a time, in a register: received frames carry no
//!   timestamp.
//! - What MPC and the 82576's RQDPC count appears as drops of the device in the port's sum, and by name;
//!   the chips do not say which frames they were.

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
