//! One process: what each exporter's buffers are, and what is refused.
#![allow(unsafe_code, reason = "asks a dma-heap for a dma-buf that may only be read")]

use std::{
    fs,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use mempool::{Backing, Cpu, CpuAccess, Device, Error, Peer, Pool, Provider, ProviderError};
use providers::{
    DmaBuf, PageSize,
    conformance::{self, Subject},
    dmabuf::{Buffer, Offer},
};

use crate::{MIB, ask, has_heap, has_hugepages, has_udmabuf, imported, must, udmabuf};

#[test]
fn a_udmabuf_conforms() {
    if has_udmabuf("a_udmabuf_conforms") {
        conformance::run(&|| Subject::new(udmabuf(MIB)));
    }
}

#[test]
fn a_udmabuf_of_hugepages_conforms() {
    let test = "a_udmabuf_of_hugepages_conforms";
    if has_udmabuf(test) && has_hugepages(test, 16) {
        conformance::run(&|| Subject::new(must(DmaBuf::udmabuf(16 * MIB, Some(PageSize::TwoMiB)))));
    }
}

#[test]
fn an_imported_udmabuf_conforms() {
    if has_udmabuf("an_imported_udmabuf_conforms") {
        conformance::run(&|| Subject::new(imported(udmabuf(MIB))));
    }
}

#[test]
fn a_udmabuf_without_the_cpu_conforms() {
    if has_udmabuf("a_udmabuf_without_the_cpu_conforms") {
        conformance::run(&|| Subject::new(udmabuf(MIB).without_cpu()));
    }
}

#[test]
fn a_dma_heap_conforms() {
    if has_heap("a_dma_heap_conforms") {
        conformance::run(&|| Subject::new(must(DmaBuf::heap("system", MIB))));
    }
}

#[test]
fn each_exporter_is_known_by_name_size_and_what_the_cpu_may_do() {
    let test = "each_exporter_is_known_by_name_size_and_what_the_cpu_may_do";
    if !has_udmabuf(test) || !has_heap(test) {
        return;
    }
    // Rounded up to pages.
    let made = udmabuf(MIB - 1);
    let buffer = made.buffer();
    assert_eq!((buffer.identity().exporter.as_str(), buffer.bytes()), ("udmabuf", MIB as u64));
    assert!(buffer.cpu_mapping().is_ok() && buffer.memory().is_some());
    assert_eq!(made.info().cpu_access, CpuAccess::ReadWrite);
    let region = must(ask(&made, 1));
    let Backing::DmaBuf { offset: 0, memory: Some(_), .. } = region.backing() else {
        panic!("{:?}", region.backing());
    };
    let heap = must(DmaBuf::heap("system", MIB));
    let buffer = heap.buffer();
    assert_eq!(buffer.bytes(), MIB as u64);
    assert!(buffer.cpu_mapping().is_ok() && buffer.memory().is_none());
    eprintln!("{test}: a heap's exporter is '{}'", buffer.identity().exporter);
    let other = imported(heap);
    assert_eq!(other.info().cpu_access, CpuAccess::Volatile);
    let refused = Pool::<Cpu>::builder().slots(4).stride(2048).memory(&other).build();
    assert!(matches!(refused, Err(Error::WrongAccess { .. })), "others may write: no slices");
    drop(Pool::<Peer>::builder().slots(4).stride(2048).memory(&other).build().unwrap());
    drop(Pool::<Device>::builder().slots(4).stride(2048).memory(&other).build().unwrap());
}

#[test]
fn the_same_dma_buf_is_imported_once() {
    if !has_udmabuf("the_same_dma_buf_is_imported_once") {
        return;
    }
    let first = udmabuf(MIB);
    let number = first.buffer().fd().as_raw_fd();
    let error = DmaBuf::from_number(number).unwrap_err().to_string();
    let says = format!(
        "dmabuf:fd={number}: fd {number} is a dma-buf that this process has already, as dmabuf:udm"
    );
    assert!(error.starts_with(&says), "{error}");
    let kept = first.buffer().fd().try_clone().unwrap();
    let region = must(ask(&first, 1));
    drop(first);
    let error = DmaBuf::from_number(kept.as_raw_fd()).unwrap_err().to_string();
    assert!(error.contains("this process has already"), "a region still uses it: {error}");
    drop(region);
    drop(must(DmaBuf::from_number(kept.as_raw_fd())));
}

#[test]
fn more_than_there_is_says_how_much_that_is() {
    if !has_udmabuf("more_than_there_is_says_how_much_that_is") {
        return;
    }
    let pool = Pool::<Device>::builder().slots(2048).stride(2048).memory(&udmabuf(MIB)).build();
    let error = pool.unwrap_err().to_string();
    assert!(error.contains("dmabuf:udmabuf: needs 4 MiB, but only 1 MiB can be had"), "{error}");
    let limit = fs::read_to_string("/sys/module/udmabuf/parameters/size_limit_mb");
    let limit: usize = limit.expect("a parameter of udmabuf").trim().parse().unwrap();
    let error = DmaBuf::udmabuf((limit + 1) * MIB, None).unwrap_err().to_string();
    assert!(error.contains(&format!("can be had; as root: echo {} >", limit + 1)), "{error}");
}

/// `struct dma_heap_allocation_data` of `<linux/dma-heap.h>`.
#[repr(C)]
struct HeapAllocation {
    len: u64,
    fd: u32,
    fd_flags: u32,
    heap_flags: u64,
}

#[test]
fn a_dma_buf_that_may_only_be_read_is_refused() {
    if !has_heap("a_dma_buf_that_may_only_be_read_is_refused") {
        return;
    }
    let heap = fs::File::open("/dev/dma_heap/system").unwrap();
    let fd_flags = (libc::O_RDONLY | libc::O_CLOEXEC).cast_unsigned();
    let mut allocation = HeapAllocation { len: 4096, fd: 0, fd_flags, heap_flags: 0 };
    // SAFETY: `DMA_HEAP_IOCTL_ALLOC` takes this structure.
    let done = unsafe { libc::ioctl(heap.as_raw_fd(), 0xc018_4800, &raw mut allocation) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: made for us just now.
    let fd = unsafe { OwnedFd::from_raw_fd(allocation.fd.cast_signed()) };
    let error = Buffer::from_fd(fd).unwrap_err().to_string();
    assert!(
        error.contains("is open for reading only (O_RDONLY), and payloads are written"),
        "{error}"
    );
}

#[test]
fn who_is_alone_with_a_buffer_stays_so() {
    if !has_udmabuf("who_is_alone_with_a_buffer_stays_so") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let alone = udmabuf(MIB);
    drop(must(ask(&alone, 1)));
    let error = alone.offer(&folder.path().join("a")).unwrap_err().to_string();
    assert!(error.contains("offer it to others before the first pool"), "{error}");
    let shared = udmabuf(MIB);
    let offer = must(shared.offer(&folder.path().join("b")));
    assert_eq!(must(ask(&shared, 1)).cpu_access(), CpuAccess::Volatile);
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(offer.path()).unwrap());
    assert_eq!(mode & 0o777, 0o600, "other users' processes could connect");
    let error = must_fail(udmabuf(MIB).offer(offer.path()));
    assert!(error.contains("another process offers there"), "{error}");
    let path = offer.path().to_owned();
    drop(offer);
    assert!(!path.exists(), "the socket goes with its offer");
    fs::write(&path, "somebody's").unwrap();
    must_fail(udmabuf(MIB).offer(&path));
    assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's", "no file of others is replaced");
}

fn must_fail(offer: Result<Offer, ProviderError>) -> String {
    offer.unwrap_err().to_string()
}
