//! dma-bufs of the kernel's own exporters, in one process and in two: needs `/dev/udmabuf` and a dma-heap, as the
//! testbed's guest has them, and says SKIP elsewhere. Counts of descriptors are exact with `--test-threads=1`.

mod alone;
mod bar;
mod processes;

use std::{path::Path, time::Duration};

use mempool::{Provider, ProviderError, Region, RegionRequest};
use providers::{DmaBuf, PageSize, Sysfs, dmabuf::Buffer};

pub(crate) const MIB: usize = 1 << 20;
/// Nothing here takes longer, under emulation.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Whether there is such a device; says SKIP if not.
pub(crate) fn has(test: &str, path: &str) -> bool {
    let is_here = Path::new(path).exists();
    if !is_here {
        eprintln!("SKIP {test}: {path} is not here");
    }
    is_here
}

pub(crate) fn has_udmabuf(test: &str) -> bool {
    has(test, "/dev/udmabuf")
}

pub(crate) fn has_heap(test: &str) -> bool {
    has(test, "/dev/dma_heap/system")
}

pub(crate) fn has_hugepages(test: &str, pages: u64) -> bool {
    let free = Sysfs::system().available_hugepages(PageSize::TwoMiB, None).unwrap_or(0);
    if free < pages {
        eprintln!("SKIP {test}: {free} hugepages of 2M can be had, it needs {pages}");
    }
    free >= pages
}

pub(crate) fn must<T>(made: Result<T, ProviderError>) -> T {
    made.unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn udmabuf(bytes: usize) -> DmaBuf {
    must(DmaBuf::udmabuf(bytes, None))
}

pub(crate) fn ask(provider: &DmaBuf, len: usize) -> Result<Region, ProviderError> {
    provider.alloc(&RegionRequest { name: "rx".into(), len, align: 64 })
}

/// As if another library had made it: nothing is known but the descriptor.
pub(crate) fn imported(provider: DmaBuf) -> DmaBuf {
    let fd = provider.buffer().fd().try_clone().unwrap();
    drop(provider);
    DmaBuf::new(must(Buffer::from_fd(fd)))
}
