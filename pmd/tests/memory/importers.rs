//! What a NIC's address space takes of a subject's memory, in a line.

use mempool::{CpuAccess, RegionRequest};
use pmd::{DmaMapper, MapError, pci::VfioMapper};
use providers::conformance::Subject;
use vfio::Kind;

use crate::{
    bench::{Bench, kinds, space},
    subjects::Entry,
};

/// Maps a region of the subject's for the NIC, by each interface, and tells what came of it; it must be what the
/// list says.
pub(crate) fn line(bench: &Bench, entry: &Entry, subject: &Subject) -> String {
    let provider = subject.provider();
    let info = provider.info();
    let request = RegionRequest { name: "importers".into(), len: info.page_size, align: 64 };
    let region = provider.alloc(&request).unwrap_or_else(|error| panic!("{error}"));
    let cpu = match (info.cpu_access, region.window().is_some()) {
        (CpuAccess::None, true) => "no CPU access but copies, contents not promised".to_owned(),
        (CpuAccess::None, false) => "no CPU access at all, contents not promised".to_owned(),
        (access, _) => format!("CPU {}, arrives zeroed", access.name()),
    };
    let mut line = format!("{}: {}, {cpu}", info.name, region.backing().name());
    let Ok(nic) = bench.nic() else {
        return format!("{line}; no NIC to map it for");
    };
    for kind in kinds() {
        let (iommu, _nic) = space(nic, kind);
        let mut mapper = VfioMapper::new(iommu);
        let told = match mapper.map(&region.handle()) {
            Ok(iova) => {
                mapper.unmap(&region.handle());
                assert_eq!(mapper.regions(), 0, "{}: it stays mapped", entry.name);
                format!("mapped at {iova:#x}")
            }
            Err(error @ MapError::Unsupported { .. }) => format!("refused: {error}"),
            Err(error) => panic!("{} by {kind:?}: {error}", entry.name),
        };
        let takes = entry.maps[usize::from(kind == Kind::Iommufd)];
        assert_eq!(told.starts_with("mapped"), takes, "{} by {kind:?}: {told}", entry.name);
        line.push_str(&format!("; {}: {told}", mapper.iommu().name()));
    }
    line
}
