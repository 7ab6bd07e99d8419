//! What other tools capture, replay and stream, `gpurx` receives.

use std::{path::Path, time::Duration};

use serde_json::Value;

use crate::{
    forward,
    lab::{
        Lab,
        Place::{Left, Middle},
    },
    process::{Finished, Process, binary, pause, wait_for},
};

/// Starts tcpdump on `va`.
fn capture(lab: &Lab, file: &Path, filter: &str) -> Process {
    let arguments = format!("-i va -U -w {} {filter}", file.display());
    let mut tcpdump = lab.start(Left, "tcpdump", &arguments);
    wait_for("tcpdump's start", || {
        assert!(!tcpdump.has_ended(), "{}", tcpdump.stderr());
        tcpdump.stderr().contains("listening on").then_some(())
    });
    tcpdump
}

/// Ends tcpdump; nothing may have escaped it.
fn captured(tcpdump: Process) {
    pause(Duration::from_millis(300));
    tcpdump.interrupt();
    let Finished { stderr, .. } = tcpdump.finish().succeeded();
    assert!(stderr.contains("0 packets dropped by kernel"), "{stderr}");
}

/// Frames in a capture file, by somebody else's reading of it.
fn frames_in(lab: &Lab, file: &Path) -> u64 {
    let text = lab.run(Left, "capinfos", &format!("-rTcMQ {}", file.display()));
    let last = text.split_whitespace().last().unwrap_or_default();
    last.parse()
        .unwrap_or_else(|_| panic!("capinfos says {text:?}"))
}

fn number(summary: &Value, field: &str) -> u64 {
    summary
        .pointer(field)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("no {field}: {summary:#}"))
}

fn check_books(summary: &Value) {
    let drops = summary["drops"].as_object().unwrap().values();
    let drops: u64 = drops.map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(
        number(summary, "/offered"),
        number(summary, "/rx_packets") + drops,
        "{summary:#}"
    );
}

#[test]
fn what_tcpdump_captured_is_read_and_replayed_in_full() {
    let tools = [
        "iperf3",
        "ping",
        "tcpdump",
        "capinfos",
        "tcpreplay",
        "ethtool",
    ];
    let test = "what_tcpdump_captured_is_read_and_replayed_in_full";
    let Some(lab) = Lab::open(test, &tools) else {
        return;
    };
    // Super-frames cannot be replayed.
    lab.run(Left, "ethtool", "-K va tso off gso off gro off");
    let file = lab.folder().join("iperf.pcap");
    let tcpdump = capture(&lab, &file, "");
    let l2fwd = forward::join(&lab, "");
    forward::iperf(&lab, "-u -b 20M -l 1400 -t 2");
    forward::part(l2fwd);
    captured(tcpdump);
    let count = frames_in(&lab, &file);
    assert!(count > 1_000, "{count} frames");

    let gpurx = binary("gpurx");
    let arguments = format!("-p pcap:{} --sink count --json", file.display());
    let summary = lab
        .start(Left, &gpurx, &arguments)
        .finish()
        .succeeded()
        .json();
    check_books(&summary);
    assert_eq!(number(&summary, "/rx_packets"), count);

    let mut receiver = lab.start(Middle, &gpurx, "-p af_packet:fa --sink count --json");
    lab.wait_for_listeners(Middle, 1, &mut receiver);
    let arguments = format!("-i va --pps 5000 {}", file.display());
    lab.run(Left, "tcpreplay", &arguments);
    pause(Duration::from_millis(500));
    receiver.interrupt();
    let summary = receiver.finish().succeeded().json();
    check_books(&summary);
    assert_eq!(number(&summary, "/offered"), count, "{summary:#}");
}

#[test]
fn an_rtp_stream_of_ffmpeg_arrives_whole_and_in_order() {
    let test = "an_rtp_stream_of_ffmpeg_arrives_whole_and_in_order";
    let Some(lab) = Lab::open(test, &["ffmpeg", "tcpdump", "capinfos"]) else {
        return;
    };
    lab.ip(Middle, "addr add 10.98.0.2/24 dev fa").unwrap();
    let file = lab.folder().join("rtp.pcap");
    let tcpdump = capture(&lab, &file, "udp dst port 5004");
    let arguments = "-p af_packet:fa --seq rtp --udp-port 5004 --sink verify --json";
    let mut receiver = lab.start(Middle, &binary("gpurx"), arguments);
    lab.wait_for_listeners(Middle, 1, &mut receiver);
    let source = "-f lavfi -i testsrc=duration=3:size=320x240:rate=25";
    let sink = "-c:v mpeg4 -b:v 4M -f rtp rtp://10.98.0.2:5004";
    lab.run(
        Left,
        "ffmpeg",
        &format!("-hide_banner -nostdin -re {source} {sink}"),
    );
    captured(tcpdump);
    receiver.interrupt();
    let summary = receiver.finish().succeeded().json();
    let count = frames_in(&lab, &file);
    assert!(count > 75, "{count} packets");
    check_books(&summary);
    for field in ["bad", "missing", "duplicate", "reordered"] {
        assert_eq!(
            number(&summary, &format!("/verify/{field}")),
            0,
            "{summary:#}"
        );
    }
    assert_eq!(number(&summary, "/verify/ok"), count, "{summary:#}");
}
