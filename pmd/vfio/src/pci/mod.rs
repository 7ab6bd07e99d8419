//! PCI functions as the kernel shows them in sysfs: what they are, who drives them, and handing them to
//! another driver. Touches no device.

mod address;
mod function;
mod sysfs;

pub use address::Address;
pub use function::{Class, Function, Resource};
pub use sysfs::Sysfs;
