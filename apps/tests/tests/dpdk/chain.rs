//! The four apps with DPDK's own application at the other end of each port, over every kind of virtual device that
//! reaches another process:
//!
//! ```text
//!   pktgen -- testpmd -- l2fwd -- testpmd -- gpurx or capture
//! ```

use std::time::Duration;

use serde_json::Value;

use crate::{
    lab::{
        Lab,
        Place::{Left, Middle, Right},
    },
    peers::has_testpmd,
    place::{FRAMES, ORDINARY, Place, RATE, is_forwarding, number, testpmd_arguments},
    process::{Finished, Process, binary, pause},
};

/// What the last program of a chain is called with, behind its port.
fn receiving(program: &str, place: &Place) -> String {
    match program {
        "gpurx" => format!("-m fake --seq ipid --deadline 5s -c {FRAMES} -t 50s --json"),
        _ => format!("-w {} -c {FRAMES} -t 50s --json", place.path("frames.pcapng").display()),
    }
}

/// That it has received every frame, and each whole.
fn has_received(program: &str, received: Finished, chain: &Value) {
    let summary = received.succeeded().json();
    match program {
        "gpurx" => {
            assert_eq!(number(&summary, "/verify/ok"), FRAMES, "{summary:#}\n{chain:#}");
            assert_eq!(summary["path"], "bounce");
        }
        _ => assert_eq!(number(&summary, "/written"), FRAMES, "{summary:#}\n{chain:#}"),
    }
}

/// What numbers its frames as gpurx looks for, and receives, so that it waits before it closes its port.
const SENDING: &str = "--rx --ip-id --size 200-1000 --json -t 50s";

/// Two kinds of port that are each other's peers: one makes the socket, the other connects to it.
struct Kind {
    server: fn(&Place, u32, &str) -> String,
    client: fn(&Place, u32, &str) -> String,
}

/// The whole chain: l2fwd and who receives make sockets, pktgen connects to testpmd's.
fn passes(test: &str, kind: &Kind) {
    for program in ["gpurx", "capture"] {
        let Some(place) = Place::open(test).filter(|_| has_testpmd(test)) else { return };
        let ours = |number, socket: &str| {
            format!("dpdk:{},{ORDINARY}", (kind.server)(&place, number, socket))
        };
        let (into, out, end) = (ours(0, "into"), ours(1, "out"), ours(0, "end"));
        let mut l2fwd = place.start("l2fwd", &format!("-p {into} -p {out} --json"));
        let arguments = format!("-p {end} {}", receiving(program, &place));
        let mut receiver = place.start(program, &arguments);
        place.wait_for_socket("into", &mut l2fwd);
        place.wait_for_socket("out", &mut l2fwd);
        place.wait_for_socket("end", &mut receiver);
        let client = |number, socket: &str| (kind.client)(&place, number, socket);
        let _testpmd = place.testpmd_between(&[
            (kind.server)(&place, 0, "sent"),
            client(1, "into"),
            client(2, "out"),
            client(3, "end"),
        ]);
        // Until each end of each connection knows of the other.
        pause(Duration::from_millis(500));
        let port = format!("dpdk:{},{ORDINARY}", client(0, "sent"));
        let sent = place.run("pktgen", &format!("-p {port} {SENDING} -c {FRAMES} --rate {RATE}"));
        let sent = sent.succeeded().json();
        assert_eq!(number(&sent, "/tx/frames"), FRAMES, "{sent:#}");
        let received = receiver.finish();
        l2fwd.interrupt();
        let forwarded = l2fwd.finish().succeeded().json();
        has_received(program, received, &forwarded);
        for counter in ["/ports/0/rx/delivered", "/ports/1/tx/delivered"] {
            assert_eq!(number(&forwarded, counter), FRAMES, "{forwarded:#}");
        }
    }
}

#[test]
fn all_apps_and_testpmd_pass_frames_on_over_memif() {
    let test = "all_apps_and_testpmd_pass_frames_on_over_memif";
    passes(
        test,
        &Kind {
            server: |place, number, socket| place.memif_device(number, "server", socket),
            client: |place, number, socket| place.memif_device(number, "client", socket),
        },
    );
}

#[test]
fn all_apps_and_testpmd_pass_frames_on_over_vhost_and_virtio_user() {
    let test = "all_apps_and_testpmd_pass_frames_on_over_vhost_and_virtio_user";
    passes(
        test,
        &Kind {
            server: |place, number, socket| {
                format!("net_vhost{number},iface={},queues=1", place.path(socket).display())
            },
            client: |place, number, socket| {
                let socket = place.path(socket);
                format!("net_virtio_user{number},path={},queue_size=1024", socket.display())
            },
        },
    );
}

/// A device of DPDK's net_af_packet; in an app a port of the same.
fn packet_device(number: u32, interface: &str) -> String {
    format!("net_af_packet{number},iface={interface}")
}

fn packet_port(number: u32, interface: &str) -> String {
    format!("-p dpdk:{},{ORDINARY}", packet_device(number, interface))
}

fn testpmd_in(lab: &Lab, place: crate::lab::Place, devices: &[String], topology: &str) -> Process {
    is_forwarding(lab.start(place, "stdbuf", &testpmd_arguments(devices, topology)))
}

/// pktgen's frames through testpmd to who receives.
#[test]
fn testpmd_between_pktgen_and_who_receives_over_af_packet_loses_nothing() {
    let test = "testpmd_between_pktgen_and_who_receives_over_af_packet_loses_nothing";
    for program in ["gpurx", "capture"] {
        let Some(place) = Place::open(test).filter(|_| has_testpmd(test)) else { return };
        let Some(lab) = Lab::open(test, &["ip"]) else { return };
        let arguments = format!("{} {}", packet_port(0, "vb"), receiving(program, &place));
        let mut receiver = lab.start(Right, &binary(program), &arguments);
        lab.wait_for_listeners(Right, 1, &mut receiver);
        let devices = [packet_device(0, "fa"), packet_device(1, "fb")];
        let _testpmd = testpmd_in(&lab, Middle, &devices, "paired");
        let arguments = format!("{} {SENDING} -c {FRAMES} --rate {RATE}", packet_port(0, "va"));
        let sent = lab.start(Left, &binary("pktgen"), &arguments).finish().succeeded().json();
        assert_eq!(number(&sent, "/tx/frames"), FRAMES, "{sent:#}");
        has_received(program, receiver.finish(), &sent);
    }
}

/// pktgen's frames through l2fwd to testpmd, and back.
#[test]
fn testpmd_echoes_over_af_packet_what_came_through_l2fwd() {
    let test = "testpmd_echoes_over_af_packet_what_came_through_l2fwd";
    let Some(_) = Place::open(test).filter(|_| has_testpmd(test)) else { return };
    let Some(lab) = Lab::open(test, &["ip"]) else { return };
    let arguments = format!("{} {} --json", packet_port(0, "fa"), packet_port(1, "fb"));
    let mut l2fwd = lab.start(Middle, &binary("l2fwd"), &arguments);
    lab.wait_for_listeners(Middle, 2, &mut l2fwd);
    let _testpmd = testpmd_in(&lab, Right, &[packet_device(0, "vb")], "loop");
    let arguments = format!("{} {SENDING} -c {FRAMES} --rate {RATE} --check", packet_port(0, "va"));
    let sent = lab.start(Left, &binary("pktgen"), &arguments).finish().succeeded().json();
    assert_eq!(number(&sent, "/rx/good"), FRAMES, "{sent:#}");
    l2fwd.interrupt();
    l2fwd.finish().succeeded();
}
