//! dma-bufs as packet memory: imported by descriptor or over a Unix socket, or made on the spot; carved into
//! regions. Knows exporters and processes; knows no NIC, and maps nothing for one.
//!
//! | exporter | made by | CPU | NICs on VFIO |
//! |---|---|---|---|
//! | udmabuf | [`Buffer::udmabuf`], of a sealed memory file | maps it | by the memory file, never by the dma-buf |
//! | dma-heap (`system`) | [`Buffer::heap`] | maps it | not at all: copy (the bounce path) |
//! | VFIO, of a BAR | [`Buffer::bar`] | `mmap` is `EINVAL`: no way in by the dma-buf | iommufd takes it |
//! | others (GPUs) | a library of theirs; [`Buffer::from_fd`] | where its `mmap` allows | not in mainline |
//!
//! What the CPU may do with a region is decided per buffer: nothing, where it has no mapping or none is wanted
//! ([`DmaBuf::without_cpu`]); everything ([`CpuAccess::ReadWrite`]) where this process made it and is alone with it;
//! copies only ([`CpuAccess::Volatile`]) where another process has it too. Regions with a mapping arrive zeroed:
//! who imports a buffer to read what others wrote says so ([`DmaBuf::with_contents`]). Copies by [`mempool::Memory::read`] and `write` are told to
//! the kernel before and after (`DMA_BUF_IOCTL_SYNC`), so that they are coherent on every machine; the window of a
//! region is so on machines whose DMA is coherent with their caches, such as every x86.
//!
//! A region is one piece in the buffer, and one piece to a device behind an IOMMU: an area of a pool each.
#![expect(
    clippy::disallowed_types,
    reason = "control plane: dma-bufs are carved when pools are built"
)]

mod buffer;
mod identity;
mod link;
mod make;
mod memory;
mod message;
mod offer;
mod same;
mod sys;

use std::{
    os::fd::RawFd,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use mempool::{CpuAccess, Provider, ProviderError, ProviderInfo, Region, RegionRequest};

use self::memory::{BufferMemory, Look};
pub use self::{
    buffer::Buffer,
    identity::Identity,
    offer::{Event, Offer},
};
use crate::{Revocable, Revocations, carve::Carver, request};

/// Hands out regions of a dma-buf.
#[derive(Debug)]
pub struct DmaBuf {
    name: String,
    shared: Arc<Shared>,
    look: Look,
    revocations: Revocations,
    gone: OnceLock<Gone>,
}

/// What regions hold on to.
#[derive(Debug)]
struct Shared {
    buffer: Arc<Buffer>,
    carver: Mutex<Carver>,
}

impl Shared {
    fn carver(&self) -> MutexGuard<'_, Carver> {
        self.carver.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The exporter does not stand by a dma-buf any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{provider}: {why}")]
pub struct Gone {
    /// Which provider.
    pub provider: String,
    /// What happened, in words.
    pub why: String,
}

impl DmaBuf {
    /// Of a buffer that was made or imported. One provider per buffer: two would hand out the same bytes.
    #[must_use]
    pub fn new(buffer: Buffer) -> Self {
        let carver = Mutex::new(Carver::new(0..buffer.bytes()));
        Self {
            name: buffer.name().to_owned(),
            look: if buffer.mappable().is_some() { Look::Fresh } else { Look::Never },
            shared: Arc::new(Shared { buffer: Arc::new(buffer), carver }),
            revocations: Revocations::default(),
            gone: OnceLock::new(),
        }
    }

    /// Of a dma-buf that is open in this process ([`Buffer::from_number`]).
    ///
    /// # Errors
    /// As there.
    pub fn from_number(fd: RawFd) -> Result<Self, ProviderError> {
        Buffer::from_number(fd).map(Self::new)
    }

    /// Of what a process offers at a path ([`Buffer::receive`]).
    ///
    /// # Errors
    /// As there.
    pub fn receive(path: &Path) -> Result<Self, ProviderError> {
        Buffer::receive(path).map(Self::new)
    }

    /// Of a new udmabuf, of ordinary pages or hugepages ([`Buffer::udmabuf`]).
    ///
    /// # Errors
    /// As there.
    pub fn udmabuf(bytes: usize, pages: Option<crate::PageSize>) -> Result<Self, ProviderError> {
        Buffer::udmabuf(bytes, pages).map(Self::new)
    }

    /// Of a new buffer of a dma-heap ([`Buffer::heap`]).
    ///
    /// # Errors
    /// As there.
    pub fn heap(heap: &str, bytes: usize) -> Result<Self, ProviderError> {
        Buffer::heap(heap, bytes).map(Self::new)
    }

    /// Keeps the CPU out: a stray access to a region faults, as it would with a GPU's memory.
    #[must_use]
    pub fn without_cpu(mut self) -> Self {
        self.look = Look::Never;
        self
    }

    /// Leaves the bytes of regions as they are: for who imports a buffer to read what others wrote there.
    #[must_use]
    pub fn with_contents(mut self) -> Self {
        if self.look == Look::Fresh {
            self.look = Look::AsItIs;
        }
        self
    }

    /// Insists that the CPU has a way in, for headers, checks and copies.
    ///
    /// # Errors
    /// Its exporter gives none.
    pub fn for_cpu(self) -> Result<Self, ProviderError> {
        let buffer = &self.shared.buffer;
        if self.look != Look::Never {
            return Ok(self);
        }
        let said = buffer.cpu_mapping().err().map(|error| format!(" (mmap: {error})"));
        Err(ProviderError::BadRequest {
            why: format!(
                "CPU access not supported by exporter '{}'{}: use it for payloads behind header/data split, or \
                 for what is never looked at",
                buffer.identity().exporter,
                said.unwrap_or_default()
            ),
            provider: self.name,
        })
    }

    /// What it carves.
    #[must_use]
    pub fn buffer(&self) -> &Arc<Buffer> {
        &self.shared.buffer
    }

    /// Offers it to other processes at a path. Before the first pool is made of it, so that this one knows that
    /// others may write.
    ///
    /// # Errors
    /// As [`Offer::new`].
    pub fn offer(&self, path: &Path) -> Result<Offer, ProviderError> {
        Offer::new(&self.shared.buffer, path)
    }

    /// Looks whether the process that exported it still stands by it, and revokes if not: a BAR's memory is gone
    /// with its exporter; other memory stays while it is used, but nobody else reads it any more. Never waits. What
    /// was not imported over a socket has nobody to be asked.
    ///
    /// # Errors
    /// It does not; from the first time on, for ever.
    pub fn check(&self) -> Result<(), Gone> {
        let Some(link) = self.shared.buffer.link() else { return Ok(()) };
        if let Some(gone) = self.gone.get() {
            return Err(gone.clone());
        }
        let Err(why) = link.check() else { return Ok(()) };
        let gone = self.gone.get_or_init(|| Gone { provider: self.name.clone(), why }).clone();
        let regions = self.revocations.revoke();
        tracing::warn!(%gone, regions, "revoked");
        Err(gone)
    }

    /// Bytes handed out and not given back.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.shared.carver().used()
    }

    /// Regions handed out whose memory still exists.
    #[must_use]
    pub fn live(&self) -> usize {
        self.revocations.live()
    }
}

impl Provider for DmaBuf {
    fn info(&self) -> ProviderInfo {
        let buffer = &self.shared.buffer;
        let cpu_access = match (self.look != Look::Never, buffer.is_shared()) {
            (false, _) => CpuAccess::None,
            (true, true) => CpuAccess::Volatile,
            (true, false) => CpuAccess::ReadWrite,
        };
        ProviderInfo {
            name: self.name.clone(),
            cpu_access,
            page_size: buffer.page_size(),
            available: Some(self.shared.carver().largest()),
            numa_node: None,
        }
    }

    fn alloc(&self, request: &RegionRequest) -> Result<Region, ProviderError> {
        self.revocations.check(&self.name)?;
        let len = request::check(&self.name, request, self.shared.buffer.page_size())?;
        let (shared, align) = (&self.shared, request.align);
        let memory = BufferMemory::carve(&self.name, shared, len, align, self.look)?;
        tracing::debug!(provider = %self.name, region = %request.name, len, "handed out");
        self.revocations.track(&self.name, Region::new(memory))
    }

    fn check(&self) -> Option<String> {
        DmaBuf::check(self).err().map(|gone| gone.why)
    }
}

impl Revocable for DmaBuf {
    fn revoke(&self) -> usize {
        self.revocations.revoke()
    }
}
