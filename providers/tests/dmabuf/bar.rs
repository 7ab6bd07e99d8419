//! A BAR that another process exports, for a NIC of this one.

use std::{
    os::fd::AsFd,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use mempool::{CpuAccess, Provider, ProviderError};
use providers::{
    DmaBuf, P2pDma,
    dmabuf::{Buffer, Offer},
    p2pdma::BarOptions,
};
use vfio::{
    Access, Iommu, Kind,
    pci::{self, Address},
};

use crate::{
    DEADLINE, ask, imported, must,
    processes::{Other, PATH, SHARED, say},
};

/// A device with memory in BAR 2, on vfio-pci.
const BAR: &str = "MEMWIRE_DMABUF_BAR";
/// A NIC, on vfio-pci.
const NIC: &str = "MEMWIRE_DMABUF_NIC";

fn address(variable: &str) -> Option<Address> {
    Some(std::env::var(variable).ok()?.parse().expect(variable))
}

/// Exports a BAR until it is ended.
#[test]
fn role_exporter_of_a_bar() {
    let (Some(path), Some(bar)) = (std::env::var_os(PATH), address(BAR)) else { return };
    let (iommu, options) = (Iommu::new(Kind::Auto), BarOptions::default());
    let memory = must(P2pDma::vfio(&pci::Sysfs::system(), bar, 2, &iommu, options));
    let buffer = Arc::new(must(Buffer::bar(&memory, Some(SHARED))));
    let mut offer = must(Offer::new(&buffer, Path::new(&path)));
    say("offered");
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        must(offer.serve(Duration::from_millis(100)));
    }
}

#[test]
fn a_bar_of_another_process_reaches_a_nic_until_its_exporter_ends() {
    let test = "a_bar_of_another_process_reaches_a_nic_until_its_exporter_ends";
    let (Some(_), Some(nic)) = (address(BAR), address(NIC)) else {
        eprintln!("SKIP {test}: {BAR} and {NIC} name no functions");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("offer");
    let iommu = Iommu::new(Kind::Iommufd);
    let _nic = vfio::Device::open(&pci::Sysfs::system(), nic, &iommu).unwrap();
    let map = |provider: &DmaBuf| {
        let fd = provider.buffer().fd().as_fd();
        iommu.map_dma_buf(fd, 0, SHARED, Access::ReadWrite)
    };
    // No other exporter's is taken, whatever the table hopes.
    let foreign = imported(must(DmaBuf::heap("system", SHARED)));
    let refused = map(&foreign).unwrap_err();
    assert!(matches!(refused, vfio::Error::Unsupported { .. }), "{refused:?}");

    for _ in 0..3 {
        let mut exporter = Other::start("bar::role_exporter_of_a_bar", &path);
        exporter.await_word("offered");
        let provider = must(DmaBuf::receive(&path));
        let exported_by = &provider.buffer().identity().exporter;
        assert!(exported_by.starts_with("vfio"), "{exported_by}");
        assert_eq!(provider.info().cpu_access, CpuAccess::None);
        let region = must(ask(&provider, SHARED));
        assert!(region.window().is_none(), "no way in for the CPU");
        let iova = map(&provider).unwrap();
        exporter.kill();
        assert!(provider.check().unwrap_err().to_string().contains("has ended"));
        assert!(region.handle().is_revoked());
        iommu.unmap(iova, SHARED).unwrap();
        let gone = map(&provider).unwrap_err();
        let vfio::Error::System { source, .. } = &gone else { panic!("{gone:?}") };
        assert_eq!(source.raw_os_error(), Some(libc::ENODEV), "{gone}");
        let error = must_not(DmaBuf::receive(&path));
        assert!(error.contains("who offered there has ended"), "{error}");
        let error = must_not(provider.for_cpu());
        assert!(error.contains("CPU access not supported by exporter 'vfio"), "{error}");
    }
    assert_eq!(iommu.mappings(), 0);
}

fn must_not(made: Result<DmaBuf, ProviderError>) -> String {
    made.unwrap_err().to_string()
}
