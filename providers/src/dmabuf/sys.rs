//! The requests that dma-bufs and their makers understand (`<linux/dma-buf.h>`, `<linux/udmabuf.h>`,
//! `<linux/dma-heap.h>`), one thin function each. Knows no policy, and no lifetime but a descriptor's.
#![allow(unsafe_code, reason = "ioctls that no crate wraps")]

use std::{
    ffi::c_int,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

/// `_IOW`, and with `_IOR` also `_IOWR`: the directions as `<asm-generic/ioctl.h>` has them.
const WRITE: libc::Ioctl = 1;
const READ: libc::Ioctl = 2;

const fn request<T>(direction: libc::Ioctl, kind: u8, number: libc::Ioctl) -> libc::Ioctl {
    const { assert!(size_of::<T>() < 1 << 14, "the size has 14 bits") };
    (direction << 30)
        | ((size_of::<T>() as libc::Ioctl) << 16)
        | ((kind as libc::Ioctl) << 8)
        | number
}

const SYNC: libc::Ioctl = request::<u64>(WRITE, b'b', 0);
const UDMABUF_CREATE: libc::Ioctl = request::<UdmabufCreate>(WRITE, b'u', 0x42);
const HEAP_ALLOC: libc::Ioctl = request::<HeapAllocation>(READ | WRITE, b'H', 0);

/// `UDMABUF_FLAGS_CLOEXEC`.
const CLOSE_ON_EXEC: u32 = 1;
/// `DMA_BUF_SYNC_READ`, `DMA_BUF_SYNC_WRITE`, `DMA_BUF_SYNC_END`; a start is none of them.
const SYNC_READ: u64 = 1;
const SYNC_WRITE: u64 = 2;
const SYNC_END: u64 = 4;
/// A signal may interrupt a SYNC, which then wants to be asked again.
const ATTEMPTS: usize = 100;

/// `struct udmabuf_create`.
#[repr(C)]
struct UdmabufCreate {
    memfd: u32,
    flags: u32,
    offset: u64,
    size: u64,
}

const _: () = assert!(size_of::<UdmabufCreate>() == 24);

/// `struct dma_heap_allocation_data`.
#[repr(C)]
struct HeapAllocation {
    len: u64,
    fd: u32,
    fd_flags: u32,
    heap_flags: u64,
}

const _: () = assert!(size_of::<HeapAllocation>() == 24);

/// What the CPU is about to do with a dma-buf's bytes, or has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    /// Read them.
    Read,
    /// Write them.
    Write,
}

/// Makes a request whose argument is a structure.
///
/// # Safety
/// `T` is the structure that the request takes.
unsafe fn ioctl<T>(fd: BorrowedFd<'_>, request: libc::Ioctl, arg: &mut T) -> io::Result<c_int> {
    // SAFETY: `arg` is a whole, exclusive `T`; that it is the right one is the caller's promise.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, ptr::from_mut(arg)) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A descriptor of our own for what a number stands for in this process.
pub(super) fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: copies a descriptor, or says that the number is none; touches nothing of what is behind it.
    let fd = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel made it for us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A dma-buf of the first `size` bytes of a memory file.
pub(super) fn udmabuf(
    device: BorrowedFd<'_>,
    memory: BorrowedFd<'_>,
    size: u64,
) -> io::Result<OwnedFd> {
    let memfd = memory.as_raw_fd().cast_unsigned();
    let mut create = UdmabufCreate { memfd, flags: CLOSE_ON_EXEC, offset: 0, size };
    // SAFETY: the structure that this request takes.
    let fd = unsafe { ioctl(device, UDMABUF_CREATE, &mut create) }?;
    // SAFETY: the kernel made it for us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A dma-buf of `len` bytes from a heap.
pub(super) fn allocate(heap: BorrowedFd<'_>, len: u64) -> io::Result<OwnedFd> {
    let fd_flags = (libc::O_RDWR | libc::O_CLOEXEC).cast_unsigned();
    let mut allocation = HeapAllocation { len, fd: 0, fd_flags, heap_flags: 0 };
    // SAFETY: the structure that this request takes.
    unsafe { ioctl(heap, HEAP_ALLOC, &mut allocation) }?;
    // SAFETY: the kernel made it for us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(allocation.fd.cast_signed()) })
}

/// The CPU begins to touch a dma-buf: what devices wrote becomes visible (`DMA_BUF_IOCTL_SYNC`).
pub(super) fn begin(buffer: BorrowedFd<'_>, touch: Touch) -> io::Result<()> {
    sync(buffer, touch.flags())
}

/// The CPU is done: what it wrote becomes visible to devices.
pub(super) fn end(buffer: BorrowedFd<'_>, touch: Touch) -> io::Result<()> {
    sync(buffer, touch.flags() | SYNC_END)
}

impl Touch {
    const fn flags(self) -> u64 {
        match self {
            Self::Read => SYNC_READ,
            Self::Write => SYNC_READ | SYNC_WRITE,
        }
    }
}

fn sync(buffer: BorrowedFd<'_>, flags: u64) -> io::Result<()> {
    let mut result = Ok(());
    for _ in 0..ATTEMPTS {
        let mut flags = flags;
        // SAFETY: the structure of this request is one number of 64 bits.
        result = unsafe { ioctl(buffer, SYNC, &mut flags) }.map(drop);
        match &result {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {}
            _ => return result,
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_numbers_of_the_kernels_headers() {
        assert_eq!(SYNC, 0x4008_6200);
        assert_eq!(UDMABUF_CREATE, 0x4018_7542);
        assert_eq!(HEAP_ALLOC, 0xc018_4800);
    }

    #[test]
    fn what_is_no_dma_buf_knows_no_sync() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let fd = std::os::fd::AsFd::as_fd(&file);
        let error = begin(fd, Touch::Read).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
        assert!(end(fd, Touch::Write).is_err());
    }

    #[test]
    fn a_number_that_stands_for_nothing_is_an_error() {
        assert_eq!(duplicate(987_654).unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert!(duplicate(-1).is_err());
    }
}
