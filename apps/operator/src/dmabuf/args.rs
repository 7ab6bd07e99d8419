//! What the user can say of dma-bufs.

use std::{convert::Infallible, os::fd::RawFd, path::PathBuf, str::FromStr};

use clap::{ArgGroup, Args, Subcommand};
use memwire_apps::units::parse_size;
use providers::PageSize;
use vfio::pci::Address;

/// dma-bufs: what to do with them.
#[derive(Args, Clone, Debug)]
pub struct DmaBufArgs {
    /// What to do.
    #[command(subcommand)]
    pub(super) action: DmaBufAction,
}

/// What to do with dma-bufs.
#[derive(Subcommand, Clone, Debug)]
pub(super) enum DmaBufAction {
    /// Make a dma-buf and hand it to processes that connect to a socket
    Export(ExportArgs),
    /// Show what a dma-buf is, and who can import it
    Info(InfoArgs),
}

const EXPORT_HELP: &str = "\
Examples:
  memwire dmabuf export --udmabuf 16M --socket /run/user/1000/payloads
      memory of this machine, which every NIC can be given
  memwire dmabuf export --udmabuf 64M --pages 2M --socket payloads
      the same of hugepages
  memwire dmabuf export --bar 0000:03:00.0/bar2 --socket bar
      a device's memory, which NICs on iommufd reach; the device is on vfio-pci
  memwire dmabuf export --bar 03:00.0/bar2,0,16M --socket bar --once
      its first 16 MiB, until the first process that took it lets it go

It hands the buffer to processes of its own user and of root, by one connection each; the buffer ends with the \
last who has it. When this command ends (^C), importers are told that it is taken back. A BAR's memory is \
then out of reach at once.

Exit codes:
  0 ok    1 failed    2 bad usage    3 something is missing here: a device, memory, a permission";

/// Which dma-buf, and where.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXPORT_HELP)]
#[command(group(ArgGroup::new("source").required(true).args(["udmabuf", "bar", "heap"])))]
pub(super) struct ExportArgs {
    /// Of a memory file of that size, such as 16M
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(super) udmabuf: Option<usize>,
    /// Of hugepages: 2M or 1G [default: ordinary pages]
    #[arg(long, value_name = "SIZE", requires = "udmabuf")]
    pub(super) pages: Option<PageSize>,
    /// Of a PCI device's BAR: ADDRESS/barN[,OFFSET,LEN]
    #[arg(long, value_name = "BAR")]
    pub(super) bar: Option<BarSpec>,
    /// Take a BAR that is not prefetchable too: its bytes may be registers
    #[arg(long, requires = "bar")]
    pub(super) allow_nonpref: bool,
    /// Of a dma-heap: NAME,SIZE, such as system,16M
    #[arg(long, value_name = "HEAP")]
    pub(super) heap: Option<HeapSpec>,
    /// Where it is offered: the path of a socket, which is made
    #[arg(long, value_name = "PATH")]
    pub(super) socket: PathBuf,
    /// End when the first process that took it has let it go
    #[arg(long)]
    pub(super) once: bool,
}

const INFO_HELP: &str = "\
Examples:
  memwire dmabuf info /run/user/1000/payloads
      what is offered there
  memwire dmabuf info 9 9<> ...
      a dma-buf that this command inherits as descriptor 9

Exit codes:
  0 ok    2 it is no dma-buf, or none that can be used    3 nobody offers there";

/// Which dma-buf.
#[derive(Args, Clone, Debug)]
#[command(after_help = INFO_HELP)]
pub(super) struct InfoArgs {
    /// The number of a descriptor, or the path of a socket
    #[arg(value_name = "FD|PATH")]
    pub(super) which: Which,
}

/// A dma-buf, as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// A descriptor of this process.
    Number(RawFd),
    /// What is offered at the path of a socket.
    Path(PathBuf),
}

impl FromStr for Which {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.parse().map_or_else(|_| Self::Path(text.into()), Self::Number))
    }
}

/// A BAR, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BarSpec {
    pub(super) address: Address,
    pub(super) index: u8,
    /// First byte and bytes, if not all.
    pub(super) part: Option<(u64, u64)>,
}

impl FromStr for BarSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form =
            || format!("'{text}' is not ADDRESS/barN[,OFFSET,LEN], such as 0000:03:00.0/bar2");
        let (bar, part) = match text.split_once(',') {
            Some((bar, part)) => (bar, Some(part)),
            None => (text, None),
        };
        let (address, index) = bar.split_once("/bar").ok_or_else(form)?;
        let address = address.parse().map_err(|error: vfio::Error| error.to_string())?;
        let index = index.parse().ok().filter(|index| *index < 6);
        let index = index.ok_or_else(|| format!("'{bar}': a function has bar0 to bar5"))?;
        let part = match part {
            None => None,
            Some(part) => {
                let (offset, len) = part.split_once(',').ok_or_else(form)?;
                let bytes = |text| match parse_size(text) {
                    Ok(bytes) => Ok(bytes as u64),
                    Err(error) => Err(error.to_string()),
                };
                Some((bytes(offset)?, bytes(len)?))
            }
        };
        Ok(Self { address, index, part })
    }
}

/// Memory of a dma-heap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeapSpec {
    pub(super) name: String,
    pub(super) bytes: usize,
}

impl FromStr for HeapSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, bytes) = text
            .split_once(',')
            .ok_or_else(|| format!("'{text}' is not NAME,SIZE, such as system,16M"))?;
        let bytes = parse_size(bytes).map_err(|error| error.to_string())?;
        Ok(Self { name: name.into(), bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_heaps_are_read_as_they_are_written() {
        let address: Address = "0000:03:00.0".parse().unwrap();
        let bar = |text: &str| text.parse::<BarSpec>();
        assert_eq!(bar("03:00.0/bar2"), Ok(BarSpec { address, index: 2, part: None }));
        let part = Some((0, 1 << 24));
        assert_eq!(bar("0000:03:00.0/bar2,0,16M"), Ok(BarSpec { address, index: 2, part }));
        for (text, words) in [
            ("03:00.0", "is not ADDRESS/barN[,OFFSET,LEN]"),
            ("03:00.0/bar2,4K", "is not ADDRESS/barN[,OFFSET,LEN]"),
            ("03:00.0/bar6", "a function has bar0 to bar5"),
            ("eth0/bar0", "'eth0' is no PCI address"),
            ("03:00.0/bar0,0,x", "'x' is not a size in bytes"),
        ] {
            let error = bar(text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let heap = "system,16M".parse::<HeapSpec>().unwrap();
        assert_eq!((heap.name.as_str(), heap.bytes), ("system", 16 << 20));
        assert!("system".parse::<HeapSpec>().unwrap_err().contains("is not NAME,SIZE"));
    }

    #[test]
    fn a_number_is_a_descriptor_and_the_rest_are_paths() {
        assert_eq!("9".parse(), Ok(Which::Number(9)));
        assert_eq!("./9".parse(), Ok(Which::Path("./9".into())));
    }
}
