//! One mapped span of address space, owned: where it is, what it is advised, when it goes. Knows no
//! provider.
#![allow(unsafe_code, reason = "maps and unmaps address space")]

use std::{alloc::Layout, ffi::c_void, io, os::fd::BorrowedFd, ptr, ptr::NonNull};

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Address space that belongs to this object until it is dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    owner: Owner,
}

/// Who made the mapping, and so takes it back.
#[derive(Debug)]
enum Owner {
    Kernel,
    /// `hugepage_rs`, with the layout it was asked for.
    Allocator(Layout),
}

/// What the CPU may do with a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    ReadWrite,
    /// Look, and no more.
    Read,
    /// Address space only: any touch faults.
    None,
}

/// What the kernel is asked to do with a mapping. None of it changes the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Not in children: a copy-on-write page would part a device from its memory.
    NotInChildren,
    /// Not in core dumps: gigabytes of other people's traffic.
    NotInDumps,
    /// Transparent hugepages, if there are any.
    HugePages,
}

// SAFETY: the span belongs to this object, wherever that goes.
unsafe impl Send for Mapping {}
// SAFETY: shared access hands out the address and asks the kernel for advice only.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of a file, shared, at a multiple of `align`.
    pub(crate) fn shared(
        file: BorrowedFd<'_>,
        len: usize,
        align: usize,
        protection: Protection,
    ) -> io::Result<Self> {
        Self::part((file, 0), len, align, protection)
    }

    /// Maps `len` bytes of a file from an offset on, shared, at a multiple of `align`.
    pub(crate) fn part(
        (file, offset): (BorrowedFd<'_>, u64),
        len: usize,
        align: usize,
        protection: Protection,
    ) -> io::Result<Self> {
        let rights = protection.flags();
        Self::place(len, align, |at, extra| {
            // SAFETY: the kernel puts it where nothing is, or nothing but room for it (see `place`).
            unsafe { rustix::mm::mmap(at, len, rights, MapFlags::SHARED | extra, file, offset) }
        })
    }

    /// Maps `len` bytes of zeroed, private, ordinary memory at a multiple of `align`.
    pub(crate) fn anonymous(len: usize, align: usize) -> io::Result<Self> {
        let rights = Protection::ReadWrite.flags();
        Self::place(len, align, |at, extra| {
            // SAFETY: the kernel puts it where nothing is, or nothing but room for it (see `place`).
            unsafe { rustix::mm::mmap_anonymous(at, len, rights, MapFlags::PRIVATE | extra) }
        })
    }

    /// Address space for `len` bytes at a multiple of `align`, with nothing there: any touch faults.
    pub(crate) fn reserved(len: usize, align: usize) -> io::Result<Self> {
        Self::place(len, align, |at, extra| {
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | extra;
            // SAFETY: the kernel puts it where nothing is, or nothing but room for it (see `place`).
            unsafe { rustix::mm::mmap_anonymous(at, len, ProtFlags::empty(), flags) }
        })
    }

    /// `layout` of zeroed private hugepages from `hugepage_rs`, which reports no reason if it cannot.
    pub(crate) fn hugepages(layout: Layout) -> Option<Self> {
        if layout.size() == 0 {
            return None;
        }
        // SAFETY: the layout's size is not 0.
        let base = NonNull::new(unsafe { hugepage_rs::alloc(layout) })?;
        Some(Self { base, len: layout.size(), owner: Owner::Allocator(layout) })
    }

    /// Maps anywhere; if that is not aligned, in the midst of room that is reserved for it: nobody else can map
    /// something there meanwhile. `map` is given where to put it, and flags under which the kernel replaces
    /// nothing but that.
    fn place(
        len: usize,
        align: usize,
        map: impl Fn(*mut c_void, MapFlags) -> rustix::io::Result<*mut c_void>,
    ) -> io::Result<Self> {
        let own = |at: *mut c_void| {
            let base = NonNull::new(at.cast::<u8>()).ok_or(io::ErrorKind::AddrNotAvailable)?;
            Ok::<_, io::Error>(Self { base, len, owner: Owner::Kernel })
        };
        let anywhere = own(map(ptr::null_mut(), MapFlags::empty())?)?;
        if anywhere.base.addr().get().is_multiple_of(align) {
            return Ok(anywhere);
        }
        drop(anywhere);
        let span = len.checked_add(align).ok_or(io::ErrorKind::OutOfMemory)?;
        let (rights, flags) = (ProtFlags::empty(), MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: the kernel puts it where nothing is.
        let room = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), span, rights, flags)? };
        let at = room.map_addr(|address| address.next_multiple_of(align));
        // Of the room, which is ours alone: what replaces it leaves nothing of it there.
        let found = map(at, MapFlags::FIXED);
        let (front, behind) = (at.addr() - room.addr(), at.wrapping_byte_add(len));
        let behind =
            behind.map_addr(|address| address.next_multiple_of(rustix::param::page_size()));
        let rest = (room.addr() + span).saturating_sub(behind.addr());
        for (at, len) in [(room, front), (behind, rest)] {
            if len > 0 {
                // SAFETY: a part of the room that nothing was put into. What is between them, if the kernel
                // put nothing there, is left: it may be somebody else's by now.
                unsafe { rustix::mm::munmap(at, len)? };
            }
        }
        own(found?)
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Address of the last byte.
    pub(crate) fn last(&self) -> NonNull<u8> {
        // SAFETY: a mapping is not empty (the kernel refuses that), so the last byte is inside it.
        unsafe { self.base.add(self.len - 1) }
    }

    /// Tells the kernel about the mapping.
    pub(crate) fn wish(&self, wish: Wish) -> io::Result<()> {
        let advice = match wish {
            Wish::NotInChildren => Advice::LinuxDontFork,
            Wish::NotInDumps => Advice::LinuxDontDump,
            Wish::HugePages => Advice::LinuxHugepage,
        };
        // SAFETY: the range is ours, and none of these changes its bytes.
        unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), self.len, advice)? };
        Ok(())
    }

    /// Makes every page present and writable. A shortage is an error (where a touch would be a
    /// SIGBUS), but what was got until then stays until the mapping goes.
    pub(crate) fn populate(&self) -> io::Result<()> {
        let advice = Advice::LinuxPopulateWrite;
        // SAFETY: the range is ours; the kernel touches it without changing its bytes.
        unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), self.len, advice)? };
        Ok(())
    }

    /// As [`Mapping::populate`]; on a kernel before 5.14, which cannot, does `otherwise`.
    pub(crate) fn populate_or(&self, otherwise: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match self.populate() {
            Err(error) if is_unknown(&error) => otherwise(),
            other => other,
        }
    }

    /// Makes every page present by reading and writing a byte of it. For anonymous ordinary pages
    /// only: with others a shortage would be a SIGBUS.
    pub(crate) fn touch(&self, page: usize) {
        for offset in (0..self.len).step_by(page.max(1)) {
            // SAFETY: `offset < len`.
            let at = unsafe { self.base.add(offset) };
            // SAFETY: mapped readable and writable; not handed out yet, so nobody else writes.
            let byte = unsafe { at.read_volatile() };
            // SAFETY: as above.
            unsafe { at.write_volatile(byte) };
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let base = self.base.as_ptr();
        let result = match self.owner {
            // SAFETY: ours, whole, and unmapped once.
            Owner::Kernel => unsafe { rustix::mm::munmap(base.cast(), self.len) },
            Owner::Allocator(layout) => {
                // SAFETY: allocated there with this very layout, freed once.
                unsafe { hugepage_rs::dealloc(base, layout) };
                Ok(())
            }
        };
        if let Err(error) = result {
            tracing::error!(?base, len = self.len, %error, "memory could not be unmapped: leaked");
        }
    }
}

impl Protection {
    const fn flags(self) -> ProtFlags {
        match self {
            Self::ReadWrite => ProtFlags::READ.union(ProtFlags::WRITE),
            Self::Read => ProtFlags::READ,
            Self::None => ProtFlags::empty(),
        }
    }
}

/// Whether the kernel does not know what it was asked.
fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_aligned_as_asked() {
        for align in [1, 4096, 2 << 20, 64 << 20, 1 << 30] {
            let mapping = Mapping::anonymous(12288, align).unwrap();
            assert_eq!(mapping.base().addr().get() % align, 0, "{align}");
            assert_eq!(mapping.last().addr().get() - mapping.base().addr().get(), 12287);
        }
    }

    #[test]
    fn many_threads_find_aligned_places_at_once_and_none_is_anothers() {
        let map = |mark: u8| {
            let mapped: Vec<_> = (0..50)
                .map(|_| {
                    let mapping = Mapping::anonymous(2 << 20, 4 << 20).unwrap();
                    // SAFETY: mapped writable, and ours.
                    unsafe { mapping.base().write(mark) };
                    mapping
                })
                .collect();
            // SAFETY: mapped readable, and ours.
            mapped.iter().all(|mapping| unsafe { mapping.base().read() } == mark)
        };
        for _ in 0..20 {
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..8).map(|mark| scope.spawn(move || map(mark))).collect();
                assert!(workers.into_iter().all(|worker| worker.join().unwrap()));
            });
        }
    }

    #[test]
    fn touching_changes_no_byte() {
        let mapping = Mapping::anonymous(3 * 4096, 1).unwrap();
        mapping.touch(4096);
        mapping.populate_or(|| Ok(())).unwrap();
        // SAFETY: mapped readable.
        assert_eq!(unsafe { mapping.last().read_volatile() }, 0);
    }

    #[test]
    fn populating_pages_that_there_are_not_is_an_error_and_no_signal() {
        const TEST: &str = "populating_pages_that_there_are_not_is_an_error_and_no_signal";
        let size = crate::PageSize::OneGiB;
        let (len, free) = (size.bytes(), crate::Sysfs::system().available_hugepages(size, None));
        let (Some(0), Ok(file)) = (free, crate::memfd::create("none", len, Some(size))) else {
            eprintln!("SKIP {TEST}: 1G pages: {free:?} free");
            return;
        };
        let (rights, flags) =
            (Protection::ReadWrite.flags(), MapFlags::SHARED | MapFlags::NORESERVE);
        // Not reserved, as when a node or a control group is short of what the machine promised.
        // SAFETY: the kernel puts it where nothing is.
        let at = unsafe { rustix::mm::mmap(ptr::null_mut(), len, rights, flags, &file, 0) };
        let base = NonNull::new(at.unwrap().cast()).unwrap();
        let mapping = Mapping { base, len, owner: Owner::Kernel };
        assert_eq!(mapping.populate().unwrap_err().raw_os_error(), Some(libc::EFAULT));
        let otherwise = mapping.populate_or(|| panic!("this kernel knows how"));
        assert_eq!(otherwise.unwrap_err().raw_os_error(), Some(libc::EFAULT));
    }

    #[test]
    fn an_impossible_mapping_is_an_error() {
        assert!(Mapping::anonymous(usize::MAX & !4095, 4096).is_err());
        assert!(Mapping::anonymous(4096, 1 << 62).is_err());
    }
}
