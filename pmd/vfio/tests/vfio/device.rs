//! Opening, resetting, interrupting and losing a device.

use std::{fs, os::fd::OwnedFd, sync::Arc, thread};

use vfio::{
    Device, Error, Iommu,
    pci::{Function, Sysfs},
};

use super::{
    MIB, STATUS, is_readable_soon, map, memory,
    support::{E1000E, IGB, Sender, bench, eventually, kinds, open, restart},
};

#[test]
fn a_device_is_opened_once_and_again_when_it_was_closed() {
    let Some((_bench, found)) = bench("a_device_is_opened_once", &[E1000E]) else { return };
    for kind in kinds("a_device_is_opened_once") {
        let device = open(found[0], kind);
        let error =
            Device::open(&Sysfs::system(), found[0], &Iommu::new(kind)).expect_err("in use");
        assert!(
            error.to_string().ends_with("in use by another process: stop that first"),
            "{error}"
        );
        let bar = device.bar(0).expect("registers");
        assert_ne!(bar.read32(STATUS), u32::MAX);
        drop(device);
        assert_eq!((bar.read32(STATUS), bar.is_gone()), (u32::MAX, true), "{kind:?}");
        bar.write32(STATUS, 0);
        let again = open(found[0], kind);
        assert_ne!(again.bar(0).expect("registers").read32(STATUS), u32::MAX);
        assert_eq!(bar.read32(STATUS), u32::MAX, "the old handle stays dead");
    }
}

#[test]
fn a_reset_stops_the_device_and_leaves_it_usable() {
    let Some((_bench, found)) = bench("a_reset_stops", &[E1000E]) else { return };
    for kind in kinds("a_reset_stops") {
        let mut device = open(found[0], kind);
        let registers = device.bar(0).expect("registers");
        let iova = map(device.iommu(), memory(MIB), MIB).expect("mapped");
        let mappings = device.iommu().mappings();
        for _ in 0..5 {
            assert!(Sender::start(&mut device).send(iova, 60), "before");
            match device.reset() {
                Ok(()) => assert_ne!(registers.read32(STATUS), u32::MAX, "it came back"),
                Err(Error::CannotReset(address)) => {
                    println!("SKIP a_reset_stops over {kind:?}: {address} has no reset of its own");
                    return;
                }
                Err(error) => panic!("{kind:?}: {error}"),
            }
            let mut command = [0; 2];
            device.read_config(4, &mut command).expect("command register");
            assert_eq!(command[0] & 6, 2, "memory on, bus master off");
        }
        assert_eq!(device.iommu().mappings(), mappings);
    }
}

#[test]
fn a_function_level_reset_clears_registers() {
    let Some((_bench, found)) = bench("a_function_level_reset", &[IGB]) else { return };
    for kind in kinds("a_function_level_reset") {
        let mut device = open(found[0], kind);
        let registers = device.bar(0).expect("registers");
        // A word of the multicast table (82576 datasheet §8.10.15).
        registers.write32(0x5214, 0xdead_beef);
        assert_eq!(registers.read32(0x5214), 0xdead_beef);
        device.reset().expect("an 82576 has FLR");
        assert_eq!(registers.read32(0x5214), 0, "{kind:?}");
    }
}

#[test]
fn an_interrupt_makes_its_eventfd_readable() {
    let Some((_bench, found)) = bench("an_interrupt_makes", &[E1000E]) else { return };
    for kind in kinds("an_interrupt_makes") {
        let mut device = open(found[0], kind);
        let error = device.enable_msix(64).expect_err("too many").to_string();
        assert_eq!(
            error,
            format!("{}: 64 interrupt vectors asked for, the function has 5", found[0])
        );
        let fds: Vec<Arc<OwnedFd>> = device.enable_msix(3).expect("three");
        device.set_bus_master(true).expect("an interrupt is a write");
        let registers = device.bar(0).expect("registers");
        restart(&registers);
        // IVAR (§10.2.4.9): "other" causes to vector 2; IMS, ICS: raise one.
        registers.write32(0x00e4, 0x000a_0000);
        registers.write32(0x00d0, 1 << 24);
        registers.write32(0x00c8, 1 << 24);
        assert!(is_readable_soon(&fds[2]), "{kind:?}: vector 2");
        device.disable_interrupts().expect("off");
        assert_eq!(device.enable_interrupts(1).expect("one").len(), 1);
    }
}

#[test]
fn memory_decode_that_goes_off_makes_registers_read_as_all_ones() {
    let Some((_bench, found)) = bench("memory_decode_that_goes_off", &[E1000E]) else { return };
    for kind in kinds("memory_decode_that_goes_off") {
        let mut device = open(found[0], kind);
        let bar = device.bar(0).expect("registers");
        assert_ne!(bar.read32(STATUS), u32::MAX);
        let mut command = [0; 2];
        device.read_config(4, &mut command).expect("command register");
        device.write_config(4, &[command[0] & !2, command[1]]).expect("memory decode off");
        bar.write32(0x0100, 0);
        assert_eq!(bar.read32(STATUS), u32::MAX, "{kind:?}");
        assert!(bar.is_gone());
        drop((device, bar));
        assert_ne!(open(found[0], kind).bar(0).expect("again").read32(STATUS), u32::MAX);
    }
}

#[test]
fn whoever_wants_the_device_back_gets_it_once_it_is_closed() {
    let Some((_bench, found)) = bench("whoever_wants", &[E1000E]) else { return };
    let address = found[0];
    for kind in kinds("whoever_wants") {
        let device = open(address, kind);
        let bar = device.bar(0).expect("registers");
        assert_eq!(device.notices(), vfio::Notices::default());
        let unbind = thread::spawn(move || {
            fs::write("/sys/bus/pci/drivers/vfio-pci/unbind", address.to_string())
        });
        let heard = eventually(|| device.notices().removal);
        drop(device);
        unbind.join().expect("no panic").expect("unbound");
        assert!(heard, "{kind:?}: a notice that it is wanted back");
        assert_eq!(bar.read32(STATUS), u32::MAX);
        let function = Function::read(&Sysfs::system(), address).expect("still there");
        assert_eq!(function.driver, None);
        fs::write("/sys/bus/pci/drivers/vfio-pci/bind", address.to_string()).expect("bound again");
    }
}
