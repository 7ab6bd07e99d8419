//! Split frames, against a device that is worked by hand.

use std::collections::VecDeque;

use mempool::{Buf, Burst, Cpu, Device, Pool, Split, SplitBurst, SplitCache};
use proptest::prelude::*;

use super::{SplitRx, SplitShape};
use crate::{
    DropReason, PostOrder, SoftwareMapper, SplitAt, SplitConfig, SplitRxQueue,
    e1000::{
        descriptor::receive::{HeaderSplit, PacketSplit, SplitFormat},
        desk::{Desk, Tail, device_pool, frame, pool},
    },
};

const HEAD: usize = 128;
const DATA: usize = 1024;
const SHAPE: SplitShape =
    SplitShape { head_buffer: HEAD, data_buffer: DATA, max_frame: 9018, strip_vlan: false };

/// How the device lays out what it writes back.
trait Chip: SplitFormat {
    const WORDS: usize;

    /// Writes one piece: `head` into the header's buffer, `data` into the other.
    fn put(desk: &mut Desk, head: &[u8], data: &[u8], is_last: bool);
}

impl Chip for PacketSplit {
    const WORDS: usize = 4;

    fn put(desk: &mut Desk, head: &[u8], data: &[u8], is_last: bool) {
        Desk::put(desk.read(desk.head, 0), head);
        Desk::put(desk.read(desk.head, 1), data);
        let (head, data) = (head.len() as u64, data.len() as u64);
        let status = 1 | u64::from(is_last) << 1;
        desk.put_words(&[0, status | head << 32, head | 1 << 15 | data << 16, 0]);
    }
}

impl Chip for HeaderSplit {
    const WORDS: usize = 2;

    fn put(desk: &mut Desk, head: &[u8], data: &[u8], is_last: bool) {
        Desk::put(desk.read(desk.head, 1), head);
        Desk::put(desk.read(desk.head, 0), data);
        let (head, data) = (head.len() as u64, data.len() as u64);
        let status = 1 | u64::from(is_last) << 1;
        desk.put_words(&[(head << 5 | 1 << 15) << 16, status | data << 32]);
    }
}

struct Rig<F: Chip> {
    desk: Desk,
    rx: SplitRx<F, Tail, SoftwareMapper>,
    pools: (Pool<Cpu>, Pool<Device>),
    cache: SplitCache,
}

/// Payload bytes, read where the test knows that memory is the host's.
fn payload(data: &Buf<Device>) -> Vec<u8> {
    let segments = data.frame().segments();
    segments.flat_map(|segment| Desk::get(segment.address() as u64, segment.len())).collect()
}

impl<F: Chip> Rig<F> {
    fn new(ring: usize, heads: usize, data: usize, post: PostOrder) -> Self {
        let pools = (pool(heads, HEAD), device_pool(data, DATA));
        let (desk, wiring) = Desk::new(ring, F::WORDS);
        let (heads, data) = (pools.0.clone(), pools.1.clone());
        let config = SplitConfig { heads, data, at: SplitAt::Protocol { extra: 0 }, post };
        let rx = SplitRx::new(wiring, SHAPE, None, &config, SoftwareMapper).unwrap();
        let cache = SplitCache::new(&pools.0, &pools.1);
        Self { desk, rx, pools, cache }
    }

    /// Receives a frame that is cut after `head` bytes; false if there are too few descriptors.
    fn put_frame(&mut self, bytes: &[u8], head: usize) -> bool {
        let (head, data) = bytes.split_at(head.min(bytes.len()));
        let pieces = data.len().div_ceil(DATA).max(1);
        if self.desk.ours() < pieces {
            return false;
        }
        let mut chunks = data.chunks(DATA);
        for at in 0..pieces {
            let chunk = chunks.next().unwrap_or(&[]);
            F::put(&mut self.desk, if at == 0 { head } else { &[] }, chunk, at + 1 == pieces);
        }
        true
    }

    fn recv(&mut self, limit: usize) -> Vec<Split> {
        let mut burst = SplitBurst::with_limit(&self.pools.0, &self.pools.1, limit);
        let got = self.rx.recv(&mut self.cache, &mut burst);
        let frames: Vec<_> = burst.drain().collect();
        assert_eq!(got, frames.len());
        frames
    }

    /// Heads and payloads of what comes.
    fn recv_bytes(&mut self, limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let bytes = |split: &Split| {
            (split.head.bytes().to_vec(), split.data.as_ref().map(payload).unwrap_or_default())
        };
        self.recv(limit).iter().map(bytes).collect()
    }

    fn end(self) {
        let Self { desk, rx, pools, cache } = self;
        // SAFETY: the hand that works the device is still.
        #[expect(unsafe_code, reason = "states that the device has stopped")]
        unsafe {
            desk.gate.close();
        }
        drop((rx, cache));
        assert!(pools.0.audit().is_home(), "heads: {}", pools.0.audit());
        assert!(pools.1.audit().is_home(), "payloads: {}", pools.1.audit());
    }
}

fn cut(bytes: &[u8], at: usize) -> (Vec<u8>, Vec<u8>) {
    (bytes[..at].to_vec(), bytes[at..].to_vec())
}

fn heads_and_payloads_are_cut<F: Chip>() {
    let mut rig = Rig::<F>::new(64, 256, 256, PostOrder::Cache);
    rig.rx.fill();
    assert_eq!((rig.desk.ours(), rig.desk.doorbells()), (63, 1));
    let (udp, short, jumbo) = (frame(1, 1042), frame(2, 60), frame(3, 9018));
    assert!(rig.put_frame(&udp, 42) && rig.put_frame(&short, 60) && rig.put_frame(&jumbo, 54));
    let none = Vec::new();
    assert_eq!(rig.recv_bytes(32), [cut(&udp, 42), (short, none), cut(&jumbo, 54)]);
    let stats = rig.rx.counters().snapshot();
    assert_eq!((stats.delivered, stats.bytes), (3, 1042 + 60 + 9018));
    rig.end();
}

#[test]
fn an_82574_puts_heads_and_payloads_where_they_belong() {
    heads_and_payloads_are_cut::<PacketSplit>();
}

#[test]
fn an_82576_puts_heads_and_payloads_where_they_belong() {
    heads_and_payloads_are_cut::<HeaderSplit>();
}

/// Slots of the payloads that come, by frame.
fn slots<F: Chip>(rig: &mut Rig<F>) -> Vec<Option<u32>> {
    let frames = rig.recv(32);
    frames.iter().map(|split| split.data.as_ref().map(|data| data.slot().index())).collect()
}

#[test]
fn payloads_fill_buffers_in_posting_order_and_one_left_empty_is_posted_again_behind() {
    let mut rig = Rig::<HeaderSplit>::new(8, 64, 64, PostOrder::App);
    let mut stock = Burst::with_limit(&rig.pools.1, 64);
    rig.cache.data.take(&mut stock, 20);
    let order: Vec<u32> = stock.iter().map(|frame| frame.slot().index()).collect();
    assert_eq!(rig.rx.post(&mut stock), 7, "one descriptor stays free");
    assert!(rig.recv(32).is_empty());
    assert_eq!(rig.desk.ours(), 7);
    // The second frame has no payload.
    for (number, head) in [(0, 42), (1, 60), (2, 42)] {
        assert!(rig.put_frame(&frame(number, 60), head));
    }
    assert_eq!(slots(&mut rig), [Some(order[0]), None, Some(order[2])]);
    assert_eq!(rig.rx.post(&mut stock), 2, "the empty one took a place");
    assert!(rig.recv(32).is_empty());
    for number in 3..10 {
        assert!(rig.put_frame(&frame(number, 60), 42));
    }
    let [_, again, _, then @ ..] = &order[..9] else { unreachable!() };
    let mut expected: Vec<_> = then[..4].iter().copied().map(Some).collect();
    expected.push(Some(*again));
    expected.extend(then[4..].iter().copied().map(Some));
    assert_eq!(slots(&mut rig), expected);
    drop(stock);
    rig.end();
}

fn areas_are_met_and_let_go_of<F: Chip>() {
    let mut rig = Rig::<F>::new(8, 64, 8, PostOrder::App);
    let mut kept = Burst::with_limit(&rig.pools.1, 8);
    assert_eq!(rig.cache.data.take(&mut kept, 8), 8);
    for round in 0..3 {
        let area = rig.pools.1.add_area(&mempool::heap::Heap::new(), 8).unwrap();
        rig.rx.meet_areas().unwrap();
        let known = rig.pools.1.areas().into_iter().find(|known| known.id == area);
        let witness = known.unwrap().region.witness();
        let mut posts = Burst::with_limit(&rig.pools.1, 7);
        rig.cache.data.take(&mut posts, 7);
        assert_eq!(rig.rx.post(&mut posts), 7);
        assert!(rig.recv(32).is_empty());
        let sent: Vec<_> = (0..7).map(|at| frame(7 * round + at, 100)).collect();
        assert!(sent.iter().all(|frame| rig.put_frame(frame, 42)));
        for (split, sent) in rig.recv(32).iter().zip(&sent) {
            let data = split.data.as_ref().unwrap();
            assert_eq!(data.frame().place().0, area);
            assert_eq!(payload(data), sent[42..]);
        }
        rig.cache.data.flush();
        drop(rig.pools.1.remove_area(area).unwrap());
        assert!(witness.is_live());
        rig.rx.meet_areas().unwrap();
        assert!(!witness.is_live(), "it is not mapped any more");
    }
    drop(kept);
    rig.end();
}

#[test]
fn areas_that_come_are_met_and_those_that_go_are_let_go_of() {
    areas_are_met_and_let_go_of::<PacketSplit>();
    areas_are_met_and_let_go_of::<HeaderSplit>();
}

#[test]
fn nothing_is_given_without_both_buffers() {
    let mut rig = Rig::<PacketSplit>::new(16, 4, 64, PostOrder::Cache);
    rig.rx.fill();
    assert_eq!(rig.desk.ours(), 4, "four heads");
    rig.end();
    let mut rig = Rig::<PacketSplit>::new(16, 64, 5, PostOrder::Cache);
    rig.rx.fill();
    assert_eq!(rig.desk.ours(), 5, "five payload buffers");
    rig.end();
    let mut rig = Rig::<PacketSplit>::new(16, 64, 64, PostOrder::App);
    rig.rx.fill();
    assert!(rig.recv(32).is_empty());
    assert_eq!(rig.desk.ours(), 0, "the application posts");
    rig.end();
}

#[test]
fn a_payload_of_several_buffers_is_too_long_where_the_application_posts() {
    let mut rig = Rig::<PacketSplit>::new(16, 64, 64, PostOrder::App);
    let mut stock = Burst::new(&rig.pools.1);
    rig.cache.data.take(&mut stock, 17);
    assert_eq!(rig.rx.post(&mut stock), 15);
    assert!(rig.recv(32).is_empty());
    assert!(rig.put_frame(&frame(1, 3000), 42) && rig.put_frame(&frame(2, 600), 42));
    assert_eq!(rig.recv_bytes(32), [cut(&frame(2, 600), 42)]);
    let stats = rig.rx.counters().snapshot();
    assert_eq!((stats.drops.of(DropReason::TooLong), stats.drops.total()), (1, 1));
    // The three buffers of the frame that was thrown away are posted again: one place is free.
    assert_eq!(rig.rx.post(&mut stock), 1);
    rig.recv(32);
    assert_eq!(rig.desk.ours(), 15);
    drop(stock);
    rig.end();
}

#[test]
fn a_frame_that_an_82574_did_not_cut_spills_into_one_payload_buffer_and_no_further() {
    let mut rig = Rig::<PacketSplit>::new(16, 64, 64, PostOrder::Cache);
    rig.rx.fill();
    let odd = frame(1, HEAD + DATA);
    PacketSplit::put(&mut rig.desk, &odd[..HEAD], &odd[HEAD..], true);
    assert_eq!(rig.recv_bytes(32), [cut(&odd, HEAD)]);
    // Longer, the chip goes on in the next head: bytes between two payload buffers.
    PacketSplit::put(&mut rig.desk, &odd[..HEAD], &odd[HEAD..], false);
    PacketSplit::put(&mut rig.desk, &[1; 60], &[], true);
    assert!(rig.put_frame(&odd[..200], 42));
    assert_eq!(rig.recv_bytes(32), [cut(&odd[..200], 42)]);
    assert_eq!(rig.rx.counters().snapshot().drops.of(DropReason::TooLong), 1);
    rig.end();
}

#[test]
fn an_82576_may_state_headers_longer_than_their_buffer() {
    let mut rig = Rig::<HeaderSplit>::new(16, 64, 64, PostOrder::Cache);
    rig.rx.fill();
    rig.desk.put_words(&[(300 << 5 | 1 << 15) << 16, 3 | 1 << 23 | 500 << 32]);
    let frames = rig.recv(32);
    let data = frames[0].data.as_ref().unwrap();
    assert_eq!((frames[0].head.len(), data.len()), (HEAD, 500));
    drop(frames);
    rig.end();
}

#[test]
fn nonsense_is_counted_and_its_buffers_are_posted_again() {
    let mut rig = Rig::<PacketSplit>::new(16, 64, 15, PostOrder::Cache);
    rig.rx.fill();
    let good = frame(5, 500);
    for (what, words) in [
        ("nothing at all", [0, 3, 0, 0]),
        ("a head longer than its buffer", [0, 3 | 129 << 32, 0, 0]),
        ("a payload longer than its buffer", [0, 3 | 42 << 32, 1025 << 16, 0]),
        ("bytes in a third buffer", [0, 3 | 42 << 32, 100 << 16 | 1 << 32, 0]),
        ("all ones", [u64::MAX; 4]),
    ] {
        let before = rig.rx.counters().snapshot().drops.of(DropReason::Malformed);
        rig.desk.put_words(&words);
        assert!(rig.put_frame(&good, 42));
        assert_eq!(rig.recv_bytes(32), [cut(&good, 42)], "{what}");
        let after = rig.rx.counters().snapshot().drops.of(DropReason::Malformed);
        assert_eq!(after, before + 1, "{what}");
        assert_eq!(rig.pools.1.audit().held, 0, "{what}");
    }
    rig.end();
}

#[test]
fn a_queue_dropped_while_the_device_may_write_keeps_both_kinds_of_buffers() {
    let Rig { desk, mut rx, pools, cache, .. } =
        Rig::<HeaderSplit>::new(64, 128, 128, PostOrder::Cache);
    rx.fill();
    drop((rx, cache));
    assert_eq!((pools.0.audit().in_flight, pools.1.audit().in_flight), (63, 63));
    drop(desk);
    assert_eq!((pools.0.audit().leaked, pools.1.audit().leaked), (63, 63));
}

/// A step of the property: frames, their length, where they are cut, the burst's limit, and whether what
/// came is held for a while.
type Step = (usize, usize, usize, usize, bool);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![60..300_usize, 900..1200_usize, 3000..5000_usize];
    let step = (0..20_usize, len, 14..=HEAD, 0..70_usize, any::<bool>());
    prop::collection::vec(step, 1..40)
}

fn frames_come_out_as_they_went_in<F: Chip>(
    ring: usize,
    slots: (usize, usize),
    post: PostOrder,
    steps: Vec<Step>,
) -> Result<(), TestCaseError> {
    let mut rig = Rig::<F>::new(ring, slots.0, slots.1, post);
    rig.rx.fill();
    let mut stock = Burst::with_limit(&rig.pools.1, 512);
    let (mut sent, mut number) = (VecDeque::new(), 0);
    let mut held = Vec::new();
    for (frames, len, at, limit, hold) in steps {
        if post == PostOrder::App {
            rig.cache.data.take(&mut stock, 32);
            rig.rx.post(&mut stock);
        }
        for more in 0..frames {
            let len = if post == PostOrder::App { len.min(DATA) } else { len };
            let bytes = frame(number, len + more % 3);
            let at = if number.is_multiple_of(5) && bytes.len() <= HEAD { HEAD } else { at };
            if rig.put_frame(&bytes, at) {
                sent.push_back(cut(&bytes, at.min(bytes.len())));
                number += 1;
            }
        }
        for split in rig.recv(limit) {
            let data = split.data.as_ref().map(payload).unwrap_or_default();
            let bytes = (split.head.bytes().to_vec(), data);
            prop_assert_eq!(Some(bytes), sent.pop_front());
            held.push(split);
        }
        prop_assert!(rig.desk.ours() < ring, "a full ring looks empty");
        if !hold {
            held.clear();
        }
    }
    held.clear();
    while !sent.is_empty() {
        let got = rig.recv_bytes(32);
        prop_assert!(!got.is_empty(), "{} frames are missing", sent.len());
        for bytes in got {
            prop_assert_eq!(Some(bytes), sent.pop_front());
        }
    }
    let stats = rig.rx.counters().snapshot();
    prop_assert_eq!(stats.delivered, number as u64);
    prop_assert!(stats.is_balanced());
    drop(stock);
    rig.end();
    Ok(())
}

fn garbage_does_no_harm<F: Chip>(
    post: PostOrder,
    words: Vec<([u64; 4], u64)>,
) -> Result<(), TestCaseError> {
    let mut rig = Rig::<F>::new(32, 100, 100, post);
    rig.rx.fill();
    let mut stock = Burst::new(&rig.pools.1);
    for (mut words, status) in words {
        if rig.desk.ours() > 0 {
            // Often done, sometimes sane.
            if status < 3 {
                words[1] = words[1] & 0xff_0000_00ff | status;
                words[2] &= 0x7ff_ffff;
            }
            rig.desk.put_words(&words[..F::WORDS]);
        }
        rig.cache.data.take(&mut stock, 8);
        rig.rx.post(&mut stock);
        for split in rig.recv(32) {
            prop_assert!(split.head.len() <= HEAD && !split.head.is_chain());
            if let Some(data) = split.data {
                prop_assert!(data.frame().segments().all(|segment| segment.len() <= DATA));
            }
        }
    }
    prop_assert!(rig.rx.counters().snapshot().is_balanced());
    drop(stock);
    rig.end();
    Ok(())
}

fn order() -> impl Strategy<Value = PostOrder> {
    prop_oneof![Just(PostOrder::Cache), Just(PostOrder::App)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Bursts of every size, payloads of no to many buffers, rings that wrap, pools that run dry.
    #[test]
    fn split_frames_come_out_as_they_went_in(
        ring in prop::sample::select(vec![8_usize, 16, 64]),
        slots in (4..200_usize, 4..200_usize),
        order in order(),
        steps in steps(),
    ) {
        frames_come_out_as_they_went_in::<PacketSplit>(ring, slots, order, steps.clone())?;
        frames_come_out_as_they_went_in::<HeaderSplit>(ring, slots, order, steps)?;
    }

    /// Whatever the device writes: no panic, no length beyond a buffer, every slot home.
    #[test]
    fn garbage_splits_into_nothing_harmful(
        order in order(),
        words in prop::collection::vec((any::<[u64; 4]>(), 0..4_u64), 1..300),
    ) {
        garbage_does_no_harm::<PacketSplit>(order, words.clone())?;
        garbage_does_no_harm::<HeaderSplit>(order, words)?;
    }
}
