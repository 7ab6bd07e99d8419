//! VFIO on real functions (an emulator's will do): those that `MEMWIRE_PCI` names, bound to vfio-pci,
//! as in `MEMWIRE_PCI=0000:01:00.0,0000:05:00.0`. Needs an 82574L and, for some, QEMU's ivshmem-plain.
#![allow(unsafe_code, reason = "memory is mapped for devices")]

mod bars;
mod device;
mod mapping;
mod rights;
mod support;

use std::{
    os::fd::OwnedFd,
    ptr::{self, NonNull},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    mm::{MapFlags, ProtFlags},
};
use vfio::{Access, Error, Iommu};

/// Device status (82574 datasheet §10.2.2.2).
pub(crate) const STATUS: u32 = 0x0008;
pub(crate) const MIB: usize = 1 << 20;

/// Memory of ours to be mapped, for as long as the process lives.
pub(crate) fn memory(len: usize) -> NonNull<u8> {
    let (rights, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: a new mapping, where the kernel likes.
    let base = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), len, rights, flags) };
    NonNull::new(base.expect("memory").cast()).expect("memory")
}

pub(crate) fn map(iommu: &Iommu, base: NonNull<u8>, len: usize) -> Result<u64, Error> {
    // SAFETY: memory that stays for the life of the process, and of which nobody holds a reference.
    unsafe { iommu.map(base, len, Access::ReadWrite) }
}

pub(crate) fn is_readable_soon(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let limit = Timespec { tv_sec: 5, tv_nsec: 0 };
    poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready == 1)
}
