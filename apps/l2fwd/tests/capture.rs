//! l2fwd on capture files: every record comes through, a broken one is named, and the end is an end.

use std::{
    fs::{self, File},
    path::Path,
};

use clap::Parser;
use l2fwd::{Args, Summary};
use memwire_apps::{AppError, Exit, Stop, report::Output};
use pmd::{
    Registry,
    pcap::{Format, Reader, Writer},
};

fn run(line: &str) -> Result<Summary, AppError> {
    let words = ["l2fwd", "-m", "host", "--quiet"].into_iter().chain(line.split_whitespace());
    let args = Args::try_parse_from(words).unwrap();
    let mut output = Output::new(&args.run)?;
    l2fwd::run(&args, &mut Registry::new(), &Stop::new(), &mut output)
}

fn frame(number: u64) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
    frame.extend(number.to_be_bytes());
    frame.resize(60 + usize::try_from(number % 1400).unwrap(), 0xa5);
    frame
}

fn write(path: &Path, frames: u64) {
    let mut writer = Writer::new(File::create(path).unwrap(), Format::Pcap);
    (0..frames).for_each(|number| writer.write(number * 1000, &frame(number)).unwrap());
    writer.finish().unwrap();
}

fn read(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = Reader::new(File::open(path).unwrap());
    let mut frames = Vec::new();
    while let Some(record) = reader.read_record().unwrap() {
        frames.push(record.bytes.to_vec());
    }
    frames
}

#[test]
fn a_capture_comes_through_whole_and_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in.pcap"), folder.path().join("out.pcap"));
    let copy = folder.path().join("copy.pcap");
    write(&from, 10_000);
    let line = format!(
        "-p pcap:{} -p pcap:,tx={} --mirror pcap:,tx={}",
        from.display(),
        to.display(),
        copy.display()
    );
    let summary = run(&line).unwrap();
    assert!(summary.is_balanced());
    assert_eq!(summary.received(), 10_000);
    let frames: Vec<_> = (0..10_000).map(frame).collect();
    assert!(read(&to) == frames, "the capture that came out differs");
    assert!(read(&copy) == frames, "the mirror's capture differs");
}

#[test]
fn what_a_port_cannot_send_is_dropped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("in.pcap");
    write(&from, 1000);
    let other = folder.path().join("other.pcap");
    write(&other, 10);
    let line = format!("-p pcap:{} -p pcap:{}", from.display(), other.display());
    let summary = run(&line).unwrap();
    assert_eq!(summary.received(), 1010);
    assert_eq!((summary.sent(1), summary.sent(0)), ((0, 1000), (0, 10)));
    assert!(summary.is_balanced());
}

#[test]
fn frames_before_a_broken_record_are_forwarded_and_the_record_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in.pcap"), folder.path().join("out.pcap"));
    write(&from, 100);
    let whole = fs::read(&from).unwrap();
    fs::write(&from, &whole[..whole.len() - 10]).unwrap();
    let line = format!("-p pcap:{} -p pcap:,tx={}", from.display(), to.display());
    let summary = run(&line).unwrap();
    assert_eq!(summary.received(), 99);
    assert_eq!(read(&to).len(), 99);
    let args = Args::try_parse_from(["l2fwd", "--json=/dev/null"]).unwrap();
    let error = summary.conclude(&mut Output::new(&args.run).unwrap()).unwrap_err();
    assert_eq!(error.code(), Exit::Failed);
    assert!(error.to_string().contains("record 100"), "{error}");
}

#[test]
fn ports_that_only_send_have_nothing_to_forward() {
    let error = run("-p pcap:,tx=/dev/null -p pcap:,tx=/dev/zero").err().unwrap();
    assert_eq!(error.code(), Exit::Usage, "{error}");
}
