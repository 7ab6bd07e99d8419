//! How memory can be named to somebody else: the only contract between providers and mappers.

use std::{os::fd::OwnedFd, sync::Arc};

/// Whether and how the CPU may touch a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuAccess {
    /// Ordinary memory at the region's base.
    ReadWrite,
    /// Mapped, but somebody else may write at any time: volatile copies only.
    Volatile,
    /// Not readable by the CPU (a GPU, a BAR without a CPU mapping, pages mapped `PROT_NONE`).
    None,
}

impl CpuAccess {
    /// The word used in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadWrite => "read-write",
            Self::Volatile => "volatile",
            Self::None => "none",
        }
    }
}

/// A region's name for a mapper: what a device driver, another process or the kernel can be given
/// to reach the same bytes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Backing {
    /// A memory file (memfd, hugetlbfs) and where the region starts in it.
    Memfd {
        /// The file; sealed against shrinking by the providers of this project.
        fd: Arc<OwnedFd>,
        /// Offset of the region's first byte, in bytes.
        offset: u64,
    },
    /// A dma-buf and where the region starts in it.
    DmaBuf {
        /// The dma-buf.
        fd: Arc<OwnedFd>,
        /// Offset of the region's first byte, in bytes.
        offset: u64,
        /// The memory file that the dma-buf was made of (udmabuf), at the same offset, where that is known:
        /// who cannot take the dma-buf may take the file.
        memory: Option<Arc<OwnedFd>>,
    },
    /// A range of a PCI device's BAR.
    Bar {
        /// `domain:bus:device.function` of the device that owns the BAR.
        address: String,
        /// BAR index, 0..=5.
        index: u8,
        /// Offset into the BAR, in bytes.
        offset: u64,
        /// Address of the region's first byte as other devices on the bus see it.
        bus_address: u64,
        /// A dma-buf of exactly the region's bytes, where their owner could export one.
        export: Option<Arc<OwnedFd>>,
    },
    /// Peer-to-peer memory that the kernel hands out of a device (`p2pmem/allocate`): for the CPU and for direct
    /// I/O on files. Its pages are mapped here, and may not be pinned for long.
    P2pMem {
        /// `domain:bus:device.function` of the device that has it.
        address: String,
    },
    /// Process memory without a file: reachable by its virtual address only.
    Anonymous,
}

impl Backing {
    /// The word used in reports and errors.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Memfd { .. } => "memfd",
            Self::DmaBuf { .. } => "dma-buf",
            Self::Bar { .. } => "PCI BAR",
            Self::P2pMem { .. } => "the kernel's p2pmem",
            Self::Anonymous => "anonymous memory",
        }
    }
}
