//! A NIC that is told to write where nothing is mapped, and NICs that are reset over and over. The
//! program is pmd's test executable `vfio`, run in the guest as it is; here is what it cannot see: the
//! kernel's log, and memory that is not its own.

use std::time::Duration;

use crate::{
    conformance::executable,
    machine::{DEADLINE, Machine, pause},
    probe::Canary,
};

const PAIRS: [[&str; 2]; 2] = [["e1000e0", "e1000e1"], ["igb0", "igb1"]];
/// The kernel logs ten faults in five seconds and keeps quiet about the others (`dmar_fault` in
/// drivers/iommu/intel/dmar.c): who wants to see some waits until the time of earlier ones is over.
const FAULT_INTERVAL: Duration = Duration::from_secs(6);

/// Runs one test of the executable on a pair of NICs.
fn run(machine: &Machine, executable: &str, nics: [&str; 2], name: &str) {
    let nics = nics.map(|nic| machine.address(nic).unwrap());
    let line = format!(
        "MEMWIRE_PCI={} exec {executable} --exact stray::{name} --nocapture",
        nics.join(",")
    );
    let output = machine.run_for(&line, 3 * DEADLINE).unwrap();
    let text = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.status, 0, "{text}");
    assert!(text.contains("test result: ok. 1 passed") && !text.contains("SKIP"), "{text}");
}

#[test]
fn a_descriptor_that_points_outside_the_map_harms_nobody() {
    let test = "a_descriptor_that_points_outside_the_map_harms_nobody";
    let Some(executable) = executable(test) else { return };
    let Some(machine) = Machine::open(test, "pairs") else { return };
    let canary = Canary::new(&machine);
    let name =
        "a_device_whose_descriptors_point_outside_the_map_is_stopped_and_usable_after_a_reset";
    for nics in PAIRS {
        pause(FAULT_INTERVAL);
        let from = machine.console().len();
        run(&machine, &executable, nics, name);
        canary.check();
        let address = machine.address(nics[0]).unwrap();
        let requester = address.trim_start_matches("0000:");
        let log = machine.console();
        let faults: Vec<&str> =
            log[from..].lines().filter(|line| line.contains("DMAR: [DMA Write")).collect();
        // The first page that the drivers were lied to about.
        let is_of = |line: &&&str| line.contains(requester) && line.contains("fault addr 0x30");
        let count = faults.iter().filter(is_of).count();
        assert!(count > 0, "no fault of {requester} in {faults:#?}");
        let first = faults.iter().find(is_of).unwrap();
        eprintln!("{test}: {}: {count} faults logged, as {first}", nics[0]);
    }
    eprintln!("{test}: canary of 64 MiB intact, 100 of 100 frames after each reset");
}

#[test]
fn a_nic_that_is_reset_over_and_over_keeps_its_address() {
    let test = "a_nic_that_is_reset_over_and_over_keeps_its_address";
    let Some(executable) = executable(test) else { return };
    let Some(machine) = Machine::open(test, "pairs") else { return };
    let name = "a_function_that_is_reset_over_and_over_keeps_its_address_and_leaves_no_mapping";
    for nics in PAIRS {
        run(&machine, &executable, nics, name);
    }
    eprintln!("{test}: ok");
}
