//! Broken captures: the frames before the break are delivered, and the message says where it is.

use pmd::{DropReason, Error, Health, pcap::Reader};

use crate::{
    captures::{
        Big, Little, MICRO, blocks, classic, frames, header, interface, packet, record, section,
        simple, udp,
    },
    rig::{Folder, Rig, pool, refused},
};

/// Opening this file is refused, at record 0 and with this message.
#[track_caller]
fn refused_at_open(file: &[u8], offset: u64, why: &str) {
    let folder = Folder::new();
    let spec = folder.capture(file);
    let error = refused(&spec);
    assert!(matches!(&error, Error::BrokenFile { record: 0, .. }), "{error}");
    assert_eq!(error.to_string(), format!("port '{spec}': record 0 at offset {offset:#x}: {why}"));
}

/// This file yields `good` frames and then this fault; with `strict`, the fault at once.
#[track_caller]
fn breaks(file: &[u8], good: usize, fault: &str) {
    let folder = Folder::new();
    let spec = folder.capture(file);
    let mut rig = Rig::open(&spec, &pool(64, 2048));
    assert_eq!(rig.bytes().len(), good);
    assert_eq!(rig.device.health(), Health::Faulted(fault.to_owned()));
    assert_eq!(rig.receive(1).len(), 0, "the fault stays");
    let (rx, _) = rig.stats();
    assert_eq!((rx.delivered, rx.drops.of(DropReason::Malformed)), (good as u64, 1));
    assert_eq!(rx.offered, good as u64 + 1);
    rig.stop();
    for option in ["strict", "loop"] {
        let error = refused(&format!("{spec},{option}"));
        assert!(error.to_string().ends_with(fault), "{error}");
        assert!(matches!(error, Error::BrokenFile { record, .. } if record == good as u64 + 1));
    }
    let mut rig = Rig::with_queues(&spec, &pool(64, 2048), 3);
    let got: usize = (0..3).map(|queue| rig.receive_from(queue, usize::MAX).len()).sum();
    assert_eq!(got, good);
    assert_eq!(rig.stats().0.drops.of(DropReason::Malformed), 1, "counted once for the port");
    assert_eq!(rig.device.health(), Health::Faulted(fault.to_owned()));
    rig.stop();
}

#[test]
fn what_is_no_capture_is_refused() {
    refused_at_open(b"", 0, "the file is empty");
    refused_at_open(&[0xd4, 0xc3], 0, "the file ends inside the magic number");
    refused_at_open(
        b"\xde\xad\xbe\xef and more",
        0,
        "magic number 0xdeadbeef is neither that of pcap nor that of pcapng",
    );
    refused_at_open(&[0x1f, 0x8b, 8, 0], 0, "the file is compressed (gzip); decompress it first");
}

#[test]
fn a_truncated_file_header_is_refused() {
    let file = header(Little, MICRO, 1);
    refused_at_open(&file[..23], 0, "the file ends inside its header: 23 of 24 bytes");
    let file = section(Big);
    refused_at_open(&file[..11], 0, "the file ends inside a section header: 11 of 28 bytes");
    refused_at_open(&file[..27], 0, "the file ends inside the block: 27 of 28 bytes");
}

#[test]
fn other_versions_are_refused() {
    let mut file = header(Big, MICRO, 1);
    file[5] = 3;
    refused_at_open(&file, 0, "version 3.4 of the pcap format is not known; 2.4 is");
    let mut file = section(Little);
    file[12] = 2;
    refused_at_open(&file, 0, "version 2.0 of the pcapng format is not known; 1.0 is");
    file[8] = 0;
    refused_at_open(&file, 0, "section with byte-order magic 0x1a2b3c00");
}

#[test]
fn what_is_not_ethernet_is_refused() {
    let why = "link type 127 (802.11) is not Ethernet (1); capture on an Ethernet interface";
    refused_at_open(&header(Little, MICRO, 127), 0, why);
    let mut file = section(Big);
    file.extend(interface(Big, 127, &[]));
    refused_at_open(&file, 28, why);
}

#[test]
fn a_truncated_record_ends_the_queue_behind_the_frames_before() {
    let file = classic(&frames(&[60, 64, 128]));
    breaks(
        &file[..file.len() - 1],
        2,
        "record 3 at offset 0xb4: the file ends inside the record: 127 of 128 bytes of data",
    );
    breaks(
        &file[..0xb4 + 7],
        2,
        "record 3 at offset 0xb4: the file ends inside the record's header: 7 of 16 bytes",
    );
    let file = blocks(&frames(&[60, 64, 128]));
    breaks(
        &file[..file.len() - 1],
        2,
        "record 3 at offset 0xec: the file ends inside the block: 159 of 160 bytes",
    );
    breaks(
        &file[..0xec + 5],
        2,
        "record 3 at offset 0xec: the file ends inside a block's header: 5 of 8 bytes",
    );
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    let mut file = classic(&frames(&[100; 16]));
    let at = file.len();
    assert_eq!(at, 0x758);
    file.extend(record(Little, 0, 0, u32::MAX, u32::MAX, &[0; 100]));
    breaks(&file, 16, "record 17 at offset 0x758: caplen 4294967295 is more than the limit 262144");
    let mut file = classic(&frames(&[60]));
    file.extend(record(Little, 0, 0, 60, 42, &[0; 60]));
    breaks(&file, 1, "record 2 at offset 0x64: caplen 60 is more than the original length 42");
    let mut file = blocks(&[]);
    file.extend(packet(Little, 0, 0, 42, &[0; 60], &[]));
    breaks(&file, 0, "record 1 at offset 0x30: caplen 60 is more than the original length 42");
    let mut file = blocks(&frames(&[60]));
    let mut long = packet(Little, 0, 0, 60, &[0; 60], &[]);
    long[20..24].copy_from_slice(&300_000_u32.to_le_bytes());
    long[24..28].copy_from_slice(&300_000_u32.to_le_bytes());
    file.extend(&long);
    breaks(&file, 1, "record 2 at offset 0x8c: caplen 300000 is more than the limit 262144");
    let mut file = blocks(&frames(&[60]));
    long[20..24].copy_from_slice(&61_u32.to_le_bytes());
    file.extend(&long);
    breaks(&file, 1, "record 2 at offset 0x8c: caplen 61 is more than the block has: 60 bytes");
    let mut file = blocks(&frames(&[60]));
    file.extend(simple(Little, 80, &[0; 60]));
    breaks(&file, 1, "record 2 at offset 0x8c: caplen 80 is more than the block has: 60 bytes");
}

#[test]
fn broken_blocks_are_refused() {
    let broken = |change: fn(&mut Vec<u8>), fault: &str| {
        let mut file = blocks(&frames(&[60]));
        let mut next = packet(Little, 0, 0, 60, &udp(1, 1, 60), &[]);
        change(&mut next);
        file.extend(next);
        breaks(&file, 1, fault);
    };
    broken(|next| next[4] = 8, "record 2 at offset 0x8c: block length 8 is less than 12");
    broken(|next| next[4] = 93, "record 2 at offset 0x8c: block length 93 is not a multiple of 4");
    broken(
        |next| *next.last_mut().unwrap() = 1,
        "record 2 at offset 0x8c: block length is 92 in front and 16777308 behind",
    );
    broken(
        |next| next[7] = 1,
        "record 2 at offset 0x8c: block length 16777308 is more than the limit 327744",
    );
    broken(
        |next| next[8] = 1,
        "record 2 at offset 0x8c: packet of interface 1, of 1 described before",
    );
}

#[test]
fn a_block_that_nobody_asked_for_may_lie_about_its_length_too() {
    let mut file = blocks(&frames(&[60]));
    let mut next = packet(Little, 0, 0, 60, &udp(1, 1, 60), &[]);
    next[0] = 99;
    next[4..8].copy_from_slice(&(u32::MAX - 3).to_le_bytes());
    file.extend(next);
    breaks(
        &file,
        1,
        "record 2 at offset 0x8c: the file ends inside the block: 92 of 4294967292 bytes",
    );
}

#[test]
fn strict_refuses_records_above_the_files_own_snaplen() {
    let mut file = header(Little, MICRO, 1);
    file[16..20].copy_from_slice(&50_u32.to_le_bytes());
    file.extend(record(Little, 0, 0, 60, 60, &udp(1, 1, 60)));
    let folder = Folder::new();
    let spec = folder.capture(&file);
    assert_eq!(Rig::open(&spec, &pool(64, 2048)).bytes().len(), 1);
    let error = refused(&format!("{spec},strict")).to_string();
    assert!(
        error.ends_with("record 1 at offset 0x18: caplen 60 is more than the snaplen 50"),
        "{error}"
    );
}

#[test]
fn a_reader_says_what_is_wrong_once_and_then_ends() {
    let mut file = classic(&frames(&[60]));
    file.push(0);
    let mut reader = Reader::new(file.as_slice());
    assert!(reader.read_record().unwrap().is_some());
    assert!(reader.read_record().is_err());
    assert!(reader.read_record().unwrap().is_none());
}
