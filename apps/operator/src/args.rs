//! What the user can say.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use memwire_apps::units::parse_size;
use providers::PageSize;
use vfio::pci::Address;

use crate::dmabuf::DmaBufArgs;

const LONG_ABOUT: &str = "\
Shows what memwire can use on this machine, hands NICs to VFIO and back, sets hugepages, and writes the \
completions and manuals of all of its apps.

It reads the kernel's files and asks the drivers; only `bind`, `unbind`, `hugepages set` and `hugepages \
clear` change anything, and only they need root.";

const EXAMPLES: &str = "\
Examples:
  memwire info
      ports, drivers, memory and hugepages of this machine
  memwire info af_packet:eth0
      opens one port and shows what it can do
  memwire info --only ports --json
      the same for programs
  memwire doctor
      what stands in the way here, and what to do about it
  memwire status
      NICs on the PCI bus, and who drives them
  memwire bind 0000:01:00.0
      hands a NIC to VFIO, for programs to drive (as root)
  memwire hugepages set 1G
      1 GiB in pages of 2 MiB, spread over the NUMA nodes (as root)
  memwire dmabuf export --udmabuf 16M --socket /tmp/payloads
      shares memory with other processes, for as long as it runs
  memwire completions bash gpurx > /etc/bash_completion.d/gpurx
      completes gpurx's flags
  memwire man --dir /usr/local/share/man/man1
      writes the manuals of all apps

Exit codes:
  0 ok    1 failed    2 bad usage    3 something is missing here: memory, a permission, a port";

/// What is here, hugepages, completions, manuals.
#[derive(Parser, Clone, Debug)]
#[command(name = "memwire", version, long_about = LONG_ABOUT, after_help = EXAMPLES)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Read /sys, /proc and pci.ids below DIR: a copy of another machine's
    #[arg(
        long,
        visible_alias = "sysfs",
        global = true,
        value_name = "DIR",
        default_value = "/",
        hide_default_value = true
    )]
    pub root: PathBuf,
}

/// What to do.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Show the ports, drivers, memory and cores that are here, and what works with what
    Info(InfoArgs),
    /// Find what stands in the way of frames and memory here, each with its fix
    Doctor(DoctorArgs),
    /// Show who drives the NICs on the PCI bus
    Status(StatusArgs),
    /// Hand devices to a driver for user space
    Bind(BindArgs),
    /// Give devices back to the kernel's drivers
    Unbind(UnbindArgs),
    /// Show hugepages, or set how many there are
    Hugepages(HugepagesArgs),
    /// Share device memory between processes as dma-bufs, or show what one is
    Dmabuf(DmaBufArgs),
    /// Write the completions of an app for a shell
    Completions(CompletionsArgs),
    /// Write manual pages
    Man(ManArgs),
}

const INFO_HELP: &str = "\
Examples:
  memwire info
      everything
  memwire info --only ports,memory
      two sections
  memwire info ring:a chaos:seed=7,rx.drop=1%@ring:b
      opens these ports, and shows what each can do

Exit codes:
  0 ok, also if ports are here that cannot be opened    2 bad usage    3 a named port is not there";

/// What to show.
#[derive(ClapArgs, Clone, Debug)]
#[command(after_help = INFO_HELP)]
pub struct InfoArgs {
    /// Open these ports and show what each can do, instead of what is here
    #[arg(value_name = "PORT")]
    pub ports: Vec<String>,
    /// Show only these sections
    #[arg(long, value_name = "SECTION", value_delimiter = ',', conflicts_with = "ports")]
    pub only: Vec<Section>,
    /// Print one JSON object, to stdout or to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

/// A part of `memwire info`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Kernel, cores, NUMA nodes
    Machine,
    /// NICs on the PCI bus, and the ports that are here
    Ports,
    /// What each driver's ports can do at best
    Drivers,
    /// Memory by name, and whether it is to be had here; hugepages
    Memory,
    /// What works with what, and how that is known
    Support,
}

const DOCTOR_HELP: &str = "\
Examples:
  memwire doctor
      hugepages, IOMMU, VFIO, rights, AF_XDP, GPUs, peer to peer
  memwire doctor topo
      which NIC reaches which device's memory, over which bridges, and why not
  memwire doctor --for gpurx,pci:0000:02:00.0,p2p:0000:03:00.0/bar2
      whether gpurx can receive from this NIC into that BAR; exit code 3 if it cannot
  memwire doctor --sysfs /tmp/copy --json
      of a copy of another machine's files, for programs

It opens no device. What the kernel's own peer-to-peer DMA would do, and what a NIC meets that is driven \
through VFIO, are two answers: through VFIO all writes go up to the root complex, and where nobody vouches for \
that (unproved), only a write that arrives proves it.

Exit codes:
  0 nothing fails    2 bad usage    3 something that was asked for fails";

/// What stands in the way.
#[derive(ClapArgs, Clone, Debug, Default)]
#[command(after_help = DOCTOR_HELP)]
pub struct DoctorArgs {
    /// Look at these matters alone, in detail
    #[arg(value_name = "MATTER")]
    pub matters: Vec<Matter>,
    /// Whether these can work together: an app, its ports, its memory, with commas
    #[arg(long = "for", value_name = "WHAT")]
    pub asked: Option<String>,
    /// Print one JSON object, to stdout or to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

/// What the doctor looks at.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter {
    /// Sizes, what is free, limits of control groups
    Hugepages,
    /// Whether there is one, and who shares a group
    Iommu,
    /// Modules, device nodes, who may open them
    Vfio,
    /// Capabilities, and memory that may be pinned
    Process,
    /// AF_XDP: the kernel, rights, drivers of interfaces
    Xdp,
    /// Display controllers and accelerators, and whether their memory can be shared
    Gpus,
    /// Peer to peer: which NIC reaches which device's memory
    Topo,
    /// Which memory reaches a NIC by which interface of VFIO's
    Importers,
}

impl Matter {
    /// In the order of the report.
    pub const ALL: [Self; 8] = [
        Self::Hugepages,
        Self::Iommu,
        Self::Vfio,
        Self::Process,
        Self::Xdp,
        Self::Gpus,
        Self::Topo,
        Self::Importers,
    ];
}

const STATUS_HELP: &str = "\
Examples:
  memwire status
      NICs, and whatever is on VFIO
  memwire status --all
      every function on the bus
  memwire status 01:00.0 --json
      one, for programs

Exit codes:
  0 ok    2 bad usage    3 a named device is not there";

/// Who drives what.
#[derive(ClapArgs, Clone, Debug, Default)]
#[command(after_help = STATUS_HELP)]
pub struct StatusArgs {
    /// Show these alone; a PCI address, with or without domain
    #[arg(value_name = "ADDRESS")]
    pub addresses: Vec<Address>,
    /// Show every function on the bus, not NICs alone
    #[arg(long, conflicts_with = "addresses")]
    pub all: bool,
    /// Print one JSON object, to stdout or to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

const BIND_HELP: &str = "\
Examples:
  memwire bind 0000:01:00.0 0000:02:00.0
      two NICs, for programs to drive
  memwire bind 01:00.0 --force
      even if its interface has an address

An interface that is up and has a default route, or that belongs to a bridge or a bond, is never taken \
away; one that has an address only with --force; and no device that a process has open. If the driver \
does not take a device, it gets back the one that it had.

A user who is not root may then open it, with no capability at all, once its node is theirs: \
chown USER /dev/vfio/GROUP, with the group that `memwire status` shows.

Exit codes:
  0 ok    1 the kernel failed    2 bad usage    3 refused, not there, not permitted, or no such driver";

/// To a driver for user space.
#[derive(ClapArgs, Clone, Debug)]
#[command(after_help = BIND_HELP)]
pub struct BindArgs {
    /// PCI addresses, with or without domain
    #[arg(value_name = "ADDRESS", required = true)]
    pub addresses: Vec<Address>,
    /// The driver
    #[arg(long, value_name = "DRIVER", default_value = "vfio-pci")]
    pub driver: String,
    /// Take interfaces away that have an address
    #[arg(long)]
    pub force: bool,
}

const UNBIND_HELP: &str = "\
Examples:
  memwire unbind 0000:01:00.0
      back to the kernel's own driver

A device that a process has open is refused, with the process's name.

Exit codes:
  0 ok, also if no driver of the kernel's takes it    1 the kernel failed    2 bad usage    3 in use, \
not there, or not permitted";

/// Back to the kernel's driver.
#[derive(ClapArgs, Clone, Debug)]
#[command(after_help = UNBIND_HELP)]
pub struct UnbindArgs {
    /// PCI addresses, with or without domain
    #[arg(value_name = "ADDRESS", required = true)]
    pub addresses: Vec<Address>,
}

const HUGEPAGES_HELP: &str = "\
Examples:
  memwire hugepages
      how many there are, per node and size
  memwire hugepages set 2G
      2 GiB in pages of 2 MiB, spread over the NUMA nodes
  memwire hugepages set 4G --size 1G --node 1
      four pages of 1 GiB on node 1
  memwire hugepages set 2G --dry-run
      what would be written, and where
  memwire hugepages clear
      gives all pages back; refused while any is in use
  memwire hugepages -p 1G --setup 2G
      as dpdk-hugepages has it

A page that is in use is never taken away: to go below what is in use is refused. If the kernel finds \
fewer pages than were asked for, those that it found stay, and the exit code is 3.

Exit codes:
  0 ok    2 bad usage    3 not permitted, in use, or not enough memory";

/// Hugepages: what to do with them.
#[derive(ClapArgs, Clone, Debug)]
#[command(after_help = HUGEPAGES_HELP, args_conflicts_with_subcommands = true)]
pub struct HugepagesArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: Option<HugepagesAction>,
    /// Show the pages (dpdk-hugepages' word)
    #[arg(short, long, conflicts_with_all = ["setup", "clear"])]
    pub show: bool,
    /// Set the memory in hugepages (dpdk-hugepages' word)
    #[arg(long, value_name = "AMOUNT", value_parser = parse_size, conflicts_with = "clear")]
    pub setup: Option<usize>,
    /// Give all pages back (dpdk-hugepages' word)
    #[arg(short, long)]
    pub clear: bool,
    /// Which pages.
    #[command(flatten)]
    pub which: WhichPages,
    /// Print one JSON object, to stdout or to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

/// What to do with hugepages.
#[derive(Subcommand, Clone, Debug)]
pub enum HugepagesAction {
    /// Show how many there are, per node and size
    Show {
        /// Print one JSON object, to stdout or to FILE
        #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
        json: Option<PathBuf>,
    },
    /// Set how much memory is in hugepages: more or less than now
    Set {
        /// All of it, pages that are in use included; e.g. 512M or 2G
        #[arg(value_name = "AMOUNT", value_parser = parse_size)]
        amount: usize,
        /// Which pages.
        #[command(flatten)]
        which: WhichPages,
    },
    /// Give all pages back to the kernel
    Clear {
        /// Which pages.
        #[command(flatten)]
        which: WhichPages,
    },
}

/// Which hugepages, and whether really.
#[derive(ClapArgs, Clone, Debug)]
pub struct WhichPages {
    /// Size of a page: 2M or 1G [default: 2M]
    #[arg(short = 'p', long = "size", visible_alias = "pagesize", value_name = "SIZE")]
    pub size: Option<PageSize>,
    /// On this NUMA node alone [default: spread over all that have memory]
    #[arg(short = 'n', long, value_name = "NODE")]
    pub node: Option<u32>,
    /// Say what would be written, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

const COMPLETIONS_HELP: &str = "\
Examples:
  memwire completions bash > /etc/bash_completion.d/memwire
  memwire completions zsh l2fwd > ~/.zfunc/_l2fwd
  memwire completions fish pktgen > ~/.config/fish/completions/pktgen.fish

Exit codes:
  0 ok    2 no such shell or app";

/// Completions for a shell.
#[derive(ClapArgs, Clone, Debug)]
#[command(after_help = COMPLETIONS_HELP)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
    /// The app
    #[arg(value_name = "APP", default_value = "memwire")]
    pub app: String,
}

const MAN_HELP: &str = "\
Examples:
  memwire man gpurx | man -l -
      reads a manual without installing it
  memwire man --dir /usr/local/share/man/man1
      installs all of them

Exit codes:
  0 ok    2 no such app    3 the folder cannot be written";

/// Manual pages.
#[derive(ClapArgs, Clone, Debug)]
#[command(after_help = MAN_HELP)]
pub struct ManArgs {
    /// The app [default: memwire; with --dir: all]
    #[arg(value_name = "APP")]
    pub app: Option<String>,
    /// Write one file per app and subcommand into this folder, instead of one page to stdout
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
