//! The smallest provider: zeroed heap memory. For examples, tests and tools that need no special
//! memory; `providers::Host` is what applications want.
#![allow(unsafe_code, reason = "owns one raw allocation")]

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    ptr::NonNull,
};

use crate::{
    Backing, CpuAccess, Memory, Provider, ProviderError, ProviderInfo, Region, RegionRequest,
};

const PAGE: usize = 4096;

/// Hands out zeroed heap memory, optionally up to a limit.
#[derive(Clone, Debug)]
pub struct Heap {
    limit: Option<usize>,
}

impl Heap {
    /// Without a limit.
    #[must_use]
    pub const fn new() -> Self {
        Self { limit: None }
    }

    /// Refuses requests of more than `bytes`.
    #[must_use]
    pub const fn with_limit(bytes: usize) -> Self {
        Self { limit: Some(bytes) }
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

impl Provider for Heap {
    fn info(&self) -> ProviderInfo {
        ProviderInfo {
            name: "heap".into(),
            cpu_access: CpuAccess::ReadWrite,
            page_size: PAGE,
            available: self.limit.map(|limit| limit as u64),
            numa_node: None,
        }
    }

    fn alloc(&self, request: &RegionRequest) -> Result<Region, ProviderError> {
        let bad =
            |why: &str| ProviderError::BadRequest { provider: "heap".into(), why: why.into() };
        let exhausted = |available: usize| ProviderError::Exhausted {
            provider: "heap".into(),
            needed: request.len as u64,
            available: available as u64,
            fix: "ask for fewer or smaller buffers".into(),
        };
        if request.len == 0 {
            return Err(bad("a region of 0 bytes was asked for"));
        }
        if let Some(limit) = self.limit.filter(|limit| request.len > *limit) {
            return Err(exhausted(limit));
        }
        let len = request.len.checked_next_multiple_of(PAGE).ok_or_else(|| exhausted(0))?;
        let layout = Layout::from_size_align(len, request.align.max(PAGE))
            .map_err(|_| bad("the alignment is not a power of two, or the length overflows"))?;
        // SAFETY: `layout` has a size of at least one page.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(|| exhausted(0))?;
        Ok(Region::new(HeapMemory { base, layout }))
    }
}

struct HeapMemory {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: plain memory behind a pointer that only this object frees.
unsafe impl Send for HeapMemory {}
// SAFETY: shared access hands out the address only.
unsafe impl Sync for HeapMemory {}

// SAFETY: the allocation is ours, zeroed, readable and writable, and lives until drop.
unsafe impl Memory for HeapMemory {
    fn base(&self) -> NonNull<u8> {
        self.base
    }
    fn len(&self) -> usize {
        self.layout.size()
    }
    fn page_size(&self) -> usize {
        PAGE
    }
    fn cpu_access(&self) -> CpuAccess {
        CpuAccess::ReadWrite
    }
    fn backing(&self) -> Backing {
        Backing::Anonymous
    }
}

impl Drop for HeapMemory {
    fn drop(&mut self) {
        // SAFETY: allocated in `alloc` with this very layout, freed once.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}
