//! Memory that CPU and device share: descriptor rings.

use std::ptr::NonNull;

use crate::Iommu;

/// Zeroed memory in pages that hold nothing else, mapped until it is dropped. The device may write it at
/// any time: volatile or atomic access only, never a reference to its bytes.
#[derive(Debug)]
pub struct DmaBlock {
    base: NonNull<u8>,
    len: usize,
    iova: u64,
    _iommu: Iommu,
}

#[expect(unsafe_code, reason = "an address that may change threads")]
// SAFETY: the memory belongs to this object, wherever that goes.
unsafe impl Send for DmaBlock {}

impl DmaBlock {
    /// The first byte; page-aligned.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The first byte, as devices of the address space see it.
    #[must_use]
    pub fn iova(&self) -> u64 {
        self.iova
    }

    /// Bytes: what was asked for, rounded up to whole pages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none: never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
