//! Captures that cannot be read twice, or not yet.

use std::{fs::OpenOptions, io::Write, path::Path};

use pmd::{Error, Health, Registry};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::{
    captures::{classic, frames},
    rig::{Folder, Rig, pool, spec},
};

fn fifo(folder: &Folder) -> std::path::PathBuf {
    let path = folder.path("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    path
}

fn writer(path: &Path) -> std::fs::File {
    OpenOptions::new().write(true).open(path).unwrap()
}

#[test]
fn a_fifo_is_never_waited_for_and_yields_what_there_is() {
    let folder = Folder::new();
    let path = fifo(&folder);
    let sent = frames(&[60, 61, 1000]);
    let file = classic(&sent);
    let mut rig = Rig::open(&spec(&path), &pool(64, 256));
    assert_eq!(rig.device.info().capabilities.rx_queues, 1);
    assert!(rig.bytes().is_empty(), "nobody writes yet");
    assert_eq!(rig.device.health(), Health::Good);
    let mut pipe = writer(&path);
    let mut got = vec![];
    for byte in &file {
        pipe.write_all(&[*byte]).unwrap();
        got.extend(rig.bytes());
    }
    assert_eq!(got, sent);
    assert_eq!(rig.device.health(), Health::Good, "the writer may go on");
    drop(pipe);
    assert!(rig.bytes().is_empty());
    assert_eq!(rig.device.health(), Health::Ended);
    let mut device = rig.stop();
    let again = device.start(pmd::Config::one_queue(&pool(64, 256))).err();
    assert!(again.is_some(), "no transmit queue");
    let config = pmd::Config::default().with_rx(pmd::RxMemory::Whole(pool(64, 256)));
    let again = device.start(config).err().unwrap();
    assert!(
        again.to_string().ends_with("a stream can be read once; open the port again"),
        "{again}"
    );
}

#[test]
fn a_fifo_that_ends_inside_a_record_is_a_fault() {
    let folder = Folder::new();
    let path = fifo(&folder);
    let file = classic(&frames(&[60, 61]));
    let mut rig = Rig::open(&spec(&path), &pool(64, 256));
    let mut pipe = writer(&path);
    pipe.write_all(&file[..file.len() - 1]).unwrap();
    drop(pipe);
    assert_eq!(rig.bytes().len(), 1);
    let why = "record 2 at offset 0x64: the file ends inside the record: 60 of 61 bytes of data";
    assert_eq!(rig.device.health(), Health::Faulted(why.into()));
    rig.stop();
}

#[test]
fn a_fifo_that_is_no_capture_is_a_fault_when_it_is_read() {
    let folder = Folder::new();
    let path = fifo(&folder);
    let mut rig = Rig::open(&spec(&path), &pool(64, 256));
    writer_of(&path, b"nothing of the kind");
    assert!(rig.bytes().is_empty());
    let Health::Faulted(why) = rig.device.health() else { panic!("it is a fault") };
    assert_eq!(
        why,
        "file header at offset 0x0: magic number 0x6e6f7468 is neither that of pcap nor that of pcapng"
    );
    rig.stop();
}

fn writer_of(path: &Path, bytes: &[u8]) {
    writer(path).write_all(bytes).unwrap();
}

#[test]
fn a_fifo_is_looped_out_of_memory() {
    let folder = Folder::new();
    let path = fifo(&folder);
    let sent = frames(&[60, 61]);
    let file = classic(&sent);
    let feeder = std::thread::spawn({
        let path = path.clone();
        move || writer_of(&path, &file)
    });
    let mut rig = Rig::open(&format!("{},loop", spec(&path)), &pool(64, 256));
    feeder.join().unwrap();
    let got: Vec<_> = rig.receive(5).into_iter().map(|(bytes, _)| bytes).collect();
    assert!(got.iter().eq(sent.iter().cycle().take(5)));
    rig.stop();
}

#[test]
fn a_fifo_is_written_to_once_it_has_a_reader() {
    let folder = Folder::new();
    let path = fifo(&folder);
    let sent = frames(&[60, 61, 1000]);
    let pool = pool(64, 2048);
    let mut device = Registry::new().open(&format!("pcap:,tx={}", path.display())).unwrap();
    let error = device.start(pmd::Config::default().with_tx(&pool)).err().unwrap();
    assert!(
        error.to_string().ends_with("nobody reads the FIFO; start its reader first"),
        "{error}"
    );
    let mut reader = Rig::open(&spec(&path), &pool);
    let mut rig = Rig::start(device, &pool, 0);
    rig.send(&sent);
    rig.stop();
    assert_eq!(reader.bytes(), sent);
    assert_eq!(reader.device.health(), Health::Ended);
    reader.stop();
}

#[test]
fn a_pipe_whose_reader_went_away_is_a_fault() {
    let folder = Folder::new();
    let path = fifo(&folder);
    let pool = pool(64, 2048);
    let reader = Rig::open(&spec(&path), &pool);
    let mut rig = Rig::open(&format!("pcap:,tx={}", path.display()), &pool);
    rig.send(&frames(&[60]));
    drop(reader);
    let device = rig.stop();
    let Health::Faulted(why) = device.health() else { panic!("it is a fault") };
    assert!(why.starts_with("the reader of the pipe went away after 0 bytes"), "{why}");
    assert_eq!(device.stats().1.drops.of(pmd::DropReason::SendError), 1);
}

#[test]
fn a_stream_is_one_ports_alone_and_cannot_be_read_twice() {
    let folder = Folder::new();
    let path = fifo(&folder);
    let error = Registry::new().open(&format!("{},strict", spec(&path))).err().unwrap();
    assert!(matches!(error, Error::BadOption { .. }), "{error}");
    let mut registry = Registry::new();
    let _first = registry.open(&spec(&path)).unwrap();
    assert!(registry.open(&spec(&path)).is_err());
}
