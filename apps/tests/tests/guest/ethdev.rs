//! DPDK's drivers for NICs, on memory of ours: pmd's test executable `ethdev`, built with DPDK, run in the guest
//! as it is. The guest sees the host's files, so DPDK loads its drivers as it does outside. The kernel's log is
//! looked at from here: a device that is given an address which is not mapped shows nowhere else.

use crate::{
    conformance::{named, run},
    machine::Machine,
};

/// The variable that names the executable: `cargo xtask test` builds it, where DPDK is installed, and sets this.
const EXECUTABLE: &str = "MEMWIRE_ETHDEV_TEST";

/// Runs some tests of the executable on two pairs of NICs, none of which may go astray.
fn passes(test: &str, filters: &str) {
    let Some(executable) = named(test, EXECUTABLE) else { return };
    let Some(machine) = Machine::open(test, "pairs") else { return };
    let nics = ["e1000e0", "e1000e1", "igb0", "igb1"];
    let functions: Vec<_> = nics.map(|nic| machine.address(nic).unwrap().to_string()).into();
    let functions = functions.join(",");
    let line = format!(
        "MEMWIRE_DPDK={functions} exec {executable} --test-threads=1 --nocapture {filters}"
    );
    let from = machine.console().len();
    run(test, &machine, &line);
    let log = machine.console();
    let faults: Vec<&str> =
        log[from..].lines().filter(|line| line.contains("DMAR: [DMA")).collect();
    assert!(faults.is_empty(), "devices went astray: {faults:#?}");
}

#[test]
fn dpdks_drivers_move_frames_in_our_hugepages() {
    passes("dpdks_drivers_move_frames_in_our_hugepages", "guest::frames guest::sharing");
}

#[test]
fn dpdks_drivers_conform() {
    passes("dpdks_drivers_conform", "guest::suite");
}
