//! Other people's tools read what is written here.

use std::{path::Path, process::Command};

use pmd::pcap::{Format, Writer};

use crate::{
    captures::{frames, udp},
    rig::Folder,
};

/// What a tool prints, or `None`, said aloud, where it is not installed.
fn run(test: &str, tool: &str, arguments: &[&str], file: &Path) -> Option<String> {
    let output = match Command::new(tool).args(arguments).arg(file).output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("SKIP {test}: {tool}: {error}");
            return None;
        }
    };
    assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

const LENGTHS: [usize; 6] = [60, 61, 62, 63, 1514, 9000];

/// A capture with a frame of each length, 1 µs and 1 ns apart from 1,700,000,000 s on.
fn written(folder: &Folder, format: Format, name: &str) -> std::path::PathBuf {
    let path = folder.path(name);
    let mut writer = Writer::new(std::fs::File::create(&path).unwrap(), format);
    for (at, frame) in (0..).zip(frames(&LENGTHS)) {
        writer.write(1_700_000_000_000_000_001 + at * 1_001, &frame).unwrap();
    }
    writer.finish().unwrap();
    path
}

#[test]
fn tshark_reads_what_is_written() {
    let folder = Folder::new();
    for (format, name) in [(Format::Pcap, "out.pcap"), (Format::Pcapng, "out.pcapng")] {
        let path = written(&folder, format, name);
        let fields = [
            "-T",
            "fields",
            "-e",
            "frame.time_epoch",
            "-e",
            "frame.len",
            "-e",
            "udp.srcport",
            "-r",
        ];
        let Some(text) = run("tshark_reads_what_is_written", "tshark", &fields, &path) else {
            return;
        };
        let expected: Vec<_> = (0_u64..)
            .zip(LENGTHS)
            .map(|(at, len)| format!("1700000000.{:09}\t{len}\t1000", 1 + at * 1_001))
            .collect();
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn capinfos_agrees_about_what_is_written() {
    let folder = Folder::new();
    for (format, name) in [(Format::Pcap, "out.pcap"), (Format::Pcapng, "out.pcapng")] {
        let path = written(&folder, format, name);
        let test = "capinfos_agrees_about_what_is_written";
        let Some(text) = run(test, "capinfos", &["-M", "-c", "-d", "-E", "-t"], &path) else {
            return;
        };
        assert!(text.contains("ether"), "{text}");
        let value = |key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).expect(key);
            line.split_whitespace().find_map(|word| word.parse::<usize>().ok()).unwrap()
        };
        assert_eq!(value("Number of packets"), LENGTHS.len());
        assert_eq!(value("Data size"), LENGTHS.iter().sum());
    }
}

#[test]
fn tcpdump_reads_what_is_written() {
    let folder = Folder::new();
    let path = written(&folder, Format::Pcap, "out.pcap");
    let arguments = ["-nn", "-tt", "--nano", "-r"];
    let Some(text) = run("tcpdump_reads_what_is_written", "tcpdump", &arguments, &path) else {
        return;
    };
    assert_eq!(text.lines().count(), LENGTHS.len());
    assert!(text.starts_with("1700000000.000000001 IP 10.0.0.1.1000 > 10.0.0.2.9: UDP"), "{text}");
}

#[test]
fn what_editcap_makes_of_it_is_read_back() {
    let folder = Folder::new();
    let path = written(&folder, Format::Pcapng, "out.pcapng");
    let before = crate::formats::read(std::fs::File::open(&path).unwrap());
    for kind in ["nsecpcap", "pcapng"] {
        let other = folder.path(kind);
        let (from, to) = (path.to_str().unwrap(), other.as_path());
        if run("what_editcap_makes_of_it_is_read_back", "editcap", &["-F", kind, from], to)
            .is_none()
        {
            return;
        }
        let after = crate::formats::read(std::fs::File::open(&other).unwrap());
        assert!(
            before.iter().map(|row| (row.2, &row.4)).eq(after.iter().map(|row| (row.2, &row.4)))
        );
    }
    assert_eq!(before[0].4, udp(1000, 0, 60));
}
