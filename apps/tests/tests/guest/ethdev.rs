//! DPDK's drivers for NICs, on memory of ours: pmd's test executable `ethdev`, built with DPDK, run in the guest
//! as it is. The guest sees the host's files, so DPDK loads its drivers as it does outside.

use crate::{
    conformance::{named, run},
    machine::Machine,
};

/// The variable that names the executable: `cargo xtask test` builds it, where DPDK is installed, and sets this.
const EXECUTABLE: &str = "MEMWIRE_ETHDEV_TEST";

#[test]
fn dpdks_drivers_move_frames_in_our_hugepages() {
    let test = "dpdks_drivers_move_frames_in_our_hugepages";
    let Some(executable) = named(test, EXECUTABLE) else { return };
    let Some(machine) = Machine::open(test, "pairs") else { return };
    let nics = ["e1000e0", "e1000e1", "igb0", "igb1"];
    let functions: Vec<_> = nics.map(|nic| machine.address(nic).unwrap().to_string()).into();
    let functions = functions.join(",");
    let line =
        format!("MEMWIRE_DPDK={functions} exec {executable} --test-threads=1 --nocapture guest::");
    let from = machine.console().len();
    run(test, &machine, &line);
    let log = machine.console();
    let faults: Vec<&str> = log[from..].lines().filter(|line| line.contains("DMAR: [")).collect();
    assert!(faults.is_empty(), "devices went astray: {faults:#?}");
}
