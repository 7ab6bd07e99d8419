//! What drivers of PCI NICs share: the seam to the bus, which is VFIO's or a model's, and the proof that
//! a device has stopped. Knows no NIC.

mod bus;
mod gate;

pub use bus::{Bus, Mmio, Notices, SharedMemory};
pub use gate::Gate;
