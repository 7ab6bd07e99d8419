//! `pktgen` over veth: through `l2fwd` and into `gpurx`, with chaos in between. What was injected is
//! what was observed.

use serde_json::Value;

use crate::{
    lab::{
        Lab,
        Place::{Left, Middle, Right},
    },
    process::{binary, pause},
};

/// Every kind of harm, in one direction.
fn all(side: &str) -> String {
    let faults = ["drop", "dup", "reorder", "flip", "truncate"];
    faults.map(|fault| format!("{side}.{fault}=1%")).join(",")
}

fn number(value: &Value, pointer: &str) -> u64 {
    let found = value.pointer(pointer).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("no {pointer}: {value:#}"))
}

/// How often chaos did something, at all of these ports.
fn injected(ports: &[&Value], fault: &str) -> u64 {
    let names = ["rx", "tx"].map(|side| format!("chaos_{side}_{fault}"));
    let of = |port: &&Value| -> u64 {
        names.iter().filter_map(|name| port["device"].get(name)).filter_map(Value::as_u64).sum()
    };
    ports.iter().map(of).sum()
}

/// Lets frames that are on their way arrive, and be counted.
fn settle() {
    pause(std::time::Duration::from_millis(300));
}

#[test]
fn what_chaos_injects_between_two_pktgens_and_an_l2fwd_is_observed() {
    let test = "what_chaos_injects_between_two_pktgens_and_an_l2fwd_is_observed";
    let Some(lab) = Lab::open(test, &["ip"]) else {
        return;
    };
    const FRAMES: u64 = 20_000;
    for place in 0..3 {
        // In one place at a time: a frame to which two things happen is seen as one of them.
        let at = |index, side| if place == index { all(side) } else { "seed=1".to_owned() };
        let arguments = format!("-p chaos:{}@af_packet:fa -p af_packet:fb --json", at(1, "rx"));
        let mut l2fwd = lab.start(Middle, &binary("l2fwd"), &arguments);
        lab.wait_for_listeners(Middle, 2, &mut l2fwd);
        let arguments =
            format!("--rx-only -p chaos:{}@af_packet:vb --size 200 --json", at(2, "rx"));
        let mut receiver = lab.start(Right, &binary("pktgen"), &arguments);
        lab.wait_for_listeners(Right, 1, &mut receiver);
        let arguments = format!(
            "-p chaos:{}@af_packet:va --size 200 -c {FRAMES} --rate 20kpps --fresh-payload --json",
            at(0, "tx")
        );
        let sent = lab.start(Left, &binary("pktgen"), &arguments).finish().succeeded().json();
        settle();
        receiver.interrupt();
        let received = receiver.finish().succeeded().json();
        l2fwd.interrupt();
        let forwarded = l2fwd.finish().json();
        assert_eq!(number(&sent, "/tx/frames"), FRAMES);
        let ports = [&sent["ports"][0], &forwarded["ports"][0], &received["ports"][0]];
        let flow = &received["flows"][0];
        // Whoever only receives knows what is missing up to the highest number that came.
        assert_eq!(FRAMES - number(flow, "/arrived"), injected(&ports, "drop"), "{received:#}");
        for (kind, fault) in [
            ("duplicate", "dup"),
            ("reordered", "reorder"),
            ("corrupt", "flip"),
            ("truncated", "truncate"),
        ] {
            let (seen, done) = (number(flow, &format!("/{kind}")), injected(&ports, fault));
            assert_eq!(seen, done, "{kind}, place {place}: {received:#}");
            assert!(done > 50, "{done} times {fault}");
        }
        for kind in ["stale", "foreign"] {
            assert_eq!(number(&received, &format!("/rx/{kind}")), 0, "{kind}: {received:#}");
        }
        eprintln!("{test}: place {place}: {:#}", received["rx"]["latency"]["p99_ns"]);
    }
}

#[test]
fn what_chaos_injects_between_pktgen_and_gpurx_is_observed() {
    let test = "what_chaos_injects_between_pktgen_and_gpurx_is_observed";
    let Some(lab) = Lab::open(test, &["ip"]) else {
        return;
    };
    let arguments = "-p chaos:rx.drop=1%,rx.dup=1%,rx.reorder=1%,rx.flip=1%@af_packet:fa \
                     --udp-port 9000 --deadline 1s --json";
    // A deadline that no pause of a busy machine reaches: a frame that was put behind another is not late.
    let mut receiver = lab.start(Middle, &binary("gpurx"), arguments);
    lab.wait_for_listeners(Middle, 1, &mut receiver);
    let arguments = "-p af_packet:va --size 300 -c 20k --rate 20kpps --json";
    let sent = lab.start(Left, &binary("pktgen"), arguments).finish().succeeded().json();
    settle();
    receiver.interrupt();
    // It ends with 4: rows were not what was sent.
    let received = receiver.finish().json();
    assert_eq!(number(&sent, "/tx/frames"), 20_000);
    for (kind, fault) in
        [("missing", "drop"), ("duplicate", "dup"), ("reordered", "reorder"), ("bad", "flip")]
    {
        let done = injected(&[&received["ports"][0]], fault);
        assert_eq!(number(&received, &format!("/verify/{kind}")), done, "{kind}: {received:#}");
        assert!(done > 50, "{done} times {fault}");
    }
}

#[test]
fn pktgen_measures_a_pair_of_interfaces_of_its_own() {
    let Some(lab) = Lab::open("pktgen_measures_a_pair_of_interfaces_of_its_own", &["ip"]) else {
        return;
    };
    lab.ip(Right, "link add xa type veth peer name xb").unwrap();
    lab.ip(Right, "link set xa up").unwrap();
    lab.ip(Right, "link set xb up").unwrap();
    for headers in
        ["--size imix --flows 20", "--size 90-1500 --vlan 5", "--size 200 --dst fd00::/124"]
    {
        let arguments = format!(
            "-p af_packet:xa -p af_packet:xb {headers} --rate 10kpps -c 10k --check --json"
        );
        let summary = lab.start(Right, &binary("pktgen"), &arguments).finish().succeeded().json();
        assert_eq!(number(&summary, "/rx/good"), 10_000, "{headers}: {summary:#}");
    }
    // A share of a link whose speed is known: veth says 10 Gb/s.
    let arguments = "-p af_packet:xa -p af_packet:xb --size 1000 --rate 0.1% -t 500ms --json";
    let summary = lab.start(Right, &binary("pktgen"), arguments).finish().succeeded().json();
    let sent = number(&summary, "/tx/frames");
    assert!(sent.abs_diff(10_000_000 / (1024 * 8) / 2) < 60, "{sent}");
}
