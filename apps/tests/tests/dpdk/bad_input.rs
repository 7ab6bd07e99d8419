//! What apps say of ports of DPDK's that cannot be had, and how they end.

use std::os::unix::net::UnixListener;

use crate::place::{ORDINARY, Place};

fn is_refused(place: &Place, port: &str, code: i32, said: &[&str]) {
    for app in ["gpurx", "pktgen", "capture"] {
        let refused = place.run(app, &format!("-p {port} -t 1s"));
        assert_eq!(refused.code(), Some(code), "{app} -p {port}: {}", refused.stderr);
        for part in said {
            assert!(refused.stderr.contains(part), "{app}: no '{part}' in {}", refused.stderr);
        }
    }
}

#[test]
fn a_port_that_cannot_be_had_is_refused_with_what_would_work() {
    let Some(place) = Place::open("a_port_that_cannot_be_had_is_refused_with_what_would_work")
    else {
        return;
    };
    let device = |device: &str| format!("dpdk:{device},{ORDINARY}");
    is_refused(&place, &device("net_nul0"), 3, &["DPDK cannot attach 'net_nul0'", "net_null0"]);
    let said = ["DPDK cannot attach 'net_memif0'", "Unknown role: nonsense"];
    is_refused(&place, &device("net_memif0,role=nonsense"), 3, &said);
    let said = ["option server: DPDK would wait", "dpdk:net_vhost0,iface=PATH"];
    is_refused(&place, &device("net_virtio_user0,path=/tmp/s,server=1"), 2, &said);
    let said = ["DPDK's environment refused", "hugepages", "eal-no-huge"];
    is_refused(&place, "dpdk:net_null0,eal-mem=1048576", 3, &said);
}

#[test]
fn an_app_does_not_wait_for_ever_for_a_peer_that_says_nothing() {
    let test = "an_app_does_not_wait_for_ever_for_a_peer_that_says_nothing";
    let Some(place) = Place::open(test) else { return };
    let socket = place.path("s");
    let _listener = UnixListener::bind(&socket).unwrap();
    let port = format!("dpdk:net_virtio_user0,path={},{ORDINARY}", socket.display());
    let refused = place.run("pktgen", &format!("-p {port} -t 1s"));
    assert_eq!(refused.code(), Some(3), "{}", refused.stderr);
    let said =
        format!("took more than 10 s and was interrupted; who listens at {}", socket.display());
    assert!(refused.stderr.contains(&said), "{}", refused.stderr);
}
