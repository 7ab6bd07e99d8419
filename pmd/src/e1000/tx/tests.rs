//! Sending, against a device that is worked by hand.

use std::collections::VecDeque;

use mempool::{Buf, Burst, Cache, Cpu, Offload, Pool, TxMeta};
use proptest::prelude::*;

use super::Tx;
use crate::{
    DropReason, SoftwareMapper, TxQueue,
    e1000::{
        descriptor::transmit::{Advanced, Legacy, TxFormat},
        desk::{Desk, Tail, frame, pool},
    },
};

const MAX: usize = 9018;
const ROOM: usize = 2048;
const CONTEXT: u64 = 1 << 29;

struct Rig<F: TxFormat> {
    desk: Desk,
    tx: Tx<F, Tail, SoftwareMapper>,
    pool: Pool<Cpu>,
    cache: Cache<Cpu>,
}

/// What the device would put on the wire.
#[derive(Debug, PartialEq, Eq)]
struct OnWire {
    bytes: Vec<u8>,
    /// Data descriptors it took, and whether a context came first.
    pieces: usize,
    context: bool,
}

impl<F: TxFormat> Rig<F> {
    fn new(ring: usize, slots: usize) -> Self {
        let pool = pool(slots, ROOM);
        let (desk, wiring) = Desk::new(ring, 2);
        let tx = Tx::new(wiring, MAX, &pool, SoftwareMapper).unwrap();
        Self { desk, tx, cache: pool.cache(), pool }
    }

    /// A frame in buffers of `segment` bytes.
    fn frame(&mut self, bytes: &[u8], segment: usize) -> Buf<Cpu> {
        chained(&mut self.cache, bytes, segment).unwrap()
    }

    fn send(&mut self, frames: impl IntoIterator<Item = Buf<Cpu>>) -> usize {
        let mut burst = Burst::with_limit(&self.pool, 512);
        frames.into_iter().for_each(|frame| burst.push(frame));
        let taken = self.tx.send(&mut self.cache, &mut burst);
        burst.recycle(&mut self.cache);
        taken
    }

    /// Sends up to `most` descriptors' worth of frames, as the device: whole ones only.
    fn transmit(&mut self, most: usize) -> Vec<OnWire> {
        transmit(&mut self.desk, most)
    }

    fn end(self) {
        let Self { desk, tx, pool, cache } = self;
        // SAFETY: the hand that works the device is still.
        #[expect(unsafe_code, reason = "states that the device has stopped")]
        unsafe {
            desk.gate.close();
        }
        drop((tx, cache));
        assert!(pool.audit().is_home(), "{}", pool.audit());
    }
}

fn chained(cache: &mut Cache<Cpu>, bytes: &[u8], segment: usize) -> Option<Buf<Cpu>> {
    let mut whole: Option<Buf<Cpu>> = None;
    for piece in bytes.chunks(segment) {
        let mut buf = cache.take_one()?;
        assert!(buf.frame_mut().append(piece));
        match &mut whole {
            None => whole = Some(buf),
            Some(whole) => whole.chain(buf).unwrap(),
        }
    }
    whole
}

fn transmit(desk: &mut Desk, most: usize) -> Vec<OnWire> {
    let mut sent = Vec::new();
    let (mut bytes, mut pieces, mut context) = (Vec::new(), 0, false);
    for _ in 0..most.min(desk.ours()) {
        let (address, word) = (desk.read(desk.head, 0), desk.read(desk.head, 1));
        assert_eq!(word >> 32 & 1, 0, "a descriptor is given without a done bit");
        // Both context descriptors: extended, DTYP 0 or 2.
        if word & CONTEXT != 0 && matches!(word >> 20 & 0xf, 0 | 2) {
            assert!(pieces == 0 && !context, "a context comes before its frame");
            context = true;
        } else {
            bytes.extend(Desk::get(address, (word & 0xffff) as usize));
            pieces += 1;
            if word & 1 << 24 != 0 {
                let bytes = std::mem::take(&mut bytes);
                sent.push(OnWire { bytes, pieces, context });
                (pieces, context) = (0, false);
            }
        }
        if word & 1 << 27 != 0 {
            desk.write(1, word | 1 << 32);
        }
        desk.advance();
    }
    assert!(pieces == 0 && !context, "a frame that is begun is ended");
    sent
}

fn plain(bytes: Vec<u8>) -> OnWire {
    OnWire { bytes, pieces: 1, context: false }
}

#[test]
fn a_burst_costs_one_doorbell_and_one_report() {
    let mut rig = Rig::<Advanced>::new(64, 256);
    let frames: Vec<_> = (0..32).map(|at| rig.frame(&frame(at, 64), ROOM)).collect();
    assert_eq!(rig.send(frames), 32);
    assert_eq!((rig.desk.ours(), rig.desk.doorbells()), (32, 1));
    let reports = (0..32).filter(|at| rig.desk.read(*at, 1) & 1 << 27 != 0);
    assert_eq!(reports.collect::<Vec<_>>(), [31]);
    assert_eq!(rig.tx.reap(&mut rig.cache), 0, "nothing is done");
    let expected: Vec<_> = (0..32).map(|at| plain(frame(at, 64))).collect();
    assert_eq!(rig.transmit(64), expected);
    assert_eq!((rig.tx.in_flight(), rig.tx.reap(&mut rig.cache), rig.tx.in_flight()), (32, 32, 0));
    rig.end();
}

#[test]
fn what_there_is_no_room_for_stays_the_callers() {
    let mut rig = Rig::<Legacy>::new(16, 64);
    let mut burst = Burst::with_limit(&rig.pool, 40);
    (0..40).for_each(|at| burst.push(rig.frame(&frame(at, 100), ROOM)));
    assert_eq!(rig.tx.send(&mut rig.cache, &mut burst), 15, "one descriptor stays free");
    assert_eq!((burst.len(), rig.desk.ours()), (25, 15));
    assert_eq!(rig.tx.send(&mut rig.cache, &mut burst), 0);
    assert_eq!(rig.transmit(16).len(), 15);
    assert_eq!(rig.tx.send(&mut rig.cache, &mut burst), 15);
    assert_eq!(rig.transmit(16)[0], plain(frame(15, 100)));
    burst.recycle(&mut rig.cache);
    rig.end();
}

#[test]
fn a_long_frame_goes_out_in_pieces_and_a_frame_in_crumbs_is_copied_together() {
    let mut rig = Rig::<Legacy>::new(128, 512);
    let jumbo = frame(1, 9018);
    let frames = [rig.frame(&jumbo, ROOM), rig.frame(&jumbo, 64), rig.frame(&frame(2, 60), ROOM)];
    assert_eq!(rig.send(frames), 3);
    let sent = rig.transmit(128);
    assert_eq!(sent[0], OnWire { bytes: jumbo.clone(), pieces: 5, context: false });
    assert_eq!(sent[1], OnWire { bytes: jumbo, pieces: 5, context: false });
    assert_eq!(sent[2], plain(frame(2, 60)));
    assert_eq!(rig.desk.doorbells(), 1);
    assert_eq!(rig.tx.reap(&mut rig.cache), 3);
    rig.end();
}

#[test]
fn what_cannot_be_sent_is_dropped_and_counted_and_the_rest_goes() {
    let mut rig = Rig::<Legacy>::new(64, 128);
    let mut tso = rig.frame(&frame(1, 1000), ROOM);
    let offload = Offload::TX_TCP_SEGMENT.with(Offload::TX_TCP_CSUM);
    tso.frame_mut().ask(&TxMeta { offload, l2_len: 14, l3_len: 20, l4_len: 20, mss: 500, vlan: 0 });
    let mut lost = rig.frame(&frame(2, 100), ROOM);
    lost.frame_mut().ask(&TxMeta {
        offload: Offload::TX_UDP_CSUM,
        l2_len: 14,
        ..TxMeta::default()
    });
    let frames = [
        rig.frame(&frame(3, 60), ROOM),
        tso,
        lost,
        rig.frame(&frame(4, 9019), ROOM),
        rig.frame(&frame(5, 13), ROOM),
        rig.frame(&frame(6, 60), ROOM),
    ];
    assert_eq!(rig.send(frames), 6);
    assert_eq!(rig.transmit(64), [plain(frame(3, 60)), plain(frame(6, 60))]);
    let stats = rig.tx.counters().snapshot();
    assert_eq!((stats.offered, stats.delivered, stats.bytes), (6, 2, 120));
    assert_eq!(stats.drops.of(DropReason::SendError), 3);
    assert_eq!(stats.drops.of(DropReason::TooLong), 1);
    rig.end();
}

#[test]
fn frames_too_short_for_the_chip_are_padded_in_a_copy() {
    let mut rig = Rig::<Advanced>::new(64, 128);
    let tiny = rig.frame(&frame(1, 14), ROOM);
    assert_eq!(rig.send([tiny]), 1);
    let mut padded = frame(1, 14);
    padded.resize(17, 0);
    assert_eq!(rig.transmit(64), [plain(padded)]);
    assert_eq!(rig.tx.counters().snapshot().bytes, 14);
    rig.end();
}

#[test]
fn a_context_is_sent_once_for_frames_that_ask_the_same() {
    let mut rig = Rig::<Advanced>::new(64, 128);
    let sums = TxMeta {
        offload: Offload::TX_IP_CSUM.with(Offload::TX_UDP_CSUM),
        l2_len: 14,
        l3_len: 20,
        ..TxMeta::default()
    };
    let tag = TxMeta { offload: Offload::TX_VLAN_INSERT, vlan: 7, ..TxMeta::default() };
    let asked = [Some(sums), Some(sums), None, Some(sums), Some(tag), Some(sums)];
    let mut frames = Vec::new();
    for (at, asked) in asked.into_iter().enumerate() {
        let mut buf = rig.frame(&frame(at, 100), ROOM);
        if let Some(asked) = asked {
            buf.frame_mut().ask(&asked);
        }
        frames.push(buf);
    }
    assert_eq!(rig.send(frames), 6);
    let contexts: Vec<_> = rig.transmit(64).iter().map(|sent| sent.context).collect();
    assert_eq!(contexts, [true, false, false, false, true, true]);
    rig.end();
}

#[test]
fn shared_frames_keep_their_references_until_they_are_sent() {
    let builder = Pool::<Cpu>::builder().slots(64).headroom(0).stride(ROOM).shareable();
    let pool = builder.memory(&mempool::heap::Heap::new()).build().unwrap();
    let (mut desk, wiring) = Desk::new(32, 2);
    let mut tx = Tx::<Advanced, _, _>::new(wiring, MAX, &pool, SoftwareMapper).unwrap();
    let mut cache = pool.cache();
    let shared = chained(&mut cache, &frame(1, 200), ROOM).unwrap().share().unwrap();
    let mut burst = Burst::of_shared(&pool);
    (0..3).for_each(|_| burst.push(shared.clone()));
    let mut own = Burst::new(&pool);
    own.push(chained(&mut cache, &frame(2, 80), ROOM).unwrap());
    assert_eq!(tx.send_shared(&mut cache, &mut burst), 3);
    assert_eq!(tx.send(&mut cache, &mut own), 1);
    assert_eq!((shared.references(), tx.in_flight()), (4, 4));
    let lens: Vec<_> = transmit(&mut desk, 32).iter().map(|sent| sent.bytes.len()).collect();
    assert_eq!(lens, [200, 200, 200, 80]);
    assert_eq!(tx.reap(&mut cache), 4);
    assert_eq!((shared.references(), tx.in_flight()), (1, 0));
    drop((shared, cache, burst, own, tx));
    assert!(pool.audit().is_home());
}

#[test]
fn frames_of_other_pools_are_sent_as_copies_with_what_they_ask() {
    let mut rig = Rig::<Legacy>::new(64, 64);
    let other = pool(16, ROOM);
    let mut cache = other.cache();
    let mut burst = Burst::new(&other);
    let mut asking = chained(&mut cache, &frame(1, 3000), ROOM).unwrap();
    asking.frame_mut().ask(&TxMeta {
        offload: Offload::TX_UDP_CSUM,
        l2_len: 14,
        l3_len: 20,
        ..TxMeta::default()
    });
    burst.push(asking);
    burst.push(chained(&mut cache, &frame(2, 60), ROOM).unwrap());
    assert_eq!(rig.tx.send(&mut rig.cache, &mut burst), 2);
    drop((burst, cache));
    assert!(other.audit().is_home(), "they are the caller's no longer");
    let sent = rig.transmit(64);
    assert_eq!(sent[0], OnWire { bytes: frame(1, 3000), pieces: 2, context: true });
    assert_eq!(sent[1], plain(frame(2, 60)));
    rig.end();
}

#[test]
fn a_report_that_is_lost_is_made_good_by_a_later_one() {
    let mut rig = Rig::<Advanced>::new(16, 64);
    for at in 0..3 {
        let buf = rig.frame(&frame(at, 60), ROOM);
        assert_eq!(rig.send([buf]), 1);
    }
    // The first two go unreported.
    rig.desk.head = 2;
    assert_eq!(rig.transmit(16).len(), 1);
    assert_eq!((rig.tx.reap(&mut rig.cache), rig.tx.in_flight()), (3, 0));
    rig.end();
}

#[test]
fn reports_nobody_asked_for_free_nothing() {
    let mut rig = Rig::<Legacy>::new(16, 64);
    for place in 0..16 {
        rig.desk.head = place;
        rig.desk.write(1, u64::MAX);
    }
    let frames = [rig.frame(&frame(0, 60), ROOM), rig.frame(&frame(1, 60), ROOM)];
    assert_eq!(rig.send(frames), 2);
    rig.desk.head = 0;
    rig.desk.write(1, 1 << 32);
    assert_eq!((rig.tx.reap(&mut rig.cache), rig.tx.in_flight()), (0, 2));
    rig.end();
}

#[test]
fn a_queue_that_is_faulted_or_stopped_takes_nothing() {
    let mut rig = Rig::<Legacy>::new(16, 64);
    rig.desk.gate.fault("a receive queue saw nonsense");
    let buf = rig.frame(&frame(0, 60), ROOM);
    assert_eq!((rig.send([buf]), rig.desk.doorbells()), (0, 0));
    rig.end();
}

#[test]
fn frames_with_a_device_that_never_stopped_are_lost_and_counted() {
    let mut rig = Rig::<Advanced>::new(16, 64);
    let frames = [rig.frame(&frame(0, 60), ROOM), rig.frame(&frame(1, 3000), ROOM)];
    assert_eq!(rig.send(frames), 2);
    let Rig { mut desk, tx, pool, cache } = rig;
    drop((tx, cache));
    assert_eq!(pool.audit().in_flight, 3);
    // The device still reads, from memory that is still there.
    assert_eq!(transmit(&mut desk, 16).len(), 2);
    drop(desk);
    assert_eq!(pool.audit().leaked, 3);
}

fn frames_go_out_as_they_came_in<F: TxFormat>(
    ring: usize,
    slots: usize,
    steps: Vec<(usize, usize, usize, usize)>,
) -> Result<(), TestCaseError> {
    let mut rig = Rig::<F>::new(ring, slots);
    let (mut taken, mut number) = (VecDeque::new(), 0);
    for (frames, len, segment, late) in steps {
        let mut burst = Burst::with_limit(&rig.pool, 512);
        let mut bytes = Vec::new();
        for more in 0..frames {
            let next = frame(number, len + more);
            let Some(mut buf) = chained(&mut rig.cache, &next, segment) else { break };
            if number.is_multiple_of(7) {
                let vlan = u16::try_from(number % 4096).unwrap();
                let offload = Offload::TX_VLAN_INSERT;
                buf.frame_mut().ask(&TxMeta { offload, vlan, ..TxMeta::default() });
            }
            burst.push(buf);
            bytes.push(next);
            number += 1;
        }
        let before = rig.desk.doorbells();
        let took = rig.tx.send(&mut rig.cache, &mut burst);
        prop_assert!(rig.desk.doorbells() <= before + 1);
        prop_assert_eq!(burst.len(), bytes.len() - took);
        taken.extend(bytes.drain(..took));
        burst.recycle(&mut rig.cache);
        prop_assert!(rig.desk.ours() < ring, "a full ring looks empty");
        if late == 0 {
            for sent in rig.transmit(ring) {
                prop_assert_eq!(Some(sent.bytes), taken.pop_front());
            }
        }
        if late == 1 {
            rig.tx.reap(&mut rig.cache);
        }
    }
    for sent in rig.transmit(ring) {
        prop_assert_eq!(Some(sent.bytes), taken.pop_front());
    }
    prop_assert!(taken.is_empty());
    rig.tx.reap(&mut rig.cache);
    prop_assert_eq!(rig.tx.in_flight(), 0);
    prop_assert!(rig.tx.counters().snapshot().is_balanced());
    rig.end();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Bursts of every size, one to many segments, rings that wrap, pools that run dry, late reports.
    #[test]
    fn frames_go_out_in_order_and_come_home(
        ring in prop::sample::select(vec![8_usize, 16, 64, 128]),
        slots in 8..300_usize,
        steps in prop::collection::vec((0..70_usize, 60..3000_usize, 64..ROOM, 0..3_usize), 1..40),
    ) {
        frames_go_out_as_they_came_in::<Legacy>(ring, slots, steps.clone())?;
        frames_go_out_as_they_came_in::<Advanced>(ring, slots, steps)?;
    }
}

/// Bursts of one area, of a new one and of several: each frame goes out from where it lies.
fn sends_from_areas_that_come_later<F: TxFormat>() {
    let pool = Pool::builder().slots(64).stride(128 + ROOM).max_areas(3).cache_size(8);
    let pool: Pool<Cpu> = pool.memory(&mempool::heap::Heap::new()).build().unwrap();
    let (desk, wiring) = Desk::new(128, 2);
    let tx = Tx::new(wiring, MAX, &pool, SoftwareMapper).unwrap();
    let mut rig = Rig::<F> { desk, tx, cache: pool.cache(), pool };
    let mut kept: Vec<Vec<Buf<Cpu>>> = Vec::new();
    for area in 0..3 {
        if area > 0 {
            rig.pool.add_area(&mempool::heap::Heap::new(), 64).unwrap();
        }
        kept.push(std::iter::from_fn(|| rig.cache.take_one()).collect());
        assert_eq!(kept[area].len(), 64);
    }
    // One area after the other, then all of them in turns.
    let mut number = 0;
    let mut numbered = |mut buf: Buf<Cpu>| {
        number += 1;
        assert!(buf.frame_mut().append(&frame(number, 60 + number)));
        buf
    };
    let mut bursts: Vec<Vec<Buf<Cpu>>> = (0..3)
        .map(|area| kept[area].split_off(32).into_iter().map(&mut numbered).collect())
        .collect();
    let mixed: Vec<Buf<Cpu>> = (0..32)
        .flat_map(|_| [0, 1, 2])
        .map(|area| kept[area].pop().unwrap())
        .map(&mut numbered)
        .collect();
    bursts.push(mixed);
    let mut expected = 0;
    for burst in bursts {
        let count = burst.len();
        assert_eq!(rig.send(burst), count);
        for sent in rig.transmit(usize::MAX) {
            expected += 1;
            assert_eq!(sent.bytes, frame(expected, 60 + expected));
        }
    }
    assert_eq!(expected, 3 * 32 + 96);
    rig.end();
}

#[test]
fn frames_go_out_from_areas_that_came_later() {
    sends_from_areas_that_come_later::<Legacy>();
    sends_from_areas_that_come_later::<Advanced>();
}
