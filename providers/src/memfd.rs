//! Memory files: made, sized, sealed. Knows no mapping.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{FallocateFlags, MemfdFlags, SealFlags},
    io::Errno,
};

use crate::PageSize;

/// Name of the file in `/proc/self/maps`: at most 249 bytes, without zeros.
fn file_name(name: &str) -> String {
    let clean = name.chars().filter(|c| !c.is_control() && *c != '/').take(48);
    format!("memwire:{}", clean.collect::<String>())
}

/// Makes a memory file of `len` bytes, of hugepages or ordinary ones. It holds no page yet.
pub(crate) fn create(name: &str, len: usize, pages: Option<PageSize>) -> io::Result<OwnedFd> {
    let kind = pages.map_or(MemfdFlags::empty(), |size| MemfdFlags::HUGETLB | size.memfd_flag());
    let flags = kind | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let name = file_name(name);
    let file = match rustix::fs::memfd_create(&*name, flags | MemfdFlags::NOEXEC_SEAL) {
        // Before Linux 6.3.
        Err(Errno::INVAL) => rustix::fs::memfd_create(&*name, flags)?,
        other => other?,
    };
    rustix::fs::ftruncate(&file, len as u64)?;
    Ok(file)
}

/// Fixes the size for good: whoever is given the file can neither cut pages off under us (a SIGBUS)
/// nor take more.
pub(crate) fn seal(file: impl AsFd) -> io::Result<()> {
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    Ok(rustix::fs::fcntl_add_seals(file, seals)?)
}

/// Takes all pages of the file, without touching a mapping: a shortage is ENOSPC. For kernels that
/// cannot populate a mapping (before 5.14). Follows the NUMA policy of a shared mapping.
pub(crate) fn take_pages(file: impl AsFd, len: usize) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len as u64)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_keeps_its_size() {
        let file = create("a/b\0c", 8192, None).unwrap();
        take_pages(&file, 8192).unwrap();
        seal(&file).unwrap();
        assert!(rustix::fs::ftruncate(&file, 4096).is_err());
        assert!(rustix::fs::ftruncate(&file, 16384).is_err());
        assert!(rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE).is_err());
    }

    #[test]
    fn names_are_cut_to_what_the_kernel_takes() {
        assert_eq!(file_name("r/x\0 0"), "memwire:rx 0");
        assert!(create(&"é".repeat(1000), 0, None).is_ok());
    }

    #[test]
    fn taking_hugepages_that_there_are_not_is_an_error() {
        let size = PageSize::OneGiB;
        let free = crate::Sysfs::system().available_hugepages(size, None);
        let file = create("short", size.bytes(), Some(size));
        let (Some(0), Ok(file)) = (free, file) else {
            eprintln!("SKIP taking_hugepages_that_there_are_not_is_an_error: 1G: {free:?} free");
            return;
        };
        let error = take_pages(&file, size.bytes()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    }
}
