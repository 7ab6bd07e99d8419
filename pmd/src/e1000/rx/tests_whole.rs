//! Whole frames, against a device that is worked by hand.

use std::collections::VecDeque;

use mempool::{Burst, Cache, Cpu, Offload, Pool};
use proptest::prelude::*;

use super::{Shape, WholeRx};
use crate::{
    DropReason, RxQueue, SoftwareMapper,
    e1000::desk::{Desk, Tail, frame, pool},
};

const SHAPE: Shape = Shape { buffer: 256, max_frame: 9018, strip_vlan: true };

struct Rig {
    desk: Desk,
    rx: WholeRx<Tail, SoftwareMapper>,
    pool: Pool<Cpu>,
    cache: Cache<Cpu>,
}

fn rig(ring: usize, slots: usize) -> Rig {
    let pool = pool(slots, SHAPE.buffer);
    let (desk, wiring) = Desk::new(ring, 2);
    let rx = WholeRx::new(wiring, SHAPE, None, &pool, SoftwareMapper).unwrap();
    Rig { desk, rx, cache: pool.cache(), pool }
}

impl Rig {
    fn recv(&mut self, limit: usize) -> Vec<Vec<u8>> {
        let mut burst = Burst::with_limit(&self.pool, limit);
        let got = self.rx.recv(&mut self.cache, &mut burst);
        assert_eq!(got, burst.len());
        let bytes = |frame: mempool::Frame<'_, Cpu>| {
            let mut bytes = vec![0; frame.frame_len()];
            frame.copy_to(&mut bytes);
            bytes
        };
        let frames = burst.iter().map(bytes).collect();
        burst.recycle(&mut self.cache);
        frames
    }

    /// The device has stopped, the queue goes: every buffer is home.
    fn end(self) {
        let Self { desk, rx, pool, cache } = self;
        // SAFETY: the hand that works the device is still.
        #[expect(unsafe_code, reason = "states that the device has stopped")]
        unsafe {
            desk.gate.close();
        }
        drop((rx, cache));
        assert!(pool.audit().is_home(), "{}", pool.audit());
    }
}

#[test]
fn buffers_are_posted_before_the_first_poll_and_one_descriptor_stays_free() {
    let mut rig = rig(64, 256);
    rig.rx.fill();
    assert_eq!((rig.desk.ours(), rig.desk.doorbells()), (63, 1));
    assert!(rig.desk.put_frame(&frame(1, 60), 256));
    assert_eq!(rig.recv(32), [frame(1, 60)]);
    rig.end();
}

#[test]
fn a_burst_costs_one_doorbell() {
    let mut rig = rig(128, 512);
    rig.rx.fill();
    for round in 0..20 {
        let before = rig.desk.doorbells();
        (0..32).for_each(|at| assert!(rig.desk.put_frame(&frame(round + at, 64), 256)));
        assert_eq!(rig.recv(32).len(), 32);
        assert_eq!(rig.desk.doorbells(), before + 1);
        assert_eq!(rig.desk.ours(), 127);
    }
    rig.end();
}

#[test]
fn a_long_frame_is_a_chain_that_may_come_in_pieces() {
    let mut rig = rig(64, 256);
    rig.rx.fill();
    let jumbo = frame(3, 9018);
    let mut pieces = jumbo.chunks(256).peekable();
    while let Some(piece) = pieces.next() {
        assert!(rig.recv(32).is_empty());
        assert!(rig.desk.put_piece(piece, pieces.peek().is_none()));
    }
    assert!(rig.desk.put_frame(&frame(4, 60), 256));
    assert_eq!(rig.recv(32), [jumbo, frame(4, 60)]);
    assert_eq!(rig.rx.counters().snapshot().bytes, 9078);
    rig.end();
}

#[test]
fn what_the_device_found_out_comes_with_the_frame() {
    let mut rig = rig(64, 128);
    rig.rx.fill();
    let len = 60_u64 << 32;
    let cases = [
        // Tag, IP and TCP sums right; hash of type 1.
        (3 | 1 << 3 | 3 << 5 | len | 0x6007 << 48, 1 | 0xdead_beef << 32),
        // IP and UDP sums wrong.
        (3 | 7 << 4 | 3 << 29 | len, 0),
        // To be ignored.
        (3 | 1 << 2 | 7 << 4 | 3 << 29 | len, 0),
    ];
    cases.iter().for_each(|(high, low)| rig.desk.put_words(&[*low, *high]));
    let mut burst = Burst::new(&rig.pool);
    assert_eq!(rig.rx.recv(&mut rig.cache, &mut burst), 3);
    let good = Offload::RX_IP_CSUM_GOOD.with(Offload::RX_L4_CSUM_GOOD);
    let all = good.with(Offload::RX_VLAN_STRIPPED).with(Offload::RX_HASH);
    let meta = burst.frame(0).meta();
    assert_eq!((meta.offload(), meta.vlan(), meta.hash()), (all, 0x6007, 0xdead_beef));
    let bad = Offload::RX_IP_CSUM_BAD.with(Offload::RX_L4_CSUM_BAD);
    assert_eq!(burst.frame(1).meta().offload(), bad);
    assert_eq!(burst.frame(2).meta().offload(), Offload::NONE);
    burst.recycle(&mut rig.cache);
    rig.end();
}

#[test]
fn nonsense_is_counted_and_harms_no_other_frame() {
    let mut rig = rig(64, 128);
    rig.rx.fill();
    let good = frame(9, 100);
    for (what, words, reason) in [
        ("no length", [0, 3], DropReason::Malformed),
        ("longer than its buffer", [0, 3 | 257 << 32], DropReason::Malformed),
        ("all ones", [u64::MAX, u64::MAX], DropReason::Malformed),
        ("a bad FCS", [0, 3 | 1 << 24 | 60 << 32], DropReason::Malformed),
    ] {
        let before = rig.rx.counters().snapshot();
        rig.desk.put_words(&words);
        assert!(rig.desk.put_frame(&good, 256));
        assert_eq!(rig.recv(32), std::slice::from_ref(&good), "{what}");
        let after = rig.rx.counters().snapshot();
        assert_eq!(after.drops.of(reason), before.drops.of(reason) + 1, "{what}");
        assert!(after.is_balanced());
    }
    // A frame whose first piece is bad is one drop, whatever follows.
    let before = rig.rx.counters().snapshot();
    rig.desk.put_words(&[0, 1 | 300 << 32]);
    rig.desk.put_words(&[0, 1 | 256 << 32]);
    rig.desk.put_words(&[0, 3 | 100 << 32]);
    assert!(rig.desk.put_frame(&good, 256));
    assert_eq!(rig.recv(32), [good]);
    assert_eq!(rig.rx.counters().snapshot().drops.total(), before.drops.total() + 1);
    rig.end();
}

#[test]
fn a_frame_longer_than_any_is_dropped_up_to_its_end() {
    let mut rig = rig(64, 256);
    rig.rx.fill();
    for _ in 0..40 {
        assert!(rig.desk.put_piece(&[7; 256], false));
    }
    assert!(rig.recv(32).is_empty());
    assert_eq!(rig.rx.counters().snapshot().drops.of(DropReason::TooLong), 1);
    assert!(rig.desk.put_piece(&[7; 10], true));
    assert!(rig.desk.put_frame(&frame(2, 300), 256));
    assert_eq!(rig.recv(32), [frame(2, 300)]);
    assert_eq!(rig.rx.counters().snapshot().drops.total(), 1);
    rig.end();
}

#[test]
fn a_device_that_says_nonsense_for_long_is_faulted() {
    let mut rig = rig(64, 256);
    rig.rx.fill();
    for _ in 0..1001 {
        rig.desk.put_words(&[0, 3 | 65535 << 32]);
        assert!(rig.recv(32).is_empty());
        if !rig.desk.gate.is_live() {
            break;
        }
    }
    let why = "queue 0 faulted: device reported length 65535 for 256-byte buffer";
    assert_eq!(rig.desk.gate.why(), Some(why));
    assert_eq!(rig.rx.counters().snapshot().drops.of(DropReason::Malformed), 1001);
    assert!(rig.desk.put_frame(&frame(1, 60), 256));
    assert!(rig.recv(32).is_empty(), "nothing is believed any more");
    rig.end();
}

#[test]
fn done_bits_in_descriptors_that_were_not_given_are_not_looked_at() {
    let mut rig = rig(64, 16);
    rig.rx.fill();
    assert_eq!(rig.desk.ours(), 16, "as many as there are buffers");
    rig.desk.head = 16;
    for _ in 16..64 {
        rig.desk.write(0, 0);
        rig.desk.write(1, 3 | 60 << 32);
        rig.desk.advance();
    }
    for _ in 0..16 {
        assert!(rig.desk.put_frame(&[1; 60], 256));
    }
    let mut burst = Burst::with_limit(&rig.pool, 64);
    assert_eq!(rig.rx.recv(&mut rig.cache, &mut burst), 16);
    assert_eq!(rig.rx.recv(&mut rig.cache, &mut burst), 0);
    burst.recycle(&mut rig.cache);
    rig.end();
}

#[test]
fn a_pool_that_ran_dry_comes_back() {
    let mut rig = rig(64, 24);
    rig.rx.fill();
    let mut burst = Burst::with_limit(&rig.pool, 64);
    for at in 0..24 {
        assert!(rig.desk.put_frame(&frame(at, 60), 256));
    }
    assert!(!rig.desk.put_frame(&frame(24, 60), 256), "no descriptor");
    assert_eq!(rig.rx.recv(&mut rig.cache, &mut burst), 24);
    assert_eq!(rig.desk.ours(), 0);
    burst.recycle(&mut rig.cache);
    assert!(rig.recv(32).is_empty());
    assert_eq!(rig.desk.ours(), 24);
    assert!(rig.desk.put_frame(&frame(25, 60), 256));
    assert_eq!(rig.recv(32), [frame(25, 60)]);
    rig.end();
}

#[test]
fn a_queue_dropped_while_the_device_may_write_keeps_its_buffers_and_its_ring() {
    let Rig { mut desk, mut rx, pool, cache } = rig(64, 128);
    rx.fill();
    drop((rx, cache));
    assert_eq!(pool.audit().in_flight, 63);
    // The device still writes, into memory that is still there.
    assert!(desk.put_frame(&frame(1, 60), 256));
    // SAFETY: there is no device but this test, which writes no more.
    #[expect(unsafe_code, reason = "states that the device has stopped")]
    unsafe {
        desk.gate.close();
    }
    assert!(pool.audit().is_home(), "{}", pool.audit());
}

#[test]
fn what_had_arrived_is_yielded_after_a_queue_was_stopped_and_nothing_is_posted() {
    let mut rig = rig(64, 128);
    rig.rx.fill();
    let before = rig.desk.doorbells();
    assert!(rig.desk.put_frame(&frame(1, 60), 256));
    // SAFETY: the hand that works the device is still.
    #[expect(unsafe_code, reason = "states that the device has stopped")]
    unsafe {
        rig.desk.gate.close();
    }
    assert_eq!(rig.recv(32).len(), 1);
    assert!(rig.recv(32).is_empty());
    assert_eq!(rig.desk.doorbells(), before, "the registers may be another start's by now");
    // A port that is stopped faults its queues first.
    assert!(rig.desk.put_frame(&frame(2, 60), 256));
    rig.desk.gate.fault("port is stopped");
    assert!(rig.recv(32).is_empty());
    rig.end();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Bursts of every size, frames of one to many buffers, rings that wrap, pools that run dry.
    #[test]
    fn frames_come_out_as_they_went_in(
        ring in prop::sample::select(vec![8_usize, 16, 64, 128]),
        slots in 4..300_usize,
        steps in prop::collection::vec((0..40_usize, prop_oneof![60..300_usize, 500..3000_usize], 0..70_usize, any::<bool>()), 1..60),
    ) {
        let mut rig = rig(ring, slots);
        rig.rx.fill();
        let (mut sent, mut number) = (VecDeque::new(), 0);
        let mut held: Vec<Burst<Cpu>> = Vec::new();
        for (frames, len, limit, hold) in steps {
            for at in 0..frames {
                let bytes = frame(number, len + at);
                if rig.desk.put_frame(&bytes, 256) {
                    sent.push_back(bytes);
                    number += 1;
                }
            }
            let mut burst = Burst::with_limit(&rig.pool, limit);
            rig.rx.recv(&mut rig.cache, &mut burst);
            for received in burst.iter() {
                let mut bytes = vec![0; received.frame_len()];
                received.copy_to(&mut bytes);
                prop_assert_eq!(Some(bytes), sent.pop_front());
            }
            prop_assert!(rig.desk.ours() < ring, "a full ring looks empty");
            if hold {
                held.push(burst);
            } else {
                burst.recycle(&mut rig.cache);
                held.clear();
            }
        }
        held.clear();
        while !sent.is_empty() {
            let got = rig.recv(32);
            prop_assert!(!got.is_empty(), "{} frames are missing", sent.len());
            for bytes in got {
                prop_assert_eq!(Some(bytes), sent.pop_front());
            }
        }
        let stats = rig.rx.counters().snapshot();
        prop_assert_eq!(stats.delivered, number as u64);
        prop_assert!(stats.is_balanced());
        rig.end();
    }

    /// Whatever the device writes: no panic, no length beyond a buffer, every slot home.
    #[test]
    fn garbage_does_no_harm(words in prop::collection::vec((any::<u64>(), any::<u64>(), 0..4_u64), 1..400)) {
        let mut rig = rig(32, 100);
        rig.rx.fill();
        let mut burst = Burst::new(&rig.pool);
        for (low, high, status) in words {
            if rig.desk.ours() > 0 {
                // Often done, sometimes sane.
                let high = if status < 3 { high & 0x1ff_0000_00ff | status } else { high };
                rig.desk.put_words(&[low, high]);
            }
            rig.rx.recv(&mut rig.cache, &mut burst);
            for received in burst.iter() {
                prop_assert!(received.segments().all(|segment| segment.len() <= 256));
                prop_assert!(received.frame_len() <= 9018);
            }
            burst.recycle(&mut rig.cache);
        }
        prop_assert!(rig.rx.counters().snapshot().is_balanced());
        rig.end();
    }
}

#[test]
fn a_pool_that_grows_under_a_queue_has_its_new_areas_mapped_and_used() {
    let pool = Pool::builder().slots(64).stride(128 + SHAPE.buffer).max_areas(3).cache_size(8);
    let pool: Pool<Cpu> = pool.memory(&mempool::heap::Heap::new()).build().unwrap();
    let (desk, wiring) = Desk::new(64, 2);
    let rx = WholeRx::new(wiring, SHAPE, None, &pool, SoftwareMapper).unwrap();
    let mut rig = Rig { desk, rx, cache: pool.cache(), pool };
    rig.rx.fill();
    // All of the first area is with the device or out: what follows is of the new ones.
    let mut kept: Vec<_> = std::iter::from_fn(|| rig.cache.take_one()).collect();
    for _ in 0..2 {
        rig.pool.add_area(&mempool::heap::Heap::new(), 64).unwrap();
    }
    let mut areas = std::collections::HashSet::new();
    for round in 0..8 {
        let sent: Vec<_> = (0..32).map(|at| frame(round * 32 + at, 60 + at)).collect();
        sent.iter().for_each(|frame| assert!(rig.desk.put_frame(frame, 256)));
        let mut burst = Burst::with_limit(&rig.pool, 32);
        assert_eq!(rig.rx.recv(&mut rig.cache, &mut burst), 32, "round {round}");
        for (frame, sent) in burst.iter().zip(&sent) {
            assert_eq!(frame.bytes(), sent, "round {round}");
            areas.insert(frame.home().0);
        }
        // Some of each round stay out, so that areas mix.
        kept.extend(std::iter::from_fn(|| burst.pop()).take(12));
        burst.recycle(&mut rig.cache);
    }
    assert_eq!(areas.len(), 3, "buffers of every area carried frames");
    drop(kept);
    rig.end();
}
