//! Address spaces: what devices see of this process's memory.
#![allow(unsafe_code, reason = "maps memory that devices will write")]

use std::{os::fd::BorrowedFd, ptr::NonNull, sync::Arc};

use crate::Result;

/// Which interface of the kernel's makes the address space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// iommufd where the first device has a character device and `/dev/iommu` is there, else type1.
    #[default]
    Auto,
    /// Group and container, `VFIO_TYPE1v2_IOMMU`.
    Type1,
    /// Character device and `/dev/iommu`.
    Iommufd,
    /// No IOMMU: the device may write any memory of the machine.
    NoIommu(UnsafeDmaAccepted),
}

/// The user's word that a device may write any memory of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsafeDmaAccepted(());

impl UnsafeDmaAccepted {
    /// Only for a user who said `--i-accept-unsafe-dma`: a stray descriptor, or a broken or hostile
    /// device, then corrupts the machine.
    #[must_use]
    pub fn i_accept_unsafe_dma() -> Self {
        Self(())
    }
}

/// What devices may do with a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Read it: frames to send.
    Read,
    /// Read and write it.
    ReadWrite,
}

/// An address space. Clones are the same one; it ends with the last clone, and devices hold one.
#[derive(Clone, Debug)]
pub struct Iommu(Arc<()>);

impl Iommu {
    /// An address space without devices. The kernel is asked when the first device is opened into it.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        let _ = kind;
        todo!()
    }

    /// The interface in use, for reports: `type1`, `iommufd` or `none`; before the first device `auto`
    /// is possible.
    #[must_use]
    pub fn name(&self) -> &'static str {
        todo!()
    }

    /// Maps `len` bytes of this process's memory for the devices, and returns where they see it. What is
    /// mapped already (the same bytes, or more around them) is mapped once and counted.
    ///
    /// # Safety
    /// Until `unmap`, every byte stays mapped at `base` in this process, and nothing holds a reference
    /// to one that a device's access would break.
    ///
    /// # Errors
    /// No device yet, not whole pages, a limit of the user's or the kernel's, or no room.
    pub unsafe fn map(&self, base: NonNull<u8>, len: usize, access: Access) -> Result<u64> {
        let _ = (base, len, access);
        todo!()
    }

    /// Maps bytes of a file (memfd, or a dma-buf that VFIO exported).
    ///
    /// # Errors
    /// As [`map`](Self::map); and type1 takes no files.
    pub fn map_file(
        &self,
        file: BorrowedFd<'_>,
        offset: u64,
        len: usize,
        access: Access,
    ) -> Result<u64> {
        let _ = (file, offset, len, access);
        todo!()
    }

    /// Takes back one `map` of these bytes. No device may use them any more.
    ///
    /// # Errors
    /// Nothing is mapped there, or the kernel refused.
    pub fn unmap(&self, iova: u64, len: usize) -> Result<()> {
        let _ = (iova, len);
        todo!()
    }

    /// Mappings that the kernel keeps for this address space.
    #[must_use]
    pub fn mappings(&self) -> usize {
        todo!()
    }
}
