//! The registers or the memory behind a BAR.

use crate::Result;

/// A BAR. Clones name the same one. It may outlive its device: then it reads as all ones.
#[derive(Clone, Debug)]
pub struct Bar {
    size: u64,
}

impl Bar {
    /// Bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The same, if it has at least `len` bytes.
    ///
    /// # Errors
    /// It has fewer: hardly the device that its ids promise.
    pub fn at_least(self, len: u64) -> Result<Self> {
        let _ = len;
        todo!()
    }

    /// Reads the 32 bits (little-endian) at a byte offset; all ones once the device is gone.
    ///
    /// # Panics
    /// Beyond the end, or not at a multiple of 4.
    #[inline]
    #[must_use]
    pub fn read32(&self, offset: u32) -> u32 {
        let _ = offset;
        todo!()
    }

    /// Writes the 32 bits (little-endian) at a byte offset, after everything that this thread wrote to
    /// memory before.
    ///
    /// # Panics
    /// Beyond the end, or not at a multiple of 4.
    #[inline]
    pub fn write32(&self, offset: u32, value: u32) {
        let _ = (offset, value);
        todo!()
    }

    /// Whether the device is known to be gone, or its registers to have vanished.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        todo!()
    }
}
