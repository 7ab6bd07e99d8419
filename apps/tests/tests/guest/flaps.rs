//! Cables are pulled and plugged ten times a second under load: afterwards every frame passes, and no
//! buffer is missing.

use std::time::{Duration, Instant};

use crate::{
    far::{self, HostApp, VICTIMS, end_l2fwd, join_victims, wait_for_links},
    machine::{is_full, number, pause},
};

/// Between two changes of a link: there and back ten times a second.
const HALF: Duration = Duration::from_millis(50);

#[test]
fn after_the_last_flap_of_a_link_every_frame_passes() {
    let test = "after_the_last_flap_of_a_link_every_frame_passes";
    let Some(machine) = far::open(test) else { return };
    let (flaps, frames) = if is_full() { (200, 10_000) } else { (40, 2_000) };
    let mut l2fwd = join_victims(&machine);
    let loads = VICTIMS.map(|nic| HostApp::load(&machine, nic, "500pps"));
    let start = Instant::now();
    for flap in 0..flaps {
        let nic = VICTIMS[flap % 2];
        for up in [false, true] {
            machine.qmp().set_link(nic, up).unwrap();
            pause(HALF);
        }
    }
    let took = start.elapsed();
    wait_for_links(&mut l2fwd, &["up"; 2]);
    // Down and seen to be so, on a port and then on the other.
    for (at, nic) in VICTIMS.into_iter().enumerate() {
        machine.qmp().set_link(nic, false).unwrap();
        wait_for_links(&mut l2fwd, if at == 0 { &["no-link", "up"] } else { &["up", "no-link"] });
        machine.qmp().set_link(nic, true).unwrap();
        wait_for_links(&mut l2fwd, &["up"; 2]);
    }
    loads.into_iter().for_each(HostApp::end);

    let [one, other] = VICTIMS;
    for way in [[one, other], [other, one]] {
        let good = HostApp::check(&machine, way, frames, "2kpps").arrived();
        assert_eq!(good, frames, "{way:?}");
    }
    let summary = end_l2fwd(l2fwd);
    let changes: Vec<u64> =
        [0, 1].map(|port| number(&summary, &format!("/ports/{port}/outages"))).to_vec();
    assert!(changes.iter().all(|count| *count >= 1), "{summary:#}");
    eprintln!(
        "{test}: {flaps} flaps in {:.1} s, {frames} of {frames} frames after them each way, outages \
         noticed {changes:?}, 0 buffers leaked",
        took.as_secs_f64()
    );
}
