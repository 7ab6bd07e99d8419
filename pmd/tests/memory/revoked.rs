//! A BAR whose device goes, or is switched off, while a NIC has it mapped.

use std::{fs, io::Write, os::unix::fs::FileExt, time::Duration};

use mempool::{Provider, ProviderError, RegionRequest};
use pmd::{DmaMapper, pci::VfioMapper};
use providers::{
    P2pDma,
    p2pdma::{BarOptions, Cause},
};
use vfio::{
    Iommu,
    pci::{Address, Sysfs},
};

use crate::bench::{Bench, kinds, space, wait_for};

const MIB: usize = 1 << 20;

fn open((address, index): (Address, u8), iommu: &Iommu) -> P2pDma {
    let bar = P2pDma::vfio(&Sysfs::system(), address, index, iommu, BarOptions::default());
    bar.unwrap_or_else(|error| panic!("{error}"))
}

fn ask(provider: &P2pDma) -> Result<mempool::Region, ProviderError> {
    provider.alloc(&RegionRequest { name: "revoked".into(), len: MIB, align: 4096 })
}

/// Writes a function's command register behind everybody's back.
fn set_command(address: Address, change: impl Fn(u16) -> u16) -> bool {
    let path = Sysfs::system().function(address).join("config");
    let Ok(file) = fs::OpenOptions::new().read(true).write(true).open(&path) else { return false };
    let mut bytes = [0; 2];
    file.read_exact_at(&mut bytes, 4).expect("a command register");
    let command = change(u16::from_le_bytes(bytes));
    file.write_all_at(&command.to_le_bytes(), 4).is_ok()
}

#[test]
fn a_bar_that_is_switched_off_is_revoked_and_works_again_when_it_is_opened_anew() {
    let test = "a_bar_that_is_switched_off_is_revoked_and_works_again_when_it_is_opened_anew";
    let Some((_bench, nic, at)) = Bench::nic_and_bar(test) else { return };
    for kind in kinds() {
        let (iommu, _nic) = space(nic, kind);
        let bar = open(at, &iommu);
        let (mut region, idle) = (ask(&bar).unwrap(), ask(&bar).unwrap());
        let mut mapper = VfioMapper::new(iommu.clone());
        mapper.map(&region.handle()).unwrap_or_else(|error| panic!("{error}"));
        region.write(0, b"here").unwrap();
        assert_eq!(bar.check(), None);
        if !set_command(at.0, |command| command & !2) {
            return println!("SKIP {test}: the configuration space is not ours to write");
        }
        let cause = bar.check();
        assert!(matches!(cause, Some(Cause::DecodeOff { .. })), "{cause:?}");
        assert!(region.handle().is_revoked() && idle.handle().is_revoked());
        assert!(matches!(ask(&bar), Err(ProviderError::Revoked { .. })));
        // A straggler's copy is no fault.
        let mut seen = [0; 4];
        region.read(0, &mut seen).unwrap();
        assert_ne!(&seen, b"here");
        region.write(0, b"gone").unwrap();
        let error = bar.wait_released(Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.regions, 2);
        mapper.unmap(&region.handle());
        drop((region, idle));
        bar.wait_released(Duration::from_secs(5)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(iommu.mappings(), 0);
        println!("{test}: {}: {}", iommu.name(), cause.unwrap());
        // VFIO switches it on again for whoever opens it.
        let again = open(at, &iommu);
        let mut region = ask(&again).unwrap();
        region.write(0, b"back").unwrap();
        region.read(0, &mut seen).unwrap();
        assert_eq!((&seen, again.check()), (b"back", None));
        mapper.map(&region.handle()).unwrap_or_else(|error| panic!("{error}"));
        mapper.unmap(&region.handle());
    }
}

#[test]
fn a_reset_by_somebody_else_is_told_or_leaves_the_memory_where_it_was() {
    let test = "a_reset_by_somebody_else_is_told_or_leaves_the_memory_where_it_was";
    let Some((_bench, nic, at)) = Bench::nic_and_bar(test) else { return };
    let path = Sysfs::system().function(at.0).join("reset");
    for kind in kinds() {
        let (iommu, _nic) = space(nic, kind);
        let bar = open(at, &iommu);
        let mut region = ask(&bar).unwrap();
        let done = fs::OpenOptions::new().write(true).open(&path);
        let done = done.and_then(|mut file| file.write_all(b"1"));
        if let Err(error) = done {
            return println!("SKIP {test}: {}: {error}", path.display());
        }
        let mut seen = [0; 4];
        match bar.check() {
            Some(cause) => {
                println!("{test}: {}: {cause}", iommu.name());
                assert!(region.handle().is_revoked());
            }
            None => {
                region.write(0, b"same").unwrap();
                region.read(0, &mut seen).unwrap();
                assert_eq!(&seen, b"same");
                println!("{test}: {}: the kernel put it back: not seen", iommu.name());
            }
        }
    }
}

/// Somebody else does harm to the device once this has said that regions are out: a test in the guest's host.
#[test]
fn a_bar_that_comes_to_harm_goes_with_its_last_region() {
    let test = "a_bar_that_comes_to_harm_goes_with_its_last_region";
    let expected = match std::env::var("MEMWIRE_HARM").as_deref() {
        Ok("unplug") => Cause::Removed,
        Ok("error") => Cause::BusError,
        _ => return println!("SKIP {test}: MEMWIRE_HARM does not say that somebody will"),
    };
    let Some((_bench, nic, at)) = Bench::nic_and_bar(test) else { return };
    let space_of = std::env::var("MEMWIRE_IOMMU").unwrap_or_default();
    let kind = kinds().into_iter().find(|kind| format!("{kind:?}").to_lowercase() == space_of);
    let (iommu, _nic) = space(nic, kind.expect("MEMWIRE_IOMMU names an interface that is here"));
    let bar = open(at, &iommu);
    let regions = [ask(&bar).unwrap(), ask(&bar).unwrap()];
    let mut mapper = VfioMapper::new(iommu.clone());
    for region in &regions {
        mapper.map(&region.handle()).unwrap_or_else(|error| panic!("{error}"));
    }
    println!("regions are out");
    let cause = wait_for("harm", || bar.check());
    assert_eq!(cause, expected);
    assert!(regions.iter().all(|region| region.handle().is_revoked()));
    println!("revoked: {cause}");
    // Who still uses them has this long, and longer: nothing goes under them.
    let error = bar.wait_released(Duration::from_millis(300)).unwrap_err().to_string();
    assert!(error.contains("still in use after 300 ms by 2 of its regions"), "{error}");
    println!("held: {error}");
    for region in regions {
        mapper.unmap(&region.handle());
        drop(region);
    }
    bar.wait_released(Duration::from_secs(5)).unwrap_or_else(|error| panic!("{error}"));
    println!("released");
}
