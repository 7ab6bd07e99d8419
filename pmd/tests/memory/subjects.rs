//! The list of what is tested. One entry a provider; a new one is added here, and nowhere else.

use providers::{
    Fake, Host, Hugepages, P2pDma, P2pMem, PageSize, Private, Sysfs as Memory,
    conformance::Subject, p2pdma::BarOptions,
};
use vfio::{Iommu, Kind, pci::Sysfs};

use crate::bench::Bench;

/// Makes fresh subjects.
pub(crate) type Make = Box<dyn Fn() -> Subject>;

/// A kind of memory.
pub(crate) struct Entry {
    /// What it is called in the list.
    pub(crate) name: &'static str,
    /// How it is had here, or why not.
    pub(crate) open: fn(&Bench) -> Result<Make, String>,
    /// Whether type1, and iommufd, can map it.
    pub(crate) maps: [bool; 2],
}

pub(crate) const ALL: &[Entry] = &[
    Entry {
        name: "hugepages of 2M",
        open: |_| hugepages(PageSize::TwoMiB, 16),
        maps: [true, true],
    },
    Entry { name: "hugepages of 1G", open: |_| hugepages(PageSize::OneGiB, 4), maps: [true, true] },
    Entry { name: "private hugepages", open: private, maps: [true, true] },
    Entry { name: "host pages", open: |_| shared(Host::new), maps: [true, true] },
    Entry { name: "fake device memory", open: fake, maps: [true, true] },
    Entry { name: "a BAR by type1", open: |bench| bar(bench, Kind::Type1), maps: [true, true] },
    Entry { name: "a BAR by iommufd", open: |bench| bar(bench, Kind::Iommufd), maps: [true, true] },
    Entry { name: "a BAR by sysfs", open: bar_by_sysfs, maps: [true, false] },
    Entry { name: "p2pmem", open: p2pmem, maps: [false, false] },
];

/// Enough of a BAR for the kit.
const PAGES: BarOptions = BarOptions {
    offset: 0,
    len: Some(64 << 12),
    allow_non_prefetchable: false,
    without_cpu: false,
};

/// A provider whose source others take from too.
fn shared<P: providers::Revocable + 'static>(make: fn() -> P) -> Result<Make, String> {
    Ok(Box::new(move || Subject::of_shared_source(make())))
}

fn hugepages(size: PageSize, needed: u64) -> Result<Make, String> {
    let available = Memory::system().available_hugepages(size, None).unwrap_or(0);
    if available < needed {
        return Err(format!("{available} hugepages of {size} can be had, {needed} are needed"));
    }
    Ok(Box::new(move || {
        let provider = Hugepages::new(size).unwrap_or_else(|error| panic!("{error}"));
        Subject::of_shared_source(provider)
    }))
}

fn private(_: &Bench) -> Result<Make, String> {
    drop(hugepages(PageSize::TwoMiB, 16)?);
    shared(|| Private::new().unwrap_or_else(|error| panic!("{error}")))
}

fn fake(_: &Bench) -> Result<Make, String> {
    Ok(Box::new(|| Subject::new(Fake::with_capacity(1 << 20))))
}

fn bar(bench: &Bench, kind: Kind) -> Result<Make, String> {
    let (address, index) = bench.bar()?;
    // Opened once: each opening resets the device, which takes its time.
    let bar = P2pDma::vfio(&Sysfs::system(), address, index, &Iommu::new(kind), PAGES);
    let bar = bar.map_err(|error| error.to_string())?;
    Ok(Box::new(move || Subject::new(bar.again().unwrap_or_else(|error| panic!("{error}")))))
}

fn bar_by_sysfs(bench: &Bench) -> Result<Make, String> {
    let (address, index) = bench.bar()?;
    // Whom nobody has open sleeps, and its memory with it, where the kernel saves power.
    let control = Sysfs::system().function(address).join("power/control");
    if control.exists() {
        std::fs::write(&control, "on")
            .map_err(|error| format!("{}: {error}", control.display()))?;
    }
    let open = move || P2pDma::sysfs(&Sysfs::system(), address, index, PAGES);
    drop(open().map_err(|error| error.to_string())?);
    Ok(Box::new(move || Subject::new(open().unwrap_or_else(|error| panic!("{error}")))))
}

fn p2pmem(bench: &Bench) -> Result<Make, String> {
    let address = bench.p2pmem()?;
    Ok(Box::new(move || {
        let provider = P2pMem::new(&Sysfs::system(), address);
        Subject::of_shared_source(provider.unwrap_or_else(|error| panic!("{error}")))
    }))
}
