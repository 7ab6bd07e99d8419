//! dma-bufs made on the spot: of a memory file (udmabuf), from a dma-heap, of a PCI BAR.

use std::{
    fs,
    io::ErrorKind,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use mempool::{Backing, Provider, ProviderError, RegionRequest, format_bytes};
use rustix::fs::{Mode, OFlags};

use super::{Buffer, buffer::Origin, sys};
use crate::{P2pDma, PageSize, Sysfs, host, memfd, shortage::Want};

const UDMABUF: &str = "/dev/udmabuf";
const HEAPS: &str = "/dev/dma_heap";
/// The largest udmabuf, in MiB: 64 by default, or without limit (2147483647) in later kernels.
const UDMABUF_LIMIT: &str = "/sys/module/udmabuf/parameters/size_limit_mb";

impl Buffer {
    /// Makes one of a memory file, which is kept: NICs that take no dma-buf take the file. `bytes` are rounded
    /// up to pages: ordinary ones, or hugepages of a size.
    ///
    /// # Errors
    /// No udmabuf in this kernel, no permission, more than it allows, or not enough memory.
    pub fn udmabuf(bytes: usize, pages: Option<PageSize>) -> Result<Self, ProviderError> {
        let name = "dmabuf:udmabuf";
        let page = pages.map_or(4096, PageSize::bytes);
        let len = whole(name, bytes, page)?;
        let device =
            open(name, Path::new(UDMABUF), || "load it: modprobe udmabuf (CONFIG_UDMABUF)".into())?;
        if let Some(limit) = udmabuf_limit()
            && len as u64 > limit
        {
            let (available, wanted) = (limit, (len as u64).div_ceil(1 << 20));
            let fix = format!("as root: echo {wanted} > {UDMABUF_LIMIT}");
            return Err(ProviderError::Exhausted {
                provider: name.into(),
                needed: len as u64,
                available,
                fix,
            });
        }
        let memory = memory_file(name, len, pages)?;
        let fd = sys::udmabuf(device.as_fd(), memory.as_fd(), len as u64).map_err(|source| {
            let what = format!("making a udmabuf of {}", format_bytes(len as u64));
            let hint =
                "is it more than /sys/module/udmabuf/parameters/size_limit_mb allows?".into();
            ProviderError::System { provider: name.into(), what, source, hint }
        })?;
        let memory = Some(Arc::new(memory));
        Self::adopt(
            name,
            "the udmabuf",
            fd,
            Origin { memory, page: Some(page), ..Origin::default() },
        )
    }

    /// Has one allocated by a dma-heap: `system`, or another in `/dev/dma_heap`. No NIC on VFIO takes such
    /// memory: it is for copies, and for devices that import dma-bufs.
    ///
    /// # Errors
    /// No such heap, no permission, or not enough memory.
    pub fn heap(heap: &str, bytes: usize) -> Result<Self, ProviderError> {
        let name = format!("dmabuf:heap={heap}");
        let bad = |why: String| ProviderError::BadRequest { provider: name.clone(), why };
        if heap.is_empty() || heap.contains(|c: char| c == '/' || c.is_whitespace()) {
            return Err(bad(format!("'{heap}' is no name of a heap; {}", heaps())));
        }
        let len = whole(&name, bytes, 4096)?;
        let device = open(&name, &Path::new(HEAPS).join(heap), heaps)?;
        host::check_room(&name, &Sysfs::system(), len)?;
        let fd =
            sys::allocate(device.as_fd(), len as u64).map_err(|source| ProviderError::System {
                provider: name.clone(),
                what: format!("allocating {} from it", format_bytes(len as u64)),
                source,
                hint: "ask for less, or free memory".into(),
            })?;
        Self::adopt(&name, "what the heap made", fd, Origin::default())
    }

    /// Exports `bytes` of a BAR, or all that is free of it: what iommufd takes to let another device's DMA
    /// reach it. The kernel revokes it when the BAR's device is reset or closed, so the buffer holds it.
    ///
    /// # Errors
    /// So much is not free, or the kernel exports none.
    pub fn bar(bar: &P2pDma, bytes: Option<usize>) -> Result<Self, ProviderError> {
        let info = bar.info();
        let name = format!("dmabuf:{}", info.name.trim_start_matches("p2p:"));
        let all = info.available.and_then(|bytes| usize::try_from(bytes).ok());
        let len = bytes.or(all).unwrap_or_default();
        let region = bar.alloc(&RegionRequest { name: "dma-buf".into(), len, align: 4096 })?;
        let Backing::Bar { export: Some(export), .. } = region.backing() else {
            let why =
                "the kernel exports no dma-buf of it (CONFIG_VFIO_PCI_DMABUF, Linux 6.19)".into();
            return Err(ProviderError::BadRequest { provider: name, why });
        };
        let fd = export.try_clone().map_err(|source| ProviderError::System {
            provider: name.clone(),
            what: "another descriptor of the dma-buf".into(),
            source,
            hint: String::new(),
        })?;
        Self::adopt(
            &name,
            "the BAR's dma-buf",
            fd,
            Origin { bar: Some(region), ..Origin::default() },
        )
    }
}

/// `bytes`, rounded up to whole pages.
fn whole(name: &str, bytes: usize, page: usize) -> Result<usize, ProviderError> {
    let request = RegionRequest { name: "dma-buf".into(), len: bytes, align: page };
    crate::request::check(name, &request, page)
}

fn open(name: &str, path: &Path, missing: impl Fn() -> String) -> Result<OwnedFd, ProviderError> {
    let opened = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    opened.map_err(|errno| {
        let source = std::io::Error::from(errno);
        let hint = match source.kind() {
            ErrorKind::NotFound => missing(),
            ErrorKind::PermissionDenied => format!("as root: chown USER {}", path.display()),
            _ => String::new(),
        };
        let what = path.display().to_string();
        ProviderError::System { provider: name.to_owned(), what, source, hint }
    })
}

/// The heaps there are, in words.
fn heaps() -> String {
    let entries = fs::read_dir(HEAPS).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    match names.is_empty() {
        true => "this kernel has no dma-heaps (CONFIG_DMABUF_HEAPS_SYSTEM)".into(),
        false => format!("there are: {}", names.join(", ")),
    }
}

/// Bytes of the largest udmabuf, where the kernel says so.
fn udmabuf_limit() -> Option<u64> {
    let text = fs::read_to_string(UDMABUF_LIMIT).ok()?;
    text.trim().parse::<u64>().ok()?.checked_mul(1 << 20)
}

/// A sealed memory file that has all its pages.
fn memory_file(name: &str, len: usize, pages: Option<PageSize>) -> Result<OwnedFd, ProviderError> {
    let sysfs = Sysfs::system();
    if pages.is_none() {
        host::check_room(name, &sysfs, len)?;
    }
    let made = || {
        let step = |what| move |error: std::io::Error| (what, error);
        let file = memfd::create("dma-buf", len, pages).map_err(step("memfd_create"))?;
        memfd::take_pages(&file, len).map_err(step("taking pages"))?;
        memfd::seal(&file).map_err(step("sealing"))?;
        Ok(file)
    };
    made().map_err(|refusal| match pages {
        Some(size) => {
            Want { provider: name, sysfs: &sysfs, size, node: None }.explain(len, refusal)
        }
        None => host::refused(name, len, refusal),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_made_is_refused_before_anything_is_opened() {
        let why = Buffer::udmabuf(0, None).unwrap_err().to_string();
        assert!(why.starts_with("dmabuf:udmabuf: a region of 0 bytes"), "{why}");
        let why = Buffer::heap("../mem", 4096).unwrap_err().to_string();
        assert!(why.starts_with("dmabuf:heap=../mem: '../mem' is no name of a heap; "), "{why}");
        assert!(Buffer::udmabuf(usize::MAX, None).is_err());
    }

    #[test]
    fn what_is_not_here_says_what_is() {
        let why = Buffer::heap("no-such-heap", 4096).unwrap_err().to_string();
        assert!(why.contains("/dev/dma_heap/no-such-heap: No such file"), "{why}");
        assert!(why.contains("there are: ") || why.contains("has no dma-heaps"), "{why}");
        if !Path::new(UDMABUF).exists() {
            let why = Buffer::udmabuf(4096, None).unwrap_err().to_string();
            assert!(why.ends_with("load it: modprobe udmabuf (CONFIG_UDMABUF)"), "{why}");
        }
    }
}
