//! What chaos injects is what is observed, by kind, exactly: through every kind of port, by pktgen and
//! by its companions. One flow where frames change places: chaos counts a frame that the next one
//! overtook, whatever its flow.

mod common;

use std::time::Duration;

use clap::Parser;
use common::{alone, beside, injected, json, number, run, run_on};
use memwire_apps::{Stop, report::Output};
use pmd::Registry;
use serde_json::Value;

const ALL: &str = "drop=1%,dup=1%,reorder=1%,flip=1%,truncate=1%";

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
            "-p ring:a -p chaos:seed=7,{ALL}@ring:a --size {size} --header auto -c 40k -q {queues} \
             --flows {queues}"
        );
        let summary = json(&run(&line).unwrap());
        check(&summary, 40_000, &[&summary["ports"][1]]);
    }
}

#[test]
fn over_a_wire_at_both_ends() {
    let _alone = alone();
    // A port that changes bits of what it sends changes them in the sender's buffers.
    let line = "-p chaos:seed=3,tx.drop=1%,tx.dup=1%,tx.flip=1%@ring:a \
                -p chaos:seed=4,rx.reorder=2%,rx.truncate=1%@ring:a --size 300 -c 40k --fresh-payload";
    let summary = json(&run(line).unwrap());
    let ports = [&summary["ports"][0], &summary["ports"][1]];
    check(&summary, 40_000, &ports);
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
    let file = folder.path().join("sent.pcapng").display().to_string();
    let line = format!(
        "-p chaos:seed=8,tx.drop=1%,tx.dup=1%,tx.reorder=1%@pcap:,tx={file} --size 256 -c 30k"
    );
    let sent = json(&run(&line).unwrap());
    let line =
        format!("--rx-only -p chaos:seed=9,rx.flip=1%,rx.truncate=1%@pcap:{file} --size 256");
    let received = json(&run(&line).unwrap());
    check(&received, 30_000, &[&sent["ports"][0], &received["ports"][0]]);
}

#[test]
fn through_l2fwd_over_wires() {
    let _alone = alone();
    let registry = Registry::new();
    let mut theirs = registry.clone();
    // l2fwd's ends first: it runs for as long as it is not stopped.
    let line = format!(
        "l2fwd -m host --quiet --idle sleep --mode forward -p chaos:seed=2,rx.drop=1%,rx.dup=1%@ring:a \
         -p chaos:seed=3,tx.reorder=1%,tx.flip=1%,tx.truncate=1%@ring:b"
    );
    let (stop, app) = beside(move |stop: Stop| {
        let args = l2fwd::Args::try_parse_from(line.split_whitespace()).unwrap();
        let mut output = Output::new(&args.run).unwrap();
        l2fwd::run(&args, &mut theirs, &stop, &mut output)
    });
    // Slow enough for l2fwd to refuse nothing.
    let line = "-p ring:a -p ring:b --size 300 -c 30k --rate 50kpps --linger 300ms";
    let summary = run_on(&registry, line);
    stop.set();
    let forwarded = serde_json::to_value(app.join().unwrap().unwrap()).unwrap();
    let summary = json(&summary.unwrap());
    assert_eq!(forwarded["balanced"], true, "{forwarded:#}");
    assert_eq!(number(&forwarded, "/ports/1/tx_refused"), 0);
    check(&summary, 30_000, &[&forwarded["ports"][0], &forwarded["ports"][1]]);
}

#[test]
fn into_gpurx_over_a_wire() {
    let _alone = alone();
    for (path, faults) in [
        ("direct", "rx.drop=1%,rx.reorder=1%,rx.flip=1%"),
        ("bounce", "rx.drop=1%,rx.dup=1%,rx.reorder=1%,rx.flip=1%"),
    ] {
        let registry = Registry::new();
        let mut theirs = registry.clone();
        let line = format!(
            "gpurx -p chaos:seed=6,{faults}@ring:a --path {path} -m host --quiet --udp-port 9000"
        );
        let (stop, app) = beside(move |stop: Stop| {
            let args = gpurx::args::Args::try_parse_from(line.split_whitespace()).unwrap();
            let mut output = Output::new(&args.run).unwrap();
            gpurx::run::run(&args, &mut theirs, &stop, &mut output)
        });
        let sent = run_on(&registry, "-p ring:a --size 300 -c 30k --rate 50kpps");
        std::thread::park_timeout(Duration::from_millis(300));
        stop.set();
        let received = app.join().unwrap().unwrap();
        let sent = sent.unwrap();
        json(&sent);
        let received = serde_json::to_value(received).unwrap();
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
