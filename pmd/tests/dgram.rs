//! `dgram` beyond the conformance suite: peers that are not there, come back or are slow; paths that are
//! taken; datagrams that are no frames.

use std::{
    os::{
        fd::AsFd,
        unix::net::{UnixDatagram, UnixListener},
    },
    path::{Path, PathBuf},
};

use mempool::{Burst, Cache, Cpu, Pool, heap::Heap};
use pmd::{
    AnyRxQueue, Config, Device, DropReason, Error, Queues, Registry, RxMemory, RxQueue, TxQueue,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;

fn pool(slots: usize, stride: usize) -> Pool<Cpu> {
    let builder = Pool::builder().name("test").slots(slots).stride(stride);
    builder.memory(&Heap::new()).build().expect("heap memory is there")
}

/// A folder with room for both ends' paths.
struct Lab {
    dir: TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn spec(&self) -> String {
        format!("dgram:{},peer={}", self.path("own").display(), self.path("peer").display())
    }

    fn open(&self) -> Result<Box<dyn Device>, Error> {
        Registry::new().open(&self.spec())
    }

    /// A started port with one queue each way.
    fn start(&self, pool: &Pool<Cpu>) -> Port {
        let mut device = self.open().expect("the paths are free");
        let config = Config::one_queue(pool);
        let Queues { mut rx, mut tx } = device.start(config).expect("the path can be bound");
        let (rx, tx) = (rx.remove(0).whole().expect("whole frames"), tx.remove(0));
        Port { rx, tx, device, cache: pool.cache(), burst: Burst::new(pool) }
    }

    /// What a guest has: a socket at the peer's path.
    fn peer(&self) -> UnixDatagram {
        let socket = UnixDatagram::bind(self.path("peer")).expect("the path is free");
        socket.set_nonblocking(true).expect("sockets can");
        socket
    }
}

struct Port {
    rx: Box<dyn RxQueue>,
    tx: Box<dyn TxQueue>,
    device: Box<dyn Device>,
    cache: Cache<Cpu>,
    burst: Burst<Cpu>,
}

impl Port {
    /// Sends frames of that length; returns how many were taken. The rest is freed.
    fn send(&mut self, count: usize, len: usize) -> usize {
        self.burst.recycle(&mut self.cache);
        assert_eq!(self.cache.take(&mut self.burst, count), count);
        self.burst.for_each_mut(0, |mut frame| frame.set_len(len));
        self.tx.send(&mut self.cache, &mut self.burst)
    }

    fn recv(&mut self) -> usize {
        self.burst.recycle(&mut self.cache);
        self.rx.recv(&mut self.cache, &mut self.burst)
    }

    fn stop(self) {
        let Self { rx, tx, mut device, .. } = self;
        let rx = vec![AnyRxQueue::Whole(rx)];
        device.stop(Queues { rx, tx: vec![tx] }).expect("stops");
    }
}

fn refusal(spec: &str) -> String {
    let error = Registry::new().open(spec).err();
    error.unwrap_or_else(|| panic!("{spec} was opened")).to_string()
}

#[test]
fn specs_that_cannot_be_say_what_is_missing() {
    let long = format!("dgram:/tmp/{},peer=/tmp/x", "x".repeat(126));
    for (spec, why) in [
        ("dgram:", "a socket has a path of its own and one to send to"),
        ("dgram:/tmp/a", "dgram:/tmp/nic.host,peer=/tmp/nic.guest"),
        ("dgram:/tmp/a,peer=", "a path of its own and one to send to"),
        ("dgram:/tmp/a,peer=/tmp/a", "the port's own path and its peer's are the same"),
        ("dgram:/tmp/a,mtu=9", "driver 'dgram' has no option 'mtu'; it has: peer"),
        (&long, "socket path is 131 bytes; limit 107"),
        ("dgram:/no/such/folder/a,peer=/tmp/b", "the folder of '/no/such/folder/a' does not exist"),
    ] {
        let error = refusal(spec);
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn what_a_dead_process_left_is_replaced_and_what_lives_is_not() {
    let lab = Lab::new();
    // A socket that is closed leaves its path.
    drop(UnixDatagram::bind(lab.path("own")).unwrap());
    assert!(lab.path("own").exists());
    let pool = pool(256, 2048);
    let port = lab.start(&pool);
    let error = lab.open().err().expect("it lives").to_string();
    assert!(error.contains("a living process has its socket at '"), "{error}");
    port.stop();
    assert!(!lab.path("own").exists(), "a stopped port leaves nothing");
    let _stream = UnixListener::bind(lab.path("own")).unwrap();
    let error = lab.open().err().expect("another kind of socket").to_string();
    assert!(error.contains("a living process"), "{error}");
}

#[test]
fn a_file_is_never_taken_for_a_socket() {
    let lab = Lab::new();
    std::fs::write(lab.path("own"), b"precious").unwrap();
    let error = lab.open().err().expect("a file is there").to_string();
    assert!(error.contains("is there and is no socket; name another path"), "{error}");
    assert_eq!(std::fs::read(lab.path("own")).unwrap(), b"precious");
}

#[test]
fn a_path_that_was_taken_over_is_left_alone() {
    let lab = Lab::new();
    let pool = pool(256, 2048);
    let port = lab.start(&pool);
    std::fs::remove_file(lab.path("own")).unwrap();
    let _other = UnixDatagram::bind(lab.path("own")).unwrap();
    port.stop();
    assert!(lab.path("own").exists(), "it is somebody else's now");
}

#[test]
fn without_a_peer_frames_are_dropped_and_counted_and_a_peer_may_come_and_go() {
    let lab = Lab::new();
    let pool = pool(256, 2048);
    let mut port = lab.start(&pool);
    assert!(!port.device.link().is_up);
    assert_eq!(port.send(20, 100), 20);
    let stats = port.tx.counters().snapshot();
    assert_eq!((stats.delivered, stats.drops.of(DropReason::LinkDown)), (0, 20));
    for round in 1..=3 {
        let peer = lab.peer();
        assert!(port.device.link().is_up);
        assert_eq!(port.send(5, 100), 5);
        let mut frame = [0; 200];
        for _ in 0..5 {
            assert_eq!(peer.recv(&mut frame).unwrap(), 100);
        }
        peer.send_to(&[7; 60], lab.path("own")).unwrap();
        assert_eq!(port.recv(), 1);
        drop(peer);
        // First what a dead process leaves, then nothing at all.
        assert!(!port.device.link().is_up);
        assert_eq!(port.send(1, 100), 1);
        std::fs::remove_file(lab.path("peer")).unwrap();
        assert_eq!(port.send(1, 100), 1);
        let stats = port.tx.counters().snapshot();
        assert_eq!(stats.delivered, 5 * round);
        assert_eq!(stats.drops.of(DropReason::LinkDown), 20 + 2 * round);
    }
    port.stop();
    assert_eq!(pool.audit().held, 0);
}

#[test]
fn a_slow_peer_makes_frames_wait_and_loses_none() {
    let lab = Lab::new();
    let pool = pool(1024, 2048);
    let mut port = lab.start(&pool);
    let peer = lab.peer();
    let mut taken = 0;
    // It takes no frame: sooner or later there is no room.
    loop {
        let now = port.send(32, 1000);
        taken += now;
        if now < 32 {
            break;
        }
        assert!(taken < 100_000, "there is no end to it");
    }
    let (mut frame, mut came) = ([0; 2000], 0);
    while let Ok(len) = peer.recv(&mut frame) {
        assert_eq!(len, 1000);
        came += 1;
    }
    assert_eq!(came, taken);
    let more = port.send(1, 1000);
    assert_eq!(more, 1, "there is room again");
    let stats = port.tx.counters().snapshot();
    assert_eq!((stats.drops.total(), stats.delivered), (0, (taken + more) as u64));
}

#[test]
fn datagrams_that_are_no_frames_are_counted_both_ways() {
    let lab = Lab::new();
    let pool = pool(512, 2048);
    let mut port = lab.start(&pool);
    let peer = lab.peer();
    let lens = [0, 1, 13, 14, 60, 1518, 2000, 9018, 65535, 65536, 70_000, 60];
    let mut seen = Vec::new();
    // A kernel keeps no more than a few datagrams.
    for lens in lens.chunks(2) {
        for len in lens {
            let frame = vec![u8::try_from(len % 251).unwrap(); *len];
            peer.send_to(&frame, lab.path("own")).unwrap();
        }
        while port.recv() > 0 {
            for frame in port.burst.iter() {
                let mut bytes = vec![0; frame.frame_len()];
                frame.copy_to(&mut bytes);
                let fill = u8::try_from(bytes.len() % 251).unwrap();
                assert!(bytes.iter().all(|byte| *byte == fill), "{} B", bytes.len());
                seen.push(bytes.len());
            }
        }
    }
    assert_eq!(seen, [14, 60, 1518, 2000, 9018, 65535, 60]);
    let stats = port.rx.counters().snapshot();
    assert_eq!(stats.offered, lens.len() as u64);
    assert_eq!(stats.drops.of(DropReason::Malformed), 3);
    assert_eq!(stats.drops.of(DropReason::TooLong), 2);
    assert!(stats.is_balanced());
    // An empty datagram would end QEMU's wire.
    assert_eq!(port.send(3, 0), 3);
    assert_eq!(port.send(3, 13), 3);
    assert_eq!(port.tx.counters().snapshot().drops.of(DropReason::Malformed), 6);
    assert!(peer.recv(&mut [0; 64]).is_err(), "nothing came");
}

#[test]
fn a_long_frame_that_there_are_no_buffers_for_is_dropped_alone() {
    let lab = Lab::new();
    let pool = pool(64, 2048);
    let mut port = lab.start(&pool);
    let peer = lab.peer();
    let mut hoard = Burst::with_limit(&pool, 56);
    assert_eq!(port.cache.take(&mut hoard, 56), 56);
    peer.send_to(&[1; 65535], lab.path("own")).unwrap();
    peer.send_to(&[2; 60], lab.path("own")).unwrap();
    assert_eq!(port.recv(), 1);
    assert_eq!(port.burst.frame(0).bytes(), [2; 60]);
    assert_eq!(port.rx.counters().snapshot().drops.of(DropReason::NoBuffer), 1);
    hoard.recycle(&mut port.cache);
    port.stop();
    assert_eq!(pool.audit().held, 0);
}

#[test]
fn what_comes_while_the_pool_is_empty_is_dropped_and_holds_nobody_up() {
    let lab = Lab::new();
    let pool = pool(64, 2048);
    let mut port = lab.start(&pool);
    let peer = lab.peer();
    let mut hoard = Burst::with_limit(&pool, 64);
    assert_eq!(port.cache.take(&mut hoard, 64), 64);
    let mut sent = 0;
    for _ in 0..20 {
        while peer.send_to(&[1; 60], lab.path("own")).is_ok() {
            sent += 1;
        }
        assert_eq!(port.recv(), 0);
    }
    while port.rx.counters().snapshot().offered < sent {
        assert_eq!(port.recv(), 0);
    }
    assert_eq!(port.rx.counters().snapshot().drops.of(DropReason::NoBuffer), sent);
    hoard.recycle(&mut port.cache);
    peer.send_to(&[2; 60], lab.path("own")).unwrap();
    assert_eq!(port.recv(), 1);
}

#[test]
fn an_armed_queue_wakes_up_with_the_next_frame() {
    let lab = Lab::new();
    let pool = pool(256, 2048);
    let mut port = lab.start(&pool);
    let peer = lab.peer();
    let is_readable = |port: &mut Port| {
        let armed = port.rx.arm().expect("a socket can be waited for");
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::from_borrowed_fd(armed.as_fd(), PollFlags::IN)], Some(&now)).unwrap() > 0
    };
    assert!(!is_readable(&mut port));
    peer.send_to(&[1; 60], lab.path("own")).unwrap();
    assert!(is_readable(&mut port));
    assert_eq!(port.recv(), 1);
    assert!(!is_readable(&mut port));
}

#[test]
fn a_port_that_is_stopped_is_not_there_and_starts_again() {
    let lab = Lab::new();
    let pool = pool(256, 2048);
    let mut device = lab.open().unwrap();
    let is_there = |path: &Path| UnixDatagram::unbound().unwrap().connect(path).is_ok();
    for _ in 0..2 {
        assert!(!is_there(&lab.path("own")));
        let queues = device.start(Config::default().with_rx(RxMemory::Whole(pool.clone())));
        assert!(is_there(&lab.path("own")));
        device.stop(queues.unwrap()).unwrap();
    }
    let error = device.start(Config::one_queue(&pool).rings(3)).err().expect("a ring of 3");
    assert!(error.to_string().contains("nearest: 4"), "{error}");
    assert!(!lab.path("own").exists());
}
