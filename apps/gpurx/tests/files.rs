//! Captures in, captures out.

mod common;

use std::{fs, path::Path};

use common::{json, run};
use pmd::pcap::{Format, Writer};

/// An RTP stream to port 5004 whose 16-bit sequence number wraps, rows of 200 bytes.
fn rtp(path: &Path, packets: u32) {
    let mut writer = Writer::new(fs::File::create(path).unwrap(), Format::Pcap);
    for number in 0..packets {
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0]);
        frame.extend(240u16.to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x13, 0x8d, 0x13, 0x8c]);
        frame.extend(220u16.to_be_bytes());
        frame.extend([0, 0, 0x80, 96]);
        frame.extend(u16::try_from((number + 60_000) % 65_536).unwrap().to_be_bytes());
        frame.extend([0; 8]);
        frame.extend([number.to_le_bytes()[0]; 200]);
        writer.write(u64::from(number) * 20_000_000, &frame).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn an_rtp_stream_is_received_in_order_with_none_missing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rtp.pcap");
    rtp(&file, 20_000);
    let line = format!("-p pcap:{} --seq rtp --udp-port 5004 --rows 64", file.display());
    let summary = json(&line);
    assert_eq!(summary["path"], "bounce");
    assert_eq!(summary["rx_packets"], 20_000);
    assert_eq!(summary["frames"]["rows"], 20_000);
    for field in ["bad", "missing", "duplicate", "reordered"] {
        assert_eq!(summary["verify"][field], 0, "{field}");
    }
    assert_eq!(summary["ports"][0]["health"], "ended");
    assert_eq!(summary["host_payload_bytes"], 20_000 * 200, "the bounce path copies");
    let other = json(&line.replace("5004", "5005"));
    assert_eq!(other["frames"]["foreign"], 20_000);
}

#[test]
fn what_the_pcap_sink_wrote_is_verified_when_it_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["demo.pcap", "demo.pcapng"] {
        let file = dir.path().join(name);
        let written = json(&format!("-c 20k --foreign 5% --sink pcap --out {}", file.display()));
        assert_eq!(written["frames"]["rows"], 20_000);
        let read = json(&format!("-p pcap:{}", file.display()));
        assert_eq!(read["rx_packets"], 20_000, "foreign frames were left out");
        assert_eq!(read["verify"]["ok"], 20_000);
        assert_eq!(read["verify"]["missing"], 0);
        let counted = json(&format!("-p pcap:{} --sink count", file.display()));
        assert_eq!(counted["frames"]["rows"], 20_000);
    }
}

#[test]
fn a_broken_capture_is_named_and_the_frames_before_it_are_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broken.pcap");
    rtp(&file, 100);
    let mut bytes = fs::read(&file).unwrap();
    let record = 16 + 254;
    let at = 24 + 50 * record;
    bytes[at + 8..at + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    let (stdout, stderr) = run(&format!("-p pcap:{} --seq rtp", file.display()), 1);
    assert!(stdout.contains("rx      50 pkts"), "{stdout}");
    assert!(stderr.contains("record 51") && stderr.contains(&format!("{at:#x}")), "{stderr}");
}
