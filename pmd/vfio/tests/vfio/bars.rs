//! Registers, memory and capabilities.

use vfio::pci::{MsixTable, capabilities, extended_capabilities};

use super::{
    STATUS,
    support::{E1000E, IVSHMEM, bench, kinds, open},
};

#[test]
fn registers_are_read_and_bars_that_are_no_registers_are_refused() {
    let Some((_bench, found)) = bench("registers_are_read", &[E1000E]) else { return };
    for kind in kinds("registers_are_read") {
        let device = open(found[0], kind);
        let bar = device.bar(0).expect("BAR 0").at_least(128 << 10).expect("128 KiB");
        assert_ne!(bar.read32(STATUS), u32::MAX, "{kind:?}");
        assert_eq!(device.bar(0).expect("again").read32(STATUS), bar.read32(STATUS));
        let [low, high] = [0x5400, 0x5404].map(|register| bar.read32(register));
        assert!((low, high & 0xffff) != (0, 0), "a MAC address, in RAL0 and RAH0");
        let refusal = |index| device.bar(index).expect_err("no registers").to_string();
        let address = found[0];
        assert_eq!(refusal(2), format!("{address} BAR2: I/O-port BAR of 32 B, need a memory BAR"));
        assert!(refusal(4).starts_with(&format!("{address} BAR4: size 0, need a memory BAR")));
        assert!(refusal(6).ends_with("a function has 6, counted from 0"));
        let small = device.bar(3).expect("BAR 3").at_least(128 << 10).expect_err("16 KiB");
        assert!(small.to_string().starts_with(&format!("{address} BAR3: 16 KiB < 128 KiB: ")));
    }
}

#[test]
fn the_bar_with_the_table_of_interrupts_can_be_had() {
    let Some((_bench, found)) = bench("the_bar_with_the_table", &[E1000E]) else { return };
    for kind in kinds("the_bar_with_the_table") {
        let device = open(found[0], kind);
        let mut config = [0; 256];
        device.read_config(0, &mut config).expect("configuration space");
        let table = MsixTable::find(&config).expect("a sound list").expect("MSI-X");
        assert_eq!((table.vectors, table.bar), (5, 3));
        let bar = device.bar(table.bar).expect("BAR 3");
        // Vector control of entry 0: the mask bit is all there is.
        assert!(bar.read32(table.offset + 12) <= 1);
        assert_ne!(device.region(7).expect("configuration space").size, 0);
    }
}

#[test]
fn memory_behind_a_bar_keeps_what_is_written() {
    let Some((_bench, found)) = bench("memory_behind_a_bar", &[IVSHMEM]) else { return };
    for kind in kinds("memory_behind_a_bar") {
        let device = open(found[0], kind);
        let bar = device.bar(2).expect("BAR 2");
        let last = u32::try_from(bar.size() - 4).expect("less than 4 GiB");
        for offset in [0, 0x1000, (last / 2) & !3, last] {
            bar.write32(offset, offset ^ 0x5a5a_5a5a);
        }
        for offset in [0, 0x1000, (last / 2) & !3, last] {
            assert_eq!(bar.read32(offset), offset ^ 0x5a5a_5a5a, "at {offset:#x}");
        }
        let registers = device.bar(0).expect("BAR 0, of 256 bytes");
        assert_eq!(registers.size(), 256);
        let _ = registers.read32(0);
    }
}

#[test]
fn capabilities_of_a_real_configuration_space_are_walked() {
    let Some((_bench, found)) = bench("capabilities_of_a_real", &[E1000E]) else { return };
    let Some(&kind) = kinds("capabilities_of_a_real").first() else { return };
    let device = open(found[0], kind);
    // 256 bytes where the kernel has no way to the rest.
    let len = device.region(7).expect("configuration space").size;
    let mut config = vec![0; usize::try_from(len).expect("4096 at most")];
    device.read_config(0, &mut config).expect("configuration space");
    let ids: Vec<u8> = capabilities(&config).expect("sound").iter().map(|f| f.id).collect();
    for id in [0x01, 0x05, 0x10, 0x11] {
        assert!(ids.contains(&id), "capability {id:#x} in {ids:x?}");
    }
    let extended = extended_capabilities(&config).expect("sound");
    assert_eq!(extended.iter().any(|found| found.id == 1), len == 4096, "AER in {extended:x?}");
    let error = device.read_config(0xfff, &mut [0; 2]).expect_err("beyond the end").to_string();
    assert!(error.ends_with(&format!("of a configuration space of {len:#x}")), "{error}");
}
