//! pktgen as a process: signals, closed pipes, exit codes, and what goes to stdout and what to stderr.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn pktgen(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pktgen"));
    command.args(["-m", "host"]).args(line.split_whitespace());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn outcome(line: &str) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = pktgen(line).output().unwrap();
    (status.code(), text(&stdout), text(&stderr))
}

/// Starts it and returns when it runs: when the first line is there.
fn started(line: &str) -> (Child, impl BufRead) {
    let mut child = pktgen(line).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    lines.read_line(&mut String::new()).unwrap();
    (child, lines)
}

#[test]
fn a_signal_ends_it_cleanly_within_two_seconds_with_the_totals() {
    let line = "-p ring:a -p ring:a --rate 10kpps -i 50ms --json-stream";
    for which in [Signal::INT, Signal::TERM] {
        let (mut child, lines) = started(line);
        let start = Instant::now();
        kill_process(Pid::from_child(&child), which).unwrap();
        let last = lines.lines().map(Result::unwrap).last().unwrap();
        assert!(child.wait().unwrap().success());
        assert!(start.elapsed() < Duration::from_secs(2));
        let summary: Value = serde_json::from_str(&last).unwrap();
        assert_eq!(summary["ended"], "asked");
        assert_eq!((&summary["balanced"], &summary["rx"]["lost"]), (&true.into(), &0.into()));
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (mut child, _lines) =
        started("-p ring:a -p ring:a --rate 10kpps -i 50ms --json-stream --linger 60s");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    std::thread::park_timeout(Duration::from_millis(200));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_reader_that_has_had_enough_does_not_make_it_panic() {
    // Lines for people: it goes on, and ends as it was to.
    let (mut child, lines) = started("-p null: -i 20ms -t 300ms --rate 10kpps");
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // A stream that nobody reads: it ends at once, and says why.
    let (child, lines) = started("-p null: -i 20ms --json-stream --rate 10kpps");
    drop(lines);
    let start = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("cannot write JSON") && !stderr.contains("panicked"), "{stderr}");
}

#[test]
fn errors_go_to_stderr_with_their_exit_code() {
    for (line, code, says) in [
        ("-p null: -t soon", 2, "'soon' is not a duration such as 10s"),
        ("-p null: --rate 10", 2, "a rate such as 10mpps, 5gbps or 50%"),
        ("-p null: --size 12", 2, "frame sizes in bytes without FCS, 60 to"),
        ("-p null: --vlan 4095", 2, "error: VLAN 4095: should be 1 to 4094"),
        ("-p null: --rx-only --rate 1kpps", 2, "cannot be used with"),
        ("-p null: --pace", 2, "--replay"),
        ("-p null: --resolution 90%", 2, "should be 0.01% to 50%"),
        ("-p null: --json=/nowhere/x.json", 3, "error: --json=/nowhere/x.json: "),
        ("-p no-such-interface", 3, "error: port"),
        ("-p ring:a -p chaos:rx.drop=50%@ring:a -c 1k --check --quiet", 4, "error: lost"),
    ] {
        let (found, stdout, stderr) = outcome(line);
        assert_eq!(found, Some(code), "{line}: {stderr}");
        assert!(stderr.contains(says), "{line}: {stderr}");
        assert!(code == 4 || stdout.is_empty(), "{line}: {stdout}");
    }
}

#[test]
fn stdout_is_one_json_object_or_the_tables() {
    let (code, stdout, stderr) = outcome("-p null: -c 1000 --json");
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(stdout.lines().count(), 1);
    let summary: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(summary["schema"], "memwire/pktgen/1");
    let (_, stdout, _) = outcome("-p ring:a -p ring:a --size 512 -c 3k -i 100ms --rate 10kpps");
    for says in ["lat p50/p99/p99.9 us", "sent      3000 frames", "gap error p50", "latency   min"]
    {
        assert!(stdout.contains(says), "{says}: {stdout}");
    }
}

#[test]
fn without_a_port_it_shows_itself() {
    let (code, stdout, stderr) = outcome("-c 20k --json");
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let summary: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(summary["rx"]["good"], 20_000);
    assert!(summary["rx"]["latency"]["p99_ns"].as_u64() > Some(0));
}

#[test]
fn the_help_shows_examples_and_drivers() {
    let (code, stdout, _) = outcome("--help");
    assert_eq!(code, Some(0));
    for says in ["pktgen -p eth1 -p eth2 --search-ndr", "ring:NAME", "Exit codes:", "imix"] {
        assert!(stdout.contains(says), "{says} is missing");
    }
}

#[test]
fn a_port_that_is_taken_away_ends_the_run_soon_with_the_totals_and_the_reason() {
    for line in
        ["-p chaos:tx.remove#5000@null:x -p null:", "-p null: -p chaos:rx.remove#5000@null:x"]
    {
        let start = Instant::now();
        let (code, stdout, stderr) = outcome(&format!("{line} -t 20s --json"));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("null:x': injected: "), "{stderr}");
        assert!(stderr.contains(" queue 0 at frame 5000"), "{stderr}");
        let summary: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(summary["ended"], "faulted");
    }
}
