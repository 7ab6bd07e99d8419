//! The program as a user meets it: what it says of what cannot be, how it ends, what it prints.

mod common;

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use common::{check, check_summary, gpurx, json, outcome, run, schema};
use serde_json::Value;

#[test]
fn what_cannot_be_is_refused_with_the_reason_and_the_fix() {
    for (line, code, says) in [
        ("-p rnig:a", 2, "unknown driver 'rnig' (did you mean 'ring'?)"),
        ("-p af_packet:nosuch0", 3, "no interface 'nosuch0'"),
        ("-p ring:a --ring 1000", 2, "must be a power of two in 2..=32768 (nearest: 1024)"),
        ("--rows 1000000 -m fake:1M", 3, "needs 16.2 GiB, but only 1 MiB can be had"),
        ("--rows 16777216 --blocks 4000000000", 2, "is more than the limit"),
        ("--blocks 1", 2, "at least 7 are needed\n hint: --blocks 7"),
        ("-p null:a -p null:a", 2, "port 'null:a' is named twice"),
        ("-l 0,9999", 2, "a list of cores"),
        ("-l 999", 2, "core 999: not in allowed set"),
        ("-p null: --path direct", 3, "hint: --path bounce works here"),
        ("-m cuda:9", 2, "known: auto, host, hugepage, private, fake"),
        ("-m p2p:03:00.0", 2, "names no BAR; write p2p:BDF/barN"),
        ("-m dmabuf:x", 2, "names no dma-buf; write dmabuf:fd=N"),
        ("--compare --path direct", 2, "cannot be used with"),
        ("--seq rtq", 2, "offset:bytes:endian such as 0:4:be"),
        ("--src 10.0.0.0/33", 2, "such as 10.0.0.1, 10.1.0.0/16"),
        ("--sink pcap", 2, "--out <FILE>"),
        ("--sink pcap --out /nonexistent/x.pcap", 3, "--out /nonexistent/x.pcap: No such file"),
        ("-p null: --loss 1%", 2, "cannot be used with"),
        ("--payload 4", 2, "payload of 4 B: should be 24 to"),
        ("--rate 50%", 2, "the demo's wire has no speed"),
        ("-p pcap:/nonexistent.pcap", 3, "/nonexistent.pcap"),
    ] {
        let (_, stderr) = run(line, code);
        assert!(stderr.contains(says), "gpurx {line}: {stderr}");
    }
}

#[test]
fn the_demo_verifies_what_it_sends_and_adds_up() {
    let summary = json("-c 300k");
    assert_eq!(summary["sent"]["frames"], 300_000);
    assert_eq!(summary["rx_packets"], 300_000);
    assert_eq!(summary["verify"]["ok"], 300_000);
    for (part, field) in [("verify", "bad"), ("verify", "missing"), ("verify", "reordered")] {
        assert_eq!(summary[part][field], 0, "{field}");
    }
    assert_eq!(summary["path"], "direct");
    assert_eq!(summary["memory"]["provider"], "fake");
    assert_eq!((&summary["rows_moved"], &summary["host_payload_bytes"]), (&0.into(), &0.into()));
}

#[test]
fn both_paths_are_compared_on_the_demos_wire() {
    let (stdout, _) = run("--compare -c 50k --json", 0);
    let told: Value = serde_json::from_str(&stdout).unwrap();
    let mut wrong = Vec::new();
    check(&schema()["$defs"]["comparison"], &told, "$", &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (path, bytes) in [("direct", 0.0), ("bounce", 1024.0)] {
        assert_eq!(told[path]["path"], path);
        assert_eq!(told[path]["rx_packets"], 50_000);
        let touched = told[path]["cost"]["host_bytes"].as_f64().unwrap();
        assert!((touched - bytes).abs() <= 32.0, "{path}: {touched} bytes per packet");
    }
    let (text, _) = run("--compare -c 20k", 0);
    assert!(text.contains("bounce takes") && text.contains("host bytes per packet"), "{text}");
}

#[test]
fn a_way_to_memory_is_proven_if_asked_for_or_it_is_said_why_not() {
    let not = |summary: &Value| summary["probes"][0]["not_probed"].as_str().map(str::to_owned);
    assert_eq!(not(&json("-c 1k")).unwrap(), "the memory is this machine's own");
    assert_eq!(not(&json("-c 1k --probe off")).unwrap(), "--probe off");
    let why = not(&json("-c 1k --probe always")).unwrap();
    assert!(why.contains("no loopback") && why.contains("--probe-from PORT"), "{why}");
}

#[test]
fn rows_that_are_numbered_before_udp_are_verified_to_the_last_byte_on_both_paths() {
    // More rows than the field has numbers.
    for (flags, path) in [("", "direct"), ("--path bounce", "bounce"), ("--contiguous", "direct")] {
        let summary = json(&format!("-c 150k --seq ipid {flags}"));
        assert_eq!(summary["path"], path);
        assert_eq!(summary["verify"]["ok"], 150_000, "{flags}");
        assert_eq!(
            (&summary["verify"]["bad"], &summary["verify"]["missing"]),
            (&0.into(), &0.into())
        );
    }
    let summary = json("-c 150k --seq ipid --loss 1% --swap 1% --dup 1% --foreign 1%");
    let verify = |field: &str| summary["verify"][field].as_u64().unwrap();
    assert_eq!((verify("bad"), verify("ok")), (0, summary["frames"]["rows"].as_u64().unwrap()));
    for field in ["missing", "duplicate", "reordered"] {
        assert!((750..3000).contains(&verify(field)), "{field} {}", verify(field));
    }
}

#[test]
fn a_disturbed_wire_moves_rows_for_tensors_alone() {
    let knobs = "-c 200k --loss 1% --swap 1% --dup 1% --foreign 1%";
    for (flags, moves) in
        [("", false), ("--contiguous", true), ("--contiguous --path bounce", true)]
    {
        let summary = json(&format!("{knobs} {flags}"));
        let count = |part: &str, field: &str| summary[part][field].as_u64().unwrap();
        let injected = |kind: &str| summary["sent"]["injected"][kind].as_u64().unwrap();
        assert_eq!(count("verify", "bad"), 0);
        assert_eq!(count("verify", "ok"), count("frames", "rows"));
        assert_eq!(summary["rows_moved"].as_u64().unwrap() > 0, moves, "{flags}");
        for (part, field) in [
            ("verify", "missing"),
            ("verify", "duplicate"),
            ("verify", "reordered"),
            ("frames", "foreign"),
        ] {
            let share = count(part, field) as f64 / 200e3;
            assert!((0.005..0.02).contains(&share), "{flags}: {field} {share}");
        }
        // All that was sent came, came twice or was lost …
        let sent = count("sent", "frames") + count("sent", "foreign");
        let came = summary["rx_packets"].as_u64().unwrap();
        assert_eq!(came, sent + injected("dup") - injected("drop"));
        // … and what the wire did to the flow's frames is what is seen of them: all but foreign ones.
        for (seen, kind) in [("missing", "drop"), ("duplicate", "dup"), ("reordered", "reorder")] {
            let (seen, injected) = (count("verify", seen), injected(kind));
            assert!(seen <= injected && seen > injected * 9 / 10, "{kind}: {seen} of {injected}");
        }
        let port = summary["sent"]["port"].as_str().unwrap();
        assert_eq!(
            port,
            "chaos:seed=1,tx.drop=0.01,tx.reorder=0.01,tx.dup=0.01@ring:demo,size=512"
        );
    }
}

#[test]
fn several_queues_have_streams_of_their_own() {
    let summary = json("-q 2 -c 100k");
    assert_eq!(summary["verify"]["ok"], 100_000);
    assert_eq!(summary["pool"].as_array().unwrap().len(), 6);
}

#[test]
fn more_loss_than_is_allowed_ends_with_4() {
    let (stdout, stderr) = run("-c 100k --loss 5% --max-loss 1%", 4);
    assert!(stdout.contains("verify  ok"), "{stdout}");
    assert!(stderr.contains("of the rows are missing, at most 1 % may be"), "{stderr}");
    run("-c 100k --loss 0.1% --max-loss 1%", 0);
}

#[test]
fn a_port_that_is_taken_away_ends_the_run_soon_with_the_totals_and_the_reason() {
    let start = Instant::now();
    let line = "-p null: -p chaos:rx.remove#5000@null:x --sink count -t 20s";
    let (stdout, stderr) = run(line, 1);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(stderr.contains("null:x': injected: rx queue 0 at frame 5000"), "{stderr}");
    assert!(stdout.contains("rx ") && stdout.contains("all home"), "{stdout}");
}

#[test]
fn a_port_that_cannot_wake_its_workers_is_told_once_and_they_sleep() {
    let (_, stderr) = run("-p ring:lonely -q 2 --idle interrupt -t 400ms --quiet", 0);
    assert_eq!(stderr.matches("--idle interrupt: a port cannot wake its worker").count(), 1);
}

#[test]
fn each_line_of_the_stream_fits_the_schema() {
    let (stdout, _) = run("-t 700ms -i 200ms --json-stream --rate 100kpps", 0);
    let lines: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (summary, intervals) = lines.split_last().unwrap();
    check_summary(summary);
    assert!(intervals.len() >= 2, "{stdout}");
    for interval in intervals {
        let mut wrong = Vec::new();
        check(&schema()["$defs"]["interval"], interval, "$", &mut wrong);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[test]
fn the_schema_is_not_empty_praise() {
    let mut summary = json("-c 1k");
    summary["verify"]["bad"] = "none".into();
    summary["surprise"] = 1.into();
    summary.as_object_mut().unwrap().remove("path");
    let mut wrong = Vec::new();
    check(&schema(), &summary, "$", &mut wrong);
    assert_eq!(wrong.len(), 3, "{wrong:?}");
}

#[test]
fn a_signal_ends_it_within_two_seconds_with_the_totals() {
    for (signal, line) in [("INT", "-t 60s"), ("TERM", "-p ring:lonely -t 60s")] {
        let mut command = gpurx(line);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::park_timeout(Duration::from_millis(800));
        let asked = Instant::now();
        let pid = child.id().to_string();
        let sent = std::process::Command::new("kill").args(["-s", signal, &pid]).status().unwrap();
        assert!(sent.success());
        let (code, stdout, stderr) = outcome(&child.wait_with_output().unwrap());
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        assert_eq!(code, 0, "{stdout}{stderr}");
        assert!(stdout.contains("rx ") && stdout.contains("all home"), "{stdout}");
    }
}

#[test]
fn lines_for_people_name_port_memory_path_and_every_pool() {
    let (stdout, _) = run("-t 600ms -i 200ms --rate 200kpps", 0);
    for part in [
        "port 0  ring:demo",
        "path: direct",
        "mem     payloads fake",
        "Mpps",
        "verify  ok",
        "path    direct  host payload bytes touched 0",
        "payloads: ",
        "heads: ",
        "all home",
    ] {
        assert!(stdout.contains(part), "{part} in\n{stdout}");
    }
    assert!(!stdout.contains("NOT ALL HOME"));
    assert!(run("-c 1k --quiet", 0).0.contains("rows    1000"), "the summary stays");
}
