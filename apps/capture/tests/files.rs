//! What capture writes, read back by our reader and by Wireshark's tools: every frame, its bytes, its
//! time to the nanosecond, its interface.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use capture::{Args, Summary};
use clap::Parser;
use memwire_apps::{AppError, Exit, Stop, report::Output, schema};
use pmd::{
    Registry,
    pcap::{Format, Reader, Writer},
};

fn run(line: &str) -> Result<Summary, AppError> {
    let words = ["capture", "-m", "host", "--quiet", "--json=/dev/null"];
    let args = Args::try_parse_from(words.into_iter().chain(line.split_whitespace())).unwrap();
    let mut output = Output::new(&args.run)?;
    capture::run(&args, &mut Registry::new(), &Stop::new(), &mut output)
}

/// How the summary concludes.
fn conclude(summary: &Summary) -> Result<(), AppError> {
    let args = Args::try_parse_from(["capture", "--json=/dev/null"]).unwrap();
    summary.conclude(&mut Output::new(&args.run).unwrap())
}

/// From the least to the greatest, and the edges of padding and of buffers.
const LENGTHS: [usize; 17] =
    [14, 15, 16, 17, 60, 61, 62, 63, 64, 128, 1514, 1920, 1921, 3840, 9000, 9018, 65535];
const START: u64 = 1_700_000_000_123_456_789;

fn frame(number: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
    frame
        .extend((14..LENGTHS[number % LENGTHS.len()]).map(|at| (at * 7 + number).to_le_bytes()[0]));
    frame
}

/// A capture of frames `from`, `from + step` …, below `to`, 1001 ns for each number.
fn write(path: &Path, from: usize, to: usize, step: usize) {
    let mut writer = Writer::new(File::create(path).unwrap(), Format::Pcap);
    for number in (from..to).step_by(step) {
        writer.write(START + number as u64 * 1001, &frame(number)).unwrap();
    }
    writer.finish().unwrap();
}

/// Time, length on the wire and bytes of all frames.
fn read(path: &Path) -> Vec<(u64, usize, Vec<u8>)> {
    let (mut reader, mut frames) = (Reader::new(File::open(path).unwrap()), Vec::new());
    while let Some(record) = reader.read_record().unwrap() {
        frames.push((record.timestamp.unwrap(), record.original, record.bytes.to_vec()));
    }
    frames
}

fn expected(count: usize) -> Vec<(u64, usize, Vec<u8>)> {
    let row = |number| (START + number as u64 * 1001, frame(number).len(), frame(number));
    (0..count).map(row).collect()
}

/// What a tool prints; `None`, said aloud, where it is not installed.
fn tool(test: &str, name: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(name).args(arguments).output() {
        Err(error) => {
            eprintln!("SKIP {test}: {name}: {error}");
            None
        }
        Ok(output) => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: {stderr}");
            assert!(!stderr.contains("cut short") && !stderr.contains("damaged"), "{stderr}");
            Some(String::from_utf8(output.stdout).unwrap())
        }
    }
}

/// Files of one test.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

const TEST: &str = "wireshark_agrees_frame_by_frame";

#[test]
fn wireshark_agrees_frame_by_frame() {
    const FRAMES: usize = 170;
    let folder = Folder::new();
    let from = folder.path("in.pcap");
    write(&from, 0, FRAMES, 1);
    for (name, queues) in [("out.pcap", 1), ("out.pcapng", 1), ("two.pcapng", 2)] {
        let path = folder.path(name);
        let line = format!("-p pcap:{} -w {} -q {queues}", from.display(), path.display());
        let summary = run(&line).unwrap();
        conclude(&summary).unwrap();
        assert_eq!((summary.received(), summary.written()), (FRAMES as u64, FRAMES as u64));
        let mut frames = read(&path);
        // Two workers: sorted by time as far as both were there.
        frames.sort_by_key(|frame| frame.0);
        assert!(frames == expected(FRAMES), "{name} differs");
        let path = path.to_str().unwrap();
        let fields = ["frame.time_epoch", "frame.len", "frame.cap_len"];
        let mut arguments = vec!["-r", path, "-T", "fields"];
        fields.iter().for_each(|field| arguments.extend(["-e", field]));
        let Some(text) = tool(TEST, "tshark", &arguments) else { return };
        let row = |(at, len, bytes): (u64, usize, Vec<u8>)| {
            format!("{}.{:09}\t{len}\t{}", at / 1_000_000_000, at % 1_000_000_000, bytes.len())
        };
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        assert_eq!(lines, expected(FRAMES).into_iter().map(row).collect::<Vec<_>>());
        // Their reader and their writer; our reader again: the bytes.
        let other = folder.path("other.pcap");
        let arguments = ["-F", "nsecpcap", path, other.to_str().unwrap()];
        if tool(TEST, "editcap", &arguments).is_some() {
            let mut frames = read(&other);
            frames.sort_by_key(|frame| frame.0);
            assert!(frames == expected(FRAMES), "{name} differs as editcap reads it");
        }
        if let Some(text) = tool(TEST, "capinfos", &["-M", "-c", "-d", path]) {
            let sum: usize = expected(FRAMES).iter().map(|frame| frame.1).sum();
            assert!(text.contains(&format!("Data size:           {sum}")), "{text}");
        }
    }
}

#[test]
fn several_ports_are_interfaces_of_one_file_in_the_order_of_time() {
    let folder = Folder::new();
    let (one, two, out) =
        (folder.path("one.pcap"), folder.path("two.pcap"), folder.path("o.pcapng"));
    write(&one, 0, 32, 2);
    write(&two, 1, 32, 2);
    let line = format!(
        "-p pcap:{} -p pcap:{} -w {} --comment of-both",
        one.display(),
        two.display(),
        out.display()
    );
    let summary = run(&line).unwrap();
    conclude(&summary).unwrap();
    assert!(read(&out) == expected(32), "in the order of time");
    let path = out.to_str().unwrap();
    let test = "several_ports_are_interfaces_of_one_file";
    let fields =
        ["-r", path, "-T", "fields", "-e", "frame.interface_id", "-e", "frame.interface_name"];
    if let Some(text) = tool(test, "tshark", &fields) {
        let name = |number: usize| [&one, &two][number % 2].display().to_string();
        let rows: Vec<_> =
            (0..32).map(|number| format!("{}\t{}", number % 2, name(number))).collect();
        assert_eq!(text.lines().collect::<Vec<_>>(), rows);
    }
    if let Some(text) = tool(test, "capinfos", &[path]) {
        for says in [
            "Capture comment:     of-both",
            "Capture application: memwire capture 0.1.0",
            "Number of interfaces in file: 2",
            "Number of stat entries = 1",
            "Number of packets = 16",
            "Time resolution = 0x09",
        ] {
            assert!(text.contains(says), "{says} is missing: {text}");
        }
    }
}

#[test]
fn what_is_filtered_out_cut_or_beyond_the_count_is_counted() {
    let folder = Folder::new();
    let (from, out) = (folder.path("in.pcap"), folder.path("o.pcapng"));
    write(&from, 0, 340, 1);
    let line = format!("-p pcap:{} -w {} -s 20 -b 32", from.display(), out.display());
    let summary = run(&format!("{line} --compiler builtin less 64")).unwrap();
    conclude(&summary).unwrap();
    let short = LENGTHS.iter().filter(|len| **len <= 64).count() as u64 * 20;
    assert_eq!((summary.received(), summary.written()), (340, short));
    assert_eq!(summary.filtered(), 340 - short);
    for (_, len, bytes) in read(&out) {
        assert!(len <= 64 && bytes.len() == len.min(20));
    }
    // Chains are filtered by all of their bytes: the last one of the jumbo frame.
    let byte = frame(16)[65534];
    let program = folder.path("p.txt");
    fs::write(&program, format!("4\n48 0 0 65534\n21 0 1 {byte}\n6 0 0 1\n6 0 0 0\n")).unwrap();
    let summary = run(&format!("{line} --bpf {}", program.display())).unwrap();
    assert!(summary.written() >= 1 && summary.written() < 20);
    let summary = run(&format!("{line} -c 33")).unwrap();
    conclude(&summary).unwrap();
    assert_eq!((summary.received(), summary.written()), (64, 33));
    assert_eq!(read(&out).len(), 33);
}

#[test]
fn files_follow_each_other_by_size_and_time_and_each_is_whole() {
    let folder = Folder::new();
    let from = folder.path("in.pcap");
    write(&from, 0, 1700, 1);
    let out = folder.path("o.pcapng");
    let numbered = |number: u64| match number {
        0 => out.clone(),
        number => folder.path(&format!("o.{number}.pcapng")),
    };
    let line = format!("-p pcap:{} -w {}", from.display(), out.display());
    for (rotate, queues) in [("-C 1M", 1), ("-G 100us", 1), ("-C 1M -G 1ms", 1), ("-C 1M", 2)] {
        let summary = run(&format!("{line} {rotate} -q {queues}")).unwrap();
        conclude(&summary).unwrap();
        assert!(summary.files() > 3, "{rotate}: {}", summary.files());
        let mut all = Vec::new();
        for number in 0..summary.files() {
            let path = numbered(number);
            let len = path.metadata().unwrap().len();
            assert!(!rotate.starts_with("-C") || len <= (1 << 20) + 512, "{rotate}: {len}");
            let frames = read(&path);
            let span = frames.last().unwrap().0.saturating_sub(frames[0].0);
            assert!(!rotate.contains("100us") || span < 100_000, "{rotate}: {span} ns");
            all.extend(frames);
            if let Some(text) = tool("files_follow", "capinfos", &[path.to_str().unwrap()]) {
                assert!(text.contains("Number of stat entries = 1"), "file {number}: {text}");
            }
            fs::remove_file(path).unwrap();
        }
        all.sort_by_key(|frame| frame.0);
        assert!(all == expected(1700), "{rotate}: all of them together are the whole");
    }
    let summary = run(&format!("{line} -C 1M --files 3")).unwrap();
    conclude(&summary).unwrap();
    let mut files: Vec<_> = fs::read_dir(folder.0.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["in.pcap", "o.1.pcapng", "o.2.pcapng", "o.pcapng"]);
    let last = numbered((summary.files() - 1) % 3);
    assert!(
        read(&last).last() == expected(1700).last(),
        "the newest file ends with the last frame"
    );
}

#[test]
fn a_capture_is_not_written_over_itself() {
    let folder = Folder::new();
    let from = folder.path("in.pcap");
    write(&from, 0, 100, 1);
    let error = run(&format!("-p pcap:{0} -w {0}", from.display())).err().unwrap();
    assert_eq!(error.code(), Exit::Missing);
    assert!(error.to_string().contains("being written, or read, by another"), "{error}");
    assert!(read(&from) == expected(100));
}

#[test]
fn a_full_disk_stops_the_capture_with_its_count() {
    let summary = run("-p null: -w /dev/full -c 50000").unwrap();
    assert!(summary.is_balanced());
    assert_eq!(summary.written(), 0);
    let error = conclude(&summary).unwrap_err();
    assert_eq!(error.code(), Exit::Failed);
    let text = error.to_string();
    assert!(text.starts_with("/dev/full: disk full after 0 bytes; free some space"), "{text}");
    assert!(text.ends_with("; 0 frames are in it"), "{text}");
}

#[test]
fn the_json_is_as_its_schema_says() {
    let folder = Folder::new();
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../../../docs/schema/capture.json")).unwrap();
    let out = folder.path("o.pcapng");
    for line in [
        format!("-p null: -w {} -c 100 greater 10", out.display()),
        "-p null: -c 3 -b 4".to_owned(),
        "-p null: -w /dev/full -c 100".to_owned(),
    ] {
        let summary = serde_json::to_value(run(&line).unwrap()).unwrap();
        schema::check(&schema, &summary).unwrap_or_else(|why| panic!("{line}: {why}: {summary}"));
    }
}
