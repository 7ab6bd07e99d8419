//! The process that drives the NICs dies under load, at any moment: DMA ends with it, its memory comes
//! back, and the next one finds the NICs in order.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use testbed::Signal;

use crate::{
    far::{self, HostApp, VICTIMS, end_l2fwd, join_victims},
    machine::{DEADLINE, is_full, pause},
    probe::{BUS_MASTER, Canary, await_hugepages, command, free_hugepages, median_and_longest},
};

/// How long the kernel may take to have the memory back.
const MEMORY_BACK: Duration = Duration::from_secs(1);
const FRAMES: u64 = 1000;

#[test]
fn a_process_that_is_killed_under_load_leaves_nics_and_memory_in_order() {
    let test = "a_process_that_is_killed_under_load_leaves_nics_and_memory_in_order";
    let Some(machine) = far::open(test) else { return };
    let rounds = if is_full() { 100 } else { 4 };
    let canary = Canary::new(&machine);
    let pages = free_hugepages(&machine);
    let random = RandomState::new();
    let mut back = Vec::new();
    for round in 0..rounds {
        let mut l2fwd = join_victims(&machine);
        assert!(free_hugepages(&machine) < pages, "l2fwd uses no hugepages");
        let way = if round % 2 == 0 { VICTIMS } else { [VICTIMS[1], VICTIMS[0]] };
        let good = HostApp::check(&machine, way, FRAMES, "2kpps").arrived();
        assert_eq!(good, FRAMES, "start {round}");
        let loads = VICTIMS.map(|nic| HostApp::load(&machine, nic, "2kpps"));
        pause(Duration::from_millis(100 + random.hash_one(round) % 700));
        assert!(VICTIMS.iter().all(|nic| command(&machine, nic) & BUS_MASTER != 0));

        l2fwd.job.kill(Signal::Kill).unwrap();
        let status = l2fwd.job.wait(DEADLINE).unwrap().status;
        assert_eq!(status, 128 + 9);
        back.push(await_hugepages(&machine, pages, MEMORY_BACK));
        for nic in VICTIMS {
            let command = command(&machine, nic);
            assert_eq!(command & BUS_MASTER, 0, "{nic} is a bus master without a driver");
        }
        loads.into_iter().for_each(HostApp::end);
    }
    let l2fwd = join_victims(&machine);
    let good = HostApp::check(&machine, VICTIMS, FRAMES, "2kpps").arrived();
    assert_eq!(good, FRAMES);
    end_l2fwd(l2fwd);
    canary.check();
    eprintln!(
        "{test}: {rounds} kills, bus master off and next start forwards {FRAMES} frames each time, \
         memory back after {}, canary of 64 MiB intact",
        median_and_longest(&mut back)
    );
}
