//! Much traffic through one pair of NICs: every size, whole and split, and every frame accounted for.

use serde_json::Value;

use crate::machine::{Machine, RING, is_full, number, sum};

/// Two NICs of one kind, back to back: the first sends, the second receives.
const PAIRS: [(&str, [&str; 2]); 2] =
    [("82574", ["e1000e0", "e1000e1"]), ("82576", ["igb0", "igb1"])];

/// QEMU holds 10,000 frames for a NIC that is slow to take them, and drops the next without a word
/// (`net/queue.c`): rates leave an emulated receiver on a busy machine time enough.
struct Traffic {
    /// What `pktgen` sends, but for the number of frames.
    options: &'static str,
    /// What `gpurx` needs for it.
    receiving: &'static str,
    /// Frames of a short run, and of a full one.
    frames: [u64; 2],
}

/// A million frames per driver and mode.
const SHORT: Traffic = Traffic {
    options: "--size 400 --rate 20kpps --linger 2s",
    receiving: "",
    frames: [10_000, 1_000_000],
};
/// Every size, from the shortest frame to the longest. No buffer that is sent lies across two hugepages:
/// QEMU drops, without a word, what its host's memory does not have in one piece (`net_tx_pkt.c`).
const MIXED: Traffic = Traffic {
    options: "--size 60-9018 --buffer-size 16K --rate 5kpps --linger 2s",
    receiving: "--buffer-size 9K",
    frames: [9_000, 90_000],
};

impl Traffic {
    fn count(&self) -> u64 {
        self.frames[usize::from(is_full())]
    }
}

/// What a direction of a port was offered and what it dropped; the rest it delivered.
fn books(summary: &Value, port: usize, direction: &str) -> (u64, u64) {
    let port = &summary["ports"][port];
    let books = &port[direction];
    let (offered, delivered) = (number(books, "/offered"), number(books, "/delivered"));
    let dropped = sum(&books["drops"]);
    assert_eq!(offered, delivered + dropped, "{direction}: {port:#}");
    assert_eq!(port["health"], "good", "{port:#}");
    (offered, dropped)
}

/// Sends whole frames, and receives them into buffers as they are by default: long ones in several.
fn whole(machine: &Machine, test: &str, nic: &str, [from, to]: [&str; 2], traffic: &Traffic) {
    let (from, to, count) = (machine.port(from), machine.port(to), traffic.count());
    let sending = traffic.options;
    let receiver =
        machine.receive("pktgen", &format!("--rx-only -p {to} -c {count} --size 60-9018 {RING}"));
    let sent = machine.summary("pktgen", &format!("-p {from} -c {count} {sending}"));
    let received = receiver.end_when_quiet();
    assert_eq!(books(&sent, 0, "tx"), (count, 0), "{sent:#}");
    let (offered, dropped) = books(&received, 0, "rx");
    assert_eq!(offered, count, "what left one NIC came to the other: {received:#}");
    for harm in ["corrupt", "truncated", "duplicate", "reordered", "stale", "foreign"] {
        assert_eq!(number(&received, &format!("/rx/{harm}")), 0, "{harm}: {received:#}");
    }
    assert_eq!(number(&received, "/rx/good"), count - dropped, "{received:#}");
    assert_eq!(received["balanced"], true, "{received:#}");
    let rate = count as f64 / sent["seconds"].as_f64().unwrap();
    eprintln!("{test}: {nic} {sending}: {count} frames, {dropped} dropped, {rate:.0} frames/s");
}

/// Sends with `pktgen`, and receives heads and payloads apart with `gpurx`.
fn split(machine: &Machine, test: &str, nic: &str, [from, to]: [&str; 2], traffic: &Traffic) {
    let (from, to, count) = (machine.port(from), machine.port(to), traffic.count());
    let Traffic { options, receiving, .. } = traffic;
    let line = format!(
        "-p {to} --path direct -m fake --seq ipid --udp-port 9000 -c {count} {RING} {receiving}"
    );
    let receiver = machine.receive("gpurx", &line);
    let sending = format!("--ip-id -c {count} {options}");
    let sent = machine.summary("pktgen", &format!("-p {from} {sending}"));
    let received = receiver.end_when_quiet();
    assert_eq!(books(&sent, 0, "tx"), (count, 0), "{sent:#}");
    let (offered, dropped) = books(&received, 0, "rx");
    assert_eq!(offered, count, "what left one NIC came to the other: {received:#}");
    assert_eq!(received["path"], "direct");
    assert_eq!(number(&received, "/rx_packets"), count - dropped, "{received:#}");
    let rows = number(&received, "/frames/rows");
    assert_eq!(number(&received, "/verify/ok"), rows, "{received:#}");
    for harm in ["/verify/bad", "/verify/duplicate", "/frames/foreign", "/frames/invalid"] {
        assert_eq!(number(&received, harm), 0, "{harm}: {received:#}");
    }
    let frames = &received["frames"];
    let unplaced = number(frames, "/late") + number(frames, "/jump");
    // What fits a head's buffer as a whole, an 82576 leaves there.
    let short = number(frames, "/unsplit");
    assert_eq!(rows + unplaced + short, count - dropped, "{received:#}");
    assert!(rows > count * 9 / 10 && short <= count / 30, "{received:#}");
    let rate = count as f64 / sent["seconds"].as_f64().unwrap();
    eprintln!(
        "{test}: {nic} {sending}: {count} frames, {short} unsplit, {dropped} dropped, {rate:.0} frames/s"
    );
}

#[test]
fn whole_frames_of_every_size_are_accounted_for() {
    let test = "whole_frames_of_every_size_are_accounted_for";
    let Some(machine) = Machine::open(test, "pairs") else {
        return;
    };
    for (nic, pair) in PAIRS {
        for traffic in [&SHORT, &MIXED] {
            whole(&machine, test, nic, pair, traffic);
        }
    }
}

#[test]
fn split_frames_of_every_size_are_accounted_for() {
    let test = "split_frames_of_every_size_are_accounted_for";
    let Some(machine) = Machine::open(test, "pairs") else {
        return;
    };
    for (nic, pair) in PAIRS {
        for traffic in [&SHORT, &MIXED] {
            split(&machine, test, nic, pair, traffic);
        }
    }
}

/// Frames that are not what `gpurx` looks for, and that no header split knows: ARP, an experimental type as
/// short and as long as can be, a length where the type is, and half of an IPv4 header.
fn aliens() -> Vec<Vec<u8>> {
    let kinds: [([u8; 2], usize); 5] =
        [([8, 6], 60), ([0x88, 0xb5], 60), ([0x88, 0xb5], 1514), ([0, 46], 60), ([8, 0], 60)];
    let frame = |(kind, len): ([u8; 2], usize)| {
        let mut bytes = vec![0; len];
        bytes[..12].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1]);
        bytes[12..14].copy_from_slice(&kind);
        bytes
    };
    kinds.map(frame).to_vec()
}

#[test]
fn frames_that_are_not_ip_pass_a_split_queue_and_are_counted() {
    const COUNT: u64 = 1000;
    let test = "frames_that_are_not_ip_pass_a_split_queue_and_are_counted";
    let Some(machine) = Machine::open(test, "pairs") else {
        return;
    };
    let aliens = aliens();
    let frames: Vec<&[u8]> = aliens.iter().cycle().take(100).map(Vec::as_slice).collect();
    let alien = frames.len() as u64;
    for (nic, [from, to]) in PAIRS {
        let line = format!("--path direct -m fake --seq ipid --udp-port 9000 {RING}");
        let receiver = machine
            .receive("gpurx", &format!("-p {} {line} -c {}", machine.port(to), COUNT + alien));
        machine.inject(to, &frames).unwrap();
        let line = "--ip-id --size 400 --rate 6kpps --linger 2s";
        machine.summary("pktgen", &format!("-p {} {line} -c {COUNT}", machine.port(from)));
        let received = receiver.end_when_quiet();
        assert_eq!(books(&received, 0, "rx"), (COUNT + alien, 0), "{nic}: {received:#}");
        assert_eq!(number(&received, "/frames/foreign"), alien, "{nic}: {received:#}");
        assert_eq!(number(&received, "/verify/ok"), COUNT, "{nic}: {received:#}");
    }
}
