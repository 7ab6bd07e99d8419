//! What chaos injects is what is observed, by kind, exactly: through every kind of port, by pktgen and
//! by its companions. Two conventions: one flow where frames change places, for chaos counts a frame
//! that the next one overtook, whatever its flow; and chaos in one place at a time, for a frame to which
//! two things happened is seen as one of them.

mod common;

use std::time::Duration;

use clap::Parser;
use common::{alone, beside, injected, json, number, run, run_on};
use memwire_apps::{Stop, report::Output};
use pmd::Registry;
use serde_json::Value;

/// Every kind of harm, in one direction.
fn all(side: &str) -> String {
    let faults = ["drop", "dup", "reorder", "flip", "truncate"];
    faults.map(|fault| format!("{side}.{fault}=1%")).join(",")
}

/// Holds what pktgen observed against what chaos says of some ports.
#[track_caller]
fn check(observed: &Value, sent: u64, ports: &[&Value]) {
    let sum = |fault: &str| -> u64 {
        let sides = ["rx", "tx"].map(|side| format!("{side}_{fault}"));
        sides.iter().flat_map(|name| ports.iter().map(|port| injected(port, name))).sum()
    };
    for (kind, fault) in [
        ("lost", "drop"),
        ("duplicate", "dup"),
        ("reordered", "reorder"),
        ("corrupt", "flip"),
        ("truncated", "truncate"),
    ] {
        let (seen, done) = (number(observed, &format!("/rx/{kind}")), sum(fault));
        assert_eq!(seen, done, "{kind} against {fault}: {observed:#}\n{ports:#?}");
        assert!(done > 0, "no {fault} at all: {ports:#?}");
    }
    assert_eq!(number(observed, "/rx/stale") + number(observed, "/rx/foreign"), 0);
    let frames = sent - sum("drop") + sum("dup");
    assert_eq!(number(observed, "/rx/frames"), frames);
}

#[test]
fn over_a_wire_at_the_receiving_end() {
    let _alone = alone();
    for (size, queues) in [("300", 1), ("100-1500", 1), ("imix", 1), ("300", 2)] {
        // Of 60 bytes nothing may be harmed: of those frames, fewer are.
        let line = format!(
            "-p ring:a -p chaos:seed=7,{}@ring:a --size {size} -c 40k -q {queues} --flows {queues}",
            all("rx")
        );
        let summary = json(&run(&line).unwrap());
        check(&summary, 40_000, &[&summary["ports"][1]]);
    }
}

#[test]
fn over_a_wire_at_the_sending_end() {
    let _alone = alone();
    // A port that changes bits of what it sends changes them in the sender's buffers, which therefore
    // have to be written anew.
    let line =
        format!("-p chaos:seed=3,{}@ring:a -p ring:a --size 300 -c 40k --fresh-payload", all("tx"));
    let summary = json(&run(&line).unwrap());
    check(&summary, 40_000, &[&summary["ports"][0]]);
}

#[test]
fn every_flow_loses_what_was_dropped_of_it() {
    let _alone = alone();
    let line = "-p ring:a -p chaos:seed=9,drop=2%,dup=2%,flip=2%,truncate=2%@ring:a --size 200 \
                --flows 50 -c 50k";
    let summary = json(&run(line).unwrap());
    let port = &summary["ports"][1];
    for (kind, fault) in [
        ("lost", "rx_drop"),
        ("duplicate", "rx_dup"),
        ("corrupt", "rx_flip"),
        ("truncated", "rx_truncate"),
    ] {
        let flows = summary["flows"].as_array().unwrap();
        let seen: u64 = flows.iter().map(|flow| flow[kind].as_u64().unwrap()).sum();
        assert_eq!((seen, flows.len()), (injected(port, fault), 50), "{kind}");
    }
}

#[test]
fn with_losses_of_every_other_kind() {
    let _alone = alone();
    let line = "-p ring:a -p chaos:seed=5,rx.exhaust=1%,rx.exhaust.for=3,stall=1%,stall.for=20,\
                down#5000..5999@ring:a --size 200 -c 20k";
    let summary = json(&run(line).unwrap());
    let port = &summary["ports"][1];
    let lost = injected(port, "rx_exhaust") + injected(port, "rx_down");
    assert_eq!(number(&summary, "/rx/lost"), lost);
    assert_eq!(injected(port, "rx_down"), 1000);
    assert!(injected(port, "rx_stall") > 100);
}

#[test]
fn through_captures() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    for (name, tx, rx) in
        [("writing", all("tx"), String::new()), ("reading", String::new(), all("rx"))]
    {
        let file = folder.path().join(name).with_extension("pcapng").display().to_string();
        let line = format!("-p chaos:{tx}@pcap:,tx={file} --size 256 -c 30k --fresh-payload");
        let sent = json(&run(&line).unwrap());
        let line = format!("--rx-only -p chaos:{rx}@pcap:{file} --size 256");
        let received = json(&run(&line).unwrap());
        check(&received, 30_000, &[&sent["ports"][0], &received["ports"][0]]);
    }
}

#[test]
fn through_l2fwd_over_wires() {
    let _alone = alone();
    for (rx, tx) in [(all("rx"), String::new()), (String::new(), all("tx"))] {
        let registry = Registry::new();
        let mut theirs = registry.clone();
        let line = format!(
            "l2fwd -m host --quiet --buffers 65536 -p chaos:seed=2,{rx}@ring:a,size=16384 \
             -p chaos:seed=3,{tx}@ring:b,size=16384"
        );
        let (stop, app) = beside(move |stop: Stop| {
            let args = l2fwd::Args::try_parse_from(line.split_whitespace()).unwrap();
            let mut output = Output::new(&args.run).unwrap();
            l2fwd::run(&args, &mut theirs, &stop, &mut output)
        });
        // Slow enough for l2fwd to refuse nothing, and with room for it to be held up.
        let line = "-p ring:a,size=16384 -p ring:b,size=16384 --size 300 -c 30k --rate 15kpps \
                    --buffers 65536";
        let summary = run_on(&registry, line);
        stop.set();
        let forwarded = serde_json::to_value(app.join().unwrap().unwrap()).unwrap();
        let summary = json(&summary.unwrap());
        let ports = [&forwarded["ports"][0], &forwarded["ports"][1]];
        let passed = number(ports[0], "/rx/delivered") + injected(ports[1], "tx_dup");
        assert_eq!(number(ports[1], "/tx/offered"), passed, "l2fwd had no room: {forwarded:#}");
        check(&summary, 30_000, &ports);
    }
}

#[test]
fn into_gpurx_over_a_wire() {
    let _alone = alone();
    for (path, faults, field, form) in [
        ("direct", "rx.drop=1%,rx.reorder=1%,rx.flip=1%", "memwire", "long"),
        ("bounce", "rx.drop=1%,rx.dup=1%,rx.reorder=1%,rx.flip=1%", "memwire", "long"),
        ("direct", "rx.drop=1%,rx.reorder=1%,rx.flip=1%", "memwire-short", "short"),
    ] {
        let registry = Registry::new();
        let mut theirs = registry.clone();
        let line = format!(
            "gpurx -p chaos:seed=6,{faults}@ring:a --path {path} -m host --quiet --udp-port 9000 \
             --seq {field}"
        );
        let (stop, app) = beside(move |stop: Stop| {
            let args = gpurx::args::Args::try_parse_from(line.split_whitespace()).unwrap();
            let mut output = Output::new(&args.run).unwrap();
            gpurx::run::receive(&args, &mut theirs, &stop, &mut output)
        });
        let line = format!("-p ring:a --size 300 --header {form} -c 30k --rate 50kpps");
        let sent = run_on(&registry, &line);
        std::thread::park_timeout(Duration::from_millis(300));
        stop.set();
        let received = app.join().unwrap().unwrap();
        let sent = sent.unwrap();
        json(&sent);
        let received = serde_json::to_value(&received.summary).unwrap();
        let port = &received["ports"][0];
        for (kind, fault) in
            [("missing", "drop"), ("duplicate", "dup"), ("reordered", "reorder"), ("bad", "flip")]
        {
            let seen = number(&received, &format!("/verify/{kind}"));
            let done = injected(port, &format!("rx_{fault}"));
            assert_eq!(seen, done, "{path}: {kind} against {fault}: {received:#}");
            assert!(done > 100 || !faults.contains(fault), "no {fault}: {port:#}");
        }
    }
}
