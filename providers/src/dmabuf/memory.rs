//! One region of a dma-buf, and copies into and out of it.
#![allow(unsafe_code, reason = "vouches for a live mapping of a dma-buf")]

use std::{os::fd::AsFd, ptr::NonNull, sync::Arc};

use mempool::{Backing, CopyError, CpuAccess, Memory, ProviderError, Window};

use super::{
    Shared,
    sys::{self, Touch},
};
use crate::mapping::{Mapping, Protection, Wish};

/// A part of a dma-buf, until it is dropped.
pub(super) struct BufferMemory {
    /// Of the bytes; or address space without rights, where the CPU has no way in.
    mapping: Mapping,
    access: CpuAccess,
    lease: Lease,
}

/// What the CPU finds in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing: it has no way in.
    Never,
    /// Zeros.
    Fresh,
    /// What others wrote.
    AsItIs,
}

/// Bytes of a dma-buf that are out.
struct Lease {
    offset: u64,
    shared: Arc<Shared>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.carver().give(self.offset);
    }
}

impl BufferMemory {
    /// Takes `len` bytes, whole pages; zeroes them, if that is wanted and the CPU has a way in.
    pub(super) fn carve(
        name: &str,
        shared: &Arc<Shared>,
        len: usize,
        align: usize,
        look: Look,
    ) -> Result<Self, ProviderError> {
        let system = |what: &str, hint: &str| {
            let (provider, what, hint) = (name.to_owned(), what.to_owned(), hint.to_owned());
            move |source| ProviderError::System { provider, what, source, hint }
        };
        let page = shared.buffer.page_size() as u64;
        let mut carver = shared.carver();
        let offset = carver.take(len as u64, page).ok_or_else(|| ProviderError::Exhausted {
            provider: name.to_owned(),
            needed: len as u64,
            available: carver.largest(),
            fix: "ask for fewer or smaller buffers, or have a larger dma-buf exported".into(),
        })?;
        drop(carver);
        let lease = Lease { offset, shared: Arc::clone(shared) };
        let Some(file) = shared.buffer.mappable().filter(|_| look != Look::Never) else {
            let mapping = Mapping::reserved(len, align);
            let mapping = mapping.map_err(system("finding address space", ""))?;
            return Ok(Self { mapping, access: CpuAccess::None, lease });
        };
        let mapping = Mapping::part((file, offset), len, align, Protection::ReadWrite)
            .map_err(system("mmap", "its exporter may map whole buffers only"))?;
        mapping.wish(Wish::NotInChildren).map_err(system("madvise", ""))?;
        mapping.wish(Wish::NotInDumps).map_err(system("madvise", ""))?;
        let is_shared = shared.buffer.use_up();
        let access = if is_shared { CpuAccess::Volatile } else { CpuAccess::ReadWrite };
        let memory = Self { mapping, access, lease };
        if look == Look::Fresh {
            memory.zero().map_err(system("DMA_BUF_IOCTL_SYNC", "its exporter lets no CPU in"))?;
        }
        Ok(memory)
    }

    fn zero(&self) -> std::io::Result<()> {
        let buffer = self.lease.shared.buffer.fd().as_fd();
        sys::begin(buffer, Touch::Write)?;
        // SAFETY: mapped writable, and handed to nobody in this process yet.
        unsafe { self.mapping.base().write_bytes(0, self.mapping.len()) };
        sys::end(buffer, Touch::Write)
    }

    /// Where a copy begins; within the kernel's word that the CPU may look, and back.
    fn copy(
        &self,
        (offset, len): (usize, usize),
        touch: Touch,
        copy: impl FnOnce(NonNull<u8>),
    ) -> Result<(), CopyError> {
        if self.access == CpuAccess::None {
            let what = if touch == Touch::Write { "written" } else { "read" };
            return Err(CopyError::NoWay { what });
        }
        let region = self.mapping.len();
        if offset.checked_add(len).is_none_or(|end| end > region) {
            return Err(CopyError::OutOfBounds { offset, len, region });
        }
        let buffer = self.lease.shared.buffer.fd().as_fd();
        let failed = |error| CopyError::Engine(format!("DMA_BUF_IOCTL_SYNC: {error}"));
        sys::begin(buffer, touch).map_err(failed)?;
        // SAFETY: in bounds, checked above.
        copy(unsafe { self.mapping.base().add(offset) });
        sys::end(buffer, touch).map_err(failed)
    }
}

// SAFETY: 1. `mapping` reserves the span until drop; 2. unless `access` is `None`, it maps as many bytes of the
// dma-buf, readable, writable and initialised (the kernel's pages are), and shared with other processes only where it is `Volatile`; the pages
// stay while the dma-buf lives, which `shared` keeps; 3. the window is the span itself.
unsafe impl Memory for BufferMemory {
    fn base(&self) -> NonNull<u8> {
        self.mapping.base()
    }
    fn len(&self) -> usize {
        self.mapping.len()
    }
    fn page_size(&self) -> usize {
        self.lease.shared.buffer.page_size()
    }
    fn cpu_access(&self) -> CpuAccess {
        self.access
    }
    fn backing(&self) -> Backing {
        let buffer = &self.lease.shared.buffer;
        Backing::DmaBuf {
            fd: Arc::clone(buffer.fd()),
            offset: self.lease.offset,
            memory: buffer.memory().cloned(),
        }
    }
    fn window(&self) -> Option<Window> {
        let is_open = self.access != CpuAccess::None;
        is_open.then(|| Window::new(self.mapping.base(), self.mapping.len()))
    }
    unsafe fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), CopyError> {
        self.copy((offset, bytes.len()), Touch::Write, |to| {
            // SAFETY: valid for as many bytes (`copy` checked); the caller owns them, and a slice of the
            // caller's never aliases them.
            unsafe { to.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        })
    }
    unsafe fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), CopyError> {
        self.copy((offset, bytes.len()), Touch::Read, |from| {
            // SAFETY: valid for as many bytes (`copy` checked); `bytes` is exclusive.
            unsafe { from.as_ptr().copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        })
    }
}
