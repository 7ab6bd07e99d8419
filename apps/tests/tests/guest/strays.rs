//! A NIC that is told to write where nothing is mapped, and NICs that are reset over and over. The
//! program is pmd's test executable `vfio`, run in the guest as it is; here is what it cannot see: the
//! kernel's log, and memory that is not its own.

use crate::{
    conformance::executable,
    machine::{DEADLINE, Machine},
    probe::Canary,
};

/// Runs one test of the executable on all four NICs; on how many pairs, or none where it is not there.
fn run(machine: &Machine, executable: &str, name: &str) {
    let nics = ["e1000e0", "e1000e1", "igb0", "igb1"].map(|nic| machine.address(nic).unwrap());
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
    let from = machine.console().len();
    let name =
        "a_device_whose_descriptors_point_outside_the_map_is_stopped_and_usable_after_a_reset";
    run(&machine, &executable, name);
    canary.check();
    let log = machine.console();
    let faults: Vec<&str> =
        log[from..].lines().filter(|line| line.contains("DMAR: [DMA Write")).collect();
    for nic in ["e1000e0", "igb0"] {
        let address = machine.address(nic).unwrap();
        let requester = address.trim_start_matches("0000:");
        // The first page that the drivers were lied to about.
        let is_of = |line: &&&str| line.contains(requester) && line.contains("fault addr 0x30");
        let count = faults.iter().filter(is_of).count();
        assert!(count > 0, "no fault of {requester} in {faults:#?}");
        eprintln!(
            "{test}: {nic}: {count} faults logged, as {}",
            faults.iter().find(is_of).unwrap()
        );
    }
    eprintln!("{test}: canary of 64 MiB intact, 100 of 100 frames after each reset");
}

#[test]
fn a_nic_that_is_reset_over_and_over_keeps_its_address() {
    let test = "a_nic_that_is_reset_over_and_over_keeps_its_address";
    let Some(executable) = executable(test) else { return };
    let Some(machine) = Machine::open(test, "pairs") else { return };
    let name = "a_function_that_is_reset_over_and_over_keeps_its_address_and_leaves_no_mapping";
    run(&machine, &executable, name);
    eprintln!("{test}: ok");
}
