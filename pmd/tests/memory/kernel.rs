//! What the table of importers says of the kernel, asked of the kernel: by going around the table.
#![allow(unsafe_code, reason = "asks the kernel for mappings that it refuses")]

use mempool::{Provider, RegionRequest};
use providers::{P2pDma, P2pMem, p2pdma::BarOptions};
use vfio::{Access, Kind, pci::Sysfs};

use crate::bench::{Bench, kinds, space};

const PAGE: RegionRequest = RegionRequest { name: String::new(), len: 4096, align: 4096 };

#[test]
fn the_kernel_maps_p2pmem_for_nobody() {
    let test = "the_kernel_maps_p2pmem_for_nobody";
    let Some(bench) = Bench::named(test) else { return };
    let (nic, giver) = match bench.nic().and_then(|nic| Ok((nic, bench.p2pmem()?))) {
        Ok(both) => both,
        Err(why) => return println!("SKIP {test}: {why}"),
    };
    let memory = P2pMem::new(&Sysfs::system(), giver).unwrap_or_else(|error| panic!("{error}"));
    let region = memory.alloc(&PAGE).unwrap_or_else(|error| panic!("{error}"));
    for kind in kinds() {
        let (iommu, _nic) = space(nic, kind);
        // SAFETY: the page stays mapped until the region is dropped, after the address space; no reference to
        // it is made.
        let mapped = unsafe { iommu.map(region.base(), region.len(), Access::ReadWrite) };
        let error = mapped.expect_err("the table says that this cannot be").to_string();
        assert!(error.contains("the kernel does not pin this kind of memory"), "{error}");
        println!("{test}: {}: {error}", iommu.name());
    }
}

#[test]
fn iommufd_takes_a_bar_by_its_dma_buf_alone() {
    let test = "iommufd_takes_a_bar_by_its_dma_buf_alone";
    let Some((_bench, nic, (address, index))) = Bench::nic_and_bar(test) else { return };
    if !kinds().contains(&Kind::Iommufd) {
        return println!("SKIP {test}: no iommufd");
    }
    let (iommu, _nic) = space(nic, Kind::Iommufd);
    let bar = P2pDma::vfio(&Sysfs::system(), address, index, &iommu, BarOptions::default());
    let bar = bar.unwrap_or_else(|error| panic!("{error}"));
    let region = bar.alloc(&PAGE).unwrap_or_else(|error| panic!("{error}"));
    let window = region.window().expect("the CPU has a way in");
    // SAFETY: the window stays mapped until the region is dropped; no reference to its bytes is made.
    let mapped = unsafe { iommu.map_bar(window.base(), window.len(), Access::ReadWrite) };
    let error = mapped.expect_err("the table says that this cannot be").to_string();
    assert!(error.contains("by its dma-buf with iommufd"), "{error}");
}
