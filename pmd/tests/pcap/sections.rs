//! What a pcapng file says beside its frames, as Wireshark's tools understand it, and our reader passes
//! over it.

use std::{fs::File, path::Path, process::Command};

use pmd::pcap::{Direction, Format, Interface, Note, Packet, Section, Statistics, Writer};

use crate::{captures::udp, rig::Folder};

const START: u64 = 1_700_000_000_000_000_001;

/// A capture of two interfaces with everything that can be said.
fn written(path: &Path) {
    let section = Section {
        comment: Some("a test — of everything".into()),
        ..Section::here("memwire test 1.0")
    };
    let interface = |name: &str| Interface {
        name: Some(name.into()),
        description: Some(format!("the {name} of two")),
        filter: Some("udp".into()),
    };
    let file = File::create(path).unwrap();
    let interfaces = [interface("first"), interface("second")];
    let mut writer = Writer::with_interfaces(file, Format::Pcapng, 100, &section, &interfaces);
    let notes = [
        Note { direction: Some(Direction::Inbound), ..Note::default() },
        Note { direction: Some(Direction::Outbound), dropped: Some(7), ..Note::default() },
        Note { comment: Some("odd"), ..Note::default() },
        Note::default(),
    ];
    for (number, note) in (0..).zip(notes) {
        let frame = udp(number, 0, 97 + usize::from(number));
        let packet = Packet::whole(u32::from(number % 2), START + u64::from(number), frame.len());
        writer.write_noted(&packet, &note, std::iter::once(frame.as_slice())).unwrap();
    }
    let counts = Statistics {
        start: Some(START),
        end: Some(START + 1_000_000_000),
        received: Some(20),
        dropped: Some(7),
        accepted: Some(12),
        os_dropped: Some(1),
        delivered: Some(2),
    };
    for interface in 0..2 {
        writer.write_statistics(interface, START + 5, &counts).unwrap();
    }
    writer.finish().unwrap();
}

fn run(tool: &str, arguments: &[&str], file: &Path) -> Option<String> {
    match Command::new(tool).args(arguments).arg(file).output() {
        Err(error) => {
            eprintln!("SKIP what_is_said_beside_the_frames: {tool}: {error}");
            None
        }
        Ok(output) => {
            assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8(output.stdout).unwrap())
        }
    }
}

#[test]
fn what_is_said_beside_the_frames_is_understood() {
    let folder = Folder::new();
    let path = folder.path("all.pcapng");
    written(&path);
    let ours = crate::formats::read(File::open(&path).unwrap());
    assert_eq!(ours.len(), 4);
    let fields = [
        "frame.interface_name",
        "frame.interface_description",
        "frame.packet_flags",
        "frame.drop_count",
        "frame.comment",
        "frame.len",
        "frame.cap_len",
        "frame.time_epoch",
    ];
    let mut arguments = vec!["-T", "fields"];
    fields.iter().for_each(|field| arguments.extend(["-e", field]));
    arguments.push("-r");
    if let Some(text) = run("tshark", &arguments, &path) {
        let expected = [
            "first\tthe first of two\t0x00000001\t\t\t97\t97\t1700000000.000000001",
            "second\tthe second of two\t0x00000002\t7\t\t98\t98\t1700000000.000000002",
            "first\tthe first of two\t\t\todd\t99\t99\t1700000000.000000003",
            "second\tthe second of two\t\t\t\t100\t100\t1700000000.000000004",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }
    if let Some(text) = run("capinfos", &[], &path) {
        for says in [
            "Capture comment:     a test — of everything",
            "Capture application: memwire test 1.0",
            "Capture hardware:    x86_64",
            "Number of interfaces in file: 2",
            "Name = second",
            "Description = the second of two",
            "Filter string = udp",
            "Capture length = 100",
            "Number of stat entries = 1",
            "Time precision = nanoseconds (9)",
        ] {
            assert!(text.contains(says), "{says} is missing: {text}");
        }
    }
    // Their writer repeats it, and our reader takes that.
    let copy = folder.path("copy.pcapng");
    let from = path.to_str().unwrap();
    if run("editcap", &[from], &copy).is_some() {
        let theirs = crate::formats::read(File::open(&copy).unwrap());
        assert!(
            ours.iter().map(|row| (row.2, &row.4)).eq(theirs.iter().map(|row| (row.2, &row.4)))
        );
    }
}

#[test]
fn the_classic_format_says_nothing_and_is_whole() {
    let mut writer = Writer::new(Vec::new(), Format::Pcap);
    let note = Note { dropped: Some(7), comment: Some("lost"), ..Note::default() };
    writer.write_noted(&Packet::whole(9, 5, 4), &note, std::iter::once(&b"abcd"[..])).unwrap();
    writer.write_statistics(0, 1, &Statistics::default()).unwrap();
    assert_eq!(writer.finish().unwrap().len(), 24 + 16 + 4);
}

#[test]
#[should_panic(expected = "interface 1 was not described")]
fn a_frame_of_an_unknown_interface_is_our_own_bug() {
    let mut writer = Writer::new(Vec::new(), Format::Pcapng);
    let _ = writer.write_packet(&Packet::whole(1, 5, 0), std::iter::empty());
}

/// A sink with room for some bytes.
struct Small(Vec<u8>, usize);

impl std::io::Write for Small {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = bytes.len().min(self.1 - self.0.len());
        self.0.extend(&bytes[..count]);
        if count == 0 { Err(rustix::io::Errno::NOSPC.into()) } else { Ok(count) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn wherever_the_disk_is_full_the_file_ends_behind_a_whole_block() {
    let write = |room: usize| {
        let section = Section { comment: Some("c".into()), ..Section::default() };
        let interfaces = [Interface::default(), Interface::default()];
        let mut small = Small(Vec::new(), room);
        let mut writer =
            Writer::with_interfaces(&mut small, Format::Pcapng, 100, &section, &interfaces);
        let mut lost = 0;
        for number in 0..3_u8 {
            let note = Note { dropped: Some(1), ..Note::default() };
            let packet = Packet::whole(u32::from(number % 2), 5, 60);
            writer.write_noted(&packet, &note, std::iter::once(&[number; 60][..])).unwrap();
            writer.write_statistics(0, 1, &Statistics::default()).unwrap();
        }
        let whole = match writer.flush() {
            Ok(()) => None,
            Err(error) => {
                lost = error.lost_frames;
                Some(usize::try_from(error.whole).unwrap())
            }
        };
        drop(writer);
        let end = whole.unwrap_or(small.0.len());
        (small.0[..end].to_vec(), lost)
    };
    let (all, lost) = write(1 << 20);
    assert_eq!(lost, 0);
    for room in 0..all.len() {
        let (file, lost) = write(room);
        assert!(file.len() <= room && all.starts_with(&file));
        let frames = if file.is_empty() { 0 } else { crate::formats::read(file.as_slice()).len() };
        assert_eq!(frames + lost, 3, "with room for {room} bytes");
    }
}
