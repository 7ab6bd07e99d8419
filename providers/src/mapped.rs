//! A region of ordinary, readable memory in this process: what [`crate::Hugepages`],
//! [`crate::Private`] and [`crate::Host`] hand out.
#![allow(unsafe_code, reason = "vouches for a live mapping")]

use std::ptr::NonNull;

use mempool::{Backing, CpuAccess, Memory};

use crate::mapping::Mapping;

/// A mapping that is readable, writable, populated and ours.
pub(crate) struct Mapped {
    pub(crate) mapping: Mapping,
    pub(crate) page_size: usize,
    pub(crate) backing: Backing,
    pub(crate) numa_node: Option<u32>,
}

// SAFETY: 1. `mapping` reserves and maps the span until drop; 2. its makers map it readable and
// writable, of zeroed pages; 3. the window is the span itself.
unsafe impl Memory for Mapped {
    fn base(&self) -> NonNull<u8> {
        self.mapping.base()
    }
    fn len(&self) -> usize {
        self.mapping.len()
    }
    fn page_size(&self) -> usize {
        self.page_size
    }
    fn cpu_access(&self) -> CpuAccess {
        CpuAccess::ReadWrite
    }
    fn backing(&self) -> Backing {
        self.backing.clone()
    }
    fn numa_node(&self) -> Option<u32> {
        self.numa_node
    }
}
