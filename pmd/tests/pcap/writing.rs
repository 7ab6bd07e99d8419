//! The sending side of a port.

use std::time::{SystemTime, UNIX_EPOCH};

use mempool::{Burst, Offload, RxMeta};
use pmd::{
    DropReason, Health, QueueStats,
    pcap::{Format, Writer},
};

use crate::{
    captures::{Little, NANO, blocks, frames, header, packet, record, udp},
    formats::read,
    rig::{Folder, Rig, pool},
};

fn lengths() -> Vec<usize> {
    vec![42, 43, 44, 45, 60, 64, 1500, 1514]
}

#[test]
fn what_is_written_is_the_draft_to_the_byte() {
    let frame = udp(1, 1, 61);
    let mut writer = Writer::new(Vec::new(), Format::Pcap);
    writer.write(5_000_000_003, &frame).unwrap();
    let mut expected = header(Little, NANO, 1);
    expected[16..20].copy_from_slice(&262_144_u32.to_le_bytes());
    expected.extend(record(Little, 5, 3, 61, 61, &frame));
    assert_eq!(writer.len(), expected.len() as u64);
    assert_eq!(writer.finish().unwrap(), expected);

    let mut writer = Writer::with_snaplen(Vec::new(), Format::Pcapng, 50);
    writer.write(1 << 40 | 7, &frame).unwrap();
    let file = writer.finish().unwrap();
    let expected = packet(Little, 0, 1 << 40 | 7, 61, &frame[..50], &[]);
    assert_eq!(file[Format::Pcapng.header_len()..], expected);
    assert_eq!(read(file.as_slice())[0].2, Some(1 << 40 | 7));
}

#[test]
fn frames_go_out_and_come_back_in_both_formats() {
    let sent = frames(&lengths());
    for name in ["out.pcap", "out.pcapng"] {
        let folder = Folder::new();
        let path = folder.path(name);
        let before = UNIX_EPOCH.elapsed().unwrap();
        let mut rig = Rig::open(&format!("pcap:,tx={}", path.display()), &pool(64, 2048));
        assert_eq!(rig.device.info().capabilities.rx_queues, 0);
        assert!(!rig.device.info().capabilities.finite);
        rig.send(&sent);
        let (_, tx) = rig.stats();
        let bytes: usize = lengths().iter().sum();
        assert_eq!((tx.delivered, tx.bytes), (8, bytes as u64));
        assert_eq!(rig.device.health(), Health::Good);
        rig.stop();
        let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let rows = read(std::fs::File::open(&path).unwrap());
        assert!(rows.iter().map(|row| &row.4).eq(&sent));
        for row in rows {
            assert!((before.as_nanos()..=after.as_nanos()).contains(&u128::from(row.2.unwrap())));
        }
    }
}

#[test]
fn a_received_frame_keeps_its_time_and_its_segments_are_joined() {
    let folder = Folder::new();
    let sent = frames(&[60, 1000, 9000]);
    let spec = folder.capture(&blocks(&sent));
    let path = folder.path("out.pcap");
    let pool = pool(256, 256);
    let mut rig = Rig::open(&format!("{spec},tx={}", path.display()), &pool);
    let mut burst = Burst::new(&pool);
    assert_eq!(rig.poll(0, &mut burst), 3);
    assert_eq!(rig.queues.tx[0].send(&mut rig.cache, &mut burst), 3);
    assert_eq!(rig.queues.tx[0].in_flight(), 0);
    rig.stop();
    let (old, new) = (std::fs::read(folder.path("in.pcap")).unwrap(), std::fs::read(path).unwrap());
    let rows = |file: &[u8]| read(file).into_iter().map(|row| (row.2, row.4)).collect::<Vec<_>>();
    assert_eq!(rows(&old), rows(&new));
}

#[test]
fn shared_frames_are_written_and_released() {
    let folder = Folder::new();
    let path = folder.path("out.pcapng");
    let pool = pool(64, 2048);
    let mut rig = Rig::open(&format!("pcap:,tx={}", path.display()), &pool);
    let mut burst = Burst::new(&pool);
    assert_eq!(rig.cache.take(&mut burst, 3), 3);
    let rx = RxMeta { offload: Offload::RX_TIMESTAMP, timestamp: 77, ..RxMeta::default() };
    burst.received_alike(0, 60, &rx);
    let mut shared = Burst::of_shared(&pool);
    assert_eq!(shared.share_from(&mut burst), Ok(3));
    let mut mirror = Burst::of_shared(&pool);
    assert_eq!(shared.clone_into(&mut mirror), 3);
    for burst in [&mut shared, &mut mirror] {
        assert_eq!(rig.queues.tx[0].send_shared(&mut rig.cache, burst), 3);
    }
    assert_eq!(rig.stats().1.delivered, 6);
    rig.stop();
    let rows = read(std::fs::File::open(&path).unwrap());
    assert!(rows.len() == 6 && rows.iter().all(|row| row.2 == Some(77)));
}

#[test]
fn files_are_rotated_by_size_and_a_restart_begins_another() {
    let folder = Folder::new();
    let path = folder.path("out.pcap");
    let spec = format!("pcap:,tx={},rotate=1M", path.display());
    let pool = pool(64, 2048);
    let sent: Vec<_> = (0..2000).map(|number| udp(1, number, 1500)).collect();
    let mut rig = Rig::open(&spec, &pool);
    rig.send(&sent);
    assert_eq!(rig.device.stats().2, [("tx_files".to_owned(), 3)]);
    let device = rig.stop();
    let mut rig = Rig::start(device, &pool, 1);
    rig.send(&sent[..1]);
    rig.stop();
    let mut got = vec![];
    for name in ["out.pcap", "out.1.pcap", "out.2.pcap", "out.3.pcap"] {
        let file = std::fs::read(folder.path(name)).unwrap();
        assert!(file.len() <= 1 << 20, "{name} has {} B", file.len());
        got.extend(read(file.as_slice()).into_iter().map(|row| row.4));
    }
    assert_eq!(got.len(), 2001);
    assert_eq!(got[..2000], sent);
    assert!(!folder.path("out.4.pcap").exists());
}

#[test]
fn dev_null_takes_everything_and_a_second_port_too() {
    let pool = pool(64, 2048);
    let mut registry = pmd::Registry::new();
    for _ in 0..2 {
        let mut rig = Rig::start(registry.open("pcap:,tx=/dev/null").unwrap(), &pool, 1);
        (0..100).for_each(|_| rig.send(&frames(&[1500; 32])));
        assert_eq!(rig.stats().1.delivered, 3200);
        assert_eq!(rig.device.health(), Health::Good);
        rig.stop();
    }
}

#[test]
fn a_full_disk_is_a_fault_and_every_frame_is_accounted_for() {
    let pool = pool(64, 2048);
    let mut rig = Rig::open("pcap:,tx=/dev/full", &pool);
    for _ in 0..30 {
        rig.send(&frames(&[1500; 32]));
    }
    let (_, tx) = rig.stats();
    assert_eq!(tx.offered, 960);
    assert_eq!((tx.delivered, tx.bytes, tx.drops.of(DropReason::SendError)), (0, 0, 960));
    let Health::Faulted(why) = rig.device.health() else { panic!("it is a fault") };
    assert!(why.starts_with("disk full after 0 bytes; "), "{why}");
    rig.stop();
}

#[test]
fn a_disk_that_is_full_only_at_the_end_is_found_when_the_port_stops() {
    let pool = pool(64, 2048);
    let mut rig = Rig::open("pcap:,tx=/dev/full", &pool);
    rig.send(&frames(&[60; 3]));
    assert_eq!(rig.device.health(), Health::Good);
    let device = rig.stop();
    let (_, tx, _) = device.stats();
    assert_eq!(tx.drops.of(DropReason::SendError), 3);
    assert_eq!(QueueStats { drops: tx.drops, offered: 3, ..QueueStats::default() }, tx);
    assert!(matches!(device.health(), Health::Faulted(_)));
}

/// Takes so many bytes and then no more.
struct Small(Vec<u8>, usize);

impl std::io::Write for Small {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = self.1 - self.0.len();
        if room == 0 {
            return Err(std::io::Error::from_raw_os_error(28));
        }
        let count = bytes.len().min(room);
        self.0.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_writer_says_exactly_what_did_not_fit() {
    for format in [Format::Pcap, Format::Pcapng] {
        let (header, record) = (format.header_len(), format.record_len(100));
        for room in 0..header + 10 * record {
            let mut writer = Writer::with_snaplen(Small(vec![], room), format, 100);
            (0..10).for_each(|at| writer.write(at, &[7; 120]).unwrap());
            let error = writer.flush().unwrap_err();
            let fitted = room.saturating_sub(header) / record;
            assert_eq!(error.lost_frames, 10 - fitted, "{room} B");
            assert_eq!(error.lost_bytes, error.lost_frames * 120);
            let whole = if room < header { 0 } else { header + fitted * record };
            assert_eq!(error.whole, whole as u64);
            let text = format!(
                "disk full after {whole} bytes; free some space, or rotate and move files away; {} frames that were waiting in memory are lost",
                10 - fitted
            );
            assert_eq!(error.to_string(), text);
            assert_eq!(writer.write(1, &[7; 60]).unwrap_err().lost_frames, 0, "it stays so");
        }
    }
}
