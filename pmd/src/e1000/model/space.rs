//! The model's own IOMMU: which device addresses lead to which memory. Every access of the chip is
//! looked up here; one that misses is recorded and touches nothing. Knows no register and no frame.
#![allow(unsafe_code, reason = "stands for a device that reads and writes memory by address")]
#![expect(clippy::disallowed_types, reason = "a model for tests: clarity before speed")]

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    fmt, io,
    ptr::NonNull,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use mempool::RegionHandle;

use crate::{DmaMapper, Iova, MapError, pci::SharedMemory};

const PAGE: usize = 4096;
/// Where device addresses start: beyond 32 bits, so that a driver that forgets the high half is seen.
const FIRST: u64 = 0x1_0000_0000;
/// Nothing is mapped between two spans.
const GUARD: u64 = 0x1_0000;

/// An access of the chip to an address that is not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaFault {
    /// First byte.
    pub iova: u64,
    /// Bytes.
    pub len: usize,
    /// Whether the chip wanted to write.
    pub write: bool,
}

impl fmt::Display for DmaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.write { "write" } else { "read" };
        write!(f, "dma {what} of {} B at iova {:#x}: not mapped", self.len, self.iova)
    }
}

/// An address space: device addresses to memory.
#[derive(Default)]
pub(super) struct Space(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// In the order of their addresses.
    spans: Vec<Span>,
    next: u64,
    faults: Vec<DmaFault>,
    mapped: u64,
}

struct Span {
    iova: u64,
    base: NonNull<u8>,
    len: usize,
    users: usize,
    /// What keeps the memory alive; shared memory is freed by its owner, who takes the span out first.
    _keep: Option<RegionHandle>,
}

// SAFETY: an address and what keeps it valid; it is used under the table's lock only.
unsafe impl Send for Span {}

impl Table {
    fn add(&mut self, base: NonNull<u8>, len: usize, keep: Option<RegionHandle>) -> u64 {
        let iova = self.next.max(FIRST);
        self.next = (iova + len as u64).next_multiple_of(GUARD) + GUARD;
        self.spans.push(Span { iova, base, len, users: 1, _keep: keep });
        self.mapped += 1;
        iova
    }

    /// Where the bytes are in this process, if one span holds all of them.
    fn find(&self, iova: u64, len: usize) -> Option<NonNull<u8>> {
        let after = self.spans.partition_point(|span| span.iova <= iova);
        let span = self.spans.get(after.checked_sub(1)?)?;
        let offset = usize::try_from(iova - span.iova).ok()?;
        if len > span.len.checked_sub(offset)? {
            return None;
        }
        // SAFETY: within the span, which is one allocation.
        Some(unsafe { span.base.add(offset) })
    }

    fn miss(&mut self, iova: u64, len: usize, write: bool) {
        if self.faults.len() < 1000 {
            self.faults.push(DmaFault { iova, len, write });
        }
    }
}

impl Space {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accesses that missed since this was asked last.
    pub(super) fn take_faults(&self) -> Vec<DmaFault> {
        std::mem::take(&mut self.table().faults)
    }

    /// Spans that are mapped now, and mappings made since the beginning.
    pub(super) fn mappings(&self) -> (usize, u64) {
        let table = self.table();
        (table.spans.len(), table.mapped)
    }

    /// Whether all these bytes are mapped.
    pub(super) fn is_mapped(&self, iova: u64, len: usize) -> bool {
        self.table().find(iova, len).is_some()
    }

    /// Copies bytes out of memory; false, and a fault, if they are not mapped.
    pub(super) fn read(&self, iova: u64, bytes: &mut [u8]) -> bool {
        let mut table = self.table();
        let Some(from) = table.find(iova, bytes.len()) else {
            table.miss(iova, bytes.len(), false);
            return false;
        };
        // SAFETY: mapped (looked up under the lock, which keeps it so), and `bytes` is exclusive.
        unsafe { from.as_ptr().copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        true
    }

    /// Copies bytes into memory; false, and a fault, if they are not mapped.
    pub(super) fn write(&self, iova: u64, bytes: &[u8]) -> bool {
        let mut table = self.table();
        let Some(to) = table.find(iova, bytes.len()) else {
            table.miss(iova, bytes.len(), true);
            return false;
        };
        // SAFETY: mapped (looked up under the lock); whoever mapped memory for a device holds no
        // reference to bytes that it gave to that device.
        unsafe { to.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        true
    }

    /// Reads `words.len()` words of a descriptor.
    pub(super) fn load(&self, iova: u64, words: &mut [u64]) -> bool {
        let mut table = self.table();
        let len = size_of_val(words);
        let Some(from) = table.find(iova, len).filter(|at| at.cast::<u64>().is_aligned()) else {
            table.miss(iova, len, false);
            return false;
        };
        for (at, word) in words.iter_mut().enumerate() {
            // SAFETY: within the words that were looked up.
            let from = unsafe { from.cast::<AtomicU64>().add(at) };
            // SAFETY: mapped and aligned (looked up under the lock); descriptors are touched
            // atomically by both sides.
            *word = u64::from_le(unsafe { from.as_ref() }.load(Ordering::Acquire));
        }
        true
    }

    /// Writes a descriptor back: word 1, which says "done", last.
    pub(super) fn store(&self, iova: u64, words: &[u64]) -> bool {
        let mut table = self.table();
        let len = size_of_val(words);
        let Some(to) = table.find(iova, len).filter(|at| at.cast::<u64>().is_aligned()) else {
            table.miss(iova, len, true);
            return false;
        };
        for at in (0..words.len()).filter(|at| *at != 1).chain((words.len() > 1).then_some(1)) {
            // SAFETY: within the words that were looked up.
            let to = unsafe { to.cast::<AtomicU64>().add(at) };
            // SAFETY: mapped and aligned (looked up under the lock); descriptors are touched
            // atomically by both sides. Release: data and the other words come first.
            unsafe { to.as_ref() }.store(words[at].to_le(), Ordering::Release);
        }
        true
    }

    /// Zeroed pages that the device can reach until the result is dropped.
    pub(super) fn share(self: &Arc<Self>, bytes: usize) -> io::Result<SharedMemory> {
        let size = bytes.max(1).next_multiple_of(PAGE);
        let layout = Layout::from_size_align(size, PAGE).map_err(io::Error::other)?;
        // SAFETY: the size is not 0.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) })
            .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let iova = self.table().add(base, size, None);
        let block = Block { space: Arc::clone(self), base, layout, iova };
        Ok(SharedMemory::new(base, Iova(iova), bytes, block))
    }

    fn remove(&self, gone: impl Fn(&Span) -> bool) {
        self.table().spans.retain_mut(|span| {
            if gone(span) {
                span.users -= 1;
            }
            span.users > 0
        });
    }
}

/// Shared memory's owner.
struct Block {
    space: Arc<Space>,
    base: NonNull<u8>,
    layout: Layout,
    iova: u64,
}

// SAFETY: the one owner of an allocation.
unsafe impl Send for Block {}

impl Drop for Block {
    fn drop(&mut self) {
        self.space.remove(|span| span.iova == self.iova);
        // SAFETY: allocated with this layout; the device cannot find it any more.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// Maps regions for a model.
#[derive(Clone)]
pub struct ModelMapper(pub(super) Arc<Space>);

impl DmaMapper for ModelMapper {
    fn name(&self) -> &'static str {
        "a model NIC"
    }

    fn map(&mut self, region: &RegionHandle) -> Result<Iova, MapError> {
        if region.is_revoked() {
            return Err(MapError::Revoked);
        }
        let window = region.window().ok_or_else(|| MapError::Unsupported {
            backing: region.backing().name(),
            mapper: self.name(),
            why: "the memory has no window for a model that runs in this process".into(),
        })?;
        let mut table = self.0.table();
        if let Some(span) = table.spans.iter_mut().find(|span| span.base == window.base()) {
            span.users += 1;
            return Ok(Iova(span.iova));
        }
        Ok(Iova(table.add(window.base(), window.len(), Some(region.clone()))))
    }

    fn unmap(&mut self, region: &RegionHandle) {
        if let Some(window) = region.window() {
            self.0.remove(|span| span.base == window.base());
        }
    }
}

impl fmt::Debug for ModelMapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (spans, made) = self.0.mappings();
        write!(f, "ModelMapper({spans} spans, {made} mappings made)")
    }
}

#[cfg(test)]
mod tests {
    use mempool::{Provider, RegionRequest, heap::Heap};

    use super::*;

    #[test]
    fn what_is_mapped_is_reached_and_its_neighbours_are_not() {
        let space = Arc::new(Space::default());
        let shared = space.share(100).unwrap();
        let at = shared.iova().0;
        assert!(space.write(at + 4090, &[1; 6]));
        assert!(!space.write(at + 4091, &[1; 6]), "leaves the page");
        assert!(!space.read(at - 1, &mut [0; 1]));
        let faults = space.take_faults();
        assert_eq!(faults[0], DmaFault { iova: at + 4091, len: 6, write: true });
        assert_eq!(faults.len(), 2);
        drop(shared);
        assert!(!space.is_mapped(at, 1), "freed memory is out of reach");
    }

    #[test]
    fn a_region_mapped_twice_is_gone_with_its_last_user() {
        let space = Arc::new(Space::default());
        let request = RegionRequest { name: "test".into(), len: 8192, align: 64 };
        let region = Heap::new().alloc(&request).unwrap().handle();
        let mut mapper = ModelMapper(Arc::clone(&space));
        let first = mapper.map(&region).unwrap();
        assert_eq!(mapper.map(&region).unwrap(), first);
        mapper.unmap(&region);
        assert!(space.is_mapped(first.0, 8192));
        mapper.unmap(&region);
        assert!(!space.is_mapped(first.0, 1));
    }

    #[test]
    fn descriptors_are_words_and_must_be_aligned() {
        let space = Arc::new(Space::default());
        let shared = space.share(64).unwrap();
        let at = shared.iova().0;
        assert!(space.store(at + 16, &[1, 2]));
        let mut words = [0; 4];
        assert!(space.load(at, &mut words));
        assert_eq!(words, [0, 0, 1, 2]);
        assert!(!space.store(at + 4, &[1, 2]));
    }
}
