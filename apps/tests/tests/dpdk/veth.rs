//! A chain of apps over DPDK's net_af_packet, from one namespace through another into a third.

use crate::{
    lab::{
        Lab,
        Place::{Left, Middle, Right},
    },
    place::{FRAMES, ORDINARY, Place, RATE, number},
    process::{binary, pause},
};

fn port(number: u32, interface: &str) -> String {
    format!("dpdk:net_af_packet{number},iface={interface},{ORDINARY}")
}

#[test]
fn pktgen_sends_through_l2fwd_to_gpurx_over_af_packet() {
    let test = "pktgen_sends_through_l2fwd_to_gpurx_over_af_packet";
    let (Some(_), Some(lab)) = (Place::open(test), Lab::open(test, &["ip"])) else { return };
    let arguments = format!("-p {} -p {} --json", port(0, "fa"), port(1, "fb"));
    let mut l2fwd = lab.start(Middle, &binary("l2fwd"), &arguments);
    lab.wait_for_listeners(Middle, 2, &mut l2fwd);
    let arguments =
        format!("-p {} -m fake --seq ipid --deadline 5s -c {FRAMES} -t 50s --json", port(0, "vb"));
    let mut gpurx = lab.start(Right, &binary("gpurx"), &arguments);
    lab.wait_for_listeners(Right, 1, &mut gpurx);
    let arguments =
        format!("-p {} --ip-id --size 1000 -c {FRAMES} --rate {RATE} -t 50s --json", port(0, "va"));
    let sent = lab.start(Left, &binary("pktgen"), &arguments).finish().succeeded().json();
    assert_eq!(number(&sent, "/tx/frames"), FRAMES);
    let received = gpurx.finish().json();
    pause(std::time::Duration::from_millis(100));
    l2fwd.interrupt();
    let forwarded = l2fwd.finish().succeeded().json();
    assert_eq!(number(&received, "/verify/ok"), FRAMES, "{received:#}\n{forwarded:#}");
    assert_eq!(received["path"], "bounce");
}
