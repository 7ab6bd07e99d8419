//! What devices may reach.

use std::{fs, num::NonZero, os::fd::AsFd};

use vfio::{Access, Device, Error, Iommu, Kind, pci::Sysfs};

use super::{
    MIB, map, memory,
    support::{E1000E, IVSHMEM, Sender, bench, kinds, open},
};

#[test]
fn a_region_is_one_mapping_however_often_it_is_mapped() {
    let Some((_bench, found)) = bench("a_region_is_one_mapping", &[E1000E]) else { return };
    for kind in kinds("a_region_is_one_mapping") {
        let device = open(found[0], kind);
        let (iommu, base) = (device.iommu(), memory(64 * MIB));
        let iova = map(iommu, base, 64 * MIB).expect("mapped");
        assert!(iova >= 1 << 32, "{iova:#x} is above 4 GiB");
        assert_eq!(map(iommu, base, 64 * MIB).expect("again"), iova);
        let inside = base.map_addr(|at| NonZero::new(at.get() + MIB).expect("not 0"));
        assert_eq!(map(iommu, inside, MIB).expect("inside"), iova + MIB as u64);
        assert_eq!(iommu.mappings(), 1);
        for (at, len) in [(iova, 64 * MIB), (iova + MIB as u64, MIB), (iova, 64 * MIB)] {
            iommu.unmap(at, len).expect("unmapped");
        }
        assert_eq!(iommu.mappings(), 0);
        assert!(iommu.unmap(iova, 64 * MIB).is_err(), "{kind:?}: nothing is left");
        assert!(matches!(map(iommu, base, 100), Err(Error::Misaligned { .. })));
        let far = 1 << 50;
        assert!(matches!(map(iommu, base, far), Err(Error::NoIova { .. })), "{kind:?}");
    }
}

/// A limit of the kernel's, as it was once this is dropped.
struct EntryLimit(String);

impl EntryLimit {
    const FILE: &str = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit";

    fn set(limit: usize) -> Option<Self> {
        let before = fs::read_to_string(Self::FILE).ok()?;
        fs::write(Self::FILE, limit.to_string()).ok()?;
        Some(Self(before))
    }
}

impl Drop for EntryLimit {
    fn drop(&mut self) {
        fs::write(Self::FILE, &self.0).expect("as it was");
    }
}

#[test]
fn the_kernels_limit_of_mappings_is_told_before_it_is_hit() {
    let test = "the_kernels_limit_of_mappings";
    let Some((_bench, found)) = bench(test, &[E1000E]) else { return };
    if !kinds(test).contains(&Kind::Type1) {
        return;
    }
    let Some(_limit) = EntryLimit::set(3) else {
        println!("SKIP {test}: {} cannot be written", EntryLimit::FILE);
        return;
    };
    let device = open(found[0], Kind::Type1);
    for _ in 0..3 {
        map(device.iommu(), memory(4096), 4096).expect("within the limit");
    }
    let error = map(device.iommu(), memory(4096), 4096).expect_err("one too many").to_string();
    assert!(error.starts_with("3 maps reached, the kernel allows no more"), "{error}");
    assert_eq!(device.iommu().mappings(), 3);
}

#[test]
fn files_are_mapped_by_iommufd_and_refused_by_type1_with_the_reason() {
    let Some((_bench, found)) = bench("files_are_mapped", &[E1000E]) else { return };
    for kind in kinds("files_are_mapped") {
        let device = open(found[0], kind);
        let file = rustix::fs::memfd_create("frames", rustix::fs::MemfdFlags::CLOEXEC);
        let file = file.expect("a memfd");
        rustix::fs::ftruncate(&file, 4 * MIB as u64).expect("room");
        let mapped = device.iommu().map_file(file.as_fd(), MIB as u64, 2 * MIB, Access::Read);
        match kind {
            Kind::Iommufd => {
                let iova = mapped.expect("mapped");
                assert_eq!(device.iommu().mappings(), 1);
                device.iommu().unmap(iova, 2 * MIB).expect("unmapped");
            }
            _ => {
                let error = mapped.expect_err("no files").to_string();
                assert!(error.contains("map it here first, or use iommufd"), "{error}");
            }
        }
    }
}

#[test]
fn a_device_reads_and_writes_what_is_mapped_and_nothing_else() {
    let Some((_bench, found)) = bench("a_device_reads_and_writes", &[E1000E]) else { return };
    for kind in kinds("a_device_reads_and_writes") {
        let mut device = open(found[0], kind);
        let iommu = device.iommu().clone();
        let (base, len) = (memory(MIB), MIB);
        let iova = map(&iommu, base, len).expect("mapped");
        let mut sender = Sender::start(&mut device);
        assert!(sender.send(iova, 60), "{kind:?}: a frame of mapped memory is sent");
        device.set_bus_master(false).expect("off");
        sender.post(iova, 60);
        assert!(!sender.is_done(), "who may not master the bus writes no status");
        iommu.unmap(iova, len).expect("unmapped");
    }
}

#[test]
fn mappings_outlive_the_device_and_are_there_for_the_next() {
    let Some((_bench, found)) = bench("mappings_outlive", &[E1000E]) else { return };
    for kind in kinds("mappings_outlive") {
        let iommu = Iommu::new(kind);
        let sysfs = Sysfs::system();
        let first = Device::open(&sysfs, found[0], &iommu).expect("opened");
        let base = memory(4 * MIB);
        let iova = map(&iommu, base, 4 * MIB).expect("mapped");
        drop(first);
        assert_eq!(iommu.mappings(), 1);
        let mut second = Device::open(&sysfs, found[0], &iommu).expect("opened again");
        let mut sender = Sender::start(&mut second);
        assert!(sender.send(iova + MIB as u64, 60), "{kind:?}: still mapped");
        drop(second);
        iommu.unmap(iova, 4 * MIB).expect("unmapped without a device");
        assert_eq!(iommu.mappings(), 1, "the ring of the sender");
        drop(sender);
        assert_eq!(iommu.mappings(), 0);
    }
}

#[test]
fn two_devices_share_one_address_space() {
    let Some((_bench, found)) = bench("two_devices_share", &[E1000E, IVSHMEM]) else { return };
    for kind in kinds("two_devices_share") {
        let (iommu, sysfs) = (Iommu::new(kind), Sysfs::system());
        let mut nic = Device::open(&sysfs, found[0], &iommu).expect("the NIC");
        let other = Device::open(&sysfs, found[1], &iommu).expect("the memory");
        let base = memory(MIB);
        let iova = map(&iommu, base, MIB).expect("mapped");
        drop(other);
        assert!(Sender::start(&mut nic).send(iova, 60), "{kind:?}: one goes, the other sends");
    }
}
