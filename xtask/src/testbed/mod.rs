//! `cargo xtask testbed`: words on the command line for what the crate `testbed` does.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ::testbed::{Clock, Kernel, Options, Setup, State};
use anyhow::{Result, ensure};
use clap::{Args, Subcommand, ValueEnum};

use crate::packages;
use crate::workspace::{Workspace, cargo};

/// A throw-away machine with an IOMMU and real PCI NICs, emulated.
#[derive(Args)]
pub(crate) struct Testbed {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch QEMU and a kernel, and build our own kernel; what is there already takes no time.
    ///
    /// Everything goes into target/testbed, or where MEMWIRE_TESTBED says. Nothing is installed but, as
    /// root, what the build of a kernel needs.
    Setup(SetupOptions),
    /// Boot a guest, run CMD there as root with the host's files visible, and exit with its status.
    ///
    /// The guest sees the host's files at their own paths; what it writes is lost, except under $OUT. CMD
    /// runs in this folder and environment. Status 124: the time limit passed; 125: the guest died.
    Run(Run),
    /// Boot a guest, and give it this terminal.
    Shell(Machine),
}

#[derive(Args)]
struct SetupOptions {
    /// Which kernels.
    #[arg(short, long, value_enum, default_value_t = Kernels::Own)]
    kernel: Kernels,
    /// The Debian release of QEMU [default: this machine's; of bookworm, its backports].
    #[arg(long, value_name = "SUITE")]
    qemu_suite: Option<String>,
    /// The Debian release of the kernels [default: trixie-backports].
    #[arg(long, value_name = "SUITE")]
    kernel_suite: Option<String>,
    /// Look for newer versions of what is there already.
    #[arg(long)]
    update: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kernels {
    /// Debian's: no build.
    Debian,
    /// Ours, which has iommufd and the no-IOMMU mode: some 13 minutes of CPU, once.
    Own,
    All,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    machine: Machine,
    /// The time for all of it, boot included.
    #[arg(short, long, value_name = "SECONDS", default_value_t = 180)]
    time_limit: u64,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    words: Vec<String>,
}

/// What the guest is like.
#[derive(Args)]
struct Machine {
    /// What is on the PCI buses: default, forward, noiommu, pairs, switch, virtio-iommu, or a file .toml.
    #[arg(short = 'T', long, value_name = "NAME", default_value = "default")]
    topology: String,
    /// Which kernel: ours has iommufd and the no-IOMMU mode.
    #[arg(short, long, value_enum, default_value_t = KernelName::Own)]
    kernel: KernelName,
    /// MiB of memory.
    #[arg(short, long, value_name = "MIB", default_value_t = 1024)]
    memory: u32,
    /// Virtual CPUs.
    #[arg(short, long, default_value_t = 2)]
    cpus: u32,
    /// What makes time pass: the host's clock, or 4 ns for each instruction and nothing for the devices.
    #[arg(long, value_enum, default_value_t = ClockName::Host)]
    clock: ClockName,
    /// Hugepages of 2 MiB.
    #[arg(short = 'H', long, default_value_t = 64)]
    hugepages: u32,
    /// The folder that is $OUT in the guest, and stays; else it goes with the guest.
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// More words for the kernel's command line.
    #[arg(short = 'a', long, value_name = "WORD", allow_hyphen_values = true)]
    append: Vec<String>,
    /// More arguments for QEMU, separated by blanks.
    #[arg(short, long, value_name = "ARGS", allow_hyphen_values = true)]
    qemu: Vec<String>,
    /// Show the guest's console on standard error.
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum KernelName {
    Debian,
    Own,
}

#[derive(Clone, Copy, ValueEnum)]
enum ClockName {
    Host,
    Instructions,
}

/// Does it; the status is the guest's command's.
pub(crate) fn run(testbed: Testbed) -> Result<ExitCode> {
    let status = match testbed.command {
        Command::Setup(options) => {
            set_up(&Workspace::read()?, options)?;
            0
        }
        Command::Run(run) => {
            let limit = Duration::from_secs(run.time_limit);
            ::testbed::run(&run.machine.options()?, &run.words, limit)
        }
        Command::Shell(machine) => ::testbed::shell(&machine.options()?),
    };
    Ok(ExitCode::from(status))
}

/// Makes what is missing for guests with any kernel, as the tests want it.
pub(crate) fn set_up_for_tests(workspace: &Workspace) -> Result<State> {
    let (qemu_suite, kernel_suite) = (None, None);
    let kernel = Kernels::All;
    set_up(workspace, SetupOptions { kernel, qemu_suite, kernel_suite, update: false })
}

fn set_up(workspace: &Workspace, options: SetupOptions) -> Result<State> {
    let kernels = match options.kernel {
        Kernels::Debian => vec![Kernel::Debian],
        Kernels::Own => vec![Kernel::Own],
        Kernels::All => vec![Kernel::Own, Kernel::Debian],
    };
    let state = state(workspace);
    let missing = kernels.iter().filter(|kernel| state.check(**kernel).is_err());
    let needed: Vec<&str> = missing.flat_map(|kernel| kernel.packages()).copied().collect();
    if !needed.is_empty() {
        packages::install(&needed)?;
    }
    let from = |name: &str| std::env::var(name).ok();
    let setup = Setup {
        kernels,
        qemu_suite: options.qemu_suite.or_else(|| from("MEMWIRE_TESTBED_QEMU_SUITE")),
        kernel_suite: options.kernel_suite.or_else(|| from("MEMWIRE_TESTBED_KERNEL_SUITE")),
        agent: build_agent(workspace)?,
        update: options.update,
        state,
    };
    setup.run()?;
    Ok(setup.state)
}

fn build_agent(workspace: &Workspace) -> Result<PathBuf> {
    let words = ["build", "--package", "memwire-testbed", "--bin", "testbed-agent"];
    let output = cargo(&words).output()?;
    ensure!(output.success, "the guest's agent does not build:\n{}", output.stderr);
    Ok(workspace.target.join("debug/testbed-agent"))
}

/// Where the testbed's files are, whether or not they are there yet.
pub(crate) fn state(workspace: &Workspace) -> State {
    match std::env::var_os(::testbed::VARIABLE) {
        Some(root) => State::at(root),
        None => State::at(workspace.target.join("testbed")),
    }
}

impl Machine {
    fn options(self) -> Result<Options> {
        let kernel = match self.kernel {
            KernelName::Debian => Kernel::Debian,
            KernelName::Own => Kernel::Own,
        };
        let clock = match self.clock {
            ClockName::Host => Clock::Host,
            ClockName::Instructions => Clock::Instructions,
        };
        let words = self.qemu.iter().flat_map(|line| line.split_whitespace());
        Ok(Options {
            state: Some(state(&Workspace::read()?)),
            kernel,
            memory_mib: self.memory,
            cpus: self.cpus,
            clock,
            hugepages: self.hugepages,
            out: self.out,
            kernel_arguments: self.append,
            qemu_arguments: words.map(str::to_owned).collect(),
            verbose: self.verbose,
            ..Options::new(&self.topology)?
        })
    }
}
