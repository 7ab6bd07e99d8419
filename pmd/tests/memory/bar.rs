//! A BAR in a NIC's address space.

use mempool::{Device as Payload, Pool, Provider, RegionRequest};
use pmd::{DmaMapper, MappedPool, pci::VfioMapper};
use providers::{Hugepages, P2pDma, PageSize, p2pdma::BarOptions};
use rustix::process::{Resource, getrlimit};
use vfio::pci::Sysfs;

use crate::bench::{Bench, kinds, space};

const MIB: usize = 1 << 20;

#[test]
fn several_pools_of_one_bar_reach_a_nic_and_give_everything_back() {
    let test = "several_pools_of_one_bar_reach_a_nic_and_give_everything_back";
    let Some((_bench, nic, (address, index))) = Bench::nic_and_bar(test) else { return };
    for kind in kinds() {
        let (iommu, _nic) = space(nic, kind);
        let options = BarOptions { offset: MIB as u64, ..BarOptions::default() };
        let bar = P2pDma::vfio(&Sysfs::system(), address, index, &iommu, options);
        let bar = bar.unwrap_or_else(|error| panic!("{error}"));
        let capacity = bar.usage().capacity;
        let pool = |slots: usize| -> Pool<Payload> {
            Pool::builder().slots(slots).stride(2048).memory(&bar).build().unwrap()
        };
        let pools = [pool(512), pool(1024), pool(64)];
        let mapper = VfioMapper::new(iommu.clone());
        let mut mapped: Vec<_> = pools
            .iter()
            .map(|pool| MappedPool::new(pool, mapper.clone()).unwrap_or_else(|e| panic!("{e}")))
            .collect();
        assert_eq!((iommu.mappings(), mapper.regions(), bar.usage().regions), (3, 3, 3));
        let mut spans: Vec<(u64, u64)> = pools
            .iter()
            .zip(&mut mapped)
            .map(|(pool, mapped)| {
                let area = &pool.areas()[0];
                (mapped.iova((area.id, 0)).unwrap().0, area.region.len() as u64)
            })
            .collect();
        spans.sort_unstable();
        assert!(spans.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0), "{spans:x?}");
        println!("{test}: {}: {}", iommu.name(), bar.usage());
        drop((mapped, pools));
        assert_eq!((iommu.mappings(), bar.used(), bar.live()), (0, 0, 0));
        assert_eq!(bar.usage().largest, capacity);
    }
}

#[test]
fn a_bar_counts_against_no_limit_of_pinned_memory() {
    let test = "a_bar_counts_against_no_limit_of_pinned_memory";
    let Some((_bench, nic, (address, index))) = Bench::nic_and_bar(test) else { return };
    let limit = getrlimit(Resource::Memlock).current.and_then(|bytes| usize::try_from(bytes).ok());
    let Some(limit) = limit.filter(|_| !rustix::process::geteuid().is_root()) else {
        println!("SKIP {test}: this user may pin what there is");
        return;
    };
    for kind in kinds() {
        let (iommu, _nic) = space(nic, kind);
        let bar = P2pDma::vfio(&Sysfs::system(), address, index, &iommu, BarOptions::default());
        let bar = bar.unwrap_or_else(|error| panic!("{error}"));
        let ask = |provider: &dyn Provider, len: usize| {
            let request = RegionRequest { name: "limit".into(), len, align: 4096 };
            provider.alloc(&request).unwrap_or_else(|error| panic!("{error}"))
        };
        let mut mapper = VfioMapper::new(iommu);
        let device = ask(&bar, 4 * limit);
        mapper.map(&device.handle()).unwrap_or_else(|error| panic!("{error}"));
        let pages = Hugepages::new(PageSize::TwoMiB).unwrap();
        let within = ask(&pages, limit / 2);
        mapper.map(&within.handle()).unwrap_or_else(|error| panic!("beside the BAR: {error}"));
        let error = mapper.map(&ask(&pages, 2 * limit).handle()).unwrap_err().to_string();
        assert!(error.contains("RLIMIT_MEMLOCK"), "{error}");
        println!(
            "{test}: {}: {} MiB of a BAR beside a limit of {} MiB; then: {error}",
            mapper.iommu().name(),
            device.len() / MIB,
            limit / MIB
        );
        mapper.unmap(&within.handle());
        mapper.unmap(&device.handle());
    }
}
