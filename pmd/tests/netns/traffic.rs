//! Ports, frames, and loops that send and receive them until a deadline.

use std::{
    thread,
    time::{Duration, Instant},
};

use mempool::{Burst, Cache, Cpu, Pool, heap::Heap};
use pmd::{Config, Device, QueueStats, Queues, Registry, RxMemory};

use crate::lab::MAC_B;

/// Nothing a test waits for takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// An open, started port with the memory it uses.
pub(crate) struct Port {
    /// The device.
    pub(crate) device: Box<dyn Device>,
    /// Its queues.
    pub(crate) queues: Queues,
    /// Its buffers.
    pub(crate) pool: Pool<Cpu>,
    /// The one worker's cache.
    pub(crate) cache: Cache<Cpu>,
}

/// Buffers of 2,048 bytes with the customary headroom.
pub(crate) fn pool(slots: usize) -> Pool<Cpu> {
    Pool::builder()
        .name("netns")
        .slots(slots)
        .stride(2048)
        .memory(&Heap::new())
        .build()
        .unwrap()
}

impl Port {
    /// Opens and starts a port with that many receive queues and one transmit queue.
    pub(crate) fn start(spec: &str, rx_queues: usize, promiscuous: bool) -> Self {
        let pool = pool(4096);
        let mut config = Config::default().with_tx(&pool);
        for _ in 0..rx_queues {
            config = config.with_rx(RxMemory::Whole(pool.clone()));
        }
        config.promiscuous = promiscuous;
        let mut device = Registry::new().open(spec).unwrap();
        let queues = device.start(config).unwrap();
        let cache = pool.cache();
        Self {
            device,
            queues,
            pool,
            cache,
        }
    }

    /// Sends one frame, in several segments if it is long; true if the queue took it.
    pub(crate) fn send(&mut self, frame: &[u8]) -> bool {
        let mut burst = Burst::new(&self.pool);
        fill(&mut self.cache, &mut burst, frame);
        let taken = self.queues.tx[0].send(&mut self.cache, &mut burst) == 1;
        burst.recycle(&mut self.cache);
        taken
    }

    /// Sends one frame, however often it has to be tried.
    pub(crate) fn send_surely(&mut self, frame: &[u8]) {
        let end = Instant::now() + DEADLINE;
        while !self.send(frame) {
            assert!(Instant::now() < end, "the queue takes nothing");
            thread::yield_now();
        }
    }

    /// Receives from all queues until `count` frames came or nothing came for `patience`; hands
    /// each, whole, with its queue's number to `see`.
    pub(crate) fn receive(
        &mut self,
        count: usize,
        patience: Duration,
        mut see: impl FnMut(usize, &[u8]),
    ) {
        let mut burst = Burst::new(&self.pool);
        let (mut got, mut last) = (0, Instant::now());
        let mut bytes = vec![0; 70_000];
        while got < count && last.elapsed() < patience {
            let before = got;
            for (number, queue) in self.queues.rx.iter_mut().enumerate() {
                let pmd::AnyRxQueue::Whole(queue) = queue else {
                    panic!("split queue")
                };
                got += queue.recv(&mut self.cache, &mut burst);
                for frame in burst.iter() {
                    let len = frame.copy_to(&mut bytes);
                    see(number, &bytes[..len]);
                }
                burst.recycle(&mut self.cache);
            }
            if got > before {
                last = Instant::now();
            } else {
                thread::yield_now();
            }
        }
    }

    /// The frames of all queues, one after the other.
    pub(crate) fn frames(&mut self, count: usize, patience: Duration) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        self.receive(count, patience, |_, frame| frames.push(frame.to_vec()));
        frames
    }

    /// Stops the port and checks what every test ends with: no buffer is missing, and every frame
    /// is accounted for. Returns what was received, sent, and counted by name.
    pub(crate) fn stop(mut self) -> (QueueStats, QueueStats, Vec<(String, u64)>) {
        let queues = std::mem::take(&mut self.queues);
        self.device.stop(queues).unwrap();
        drop(self.cache);
        let audit = self.pool.audit();
        assert_eq!((audit.held, audit.in_flight), (0, 0), "{audit:?}");
        let (rx, tx, named) = self.device.stats();
        assert!(rx.is_balanced() && tx.is_balanced(), "{rx:?} {tx:?}");
        (rx, tx, named)
    }
}

/// Appends one frame to a burst.
pub(crate) fn fill(cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>, frame: &[u8]) {
    let room = cache.pool().room();
    let mut parts = frame.chunks(room).map(|part| {
        let mut buf = cache.take_one().unwrap();
        assert!(buf.frame_mut().append(part));
        buf
    });
    let mut first = parts.next().unwrap();
    for part in parts {
        first.chain(part).unwrap();
    }
    burst.push(first);
}

/// A count by its name.
pub(crate) fn named(counts: &[(String, u64)], name: &str) -> u64 {
    counts.iter().find(|(known, _)| known == name).unwrap().1
}

/// A UDP frame of `len` bytes to `mac`, of flow `flow`, with `sequence` as the payload's start.
pub(crate) fn udp_to(mac: [u8; 6], flow: u16, sequence: u64, len: usize) -> Vec<u8> {
    assert!(len >= 50);
    let mut frame = vec![0; len];
    frame[..6].copy_from_slice(&mac);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0xa]);
    frame[12..14].copy_from_slice(&[8, 0]);
    let ip_len = u16::try_from(len - 14).unwrap();
    frame[14..26].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame[16..18].copy_from_slice(&ip_len.to_be_bytes());
    frame[26..34].copy_from_slice(&[10, 99, 0, 1, 10, 99, 0, 2]);
    frame[34..36].copy_from_slice(&(1000 + flow).to_be_bytes());
    frame[36..38].copy_from_slice(&5004_u16.to_be_bytes());
    frame[38..40].copy_from_slice(&(ip_len - 20).to_be_bytes());
    frame[42..50].copy_from_slice(&sequence.to_be_bytes());
    frame
}

/// As [`udp_to`], to end B.
pub(crate) fn udp(flow: u16, sequence: u64, len: usize) -> Vec<u8> {
    udp_to(MAC_B, flow, sequence, len)
}

/// The sequence number of a frame that [`udp`] made.
pub(crate) fn sequence(frame: &[u8]) -> u64 {
    u64::from_be_bytes(frame[42..50].try_into().unwrap())
}

/// Sends `count` frames of 64 bytes, spread over `flows` flows, as fast as they go; returns the
/// port's transmit counters.
pub(crate) fn blast(spec: &str, count: u64, flows: u16) -> QueueStats {
    let mut port = Port::start(spec, 0, false);
    let mut burst = Burst::new(&port.pool);
    let mut frame = udp(0, 0, 64);
    let patience = DEADLINE + Duration::from_micros(40 * count);
    let (mut next, end) = (0, Instant::now() + patience);
    while next < count || !burst.is_empty() {
        while next < count && burst.room() > 0 {
            let port_of_flow = 1000 + u16::try_from(next % u64::from(flows)).unwrap();
            frame[34..36].copy_from_slice(&port_of_flow.to_be_bytes());
            frame[42..50].copy_from_slice(&next.to_be_bytes());
            fill(&mut port.cache, &mut burst, &frame);
            next += 1;
        }
        if port.queues.tx[0].send(&mut port.cache, &mut burst) == 0 {
            thread::yield_now();
        }
        assert!(Instant::now() < end, "{next} of {count} frames sent");
    }
    while port.queues.tx[0].in_flight() > 0 {
        port.queues.tx[0].reap(&mut port.cache);
        assert!(Instant::now() < end, "frames stay in flight");
    }
    port.stop().1
}
