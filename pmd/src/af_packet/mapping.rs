//! Memory that the kernel and this process share: a ring. Every access is checked against its
//! length; who may touch what when is the business of whoever keeps the ring's status words.
#![allow(unsafe_code, reason = "maps memory that the kernel writes, and copies from and to it")]

use std::{io, marker::PhantomData, os::fd::BorrowedFd, ptr::NonNull, sync::atomic::AtomicU32};

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// One shared mapping; unmapped when dropped.
pub(super) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory is this object's alone in this process; the kernel does not care which thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps the rings of a packet socket.
    pub(super) fn of(socket: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else lies there.
        let base = unsafe { mmap(std::ptr::null_mut(), len, protection, flags, socket, 0) }?;
        Self::owning(base.cast(), len)
    }

    /// Memory that no kernel writes: for tests of what walks rings.
    #[cfg_attr(not(test), expect(dead_code, reason = "the stand-in for a socket's ring"))]
    pub(super) fn anonymous(len: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: as in `of`.
        let base =
            unsafe { mmap_anonymous(std::ptr::null_mut(), len, protection, MapFlags::PRIVATE) }?;
        Self::owning(base.cast(), len)
    }

    fn owning(base: *mut u8, len: usize) -> io::Result<Self> {
        let base = NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, len })
    }

    #[inline]
    fn at(&self, at: usize, len: usize) -> NonNull<u8> {
        // Kept small: several checks a frame.
        if at > self.len || len > self.len - at {
            leaves(at, len);
        }
        // SAFETY: `at <= len`, inside or one past the mapping.
        unsafe { self.base.add(at) }
    }

    /// The status word at `at`.
    ///
    /// # Panics
    /// If it is not aligned or not inside.
    #[inline]
    pub(super) fn status(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4), "status word at {at}");
        let word = self.at(at, 4).cast::<AtomicU32>();
        // SAFETY: inside the mapping, aligned (the base is a page), lives as long as `self`; the
        // kernel writes it as one word.
        unsafe { word.as_ref() }
    }

    /// The `len` bytes from `at` on.
    ///
    /// # Panics
    /// If they are not all inside.
    #[inline]
    pub(super) fn span(&self, at: usize, len: usize) -> Span<'_> {
        Span { base: self.at(at, len), len, ring: PhantomData }
    }

    /// Writes `value` at `at`.
    #[inline]
    pub(super) fn write<T: IntoBytes + Immutable>(&self, at: usize, value: &T) {
        self.copy_in(at, value.as_bytes());
    }

    /// Copies bytes in, from `at` on.
    #[inline]
    pub(super) fn copy_in(&self, at: usize, from: &[u8]) {
        let to = self.at(at, from.len());
        // SAFETY: inside the mapping; `from` is memory of its own. No reference to the mapping's
        // bytes exists, and the kernel does not read them before the status word says so.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(from).cast(), from.len()) };
    }

    /// Moves `len` bytes within the ring; the two spans do not overlap.
    pub(super) fn copy_within(&self, from: usize, to: usize, len: usize) {
        assert!(from.abs_diff(to) >= len, "{len} B from {from} to {to} overlap");
        let (from, to) = (self.at(from, len), self.at(to, len));
        // SAFETY: both inside the mapping, apart by `len` at least; both are ours, as above.
        unsafe { from.copy_to_nonoverlapping(to, len) };
    }
}

#[cold]
fn leaves(at: usize, len: usize) -> ! {
    panic!("{len} B at {at} leave the ring");
}

/// A part of a mapping, to be read. Whoever has checked what he reads against its length pays for no other check.
#[derive(Clone, Copy)]
pub(super) struct Span<'a> {
    base: NonNull<u8>,
    len: usize,
    ring: PhantomData<&'a Mapping>,
}

impl Span<'_> {
    #[inline]
    pub(super) fn len(self) -> usize {
        self.len
    }

    #[inline]
    fn at(self, at: usize, len: usize) -> NonNull<u8> {
        if at > self.len || len > self.len - at {
            leaves(at, len);
        }
        // SAFETY: `at <= len`, inside or one past the span, which is inside the mapping.
        unsafe { self.base.add(at) }
    }

    /// Our own copy of what stands at `at`, read once.
    #[inline]
    pub(super) fn read<T: FromBytes>(self, at: usize) -> T {
        let from = self.at(at, size_of::<T>()).cast::<Unaligned<T>>();
        // SAFETY: inside the mapping, of alignment 1, and any bytes are a `T`.
        unsafe { from.read_volatile() }.0
    }

    /// Copies bytes out, from `at` on.
    #[inline]
    pub(super) fn copy_out(self, at: usize, to: &mut [u8]) {
        let from = self.at(at, to.len());
        // SAFETY: inside the mapping; `to` is memory of its own. The kernel does not write what it
        // has handed over (the caller read the status word).
        unsafe { from.copy_to_nonoverlapping(NonNull::from(&mut *to).cast(), to.len()) };
    }
}

/// A value at any address.
#[repr(C, packed)]
struct Unaligned<T>(T);

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in the constructor with this length, and unmapped once; no reference into
        // it outlives `self`.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "a ring of {} B stays mapped", self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_at_any_offset() {
        let ring = Mapping::anonymous(4096).unwrap();
        ring.write(13, &0x1122_3344_5566_7788_u64);
        let all = ring.span(0, 4096);
        assert_eq!(all.read::<u64>(13), 0x1122_3344_5566_7788);
        ring.copy_within(13, 100, 8);
        assert_eq!(all.read::<u64>(100), 0x1122_3344_5566_7788);
        let mut bytes = [0; 4];
        ring.span(100, 8).copy_out(4, &mut bytes);
        assert_eq!(bytes, 0x1122_3344_u32.to_ne_bytes());
    }

    #[test]
    #[should_panic(expected = "leave the ring")]
    fn an_access_beyond_the_end_panics() {
        let ring = Mapping::anonymous(4096).unwrap();
        let _ = ring.span(0, 4096).read::<u64>(4089);
    }

    #[test]
    #[should_panic(expected = "leave the ring")]
    fn an_access_beyond_the_end_of_a_span_panics() {
        let ring = Mapping::anonymous(4096).unwrap();
        ring.span(0, 64).copy_out(60, &mut [0; 5]);
    }

    #[test]
    #[should_panic(expected = "leave the ring")]
    fn a_span_beyond_the_end_panics() {
        let _ = Mapping::anonymous(4096).unwrap().span(4000, 97);
    }
}
