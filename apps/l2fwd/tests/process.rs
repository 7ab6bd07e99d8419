//! l2fwd as a process: signals, exit codes, and what goes to stdout and what to stderr.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

fn l2fwd(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_l2fwd"));
    command.args(["-m", "host"]).args(line.split_whitespace());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Starts it and returns when it runs: when the first line of JSON is there.
fn started() -> (Child, impl BufRead) {
    let mut child = l2fwd("-p null: -p null: -i 50ms --json-stream").spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    lines.read_line(&mut String::new()).unwrap();
    (child, lines)
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn a_signal_ends_it_cleanly_within_two_seconds_with_the_totals() {
    for which in [Signal::INT, Signal::TERM] {
        let (mut child, lines) = started();
        let start = Instant::now();
        signal(&child, which);
        let last = lines.lines().map(Result::unwrap).last().unwrap();
        assert!(child.wait().unwrap().success());
        assert!(start.elapsed() < Duration::from_secs(2));
        let summary: serde_json::Value = serde_json::from_str(&last).unwrap();
        assert_eq!(summary["ended"], "asked");
        assert_eq!(summary["balanced"], true);
    }
}

fn code_and_texts(line: &str) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = l2fwd(line).output().unwrap();
    (status.code(), text(&stdout), text(&stderr))
}

#[test]
fn errors_go_to_stderr_with_their_exit_code() {
    for (line, code, says) in [
        ("-p null: -p null: -p null:", 2, "error: pairs need an even number of ports"),
        ("-p null: -p null: --mode hub", 2, "possible values: pairs, switch"),
        ("-p null: -p null: --mode switch --vlan 0:access=5000", 2, "'5000' is not a VLAN"),
        ("-p null: -p null: --mode switch --storm fast", 2, "'fast' is not a rate of frames"),
        ("-p null: -p null: --mode switch --fdb 0", 2, "should be a number of stations"),
        ("-p null: -p null: --mode switch --ageing 0s", 2, "'0s' is not a duration"),
        ("-p null:a -p null:a --mode switch", 2, "port 'null:a' is named twice"),
        ("-p null: -p null: -t soon", 2, "'soon' is not a duration such as 10s"),
        ("-p null: -p null: --json=/nowhere/x.json", 3, "error: --json=/nowhere/x.json: "),
    ] {
        let (found, stdout, stderr) = code_and_texts(line);
        assert_eq!((found, stdout.as_str()), (Some(code), ""), "{line}: {stderr}");
        assert!(stderr.contains(says), "{line}: {stderr}");
    }
}

#[test]
fn stdout_is_one_json_object_or_the_tables() {
    let (code, stdout, stderr) = code_and_texts("-p null: -p null: -c 1000 --json");
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(stdout.lines().count(), 1);
    let summary: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(summary["schema"], "memwire/l2fwd/2");
    let (_, stdout, _) = code_and_texts("-p null: -p null: -c 1000");
    assert!(stdout.contains("rx-missed  dropped  tx-drop  nombuf  flooded"), "{stdout}");
}

#[test]
fn the_help_shows_examples_and_drivers() {
    let (code, stdout, _) = code_and_texts("--help");
    assert_eq!(code, Some(0));
    for says in ["l2fwd -p null: -p null: -t 5s", "ring:NAME", "Exit codes:"] {
        assert!(stdout.contains(says), "{says} is missing");
    }
}

#[test]
fn a_mirror_whose_disk_is_full_stops_and_forwarding_goes_on() {
    let line = "-p null: -p null: --mirror pcap:,tx=/dev/full -t 300ms --json";
    let (code, stdout, stderr) = code_and_texts(line);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains("error: mirror 'pcap:,tx=/dev/full' stopped after 0 frames"),
        "{stderr}"
    );
    assert!(stderr.contains("disk full"), "{stderr}");
    let summary: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&summary["ended"], &summary["balanced"]), (&"duration".into(), &true.into()));
    assert_eq!(summary["mirror"]["state"], "failed");
    let sum = |counts: &serde_json::Value| -> u64 {
        counts.as_object().unwrap().values().filter_map(serde_json::Value::as_u64).sum()
    };
    let mirror = &summary["mirror"];
    assert_eq!(
        sum(&mirror["unsent"]) + sum(&mirror["tx"]["drops"]),
        summary["rx_packets"].as_u64().unwrap(),
        "every copy that was not written is counted"
    );
    assert_eq!(summary["ports"][1]["tx"]["delivered"], summary["ports"][0]["rx"]["delivered"]);
}

#[test]
fn a_port_whose_disk_is_full_ends_the_run() {
    let (code, stdout, stderr) = code_and_texts("-p null: -p pcap:,tx=/dev/full -t 10s --json");
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("error: port 'pcap:,tx=/dev/full': disk full"), "{stderr}");
    let summary: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&summary["ended"], &summary["balanced"]), (&"ports".into(), &true.into()));
    assert_eq!(summary["ports"][1]["state"], "failed");
}

/// Runs it with a reader that leaves after the first line.
fn without_a_reader(line: &str) -> (Option<i32>, String) {
    let start = Instant::now();
    let mut child = l2fwd(line).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    lines.read_line(&mut String::new()).unwrap();
    drop(lines);
    let output = child.wait_with_output().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(300), "it went on to its end");
    (output.status.code(), text(&output.stderr))
}

#[test]
fn a_reader_of_stdout_that_goes_does_not_stop_the_forwarding() {
    let ports = "-p null: -p null: -i 20ms -t 300ms";
    assert_eq!(without_a_reader(ports), (Some(0), String::new()));
    let (code, stderr) = without_a_reader(&format!("{ports} --json-stream"));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("error: cannot write JSON: Broken pipe"), "{stderr}");
}

#[test]
fn a_port_that_another_has_open_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.pcap");
    let line = format!("-p null: -p pcap:,tx={0} --mirror pcap:,tx={0}", file.display());
    let (code, _, stderr) = code_and_texts(&line);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("out.pcap"), "{stderr}");
}
