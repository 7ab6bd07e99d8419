//! `capture` on interfaces, beside the tools that people know: what tshark shows while it runs, a disk
//! that fills up, and a look into a running `l2fwd`.

use std::{
    fs::{self, File},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    lab::{
        Lab,
        Place::{Left, Middle, Right},
    },
    process::{Process, binary, pause, wait_for},
};

#[test]
fn tshark_shows_frames_while_they_are_captured() {
    let test = "tshark_shows_frames_while_they_are_captured";
    let Some(lab) = Lab::open(test, &["tshark", "ping"]) else { return };
    lab.ip(Middle, "addr add 10.98.0.3/24 dev fa").unwrap();
    // The shell's own pipe, as one types it.
    let line = format!(
        "{} -m host -p af_packet:fa --idle sleep -w - 'icmp or arp' | tshark -l -n -r - -T fields -e icmp.type -e frame.len",
        binary("capture")
    );
    let mut command = lab.command(Middle, "sh");
    command.args(["-c", &line]);
    let mut shell = Process::start(lab.folder(), &mut command, "capture | tshark");
    lab.wait_for_listeners(Middle, 1, &mut shell);
    lab.run(Left, "ping", "-c 3 -i 0.2 10.98.0.3");
    // It runs on: nothing but the pulse brings these lines out.
    wait_for("lines of tshark's", || {
        assert!(!shell.has_ended(), "{}", shell.stderr());
        let text = shell.stdout();
        // Requests only: what the interface itself sends is not received.
        (text.lines().filter(|line| *line == "8\t98").count() == 3).then_some(())
    });
    let pids = lab.run(Middle, "ip", &format!("netns pids {}", lab.namespace(Middle)));
    let captures = pids.lines().filter(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "capture"
    });
    for pid in captures {
        let done = Command::new("kill").args(["-INT", pid]).status().unwrap();
        assert!(done.success());
    }
    let done = shell.finish().succeeded();
    assert!(done.stderr.contains("frames written to -"), "{}", done.stderr);
}

#[test]
fn two_interfaces_are_captured_as_tcpdump_sees_them() {
    let test = "two_interfaces_are_captured_as_tcpdump_sees_them";
    let Some(lab) = Lab::open(test, &["tcpdump", "ping", "capinfos"]) else { return };
    lab.ip(Middle, "addr add 10.98.0.3/24 dev fa").unwrap();
    let (ours, theirs) = (lab.folder().join("o.pcapng"), lab.folder().join("t.pcap"));
    let arguments = format!(
        "-m host -p af_packet:fa -p af_packet:fb --idle sleep -w {} --json icmp",
        ours.display()
    );
    let mut capture = lab.start(Middle, &binary("capture"), &arguments);
    lab.wait_for_listeners(Middle, 2, &mut capture);
    let arguments = format!("-i fa -Q in -n -U -w {} icmp", theirs.display());
    let mut tcpdump = lab.start(Middle, "tcpdump", &arguments);
    lab.wait_for_listeners(Middle, 3, &mut tcpdump);
    lab.run(Left, "ping", "-q -i 0.002 -c 400 10.98.0.3");
    pause(Duration::from_millis(1200));
    capture.interrupt();
    tcpdump.interrupt();
    let summary = capture.finish().succeeded().json();
    tcpdump.finish().succeeded();
    assert_eq!((&summary["written"], &summary["balanced"]), (&400.into(), &true.into()));
    let count = |path: &std::path::Path| {
        let text = lab.run(Middle, "capinfos", &format!("-M -c -d {}", path.display()));
        let value = |key| {
            let line = text.lines().find(|line| line.starts_with(key)).expect(key);
            line.split_whitespace().find_map(|word| word.parse::<u64>().ok()).unwrap()
        };
        (value("Number of packets"), value("Data size"))
    };
    assert_eq!(count(&ours), (400, 400 * 98));
    assert_eq!(count(&ours), count(&theirs));
}

#[test]
fn a_running_l2fwd_is_looked_into_through_a_fifo() {
    let test = "a_running_l2fwd_is_looked_into_through_a_fifo";
    let Some(lab) = Lab::open(test, &["tshark", "ping", "mkfifo"]) else { return };
    let fifo = lab.folder().join("live");
    let fifo = fifo.display();
    lab.run(Left, "mkfifo", &fifo.to_string());
    let arguments = format!("-m host -p capture:{fifo}@af_packet:fa -p af_packet:fb --json");
    let mut l2fwd = lab.start(Middle, &binary("l2fwd"), &arguments);
    lab.wait_for_listeners(Middle, 2, &mut l2fwd);
    lab.wait_for_ping();
    // Two readers, one after the other, who each leave after ten frames.
    for _ in 0..2 {
        let tshark = lab.start(
            Middle,
            "tshark",
            &format!("-n -c 10 -r {fifo} -T fields -e frame.packet_flags"),
        );
        lab.run(Left, "ping", "-q -i 0.02 -c 50 10.98.0.2");
        let text = tshark.finish().succeeded().stdout;
        let (into, out) = ("0x00000001", "0x00000002");
        assert_eq!(text.lines().count(), 10, "{text}");
        assert!(text.contains(into) && text.contains(out), "{text}");
    }
    let lost = lab.run(Left, "ping", "-q -f -c 500 10.98.0.2");
    assert!(lost.contains(" 0% packet loss"), "{lost}");
    l2fwd.interrupt();
    let summary = l2fwd.finish().succeeded().json();
    assert_eq!(summary["ports"][0]["device"]["capture_readers"], 2, "{summary}");
    assert_eq!(summary["ports"][0]["device"]["capture_stopped"], 0, "{summary}");
}

/// A folder of one MiB, mounted in a mount namespace that a shell keeps.
fn on_a_small_disk(lab: &Lab, line: &str) -> Process {
    let folder = lab.folder().join("disk");
    fs::create_dir_all(&folder).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=1M tmpfs {0} && cd {0} && {line}; code=$?; ls -ln >&2; \
         capinfos -c o.pcapng >&2; exit $code",
        folder.display()
    );
    let mut command = lab.command(Middle, "unshare");
    command.args(["-m", "sh", "-c", &script]);
    Process::start(lab.folder(), &mut command, "unshare")
}

#[test]
fn a_disk_that_fills_up_stops_the_capture_at_a_whole_frame() {
    let test = "a_disk_that_fills_up_stops_the_capture";
    let Some(lab) = Lab::open(test, &["unshare", "capinfos"]) else { return };
    let probe = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("SKIP {test}: no mount namespaces here");
        return;
    }
    let capture = binary("capture");
    // By itself: exit 1, and the number of frames that are there.
    let shell =
        on_a_small_disk(&lab, &format!("{capture} -m host -p null: -w o.pcapng --quiet --json"));
    let done = shell.finish();
    assert_eq!(done.code(), Some(1), "{}", done.stderr);
    let written = done.json()["written"].as_u64().unwrap();
    assert!(written > 5000, "{}", done.stderr);
    assert!(done.stderr.contains("o.pcapng: disk full after "), "{}", done.stderr);
    assert!(done.stderr.contains(&format!("; {written} frames are in it")), "{}", done.stderr);
    // capinfos finds as many, and no error: it would have failed the script's last line.
    assert!(done.stderr.contains("Number of packets"), "{}", done.stderr);
    assert!(!done.stderr.contains("cut short"), "{}", done.stderr);
    // As a tap: forwarding goes on.
    let l2fwd = binary("l2fwd");
    let shell = on_a_small_disk(
        &lab,
        &format!("{l2fwd} -m host -p capture:o.pcapng,dir=rx@null: -p null:b -t 1s --quiet --json"),
    );
    let done = shell.finish().succeeded();
    let summary = done.json();
    let device = &summary["ports"][0]["device"];
    assert_eq!(device["capture_stopped"], 1, "{summary}");
    assert!(device["capture_written"].as_u64().unwrap() > 5000, "{summary}");
    assert!(summary["rx_packets"].as_u64().unwrap() > 100_000, "{summary}");
    assert_eq!(summary["balanced"], true);
}

/// Frames of a jumbo interface are captured whole.
#[test]
fn jumbo_frames_are_captured_whole() {
    let test = "jumbo_frames_are_captured_whole";
    let Some(lab) = Lab::open(test, &["ping", "tshark"]) else { return };
    for (place, device) in [(Left, "va"), (Middle, "fa")] {
        lab.ip(place, &format!("link set {device} mtu 9000")).unwrap();
    }
    lab.ip(Middle, "addr add 10.98.0.3/24 dev fa").unwrap();
    let path = lab.folder().join("o.pcapng");
    let arguments = format!("-m host -p af_packet:fa --idle sleep -w {} icmp", path.display());
    let mut capture = lab.start(Middle, &binary("capture"), &arguments);
    lab.wait_for_listeners(Middle, 1, &mut capture);
    lab.run(Left, "ping", "-q -i 0.01 -c 5 -s 8972 -M do 10.98.0.3");
    pause(Duration::from_millis(300));
    capture.interrupt();
    capture.finish().succeeded();
    // ICMP checksums cover every byte: 1 is good.
    let fields = "-T fields -e frame.len -e frame.cap_len -e icmp.checksum.status";
    let text = lab.run(Right, "tshark", &format!("-r {} {fields}", path.display()));
    assert_eq!(text.lines().collect::<Vec<_>>(), ["9014\t9014\t1"; 5]);
    assert!(File::open(path).unwrap().metadata().unwrap().len() > 5 * 9014);
}
