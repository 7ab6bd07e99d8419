//! Memory that CPU and device share: descriptor rings.
#![allow(unsafe_code, reason = "memory that a device will write")]

use std::{
    fmt, io,
    ptr::{self, NonNull},
};

use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::{
    Error, Result,
    iommu::{Access, Iommu, page_size},
};

/// The hugepage that a device without an IOMMU is given: ordinary pages may move.
const HUGE: usize = 2 << 20;

/// Zeroed memory in pages that hold nothing else, mapped until it is dropped. The device may write it at
/// any time: volatile or atomic access only, never a reference to its bytes.
#[derive(Debug)]
pub struct DmaBlock {
    iova: u64,
    /// Mapped for devices before it is unmapped here.
    memory: Memory,
    iommu: Iommu,
}

impl DmaBlock {
    /// At least `bytes` of memory, mapped into the address space.
    pub(crate) fn new(iommu: &Iommu, bytes: usize) -> Result<Self> {
        let failed = || Error::system(format!("{bytes} bytes for descriptors"));
        let is_huge = iommu.is_unprotected();
        let page = if is_huge { HUGE } else { usize::try_from(page_size()).unwrap_or(HUGE) };
        let len = bytes.max(1).checked_next_multiple_of(page);
        let len =
            len.ok_or(io::ErrorKind::OutOfMemory).map_err(io::Error::from).map_err(failed())?;
        let memory = Memory::new(len, is_huge).map_err(failed())?;
        // SAFETY: the memory stays until `drop` takes it back, and nobody holds a reference to it: we hand
        // out its address.
        let iova = unsafe { iommu.map(memory.base, memory.len, Access::ReadWrite) }?;
        Ok(Self { iova, memory, iommu: iommu.clone() })
    }

    /// The first byte; page-aligned.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.memory.base
    }

    /// The first byte, as devices of the address space see it.
    #[must_use]
    pub fn iova(&self) -> u64 {
        self.iova
    }

    /// Bytes: what was asked for, rounded up to whole pages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.memory.len
    }

    /// Whether there are none: never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.memory.len == 0
    }
}

impl Drop for DmaBlock {
    fn drop(&mut self) {
        if let Err(error) = self.iommu.unmap(self.iova, self.memory.len) {
            // A device may still write it: better lost than given to somebody else.
            tracing::warn!(%error, "{} bytes of descriptors are lost", self.memory.len);
            self.memory.leak();
        }
    }
}

/// Anonymous memory, not inherited by children.
struct Memory {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to this object, wherever that goes.
unsafe impl Send for Memory {}
// SAFETY: shared access hands out an address and a length.
unsafe impl Sync for Memory {}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B", self.len)
    }
}

impl Memory {
    fn new(len: usize, is_huge: bool) -> io::Result<Self> {
        // Touched now: what a device shall read must be somewhere.
        let mut flags = MapFlags::PRIVATE | MapFlags::POPULATE;
        if is_huge {
            flags |= MapFlags::HUGETLB | MapFlags::HUGE_2MB;
        }
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, where the kernel likes.
        let base = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), len, rights, flags) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = Self { base, len };
        // A child's first write would otherwise part this process from what the device sees.
        // SAFETY: our own pages; the advice changes no byte.
        unsafe { rustix::mm::madvise(base.as_ptr().cast(), len, Advice::LinuxDontFork) }?;
        Ok(memory)
    }

    fn leak(&mut self) {
        self.len = 0;
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: our own pages, which nobody knows any more.
            let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
            debug_assert!(unmapped.is_ok(), "unmapping our own pages: {unmapped:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zeroed_and_in_pages_of_its_own() {
        let memory = Memory::new(8192, false).expect("memory");
        assert!(memory.base.as_ptr().addr().is_multiple_of(4096));
        for at in (0..memory.len).step_by(512) {
            let byte = memory.base.as_ptr().wrapping_add(at);
            // SAFETY: inside the memory.
            let byte = unsafe { byte.read_volatile() };
            assert_eq!(byte, 0);
        }
    }

    #[test]
    fn a_block_needs_a_device_in_its_address_space() {
        let iommu = Iommu::new(crate::Kind::Type1);
        let error = DmaBlock::new(&iommu, 100).expect_err("no device");
        assert!(error.to_string().contains("no device yet"), "{error}");
        assert!(DmaBlock::new(&iommu, usize::MAX).is_err(), "no such memory");
    }
}
