//! A throw-away machine with an IOMMU and real PCI NICs, emulated. Knows nothing of memwire but what it
//! is told to run.
//!
//! ```no_run
//! # fn main() -> testbed::Result<()> {
//! let guest = testbed::Guest::boot(&testbed::Options::new("default")?)?;
//! guest.bind(&["igb0"])?;
//! let output = guest.run("ls /dev/vfio/devices")?;
//! assert_eq!(output.status, 0);
//! guest.qmp().set_link("igb0", false)?;
//! # Ok(())
//! # }
//! ```

pub mod agent;
mod command;
mod error;
mod guest;
mod initrd;
mod machine;
mod options;
mod protocol;
mod qmp;
mod setup;
mod shell;
mod state;
mod topology;

pub use command::{DIED, TIMED_OUT, run};
pub use error::{Error, Result};
pub use guest::{Guest, HostEnd, Job, Output, Signal};
pub use options::{Clock, Kernel, Options};
pub use qmp::{Event, Qmp};
pub use setup::Setup;
pub use shell::shell;
pub use state::{State, VARIABLE};
pub use topology::{Device, Iommu, Kind, Model, Topology, Wire};
