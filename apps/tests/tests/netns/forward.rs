//! Two hosts talk through `l2fwd` as through a cable.

use serde_json::Value;

use crate::{
    lab::{
        Lab,
        Place::{Left, Middle, Right},
    },
    process::{Process, binary},
};

/// Starts `l2fwd` between the hosts.
pub(crate) fn join(lab: &Lab, options: &str) -> Process {
    let arguments = format!("-p af_packet:fa -p af_packet:fb --json {options}");
    let mut l2fwd = lab.start(Middle, &binary("l2fwd"), &arguments);
    lab.wait_for_listeners(Middle, 2, &mut l2fwd);
    lab.wait_for_ping();
    l2fwd
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path} in {value:#}"))
}

fn drops(direction: &Value) -> u64 {
    drops_of(&direction["drops"])
}

fn drops_of(reasons: &Value) -> u64 {
    reasons.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum()
}

/// Ends `l2fwd` and checks its books; returns the frames it received and those it dropped.
pub(crate) fn part(l2fwd: Process) -> (u64, u64) {
    l2fwd.interrupt();
    let summary = l2fwd.finish().succeeded().json();
    let (mut received, mut dropped) = (0, 0);
    for port in summary["ports"].as_array().unwrap() {
        for direction in [&port["rx"], &port["tx"]] {
            let (offered, delivered) =
                (number(direction, "/offered"), number(direction, "/delivered"));
            assert_eq!(offered, delivered + drops(direction), "{port:#}");
            dropped += drops(direction);
        }
        received += number(port, "/rx/offered");
        for reasons in ["dropped", "unsent"] {
            dropped += drops_of(&port[reasons]);
        }
        assert_eq!(port["health"], "good", "{port:#}");
    }
    (received, dropped)
}

/// Runs iperf3 from left to right; returns its report.
pub(crate) fn iperf(lab: &Lab, options: &str) -> Value {
    let mut server = lab.start(Right, "iperf3", "-s -1");
    crate::process::wait_for("iperf3's socket", || {
        assert!(!server.has_ended(), "{}", server.stderr());
        let sockets = lab.run(Right, "cat", "/proc/net/tcp");
        let sockets = sockets + &lab.run(Right, "cat", "/proc/net/tcp6");
        sockets.contains(":1451 ").then_some(()) // 5201
    });
    let client = lab.start(Left, "iperf3", &format!("-c 10.98.0.2 -J {options}")).finish();
    let report = client.json();
    assert!(report.get("error").is_none(), "{}", report["error"]);
    report
}

fn carries_tcp(test: &str, options: &str, l2fwd_options: &str) {
    let Some(lab) = Lab::open(test, &["iperf3", "ping"]) else {
        return;
    };
    let l2fwd = join(&lab, l2fwd_options);
    let report = iperf(&lab, options);
    let bytes = number(&report, "/end/sum_received/bytes");
    let retransmits = number(&report, "/end/sum_sent/retransmits");
    let (received, dropped) = part(l2fwd);
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap() / 1e9;
    eprintln!(
        "{test}: {rate:.2} Gb/s, {retransmits} retransmits, {received} frames, {dropped} dropped"
    );
    assert!(bytes > 1_000_000, "{bytes} B");
    assert!(received > bytes / 1448, "{received} frames cannot carry {bytes} B");
}

#[test]
fn tcp_passes_from_left_to_right() {
    carries_tcp("tcp_passes_from_left_to_right", "-t 2", "");
}

#[test]
fn tcp_passes_from_right_to_left() {
    carries_tcp("tcp_passes_from_right_to_left", "-t 2 -R", "");
}

#[test]
fn tcp_passes_both_ways_over_two_queues() {
    carries_tcp("tcp_passes_both_ways_over_two_queues", "-t 2 -P 4", "-q 2");
}

fn loses_no_more_udp_than_it_says(test: &str, options: &str) {
    let Some(lab) = Lab::open(test, &["iperf3", "ping"]) else {
        return;
    };
    let l2fwd = join(&lab, "");
    let report = iperf(&lab, &format!("-u -b 40M -l 1400 -t 2 {options}"));
    let (sent, lost) =
        (number(&report, "/end/sum/packets"), number(&report, "/end/sum/lost_packets"));
    let unread = lab.udp_errors(Left) + lab.udp_errors(Right);
    let (received, dropped) = part(l2fwd);
    eprintln!("{test}: {sent} sent, {lost} lost; {dropped} dropped, {unread} unread by the host");
    assert!(sent > 1_000 && received >= sent - lost);
    assert!(lost <= dropped + unread, "{lost} lost, {dropped} dropped, {unread} unread");
}

#[test]
fn udp_from_left_to_right_loses_no_more_than_was_counted() {
    let test = "udp_from_left_to_right_loses_no_more_than_was_counted";
    loses_no_more_udp_than_it_says(test, "");
}

#[test]
fn udp_from_right_to_left_loses_no_more_than_was_counted() {
    let test = "udp_from_right_to_left_loses_no_more_than_was_counted";
    loses_no_more_udp_than_it_says(test, "-R");
}
