//! The two mappings of a fake region.
#![allow(unsafe_code, reason = "vouches for two live mappings of the same pages")]

use std::{os::fd::OwnedFd, ptr::NonNull, sync::Arc};

use mempool::{Backing, CpuAccess, Memory, Window};

use super::Lease;
use crate::mapping::Mapping;

/// What a region of fake device memory is made of. The lease goes last: what is available again
/// really is.
pub(super) struct FakeMemory {
    /// Without rights: what the CPU sees.
    pub(super) face: Mapping,
    /// Readable and writable: what the device sees.
    pub(super) door: Mapping,
    pub(super) page_size: usize,
    pub(super) numa_node: Option<u32>,
    pub(super) file: Arc<OwnedFd>,
    pub(super) _lease: Lease,
}

// SAFETY: 1. `face` reserves the span until drop; nothing is promised about touching it; 2. `door`
// maps the same pages of the same file, as many bytes, as long.
unsafe impl Memory for FakeMemory {
    fn base(&self) -> NonNull<u8> {
        self.face.base()
    }
    fn len(&self) -> usize {
        self.face.len()
    }
    fn page_size(&self) -> usize {
        self.page_size
    }
    fn cpu_access(&self) -> CpuAccess {
        CpuAccess::None
    }
    fn backing(&self) -> Backing {
        Backing::Memfd { fd: Arc::clone(&self.file), offset: 0 }
    }
    fn numa_node(&self) -> Option<u32> {
        self.numa_node
    }
    fn window(&self) -> Option<Window> {
        Some(Window::new(self.door.base(), self.door.len()))
    }
}
