//! A NIC is pulled out of a running machine, over and over: it is let go at once, comes back, and nobody
//! else notices.

use std::time::{Duration, Instant};

use crate::{
    far::{self, BYSTANDERS, HostApp, VICTIMS, end_l2fwd, forward_all, wait_for_links},
    machine::{is_full, number, pause},
    probe::median_and_longest,
};

/// How long it may take from the request until the device is gone, which it cannot be before its
/// descriptor is closed.
const LET_GO: Duration = Duration::from_millis(500);
/// How long QEMU is waited for.
const DELETED: Duration = Duration::from_secs(5);

#[test]
fn an_unplugged_port_is_let_go_at_once_and_comes_back_while_the_others_lose_nothing() {
    let test = "an_unplugged_port_is_let_go_at_once_and_comes_back_while_the_others_lose_nothing";
    let Some(machine) = far::open(test) else { return };
    let rounds = if is_full() { 50 } else { 3 };
    let mut l2fwd = forward_all(&machine);
    let loads = VICTIMS.map(|nic| HostApp::load(&machine, nic, "300pps"));
    let mut deleted = Vec::new();
    let mut passed = 0;
    for round in 0..rounds {
        let victim = VICTIMS[round % 2];
        let steady = HostApp::check(&machine, BYSTANDERS, 1500, "500pps");
        pause(Duration::from_millis(300));
        let (from, start) = (machine.console().len(), Instant::now());
        machine.qmp().device_del(victim, DELETED).unwrap();
        let held = start.elapsed();
        assert!(held <= LET_GO, "round {round}: {victim} went after {held:?}");
        deleted.push(held);
        let log = machine.console();
        let asked = "Relaying device request to user";
        assert!(log[from..].contains(asked), "{victim} went without VFIO asking for it");
        let said = format!("port '{}': out of service: removed: ", machine.port(victim));
        l2fwd.wait_for(&said);
        assert_eq!(l2fwd.job.stderr_so_far().matches(": removed: ").count(), round + 1);

        machine.device_add(victim).unwrap();
        machine.bind(&[victim]).unwrap();
        wait_for_links(&mut l2fwd, &["up"; 4]);
        passed += steady.arrived();
    }
    loads.into_iter().for_each(HostApp::end);
    let good = HostApp::check(&machine, VICTIMS, 1000, "1kpps").arrived();
    assert_eq!(good, 1000, "the ports that came back forward");
    let summary = end_l2fwd(l2fwd);
    for (at, port) in summary["ports"].as_array().unwrap().iter().enumerate() {
        let outages = number(port, "/outages");
        let is_victim = at < VICTIMS.len();
        assert!(if is_victim { outages >= rounds as u64 / 2 } else { outages == 0 }, "{port:#}");
    }
    eprintln!(
        "{test}: {rounds} times, closed and deleted after {}; {passed} frames past it, 0 lost",
        median_and_longest(&mut deleted),
    );
}
