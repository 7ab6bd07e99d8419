//! The program as its user meets it: exit codes, what goes to stdout and what to stderr, pipes that
//! break, clean stops.

use std::{
    fs,
    io::Read,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use pmd::pcap::Reader;
use rustix::process::{Pid, Signal, kill_process};

fn capture(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capture"));
    command.args(["-m", "host"]).args(line.split_whitespace()).stdin(Stdio::null());
    command
}

fn code_and_texts(line: &str) -> (Option<i32>, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let Output { status, stdout, stderr } = capture(line).output().unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// Waits for the end; fails the test if that takes longer than `limit`.
fn wait(child: &mut Child, limit: Duration) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if start.elapsed() > limit {
            child.kill().unwrap();
            panic!("still running after {limit:?}");
        }
        std::thread::yield_now();
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let bad = path("bad.txt");
    fs::write(&bad, "2\n40 0 0 12\n21 7 0 2048\n").unwrap();
    let fifo = path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let bpf = format!("-p null: --bpf {bad}");
    let bpf_says = format!("--bpf {bad}: line 3: instruction 1: jumps to instruction 9, of 2");
    let to_fifo = format!("-p null: -w {fifo}");
    for (line, code, says) in [
        ("", 2, "no port to capture from"),
        ("-p null: udp prt 53", 2, "filter 'udp prt 53': "),
        ("-p null: --compiler builtin udp prt 53", 2, "column 5: expected 'and' or 'or'"),
        (&bpf, 2, &bpf_says),
        ("-p null: --bpf /nowhere/p", 3, "--bpf /nowhere/p: No such file"),
        ("-p null: --bpf x udp", 2, "cannot be used with"),
        ("-p null: -w /nowhere/x.pcap", 3, "-w /nowhere/x.pcap: No such file"),
        ("-p null: -w /", 1, "-w /: Is a directory"),
        ("-p null: -s 13", 2, "-s 13: should be 14 to 262144 bytes"),
        ("-p null: -s 1M", 2, "should be 14 to 262144 bytes"),
        ("-p null: -w x -C 1K", 2, "-C: should be at least 64K"),
        ("-p null: -w x -C 0x", 2, "a size in bytes such as"),
        ("-p null: -w x -G 0", 2, "a duration such as"),
        ("-p null: -w x --files 0 -C 1M", 2, "'--files <N>'"),
        ("-p null: -w x --files 3", 2, "--files: there is one file only"),
        ("-p null: -C 1M", 2, "--write <FILE>"),
        ("-p null: -w - -C 1M", 2, "-w -: cannot be rotated"),
        ("-p null: -p null:b -w x.pcap", 2, "cannot say which port a frame came from"),
        ("-p null: -w x.pcap --comment hi", 2, "a classic pcap file has no comments"),
        ("-p null: -w - --json", 2, "cannot both go to stdout"),
        ("-p null: --tui", 2, "--tui: stdout is for the frames"),
        ("-p pcap:,tx=/dev/null", 2, "receives nothing"),
        (&to_fifo, 3, "nobody reads the FIFO; start its reader first"),
    ] {
        let (found, stdout, stderr) = code_and_texts(line);
        assert_eq!((found, stdout.as_str()), (Some(code), ""), "{line}: {stderr}");
        assert!(stderr.contains(says), "{line}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn a_capture_on_stdout_has_nothing_else_on_it() {
    let output = capture("-p null: -w - -c 1000 --comment hi").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let (mut reader, mut count) = (Reader::new(output.stdout.as_slice()), 0);
    while reader.read_record().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 1000);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("1000 frames written to -\n1024 frames received\n"), "{stderr}");
    assert!(stderr.contains("0 frames dropped by kernel"), "{stderr}");
    assert!(stderr.contains("24 frames came with the last ones wanted"), "{stderr}");
}

#[test]
fn lines_go_to_stdout_and_counts_to_stderr() {
    let (code, stdout, stderr) = code_and_texts("-p null: -c 3 -b 4");
    assert_eq!(code, Some(0));
    assert_eq!(stdout.lines().count(), 3, "{stdout}");
    assert!(stdout.lines().all(|line| line.ends_with("ethertype 0x0000, length 64")), "{stdout}");
    assert!(stderr.starts_with("3 frames printed\n4 frames received\n"), "{stderr}");
    let (code, stdout, _) = code_and_texts("-p null: -c 3 --json");
    assert_eq!((code, stdout.lines().count()), (Some(0), 1));
    let summary: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&summary["written"], &summary["file"]), (&3.into(), &serde_json::Value::Null));
}

#[test]
fn a_reader_that_leaves_ends_it_well() {
    for line in ["-p null: -w -", "-p null:"] {
        let mut child =
            capture(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut some = [0; 100];
        child.stdout.take().unwrap().read_exact(&mut some).unwrap();
        // The pipe is closed here.
        assert_eq!(wait(&mut child, Duration::from_secs(20)), Some(0), "{line}");
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert!(stderr.contains("frames came after the reader had gone away"), "{stderr}");
    }
}

#[test]
fn a_reader_that_does_not_read_does_not_hold_up_the_end() {
    let mut child =
        capture("-p null: -w -").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pipe = child.stdout.take().unwrap();
    // Time for the pipe to be full.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(300) {
        std::thread::yield_now();
    }
    let asked = Instant::now();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(wait(&mut child, Duration::from_secs(20)), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    drop(pipe);
}

#[test]
fn an_interrupt_ends_it_with_its_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("o.pcapng");
    let line = format!("-p null: -w {} -C 1M --files 2 --quiet --idle sleep", path.display());
    let mut child = capture(&line).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while path.metadata().is_err() || start.elapsed() < Duration::from_millis(200) {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let asked = Instant::now();
    assert_eq!(wait(&mut child, Duration::from_secs(20)), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(
        stderr.contains(" frames written to ") && stderr.contains(" frames received"),
        "{stderr}"
    );
}

#[test]
fn the_help_shows_examples_and_drivers() {
    let (code, stdout, _) = code_and_texts("--help");
    assert_eq!(code, Some(0));
    for says in ["capture -p eth0 -w - | tshark -r -", "ring:NAME", "Exit codes:", "--bpf <FILE>"] {
        assert!(stdout.contains(says), "{says} is missing");
    }
}

#[test]
fn a_port_that_is_taken_away_ends_the_run_soon_however_busy_the_others_are() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.pcapng");
    let start = Instant::now();
    let line = "-p null: -p chaos:rx.remove#5000@null:x -t 20s -w";
    let (code, _, stderr) = code_and_texts(&format!("{line} {}", file.display()));
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("null:x': injected: rx queue 0 at frame 5000"), "{stderr}");
    let mut reader = Reader::new(fs::File::open(file).unwrap());
    let mut frames = 0;
    while reader.read_record().unwrap().is_some() {
        frames += 1;
    }
    assert!(frames > 4999, "{frames} frames are in the file");
}
