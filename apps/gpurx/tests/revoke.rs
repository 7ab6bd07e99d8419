//! Device memory taken back and given again while the program receives: SIGUSR1, as an operator does it.

#[expect(dead_code, reason = "what other tests share")]
mod common;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use common::{check_summary, gpurx};
use serde_json::Value;

fn signal(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::USR1).expect("it runs");
}

#[expect(clippy::disallowed_methods, reason = "time passes between two signals")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Lines as they come.
fn heard(mut errors: impl BufRead + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        loop {
            let mut line = String::new();
            if errors.read_line(&mut line).unwrap() == 0 || sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Waits until a line has these words.
fn wait_for_line(lines: &mut Receiver<String>, words: &str, log: &mut String) {
    loop {
        let line = lines.recv_timeout(Duration::from_secs(30));
        let line = line.unwrap_or_else(|error| panic!("no '{words}': {error}\n{log}"));
        log.push_str(&line);
        if line.contains(words) {
            return;
        }
    }
}

/// Runs the demo and signals it `times` times once it receives; its summary, and what it logged.
fn revoked(line: &str, times: usize) -> (Value, String) {
    let mut command = gpurx(&format!("{line} --json -v -t 60s"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut log = String::new();
    while !log.contains("SIGUSR1 revokes device memory") {
        assert!(errors.read_line(&mut log).unwrap() > 0, "it ended: {log}");
    }
    pause(Duration::from_millis(300));
    let mut errors = heard(errors);
    let is_device = !line.contains("-m host");
    for round in 0..times {
        signal(&child);
        // The next signal is another one only when this one has been dealt with.
        let expected = match (is_device, round % 2 == 0) {
            (false, _) => "there is nothing to revoke",
            (true, true) => "device memory revoked",
            (true, false) => "device memory is back",
        };
        wait_for_line(&mut errors, expected, &mut log);
        pause(Duration::from_millis(100));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let deadline = Instant::now() + Duration::from_secs(30);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("gpurx {line} does not end");
        }
        pause(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    let (code, stdout, _) = common::outcome(&output);
    let stderr = log + &errors.iter().collect::<String>();
    assert_eq!(code, 0, "gpurx {line}\n{stdout}\n{stderr}");
    let summary: Value = serde_json::from_str(&stdout).unwrap();
    check_summary(&summary);
    (summary, stderr)
}

fn number(summary: &Value, part: &str, field: &str) -> u64 {
    summary[part][field].as_u64().unwrap_or_else(|| panic!("{part}.{field}: {summary}"))
}

#[test]
fn payloads_go_to_the_host_and_back_and_no_row_is_lost() {
    for path in ["direct", "bounce"] {
        let (summary, log) = revoked(&format!("--path {path} --rate 20kpps"), 10);
        for (field, least) in [("revocations", 5), ("resumed", 5), ("acknowledged", 5)] {
            assert_eq!(number(&summary, "revocation", field), least, "{path}: {log}");
        }
        assert!(number(&summary, "revocation", "rows_to_host") > 100, "{summary}");
        for field in ["bad", "missing", "duplicate"] {
            assert_eq!(number(&summary, "verify", field), 0, "{path}: {summary}");
        }
        assert_eq!(summary["offered"], summary["rx_packets"], "{path}: {summary}");
        assert_eq!(summary["sent"]["frames"], summary["rx_packets"], "{path}: {summary}");
        assert_eq!(summary["memory"]["provider"], "fake");
        assert!(log.contains("device memory revoked by the operator"), "{log}");
        assert!(log.contains("device memory is back"), "{log}");
        let gap = summary["revocation"]["longest_gap_ms"].as_f64().unwrap();
        println!("{path}: longest gap {gap:.2} ms");
        assert!(gap > 0.0 && gap < 2000.0, "{summary}");
    }
}

#[test]
fn payloads_that_are_dropped_are_counted_and_their_heads_are_not() {
    let (summary, log) = revoked("--on-revoke drop --rate 20kpps", 5);
    assert_eq!(number(&summary, "revocation", "revocations"), 3, "{log}");
    assert_eq!(number(&summary, "revocation", "resumed"), 2, "{log}");
    let dropped = number(&summary, "revocation", "payloads_dropped");
    assert!(dropped > 100, "{summary}");
    assert_eq!(number(&summary, "frames", "revoked"), dropped);
    assert_eq!(summary["sent"]["frames"], summary["rx_packets"], "{summary}");
    assert_eq!(number(&summary, "revocation", "rows_to_host"), 0);
}

#[test]
fn host_memory_is_never_revoked_and_says_so() {
    let (summary, log) = revoked("-m host --rate 20kpps", 2);
    assert_eq!(number(&summary, "revocation", "revocations"), 0);
    assert!(log.contains("there is nothing to revoke"), "{log}");
    assert_eq!(number(&summary, "verify", "missing"), 0);
}
