//! What a source sends, seen by a port that keeps it.

use std::sync::mpsc;

use mempool::{Shared, heap::Heap};
use pmd::QueueCounters;

use super::{super::TestHeader, *};

/// Keeps copies of frames; takes at most `most` per call.
struct Keep {
    to: mpsc::Sender<Vec<u8>>,
    most: usize,
    counters: QueueCounters,
}

impl TxQueue for Keep {
    fn send(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        let count = burst.len().min(self.most);
        burst.iter().take(count).for_each(|frame| self.to.send(frame.bytes().to_vec()).unwrap());
        burst.recycle_front(cache, count);
        count
    }

    fn send_shared(&mut self, _: &mut Cache<Cpu>, _: &mut Burst<Shared>) -> usize {
        0
    }

    fn reap(&mut self, _: &mut Cache<Cpu>) -> usize {
        0
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn counters(&self) -> &QueueCounters {
        &self.counters
    }
}

fn pool(slots: usize) -> Pool<Cpu> {
    Pool::builder().name("source").slots(slots).memory(&Heap::new()).build().unwrap()
}

fn send(options: SourceOptions, most: usize) -> (Sent, Vec<Vec<u8>>) {
    let pool = pool(512);
    let (to, from) = mpsc::channel();
    let tx = Box::new(Keep { to, most, counters: QueueCounters::default() });
    let end = Source::new(tx, &pool, options).unwrap().run(&Stop::new());
    let sent = end.sent;
    drop(end);
    assert!(pool.audit().is_home());
    (sent, from.iter().collect())
}

fn udp_payload(frame: &[u8]) -> (u16, u16, &[u8]) {
    let layers = pmd::headers::layers(frame).unwrap();
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let payload = &frame[layers.payload.unwrap()..];
    (port(layers.transport), port(layers.transport + 2), payload)
}

#[test]
fn every_frame_is_intact_and_in_sequence_however_often_its_buffer_was_used() {
    let options = SourceOptions { count: Some(5000), ..SourceOptions::default() };
    let (sent, frames) = send(options, 20);
    assert_eq!((sent.frames, sent.foreign), (5000, 0));
    assert_eq!(sent.bytes, 5000 * 1066);
    for (at, frame) in frames.iter().enumerate() {
        let (_, _, payload) = udp_payload(frame);
        let (header, rest) = TestHeader::read(payload).unwrap();
        assert_eq!(header.sequence(), at as u64);
        assert!(header.timestamp_ns() > 1_600_000_000_000_000_000);
        assert!(header.is_intact(rest));
        assert_eq!(rest.len(), 1000);
    }
}

#[test]
fn foreign_frames_take_no_number_and_go_to_another_port() {
    let options = SourceOptions { count: Some(5000), foreign: 0.1, ..SourceOptions::default() };
    let (sent, frames) = send(options, 32);
    assert_eq!(sent.frames, 5000);
    assert!((400..700).contains(&sent.foreign), "{}", sent.foreign);
    let ours = frames.iter().map(|frame| udp_payload(frame)).filter(|(_, dst, _)| *dst == 9000);
    let sequences = ours.map(|(_, _, payload)| TestHeader::read(payload).unwrap().0.sequence());
    assert!(sequences.eq(0..5000));
}

#[test]
fn each_flow_counts_by_itself() {
    let options = SourceOptions { count: Some(300), flows: 3, ..SourceOptions::default() };
    let (_, frames) = send(options, 32);
    let mut next = [0; 3];
    for frame in &frames {
        let (src, _, payload) = udp_payload(frame);
        let flow = usize::from(src - 9000);
        assert_eq!(TestHeader::read(payload).unwrap().0.sequence(), next[flow]);
        next[flow] += 1;
    }
    assert_eq!(next, [100; 3]);
}

#[test]
fn a_rate_is_kept() {
    let options =
        SourceOptions { rate: Some(20_000.0), count: Some(2000), ..SourceOptions::default() };
    let start = Instant::now();
    let (sent, _) = send(options, 32);
    assert_eq!(sent.frames, 2000);
    assert!(start.elapsed() >= Duration::from_millis(99), "{:?}", start.elapsed());
}

#[test]
fn what_the_port_refuses_is_neither_sent_nor_lost() {
    let pool = pool(64);
    let (to, _from) = mpsc::channel();
    let tx = Box::new(Keep { to, most: 0, counters: QueueCounters::default() });
    let mut source = Source::new(tx, &pool, SourceOptions::default()).unwrap();
    assert_eq!(source.poll(), 0);
    assert_eq!(source.sent(), Sent { stalls: 1, ..Sent::default() });
    drop(source.end());
    assert!(pool.audit().is_home());
}

#[test]
fn a_frame_that_fits_no_buffer_is_refused_with_the_fix() {
    let (to, _from) = mpsc::channel();
    let tx = Box::new(Keep { to, most: 1, counters: QueueCounters::default() });
    let template = Template { payload_len: 2048, ..Template::default() };
    let options = SourceOptions { template, ..SourceOptions::default() };
    let error = Source::new(tx, &pool(64), options).err().unwrap();
    assert_eq!(
        error.to_string(),
        "frames of 2090 B do not fit buffers of 1920 B; use --buffer-size 2240"
    );
}
