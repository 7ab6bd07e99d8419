//! Mapping: the limits are checked, a place is taken, and the kernel is asked. Knows no interface of the
//! kernel's: the back ends do.
#![allow(unsafe_code, reason = "maps memory that devices will write")]

use std::{os::fd::BorrowedFd, ptr::NonNull};

use super::{
    Access, Backend, Iommu, State,
    books::{Behind, Books, Source},
    limits::Limits,
    no_device, physical,
};
use crate::{Error, Result, sys};

impl Iommu {
    /// Maps `len` bytes of this process's memory for the devices, and returns where they see it. One
    /// region is one mapping, however many pages it has; what is mapped already (the same bytes, or more
    /// around them, for the same access) is counted and not mapped again.
    ///
    /// # Safety
    /// Until `unmap`, every byte stays mapped at `base` in this process, and nothing holds a reference
    /// to one that a device's access would break.
    ///
    /// # Errors
    /// No device yet, not whole pages, a limit of the user's or the kernel's, or no room.
    pub unsafe fn map(&self, base: NonNull<u8>, len: usize, access: Access) -> Result<u64> {
        // SAFETY: the caller's promise.
        unsafe { self.map_here(base, len, access, Behind::Pages) }
    }

    /// As [`map`](Self::map), of another device's BAR where it is mapped in this process. Nothing is pinned
    /// for it, so no limit of the user's counts (`vfio_pin_pages_remote` of the kernel's `vfio_iommu_type1.c`:
    /// reserved pages are not counted against the user). Only type1 takes it.
    ///
    /// # Safety
    /// As for [`map`](Self::map), and the device that owns the BAR stays open, and decodes memory.
    ///
    /// # Errors
    /// As [`map`](Self::map).
    pub unsafe fn map_bar(&self, base: NonNull<u8>, len: usize, access: Access) -> Result<u64> {
        // SAFETY: the caller's promise.
        unsafe { self.map_here(base, len, access, Behind::Device) }
    }

    /// Maps what is at an address of this process.
    ///
    /// # Safety
    /// As for [`map`](Self::map).
    unsafe fn map_here(
        &self,
        base: NonNull<u8>,
        len: usize,
        access: Access,
        behind: Behind,
    ) -> Result<u64> {
        let mut state = self.state();
        let State { backend, books, .. } = &mut *state;
        let backend = backend.as_mut().ok_or_else(no_device)?;
        let source = Source::Memory { base: base.as_ptr().expose_provenance() as u64 };
        if let Some(iova) = books.share(source, len as u64, access) {
            return Ok(iova);
        }
        if let Backend::NoIommu(_) = backend {
            books.check_pages(source, len as u64)?;
            let iova = physical::address_of(base, len)?;
            books.fix(iova, source, len as u64, access);
            return Ok(iova);
        }
        backend.check_room(books)?;
        placed(books, (source, len as u64), access, behind, |iova| {
            // SAFETY: the caller gave the memory until it is unmapped.
            unsafe { backend.map_memory(base, len as u64, iova, access) }
        })
    }

    /// Maps bytes of a memory file. The kernel keeps the file.
    ///
    /// # Errors
    /// As [`map`](Self::map); and only iommufd takes files.
    pub fn map_file(
        &self,
        file: BorrowedFd<'_>,
        offset: u64,
        len: usize,
        access: Access,
    ) -> Result<u64> {
        self.map_descriptor(file, offset, len, access, Behind::Pages)
    }

    /// Maps bytes of a dma-buf that VFIO exported of a BAR. The kernel keeps the dma-buf, pins nothing, and
    /// takes the mapping away when the device is reset, closed, or decodes no memory.
    ///
    /// # Errors
    /// As [`map_file`](Self::map_file).
    pub fn map_dma_buf(
        &self,
        dma_buf: BorrowedFd<'_>,
        offset: u64,
        len: usize,
        access: Access,
    ) -> Result<u64> {
        self.map_descriptor(dma_buf, offset, len, access, Behind::Device)
    }

    fn map_descriptor(
        &self,
        file: BorrowedFd<'_>,
        offset: u64,
        len: usize,
        access: Access,
        behind: Behind,
    ) -> Result<u64> {
        let mut state = self.state();
        let State { backend, books, .. } = &mut *state;
        let Backend::Iommufd(iommufd) = backend.as_mut().ok_or_else(no_device)? else {
            return Err(Error::Unsupported {
                what: "mapping a file by its descriptor".to_owned(),
                why: "type1 takes memory of this process only: map it here first, or use iommufd"
                    .to_owned(),
            });
        };
        let stat = rustix::fs::fstat(file).map_err(Error::system("a file to be mapped"))?;
        let source = Source::File { device: stat.st_dev, inode: stat.st_ino, offset };
        if let Some(iova) = books.share(source, len as u64, access) {
            return Ok(iova);
        }
        placed(books, (source, len as u64), access, behind, |iova| {
            sys::ioas_map_file(iommufd.id(), (file, offset), len as u64, iova, access)
        })
    }

    /// Takes back one `map` of these bytes. No device may use them any more.
    ///
    /// # Errors
    /// Nothing is mapped there, or the kernel refused; then it stays mapped.
    pub fn unmap(&self, iova: u64, len: usize) -> Result<()> {
        let mut state = self.state();
        let State { backend, books, .. } = &mut *state;
        let Some((start, whole)) = books.release(iova, len as u64)? else { return Ok(()) };
        if let Some(backend) = backend {
            backend.unmap(start, whole)?;
        }
        books.remove(start);
        Ok(())
    }
}

/// Finds a place for new bytes within the user's limits, and has them mapped there.
fn placed(
    books: &mut Books,
    (source, len): (Source, u64),
    access: Access,
    behind: Behind,
    map: impl FnOnce(u64) -> std::io::Result<()>,
) -> Result<u64> {
    let limits = Limits::now();
    limits.check(books.pinned(), behind.pins(len))?;
    let iova = books.place(source, len, access, behind)?;
    map(iova).map_err(|error| {
        let used = books.mappings();
        books.remove(iova);
        explained(error, len, used, limits)
    })?;
    Ok(iova)
}

/// What an errno of a mapping means.
pub(super) fn explained(error: std::io::Error, len: u64, used: usize, limits: Limits) -> Error {
    match (error.raw_os_error(), limits.memlock) {
        (Some(libc::ENOMEM), Some(limit)) => {
            Error::Memlock { need: len, used: limits.locked, limit }
        }
        (Some(libc::ENOSPC), _) => Error::TooManyMaps { used },
        (Some(libc::EFAULT | libc::EOPNOTSUPP), _) => Error::Unsupported {
            what: format!("mapping {len:#x} bytes for devices"),
            why: "the kernel does not pin this kind of memory: hugepages and memfds work with all \
                  interfaces, another device's BAR by its mapping with type1 and by its dma-buf with \
                  iommufd"
                .to_owned(),
        },
        _ => Error::system(format!("mapping {len:#x} bytes for devices"))(error),
    }
}
