//! What drivers of PCI NICs share: the seam to the bus, which is VFIO's or a model's, the proof that a
//! device has stopped, and the way from a port spec to an open function.

mod bus;
mod driver;
mod gate;
mod space;
mod table;
mod vfio;

pub use bus::{Bus, Mmio, Notices, SharedMemory};
pub use driver::DRIVER;
pub(crate) use driver::{is_address, space_kind};
pub use gate::Gate;
pub(crate) use space::Space;
pub use space::{VfioMapper, answers};
pub use table::{ImporterRow, importers};
pub use vfio::VfioBus;
