//! What can go wrong, each with what, where and what to do.

use std::{io, path::PathBuf};

use crate::pci::Address;

/// Why a function, a device or an address space cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Text that is no PCI address.
    #[error("'{0}' is no PCI address: write domain:bus:device.function, as in 0000:01:00.0")]
    Address(String),
    /// A file of the kernel's does not say what it should.
    #[error("{path}: {problem}")]
    Malformed {
        /// The file, and the line where that helps.
        path: String,
        /// What was expected, and what is there.
        problem: String,
    },
    /// A list of capabilities in a configuration space leads nowhere.
    #[error("{0}")]
    Capabilities(String),
    /// There is no such function, or not any more.
    #[error("{0}: no such PCI function here (any more): `memwire status --all` lists them")]
    NoFunction(Address),
    /// It is not VFIO that has the function.
    #[error("{address}: {}, not to vfio-pci: run `memwire bind {address}` as root", bound_to(.driver.as_deref()))]
    NotBound {
        /// The function.
        address: Address,
        /// The driver that it is bound to.
        driver: Option<String>,
    },
    /// No IOMMU stands before the function.
    #[error(
        "{0}: no IOMMU group: boot with intel_iommu=on (AMD: on by itself) and switch VT-d or AMD-Vi on \
             in the firmware"
    )]
    NoGroup(Address),
    /// Another function of the group belongs to a driver that does DMA of its own.
    #[error(
        "group {group} not viable: {blockers}: bind every function of the group to vfio-pci, or to no \
             driver"
    )]
    NotViable {
        /// The group.
        group: u32,
        /// Who stands in the way: `0000:00:1f.3 still on snd_hda_intel`.
        blockers: String,
    },
    /// A device node does not belong to this user.
    #[error("{path}: permission denied; chown it to uid {uid}, or run as root")]
    Permission {
        /// The node.
        path: PathBuf,
        /// Who asks.
        uid: u32,
    },
    /// A device node is there once, and somebody has it.
    #[error("{path}: in use by another process: stop that first")]
    Busy {
        /// The node.
        path: PathBuf,
    },
    /// The kernel lacks something.
    #[error("{what} not supported: {why}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// Why not, and what works instead.
        why: String,
    },
    /// A BAR is not what is needed.
    #[error("{address} BAR{index}: {why}")]
    Bar {
        /// The function.
        address: Address,
        /// Which.
        index: u8,
        /// What it is instead.
        why: String,
    },
    /// More memory than this user may pin.
    #[error("pin {} MiB but RLIMIT_MEMLOCK {} MiB, {} MiB of it in use; raise it: ulimit -l, or \
             LimitMEMLOCK= in the service", mib(*.need), mib(*.limit), mib(*.used))]
    Memlock {
        /// Bytes to be pinned.
        need: u64,
        /// Bytes that are.
        used: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The kernel keeps no more mappings.
    #[error(
        "{used} maps reached, the kernel allows no more in one container: use fewer, larger regions \
             (hugepages of 1 GiB), or raise vfio_iommu_type1.dma_entry_limit"
    )]
    TooManyMaps {
        /// Mappings there are.
        used: usize,
    },
    /// No room for a mapping among the addresses the device can reach.
    #[error(
        "IOVA: no {len:#x} bytes free below {limit:#x}, beyond which the device or its IOMMU cannot \
             reach (aperture): {free:#x} bytes are free"
    )]
    NoIova {
        /// Bytes asked for.
        len: u64,
        /// The last usable address.
        limit: u64,
        /// Bytes free in all.
        free: u64,
    },
    /// Not whole pages.
    #[error(
        "cannot map {len:#x} bytes at {at:#x}: both must be multiples of {page:#x}, the IOMMU's \
             smallest page"
    )]
    Misaligned {
        /// Where it starts in this process or file.
        at: u64,
        /// Bytes.
        len: u64,
        /// The page.
        page: u64,
    },
    /// Without an IOMMU, memory in several pieces.
    #[error(
        "without an IOMMU a region must be one physical piece, and this one is broken at {offset:#x}: use \
             one hugepage per region (1 GiB), or an IOMMU"
    )]
    NotContiguous {
        /// Where the second piece starts.
        offset: usize,
    },
    /// A mapping that is not there.
    #[error("iova {iova:#x}, {len:#x} bytes: not mapped")]
    NotMapped {
        /// Where.
        iova: u64,
        /// Bytes.
        len: u64,
    },
    /// The address space has no device, or the kinds differ.
    #[error("{0}")]
    AddressSpace(String),
    /// The function cannot be reset by itself.
    #[error(
        "{0}: reset not supported: the function has no FLR, and no other way that leaves its \
             neighbours alone"
    )]
    CannotReset(Address),
    /// Fewer interrupts than asked for.
    #[error("{address}: {asked} interrupt vectors asked for, the function has {has}")]
    Vectors {
        /// The function.
        address: Address,
        /// Asked for.
        asked: usize,
        /// There are.
        has: usize,
    },
    /// Binding to a driver was refused, or failed.
    #[error("{address}: {why}")]
    Binding {
        /// The function.
        address: Address,
        /// The reason, and what became of the function.
        why: String,
        /// Whether the user must decide, or change something, first.
        is_refusal: bool,
    },
    /// The system refused.
    #[error("{what}: {source}")]
    System {
        /// What was tried, and on what.
        what: String,
        /// What it said.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: the system refused this.
    pub(crate) fn system<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::System { what, source: source.into() }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Permission { .. } => io::ErrorKind::PermissionDenied,
            Error::NoFunction(_) => io::ErrorKind::NotFound,
            Error::Unsupported { .. } | Error::CannotReset(_) => io::ErrorKind::Unsupported,
            Error::Memlock { .. } | Error::NoIova { .. } => io::ErrorKind::OutOfMemory,
            Error::System { source, .. } => source.kind(),
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

fn bound_to(driver: Option<&str>) -> String {
    driver.map_or_else(|| "bound to no driver".to_owned(), |driver| format!("bound to {driver}"))
}

/// MiB, rounded up.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
