//! The `capture` wrapper: what a tap writes, and that the port under it never notices.

use std::{
    fs::File,
    io::Read,
    path::Path,
    time::{Duration, Instant},
};

use mempool::{
    Burst, Cache, Cpu, Device as DeviceMemory, Pool, SplitBurst, SplitCache, heap::Heap,
};
use pmd::{
    AnyRxQueue, Config, Device, Queues, Registry, RxMemory, SplitAt, SplitConfig, pcap::Reader,
};
use providers::Fake;

fn pool(slots: usize) -> Pool<Cpu> {
    Pool::builder().slots(slots).shareable().memory(&Heap::new()).build().unwrap()
}

/// Two ends of a wire, started.
struct Wire {
    near: Box<dyn Device>,
    far: Box<dyn Device>,
    tx: Queues,
    rx: Queues,
    cache: Cache<Cpu>,
    pool: Pool<Cpu>,
}

impl Wire {
    fn new(near: &str, far: &str) -> Self {
        let (pool, mut registry) = (pool(1024), Registry::new());
        let mut near = registry.open(near).unwrap_or_else(|error| panic!("{error}"));
        let mut far = registry.open(far).unwrap_or_else(|error| panic!("{error}"));
        let tx = near.start(Config::default().with_tx(&pool)).unwrap();
        let rx = far.start(Config::default().with_rx(RxMemory::Whole(pool.clone()))).unwrap();
        Self { near, far, tx, rx, cache: pool.cache(), pool }
    }

    /// Sends frames of these lengths, whose bytes are their place in `lens`; returns how many went.
    fn send(&mut self, lens: &[usize]) -> usize {
        let mut burst = Burst::with_limit(&self.pool, lens.len());
        self.cache.take(&mut burst, lens.len());
        let mut at = 0;
        burst.for_each_mut(0, |mut frame| {
            frame.set_len(lens[at]);
            frame.bytes_mut().fill(at.to_le_bytes()[0]);
            at += 1;
        });
        let sent = self.tx.tx[0].send(&mut self.cache, &mut burst);
        burst.recycle(&mut self.cache);
        sent
    }

    fn recv(&mut self) -> usize {
        let AnyRxQueue::Whole(queue) = &mut self.rx.rx[0] else { panic!("whole frames") };
        let mut burst = Burst::with_limit(&self.pool, 512);
        let got = queue.recv(&mut self.cache, &mut burst);
        burst.recycle(&mut self.cache);
        got
    }

    /// Stops both ends; drops them, and so ends the files.
    fn stop(mut self) -> [Vec<(String, u64)>; 2] {
        self.near.stop(self.tx).unwrap();
        self.far.stop(self.rx).unwrap();
        self.cache.flush();
        assert_eq!(self.pool.audit().held, 0);
        [self.near.stats().2, self.far.stats().2]
    }
}

fn count(counts: &[(String, u64)], name: &str) -> u64 {
    counts.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("no {name}")).1
}

/// Lengths on the wire and bytes of all frames of a file.
fn read(source: impl Read) -> Vec<(usize, Vec<u8>)> {
    let (mut reader, mut frames) = (Reader::new(source), Vec::new());
    while let Some(record) = reader.read_record().unwrap() {
        frames.push((record.original, record.bytes.to_vec()));
    }
    frames
}

fn read_file(path: &Path) -> Vec<(usize, Vec<u8>)> {
    read(File::open(path).unwrap())
}

#[test]
fn both_ends_of_a_wire_are_captured_with_their_direction() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (near, far) = (path("near.pcapng"), path("far.pcapng"));
    let mut wire = Wire::new(
        &format!("capture:{}@ring:a", near.display()),
        &format!("capture:{},snaplen=20@ring:a", far.display()),
    );
    let lens = [14, 60, 61, 62, 63, 64, 1514, 1900];
    assert_eq!(wire.send(&lens), lens.len());
    assert_eq!(wire.recv(), lens.len());
    let [near_counts, far_counts] = wire.stop();
    assert_eq!(count(&near_counts, "capture_written"), 8);
    assert_eq!(count(&far_counts, "capture_lost"), 0);
    let frame = |(at, len): (usize, &usize)| (*len, vec![at.to_le_bytes()[0]; *len]);
    assert_eq!(read_file(&near), lens.iter().enumerate().map(frame).collect::<Vec<_>>());
    let cut = |(len, bytes): (usize, Vec<u8>)| (len, bytes[..len.min(20)].to_vec());
    let expected = lens.iter().enumerate().map(frame).map(cut).collect::<Vec<_>>();
    assert_eq!(read_file(&far), expected);
    for (path, flags) in [(&near, "0x00000002"), (&far, "0x00000001")] {
        let fields = ["-T", "fields", "-e", "frame.packet_flags", "-r"];
        match std::process::Command::new("tshark").args(fields).arg(path).output() {
            Err(error) => eprintln!("SKIP both_ends_of_a_wire: tshark: {error}"),
            Ok(output) => {
                let text = String::from_utf8(output.stdout).unwrap();
                assert_eq!(text.lines().collect::<Vec<_>>(), [flags; 8]);
            }
        }
    }
}

#[test]
fn frames_that_the_port_does_not_take_are_not_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.pcapng");
    let mut wire =
        Wire::new(&format!("capture:{},dir=tx@ring:a,size=4", path.display()), "ring:a,size=4");
    assert_eq!(wire.send(&[60; 9]), 4);
    assert_eq!(wire.send(&[60; 9]), 0);
    assert_eq!(wire.recv(), 4);
    assert_eq!(wire.send(&[70, 71]), 2);
    assert_eq!(wire.recv(), 2);
    let [counts, _] = wire.stop();
    assert_eq!(count(&counts, "capture_written"), 6);
    let lens: Vec<_> = read_file(&path).iter().map(|frame| frame.0).collect();
    assert_eq!(lens, [60, 60, 60, 60, 70, 71]);
}

#[test]
fn written_and_lost_are_all_there_were_however_slow_writing_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.pcapng");
    let mut wire = Wire::new(&format!("capture:{},queue=64K@ring:a", path.display()), "ring:a");
    let mut sent = 0;
    for _ in 0..2000 {
        sent += wire.send(&[1500; 32]);
        wire.recv();
    }
    assert_eq!(sent, 64_000);
    let [counts, _] = wire.stop();
    let (written, lost) = (count(&counts, "capture_written"), count(&counts, "capture_lost"));
    assert_eq!(written + lost, sent as u64);
    assert_eq!(read_file(&path).len() as u64, written);
}

#[test]
fn a_full_disk_ends_the_tap_and_not_the_port() {
    let mut wire = Wire::new("capture:/dev/full,queue=64K@ring:a", "ring:a");
    let mut sent = 0;
    for _ in 0..1000 {
        sent += wire.send(&[1500; 32]);
        wire.recv();
    }
    assert_eq!(sent, 32_000, "forwarding goes on");
    let [counts, _] = wire.stop();
    assert_eq!(count(&counts, "capture_stopped"), 1);
    assert_eq!(count(&counts, "capture_written"), 0);
}

#[test]
fn readers_of_a_fifo_come_and_go_and_each_gets_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("live");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let mut wire = Wire::new(&format!("capture:{}@ring:a", path.display()), "ring:a");
    // Nobody reads: nothing waits, nothing is lost.
    for _ in 0..100 {
        assert_eq!(wire.send(&[60; 32]), 32);
        wire.recv();
    }
    for round in 1..=3_u64 {
        let from = path.clone();
        // Reads three frames and leaves.
        let reader = std::thread::spawn(move || {
            let mut reader = Reader::new(File::open(from).unwrap());
            (0..3).map(|_| reader.read_record().unwrap().unwrap().original).collect::<Vec<_>>()
        });
        let deadline = Instant::now() + Duration::from_secs(20);
        while !reader.is_finished() {
            assert!(Instant::now() < deadline, "round {round}: the reader got nothing");
            wire.send(&[100, 200]);
            wire.recv();
            std::thread::yield_now();
        }
        let lens = reader.join().unwrap();
        assert!(lens.iter().all(|len| [100, 200].contains(len)), "{lens:?}");
        while count(&wire.near.stats().2, "capture_readers") < round {
            assert!(Instant::now() < deadline, "round {round}");
        }
        assert_eq!(wire.send(&[60; 32]), 32);
        wire.recv();
    }
    let [counts, _] = wire.stop();
    assert_eq!(count(&counts, "capture_stopped"), 0);
}

#[test]
fn of_split_frames_the_payload_is_there_if_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    for (option, kept) in [("", 42), (",payloads", 1000)] {
        let path = folder.path().join(format!("{kept}.pcapng"));
        let (frames, heads) = (pool(64), pool(64));
        let data: Pool<DeviceMemory> =
            Pool::builder().slots(64).memory(&Fake::new()).build().unwrap();
        let config = SplitConfig {
            heads: heads.clone(),
            data: data.clone(),
            at: SplitAt::Length(42),
            post: Default::default(),
        };
        let mut registry = Registry::new();
        let mut near = registry.open("ring:a").unwrap();
        let mut far = registry.open(&format!("capture:{}{option}@ring:a", path.display())).unwrap();
        let mut tx = near.start(Config::default().with_tx(&frames)).unwrap();
        let mut rx = far.start(Config::default().with_rx(RxMemory::Split(config))).unwrap();
        let (mut cache, mut burst) = (frames.cache(), Burst::new(&frames));
        cache.take(&mut burst, 1);
        let bytes: Vec<u8> = (0..1000_usize).map(|at| at.to_le_bytes()[0]).collect();
        burst.for_each_mut(0, |mut frame| assert!(frame.append(&bytes)));
        tx.tx[0].send(&mut cache, &mut burst);
        let mut caches = SplitCache::new(&heads, &data);
        let mut got = SplitBurst::new(&heads, &data);
        let AnyRxQueue::Split(queue) = &mut rx.rx[0] else { panic!("split") };
        assert_eq!(queue.recv(&mut caches, &mut got), 1);
        got.recycle(&mut caches);
        near.stop(tx).unwrap();
        far.stop(rx).unwrap();
        assert_eq!(read_file(&path), [(1000, bytes[..kept].to_vec())]);
    }
}

#[test]
fn what_cannot_be_written_is_said_when_the_port_is_opened() {
    let refused = |spec: &str| Registry::new().open(spec).err().expect(spec).to_string();
    let error = refused("capture:/nowhere/x.pcapng@ring:a");
    assert!(error.contains("capture file '/nowhere/x.pcapng': No such file"), "{error}");
    let error = refused("capture:@ring:a");
    assert!(error.contains("names no file to write"), "{error}");
}
