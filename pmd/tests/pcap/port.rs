//! The receiving side of a port.

use std::time::{Duration, Instant};

use mempool::{Burst, Offload};
use pmd::{DropReason, Error, Health, Registry};

use crate::{
    captures::{Little, NANO, blocks, classic, frames, header, record, section, udp},
    rig::{Folder, Rig, copy, pool, refused},
};

#[test]
fn a_file_is_delivered_in_order_with_its_times_and_then_it_has_ended() {
    let mut file = header(Little, NANO, 1);
    file.extend(record(Little, 1, 2, 60, 60, &udp(1, 1, 60)));
    file.extend(record(Little, 3, 4, 50, 60, &udp(1, 2, 50)));
    let folder = Folder::new();
    let mut rig = Rig::open(&folder.capture(&file), &pool(64, 2048));
    assert!(rig.device.info().capabilities.finite);
    assert_eq!(rig.device.info().capabilities.tx_queues, 0);
    assert_eq!(rig.device.health(), Health::Good);
    let got = rig.receive(100);
    assert_eq!(got[0].0, udp(1, 1, 60));
    assert_eq!(got[1].0, udp(1, 2, 50));
    assert_eq!([got[0].1.timestamp(), got[1].1.timestamp()], [1_000_000_002, 3_000_000_004]);
    assert!(got.iter().all(|(_, meta)| meta.offload().has(Offload::RX_TIMESTAMP)));
    let truncated: Vec<_> =
        got.iter().map(|(_, meta)| meta.offload().has(Offload::RX_TRUNCATED)).collect();
    assert_eq!(truncated, [false, true]);
    assert_eq!(rig.device.health(), Health::Ended);
    let (rx, _) = rig.stats();
    assert_eq!((rx.offered, rx.delivered, rx.bytes), (2, 2, 110));
    let device = rig.stop();
    let mut again = Rig::start(device, &pool(64, 2048), 1);
    assert_eq!(again.receive(100).len(), 2, "a file can be started again");
    again.stop();
}

#[test]
fn captures_without_records_end_at_once() {
    for file in [header(Little, NANO, 1), section(Little)] {
        let folder = Folder::new();
        let spec = folder.capture(&file);
        let mut rig = Rig::open(&spec, &pool(64, 2048));
        assert!(rig.bytes().is_empty());
        assert_eq!(rig.device.health(), Health::Ended);
        rig.stop();
        let mut rig = Rig::open(&format!("{spec},loop"), &pool(64, 2048));
        assert!(rig.bytes().is_empty());
        assert_eq!(rig.device.health(), Health::Good);
        rig.stop();
    }
}

/// Lengths around every border of the copy, in buffers that take them in one piece or in several.
fn lengths() -> Vec<usize> {
    vec![
        60, 63, 64, 65, 127, 128, 129, 255, 256, 257, 320, 1000, 1514, 1919, 1920, 1921, 9000,
        65535,
    ]
}

#[test]
fn frames_of_any_length_arrive_whole_in_as_many_segments_as_it_takes() {
    let sent = frames(&lengths());
    let folder = Folder::new();
    let spec = folder.capture(&blocks(&sent));
    for stride in [256, 384, 448, 2048, 16384] {
        let pool = pool(1024, stride);
        let mut rig = Rig::open(&spec, &pool);
        let mut burst = Burst::new(&pool);
        assert_eq!(rig.poll(0, &mut burst), sent.len());
        for (frame, sent) in burst.iter().zip(&sent) {
            assert_eq!(&copy(frame).0, sent);
            assert_eq!(frame.meta().segments(), sent.len().div_ceil(pool.room()));
            assert_eq!(frame.segments().count(), frame.meta().segments());
        }
        burst.recycle(&mut rig.cache);
        rig.stop();
        for option in ["loop", "loop,pace"] {
            let mut rig = Rig::open(&format!("{spec},{option}"), &pool);
            let got = rig.receive(if option == "loop" { 3 * sent.len() } else { 1 });
            let expected: Vec<_> = sent.iter().cycle().take(got.len()).cloned().collect();
            assert!(got.into_iter().map(|(bytes, _)| bytes).eq(expected), "{stride}, {option}");
            rig.stop();
        }
    }
}

#[test]
fn frames_without_bytes_are_frames() {
    let mut file = header(Little, NANO, 1);
    file.extend(record(Little, 1, 2, 0, 60, &[]));
    let folder = Folder::new();
    let spec = folder.capture(&file);
    assert_eq!(Rig::open(&spec, &pool(64, 256)).bytes(), [vec![]]);
    assert_eq!(Rig::open(&format!("{spec},loop"), &pool(64, 256)).receive(3).len(), 3);
}

#[test]
fn frames_longer_than_any_buffers_hold_are_dropped_and_counted() {
    let mut file = header(Little, NANO, 1);
    file.extend(record(Little, 0, 0, 65536, 65536, &[0; 65536]));
    file.extend(record(Little, 0, 0, 60, 60, &udp(1, 1, 60)));
    file.extend(record(Little, 0, 0, 1000, 1000, &udp(1, 2, 1000)));
    let folder = Folder::new();
    let spec = folder.capture(&file);
    let mut rig = Rig::open(&spec, &pool(64, 2048));
    assert_eq!(rig.bytes().len(), 2);
    assert_eq!(rig.stats().0.drops.of(DropReason::TooLong), 1);
    rig.stop();
    let mut rig = Rig::open(&spec, &pool(4, 256));
    assert_eq!(rig.bytes(), [udp(1, 1, 60)], "1000 B do not fit four buffers of 128 B");
    assert_eq!(rig.stats().0.drops.of(DropReason::TooLong), 2);
    rig.stop();
}

#[test]
fn a_frame_waits_in_the_file_until_there_is_a_buffer() {
    let sent = frames(&[60, 64, 300, 64, 1000, 60]);
    let folder = Folder::new();
    let spec = folder.capture(&classic(&sent));
    for option in ["", ",loop"] {
        let pool = pool(8, 256);
        let mut rig = Rig::open(&format!("{spec}{option}"), &pool);
        let mut bursts = vec![];
        let mut got = vec![];
        loop {
            let mut burst = Burst::new(&pool);
            if rig.poll(0, &mut burst) == 0 {
                break;
            }
            got.extend(burst.iter().map(|frame| copy(frame).0));
            bursts.push(burst);
        }
        assert_eq!(got, sent[..4], "1 + 1 + 3 + 1 buffers, and 8 are not there for the fifth");
        assert_eq!(rig.poll(0, &mut Burst::new(&pool)), 0);
        bursts.iter_mut().for_each(|burst| burst.recycle(&mut rig.cache));
        assert_eq!(rig.receive(1)[0].0, sent[4]);
        assert_eq!(rig.receive(1)[0].0, sent[5]);
        let (rx, _) = rig.stats();
        assert_eq!((rx.offered, rx.delivered), (6, 6));
        rig.stop();
    }
}

#[test]
fn replay_wraps_exactly() {
    let sent = frames(&[60, 64, 65, 500, 1514, 80, 60]);
    let folder = Folder::new();
    let mut rig = Rig::open(&format!("{},loop", folder.capture(&classic(&sent))), &pool(64, 2048));
    assert!(!rig.device.info().capabilities.finite);
    let got = rig.receive(7 * 100 + 3);
    assert_eq!(got.len(), 703);
    for (at, (bytes, meta)) in got.iter().enumerate() {
        assert_eq!(bytes, &sent[at % 7]);
        assert_eq!(meta.timestamp(), (at as u64 % 7 + 1) * 1_000_000_000 + 7_000);
    }
    assert_eq!(rig.device.health(), Health::Good);
    rig.stop();
}

#[test]
fn queues_share_a_file_by_flow() {
    let mut sent: Vec<_> = (0..400).map(|at| udp(1000 + at % 40, at.into(), 64)).collect();
    sent.extend((0..40_u8).map(|at| {
        let mut arp = vec![0xff; 60];
        arp[12..14].copy_from_slice(&[8, 6]);
        arp[59] = at;
        arp
    }));
    let folder = Folder::new();
    let spec = folder.capture(&blocks(&sent));
    for option in ["", ",loop"] {
        let mut rig = Rig::with_queues(&format!("{spec}{option}"), &pool(64, 2048), 4);
        let mut all = vec![];
        let mut queue_of = std::collections::HashMap::new();
        for queue in 0..4 {
            let mut first = None;
            let mut mine = vec![];
            while let Some((bytes, _)) = rig.receive_from(queue, 1).pop() {
                if first.as_ref() == Some(&bytes) {
                    break;
                }
                first.get_or_insert_with(|| bytes.clone());
                mine.push(bytes);
            }
            assert!(mine.len() > 20, "queue {queue} has {} of 440 frames", mine.len());
            let order: Vec<_> = mine.iter().map(|it| sent.iter().position(|s| s == it)).collect();
            assert!(order.is_sorted());
            for frame in mine.iter().filter(|frame| frame[12] == 8 && frame[13] == 0) {
                assert_eq!(*queue_of.entry(frame[34..36].to_vec()).or_insert(queue), queue);
            }
            all.extend(mine);
        }
        all.sort();
        sent.sort();
        assert_eq!(all, sent);
        sent = crate::formats::read(std::fs::read(folder.path("in.pcap")).unwrap().as_slice())
            .into_iter()
            .map(|row| row.4)
            .collect();
        rig.stop();
    }
}

/// Frames 10 ms apart.
fn ticking(count: u32) -> Vec<u8> {
    let mut file = header(Little, NANO, 1);
    for at in 0..count {
        file.extend(record(Little, 77, at * 10_000_000, 60, 60, &udp(1, at, 60)));
    }
    file
}

/// Polls until `count` frames came, and sees that each came with the first poll after its time and
/// with none before: what holds however busy the machine is.
fn keeps_time(rig: &mut Rig, count: u32) {
    let (begun, mut asked) = (Instant::now(), Instant::now());
    let mut first = None;
    let mut at = 0;
    while at < count {
        assert!(begun.elapsed() < Duration::from_secs(60), "the frames come");
        let asking = Instant::now();
        let got = rig.receive(1).len();
        let answered = Instant::now();
        if got == 1 {
            // The first frame was due somewhere between these two.
            let (earliest, latest) = *first.get_or_insert((asking, answered));
            let due = Duration::from_millis(10) * at;
            assert!(answered >= earliest + due, "frame {at} came before its time");
            assert!(
                asked <= latest + due,
                "frame {at} was asked for after its time, and came later"
            );
            at += 1;
        } else {
            asked = asking;
        }
    }
}

#[test]
fn a_paced_capture_keeps_its_time() {
    let folder = Folder::new();
    let spec = folder.capture(&ticking(20));
    let mut rig = Rig::open(&format!("{spec},pace"), &pool(64, 2048));
    keeps_time(&mut rig, 20);
    assert_eq!(rig.device.health(), Health::Ended);
    rig.stop();
    // A round is 20 frames and 20 gaps: the next one goes on in step.
    let mut rig = Rig::open(&format!("{spec},pace,loop"), &pool(64, 2048));
    keeps_time(&mut rig, 50);
    rig.stop();
}

#[test]
fn a_paced_frame_that_finds_no_buffer_is_dropped_and_counted() {
    let folder = Folder::new();
    let mut file = header(Little, NANO, 1);
    for at in 0..10 {
        file.extend(record(Little, 77, 0, 60, 60, &udp(1, at, 60)));
    }
    let pool = pool(4, 256);
    let mut rig = Rig::open(&format!("{},pace", folder.capture(&file)), &pool);
    let mut burst = Burst::new(&pool);
    assert_eq!(rig.poll(0, &mut burst), 4);
    let (rx, _) = rig.stats();
    assert_eq!((rx.offered, rx.delivered, rx.drops.of(DropReason::NoBuffer)), (10, 4, 6));
    assert_eq!(rig.device.health(), Health::Ended);
    burst.recycle(&mut rig.cache);
    rig.stop();
}

#[test]
fn a_burst_that_has_frames_already_is_appended_to() {
    let sent = frames(&[60, 61, 700, 62]);
    let folder = Folder::new();
    let pool = pool(64, 384);
    let mut rig = Rig::open(&folder.capture(&classic(&sent)), &pool);
    let mut burst = Burst::with_limit(&pool, 3);
    assert_eq!(rig.cache.take(&mut burst, 1), 1);
    assert!(burst.frame_mut(0).append(b"first"));
    assert_eq!(rig.poll(0, &mut burst), 2);
    assert_eq!(rig.poll(0, &mut burst), 0, "no room is no reason to read");
    let got: Vec<_> = burst.iter().map(|frame| copy(frame).0).collect();
    assert_eq!(got, [b"first".to_vec(), sent[0].clone(), sent[1].clone()]);
    burst.recycle(&mut rig.cache);
    assert_eq!(rig.bytes(), sent[2..]);
    rig.stop();
}

#[test]
fn what_is_not_there_is_said() {
    let folder = Folder::new();
    let missing = folder.path("missing.pcap");
    let error = refused(&format!("pcap:{}", missing.display()));
    assert!(matches!(error, Error::NotThere { .. }));
    assert!(error.to_string().contains("there is no file"), "{error}");
    let error = refused(&format!("pcap:{}", folder.path("").display()));
    assert!(error.to_string().contains("is a directory"), "{error}");
    let error = refused(&format!("pcap:,tx={}", folder.path("no/out.pcap").display()));
    assert!(error.to_string().contains("there is no folder"), "{error}");
    let spec = folder.capture(&classic(&[]));
    let error = refused(&format!("{spec},tx={}", folder.path("in.pcap").display()));
    assert!(error.to_string().ends_with("is the file that is read"), "{error}");
    let mut registry = Registry::new();
    let output = format!("pcap:,tx={}", folder.path("out.pcap").display());
    let first = registry.open(&output).unwrap();
    let twice = registry.open(&output).err().unwrap();
    assert!(twice.to_string().contains("already open"), "{twice}");
    drop(first);
    assert!(registry.open(&output).is_ok());
}
