//! Address spaces without a device: what is refused, and in which words.

#![allow(unsafe_code, reason = "calls what maps memory, and is refused")]

use super::{limits::Limits, map::explained, *};
use crate::pci::tests::function;

fn bare(kind: Kind) -> (tempfile::TempDir, Iommu) {
    (tempfile::tempdir().expect("a folder"), Iommu::new(kind))
}

#[test]
fn an_address_space_without_devices_maps_nothing_and_says_so() {
    let iommu = Iommu::new(Kind::Type1);
    let page = NonNull::<u8>::dangling();
    // SAFETY: refused before anything is mapped.
    let error = unsafe { iommu.map(page, 4096, Access::ReadWrite) }.expect_err("no device");
    assert!(error.to_string().contains("no device yet"), "{error}");
    assert_eq!((iommu.mappings(), iommu.name()), (0, "type1"));
}

#[test]
fn a_function_without_group_is_told_how_to_boot() {
    for kind in [Kind::Auto, Kind::Type1, Kind::Iommufd] {
        let (root, iommu) = bare(kind);
        let function = function("0000:01:00.0");
        let error = iommu.attach(&Sysfs::at(root.path()), &function).expect_err("no group");
        assert!(
            error.to_string().starts_with("0000:01:00.0: no IOMMU group: boot with intel_iommu=on"),
            "{error}"
        );
    }
}

#[test]
fn a_group_that_was_made_up_for_want_of_an_iommu_is_none() {
    let (root, iommu) = bare(Kind::Auto);
    let folder = root.path().join("sys/kernel/iommu_groups/3");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("name"), "vfio-noiommu\n").expect("a file");
    let function = Function { iommu_group: Some(3), ..function("0000:01:00.0") };
    let error = iommu.attach(&Sysfs::at(root.path()), &function).expect_err("no IOMMU");
    assert!(matches!(error, Error::NoGroup(_)), "{error}");
}

#[test]
fn unprotected_dma_is_refused_where_there_is_an_iommu() {
    let (root, iommu) = bare(Kind::NoIommu(UnsafeDmaAccepted::i_accept_unsafe_dma()));
    let function = Function { iommu_group: Some(3), ..function("0000:01:00.0") };
    let error = iommu.attach(&Sysfs::at(root.path()), &function).expect_err("there is one");
    assert!(error.to_string().contains("an IOMMU stands before this function"), "{error}");
    assert_eq!(iommu.name(), "none");
}

#[test]
fn the_kernels_refusals_are_put_into_words() {
    let limits = Limits { memlock: Some(8 << 20), locked: 1 << 20 };
    let of = |errno| explained(std::io::Error::from_raw_os_error(errno), 1 << 30, 65535, limits);
    assert!(of(libc::ENOMEM).to_string().starts_with("pin 1024 MiB but RLIMIT_MEMLOCK 8 MiB"));
    assert!(of(libc::ENOSPC).to_string().starts_with("65535 maps reached"));
    assert!(of(libc::EFAULT).to_string().contains("does not pin this kind of memory"));
    assert!(of(libc::EINVAL).to_string().starts_with("mapping 0x40000000 bytes for devices: "));
}
