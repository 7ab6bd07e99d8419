//! The apps with DPDK's own application at the other end, and over virtio and vhost-user.

use std::time::Duration;

use crate::{
    place::{FRAMES, ORDINARY, Place, RATE, number},
    process::{is_installed, pause},
};

pub(crate) fn has_testpmd(test: &str) -> bool {
    let missing = ["dpdk-testpmd", "stdbuf"].into_iter().find(|program| !is_installed(program));
    if let Some(program) = missing {
        eprintln!("SKIP {test}: {program} is not installed");
    }
    missing.is_none()
}

/// pktgen on a port whose peer echoes.
fn measures(place: &Place, port: &str) {
    let arguments =
        format!("-p {port} --rx --size 90-1400 -c {FRAMES} --rate {RATE} --check --json -t 50s");
    let summary = place.run("pktgen", &arguments).succeeded().json();
    assert_eq!(number(&summary, "/rx/good"), FRAMES, "{summary:#}");
}

#[test]
fn pktgen_measures_testpmd_over_memif() {
    let test = "pktgen_measures_testpmd_over_memif";
    let Some(place) = Place::open(test).filter(|_| has_testpmd(test)) else { return };
    let _testpmd = place.testpmd(&place.memif_device(0, "server", "s"));
    measures(&place, &place.memif(0, "client", "s"));
}

#[test]
fn pktgen_measures_testpmd_over_virtio_user() {
    let test = "pktgen_measures_testpmd_over_virtio_user";
    let Some(place) = Place::open(test).filter(|_| has_testpmd(test)) else { return };
    let socket = place.path("s");
    let _testpmd = place.testpmd(&format!("net_vhost0,iface={},queues=1", socket.display()));
    measures(
        &place,
        &format!("dpdk:net_virtio_user0,path={},queue_size=1024,{ORDINARY}", socket.display()),
    );
}

#[test]
fn gpurx_on_vhost_receives_what_pktgen_sends_by_virtio() {
    let Some(place) = Place::open("gpurx_on_vhost_receives_what_pktgen_sends_by_virtio") else {
        return;
    };
    let socket = place.path("s");
    let arguments = format!(
        "-p dpdk:net_vhost0,iface={},{ORDINARY} -m fake --seq ipid --deadline 5s -c {FRAMES} -t 50s \
         --json",
        socket.display()
    );
    let mut gpurx = place.start("gpurx", &arguments);
    place.wait_for_socket("s", &mut gpurx);
    let arguments = format!(
        "-p dpdk:net_virtio_user0,path={},queue_size=1024,{ORDINARY} --rx --ip-id --size 1000 -c {FRAMES} --rate {RATE} \
         -t 50s --json",
        socket.display()
    );
    place.run("pktgen", &arguments).succeeded();
    let summary = gpurx.finish().succeeded().json();
    assert_eq!(number(&summary, "/verify/ok"), FRAMES, "{summary:#}");
    assert_eq!(summary["path"], "bounce");
}

#[test]
fn an_app_outlives_a_peer_that_is_killed_and_keeps_its_books() {
    let test = "an_app_outlives_a_peer_that_is_killed_and_keeps_its_books";
    let Some(place) = Place::open(test).filter(|_| has_testpmd(test)) else { return };
    let port = place.memif(0, "server", "s");
    let arguments = format!("--rx-only -p {port} --json");
    let mut receiver = place.start("pktgen", &arguments);
    place.wait_for_socket("s", &mut receiver);
    for _ in 0..2 {
        // Killed as it ends.
        drop(place.testpmd(&place.memif_device(0, "client", "s")));
        pause(Duration::from_millis(200));
        assert!(!receiver.has_ended(), "{}", receiver.stderr());
    }
    let arguments = format!(
        "-p {} --rx --size 200 -c {FRAMES} --rate {RATE} -t 50s --json",
        place.memif(0, "client", "s")
    );
    place.run("pktgen", &arguments).succeeded();
    pause(Duration::from_millis(500));
    receiver.interrupt();
    let summary = receiver.finish().succeeded().json();
    assert_eq!(number(&summary, "/rx/frames"), FRAMES, "{summary:#}");
}
