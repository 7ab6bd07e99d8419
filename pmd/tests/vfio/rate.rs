//! What split costs: packets per second of one loop, with frames that arrive whole and with split ones,
//! in turns.

use std::time::{Duration, Instant};

use mempool::{Burst, Cache, Cpu, Pool, SplitBurst, SplitCache};
use pmd::{AnyRxQueue, Config, Device, Registry, SplitAt, TxQueue};

use providers::Fake;

use super::rig;

/// Frames on the wire at a time: what goes in comes out before more goes in.
const BURST: usize = 32;
/// Frames of a turn, and turns of each kind; the best ones count.
const FRAMES: usize = 64_000;
const TURNS: usize = 6;
/// Bytes of a frame, without FCS.
const LEN: usize = 256;
/// Split frames are to arrive at so many times the rate of whole ones, where the machine has nothing else to
/// do (the long form), and at that much at least where it may.
const GOALS: [f64; 2] = [0.9, 0.7];
/// A wire that has swallowed frames.
const LIMIT: Duration = Duration::from_secs(60);

/// A UDP frame.
fn frame() -> [u8; LEN] {
    let mut bytes = [0x5a; LEN];
    bytes[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
    let [high, low] = u16::try_from(LEN - 14).unwrap().to_be_bytes();
    let ip = [0x45, 0, high, low, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    bytes[14..34].copy_from_slice(&ip);
    let [high, low] = u16::try_from(LEN - 34).unwrap().to_be_bytes();
    bytes[34..42].copy_from_slice(&[0, 9, 0, 9, high, low, 0, 0]);
    bytes
}

/// A receiver: polls once and frees what came; returns how many frames, and how many of them had a payload
/// apart.
type Poll<'a> = Box<dyn FnMut() -> (usize, usize) + 'a>;

fn poll<'a>(
    queue: &'a mut AnyRxQueue,
    frames: &'a Pool<Cpu>,
    data: &'a Pool<mempool::Device>,
) -> Poll<'a> {
    match queue {
        AnyRxQueue::Whole(rx) => {
            let (mut cache, mut burst) = (frames.cache(), Burst::with_limit(frames, BURST));
            Box::new(move || {
                let got = rx.recv(&mut cache, &mut burst);
                burst.recycle(&mut cache);
                (got, 0)
            })
        }
        AnyRxQueue::Split(rx) => {
            let mut cache = SplitCache::new(frames, data);
            let mut burst = SplitBurst::with_limit(frames, data, BURST);
            Box::new(move || {
                let got = rx.recv(&mut cache, &mut burst);
                let split = burst.iter().filter(|frame| frame.data.is_some()).count();
                burst.recycle(&mut cache);
                (got, split)
            })
        }
    }
}

/// Sends frames and receives them, [`BURST`] at a time; returns the time that takes, and how many were split.
fn turn(tx: &mut dyn TxQueue, cache: &mut Cache<Cpu>, mut poll: Poll<'_>) -> (Duration, usize) {
    let (pool, bytes) = (cache.pool().clone(), frame());
    let mut burst = Burst::with_limit(&pool, BURST);
    let (mut received, mut apart) = (0, 0);
    let start = Instant::now();
    while received < FRAMES {
        while burst.room() > 0 {
            let mut buf = cache.take_one().expect("a buffer");
            assert!(buf.frame_mut().append(&bytes));
            burst.push(buf);
        }
        let due = received + BURST;
        assert_eq!(tx.send(cache, &mut burst), BURST);
        while received < due {
            let (got, split) = poll();
            received += got;
            apart += split;
            assert!(start.elapsed() < LIMIT, "{received} of {due} frames arrived");
        }
    }
    let time = start.elapsed();
    tx.reap(cache);
    (time, apart)
}

/// One turn with queues started for it: frames per second.
fn rate(ports: &mut [Box<dyn Device>; 2], is_split: bool) -> f64 {
    let pool = |name: &str, stride| {
        let pool = Pool::builder().name(name).slots(2048).stride(stride);
        pool.memory(&*rig::host()).build().unwrap()
    };
    // The 82576 leaves a frame whole that has room for it in its head's buffer.
    let (sent, frames) =
        (pool("sent", 2048 + 128), pool("frames", if is_split { 256 } else { 2048 + 128 }));
    let data = Pool::builder().name("payloads").slots(2048).stride(2048);
    let data: Pool<mempool::Device> = data.memory(&Fake::new()).build().unwrap();
    let rx = if is_split {
        Config::default().split(&frames, &data, SplitAt::Protocol { extra: 0 })
    } else {
        Config::default().with_rx(pmd::RxMemory::Whole(frames.clone()))
    };
    let mut ours = ports[0].start(Config::default().with_tx(&sent)).unwrap();
    let mut theirs = ports[1].start(Config { promiscuous: true, ..rx }).unwrap();
    rig::await_links(&[&*ports[0], &*ports[1]]);
    let mut cache = sent.cache();
    let (time, apart) = turn(&mut *ours.tx[0], &mut cache, poll(&mut theirs.rx[0], &frames, &data));
    assert_eq!(apart, if is_split { FRAMES } else { 0 }, "frames whose payload is apart");
    ports[0].stop(ours).unwrap();
    ports[1].stop(theirs).unwrap();
    FRAMES as f64 / time.as_secs_f64()
}

#[test]
fn split_frames_come_nine_tenths_as_fast_as_whole_ones() {
    let name = "split_frames_come_nine_tenths_as_fast_as_whole_ones";
    let Some((pairs, _turn)) = rig::pairs(name) else { return };
    let goal = if std::env::var_os("MEMWIRE_FULL").is_some() { GOALS[0] } else { GOALS[1] };
    for pair in &pairs {
        let mut registry = Registry::new();
        let mut ports = [0, 1].map(|end: usize| rig::open(&mut registry, &pair[end], "type1", ""));
        let (mut whole, mut split) = (0.0_f64, 0.0_f64);
        for _ in 0..TURNS {
            whole = whole.max(rate(&mut ports, false));
            split = split.max(rate(&mut ports, true));
        }
        let driver = ports[0].info().driver;
        let factor = split / whole;
        eprintln!("{driver}: whole {whole:.0}, split {split:.0} frames/s: {factor:.2} times");
        assert!(factor >= goal, "{driver}: {factor:.2} times the rate of whole frames, not {goal}");
    }
}
