//! What goes wrong between the CPU and a NIC: an error of the bus, and registers that somebody switches
//! off. The port says so, the process lives, other ports lose nothing, and the port works again.

use std::time::Duration;

use testbed::Guest;

use crate::{
    far::{self, BYSTANDERS, HostApp, VICTIMS, end_l2fwd, forward_all, wait_for_links},
    machine::{App, Machine, is_full, pause, wait_for},
    probe::{MEMORY_SPACE, command, set_command},
};

/// While `harm` is done to a loaded port of a running l2fwd, others lose nothing; it is taken out of service for
/// a reason that says `why`, and is back after `mend`.
fn harmed(
    machine: &Machine,
    l2fwd: &mut App<'_>,
    nic: &str,
    harm: impl FnOnce(&Guest),
    why: &str,
    mend: impl FnOnce(),
) -> String {
    let said = format!("port '{}': out of service: ", machine.port(nic));
    let load = HostApp::load(machine, nic, "300pps");
    let before = l2fwd.job.stderr_so_far().matches(&said).count();
    let steady = HostApp::check(machine, BYSTANDERS, 1000, "500pps");
    pause(Duration::from_millis(300));
    harm(machine);
    let reason = wait_for(&format!("{nic} out of service"), || {
        assert!(!l2fwd.job.poll(), "l2fwd ended: {}", l2fwd.job.stderr_so_far());
        let log = l2fwd.job.stderr_so_far();
        let reason = log.split(&said).nth(before + 1)?.split_once('\n')?.0.to_owned();
        Some(reason)
    });
    assert!(reason.contains(why), "{reason:?} does not say {why:?}");
    mend();
    wait_for_links(l2fwd, &["up"; 4]);
    assert_eq!(steady.arrived(), 1000);
    // Its far end is wanted.
    load.end();
    let good = HostApp::check(machine, VICTIMS, 200, "1kpps").arrived();
    assert_eq!(good, 200, "{nic} is back and forwards");
    reason
}

#[test]
fn a_pcie_error_takes_its_port_out_of_service_until_it_is_opened_again() {
    let test = "a_pcie_error_takes_its_port_out_of_service_until_it_is_opened_again";
    let Some(machine) = far::open(test) else { return };
    let sysfs = format!("/sys/bus/pci/devices/{}", machine.address(VICTIMS[0]).unwrap());
    if machine.run(&format!("test -e {sysfs}/aer_dev_fatal")).unwrap().status != 0 {
        eprintln!(
            "SKIP {test}: the guest's kernel reports no PCIe errors: run `cargo xtask testbed setup` again"
        );
        return;
    }
    let rounds = if is_full() { 50 } else { 2 };
    let mut l2fwd = forward_all(&machine);
    let mut last = String::new();
    for round in 0..rounds {
        // One that the link does not survive, and one that it does (PCIe 5.0 §6.2.2.2).
        let error = ["DLP", "COMP_TIME"][round / 2 % 2];
        let nic = VICTIMS[round % 2];
        let inject = |guest: &Guest| guest.inject_aer(nic, error).unwrap();
        last = harmed(&machine, &mut l2fwd, nic, inject, "PCIe error", || {});
    }
    end_l2fwd(l2fwd);
    eprintln!("{test}: {rounds} errors, each time: {last}");
}

#[test]
fn a_port_whose_registers_are_switched_off_faults_and_works_again() {
    let test = "a_port_whose_registers_are_switched_off_faults_and_works_again";
    let Some(machine) = far::open(test) else { return };
    let rounds = if is_full() { 50 } else { 2 };
    let mut l2fwd = forward_all(&machine);
    let mut last = String::new();
    for round in 0..rounds {
        let nic = VICTIMS[round % 2];
        let before = command(&machine, nic);
        let off = |_: &Guest| set_command(&machine, nic, before & !MEMORY_SPACE);
        // Whoever opens a device through VFIO has it switched on; a write from here would race with that.
        let on = || {
            wait_for(&format!("{nic} decoding addresses"), || {
                (command(&machine, nic) & MEMORY_SPACE != 0).then_some(())
            });
        };
        last = harmed(&machine, &mut l2fwd, nic, off, "0x", on);
    }
    end_l2fwd(l2fwd);
    eprintln!("{test}: {rounds} times, each time: {last}");
}
