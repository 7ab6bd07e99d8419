//! What one guest is to be like. Says nothing of how that is done.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::Result;
use crate::state::State;
use crate::topology::Topology;

/// Which kernel runs in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Debian's: nothing to build, but neither iommufd nor no-IOMMU mode.
    Debian,
    /// Ours, built by `cargo xtask testbed setup`.
    Own,
}

/// What makes time pass in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The host's clock. CPUs run side by side.
    Host,
    /// Its instructions: each takes 4 ns, and what its devices do takes no time at all. A rate is then one
    /// of instructions spent, the same on every host. CPUs take turns.
    Instructions,
}

/// A guest to be booted.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where QEMU and the kernels are; [`State::find`] if none.
    pub state: Option<State>,
    /// Which kernel.
    pub kernel: Kernel,
    /// What is on its PCI buses.
    pub topology: Topology,
    /// MiB of memory.
    pub memory_mib: u32,
    /// Virtual CPUs.
    pub cpus: u32,
    /// What makes time pass.
    pub clock: Clock,
    /// Pages of 2 MiB that its kernel sets aside.
    pub hugepages: u32,
    /// What is `$OUT` in the guest; a folder that goes with the guest if none.
    pub out: Option<PathBuf>,
    /// More arguments for QEMU.
    pub qemu_arguments: Vec<String>,
    /// More words for the kernel's command line.
    pub kernel_arguments: Vec<String>,
    /// How long the agent may take to report.
    pub boot_limit: Duration,
    /// The agent's executable; the one that setup left if none.
    pub agent: Option<PathBuf>,
    /// Whether the console goes to standard error while the guest runs.
    pub verbose: bool,
}

impl Options {
    /// Our kernel, 1 GiB, two CPUs on the host's clock, 64 hugepages, and this topology (see [`Topology::load`]).
    ///
    /// # Errors
    /// If the topology makes no sense.
    pub fn new(topology: &str) -> Result<Self> {
        Ok(Self {
            state: None,
            kernel: Kernel::Own,
            topology: Topology::load(topology)?,
            memory_mib: 1024,
            cpus: 2,
            clock: Clock::Host,
            hugepages: 64,
            out: None,
            qemu_arguments: Vec::new(),
            kernel_arguments: Vec::new(),
            // A guest without a core of its own boots in seconds; with none at all, in minutes.
            boot_limit: Duration::from_secs(240),
            agent: None,
            verbose: false,
        })
    }
}
