//! What the views of a buffer allow: headroom, lengths, chains, split frames, a peer's bytes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mempool::{
    Access, Buf, Burst, Cpu, Device, Peer, Pool, RxMeta, Split, SplitBurst, SplitCache, heap::Heap,
};

fn pool<A: Access>(slots: usize) -> Pool<A> {
    let builder = Pool::<A>::builder().slots(slots).stride(128).headroom(32);
    builder.memory(&Heap::new()).build().unwrap()
}

fn one() -> Buf<Cpu> {
    pool::<Cpu>(1).cache().take_one().unwrap()
}

fn panics(action: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(action)).is_err()
}

#[test]
fn headers_are_put_before_and_taken_off_without_a_copy() {
    let mut buf = one();
    assert!(buf.frame_mut().append(b"payload"));
    let mut frame = buf.frame_mut();
    frame.prepend(4).unwrap().copy_from_slice(b"head");
    assert_eq!((frame.headroom(), frame.tailroom()), (28, 128 - 28 - 11));
    assert_eq!(frame.view().bytes(), b"headpayload");
    assert!(frame.trim_front(4));
    assert_eq!(frame.view().bytes(), b"payload");
    assert!(!frame.trim_front(8), "more than there is");
    assert!(!frame.trim_front(1 << 20) && !frame.trim_front(usize::MAX));
    assert!(frame.prepend(33).is_none() && frame.prepend(usize::MAX).is_none());
    assert_eq!((frame.headroom(), frame.view().len()), (32, 7), "refusals change nothing");
    assert_eq!(frame.prepend(32).unwrap().len(), 32);
    assert_eq!((frame.headroom(), frame.view().len()), (0, 39));
    assert!(frame.prepend(1).is_none());
    assert_eq!(frame.prepend(0).unwrap().len(), 0);
}

#[test]
fn a_payload_grows_to_the_end_of_its_slot_and_no_further() {
    let mut buf = one();
    let mut frame = buf.frame_mut();
    assert!(!frame.append(&[1; 97]));
    assert!(frame.append(&[1; 96]));
    assert!(!frame.append(&[1]) && frame.append(&[]));
    assert_eq!((frame.tailroom(), frame.bytes_mut().len(), frame.room_mut().len()), (0, 96, 96));
    assert!(panics(|| frame.set_len(97)));
    assert!(panics(|| frame.set_len(usize::MAX)));
    assert!(panics(|| frame.reset(129)));
    assert!(panics(|| frame.received(97, &RxMeta::default())));
    frame.reset(128);
    assert_eq!((frame.tailroom(), frame.room_mut().len(), frame.view().len()), (0, 0, 0));
    frame.received(96, &RxMeta { port: 7, ..RxMeta::default() });
    assert_eq!((frame.headroom(), frame.view().meta().port()), (32, 7));
    assert!(frame.trim_front(96));
    assert_eq!((frame.headroom(), frame.view().len()), (128, 0));
}

#[test]
fn a_chain_is_one_frame_of_several_segments() {
    let pool = pool::<Cpu>(4);
    let mut cache = pool.cache();
    let mut segment = |bytes: &[u8]| {
        let mut buf = cache.take_one().unwrap();
        assert!(buf.frame_mut().append(bytes));
        buf
    };
    let (mut head, mut middle) = (segment(b"one "), segment(b"two "));
    middle.chain(segment(b"three")).unwrap();
    head.chain(middle).unwrap();
    let frame = head.frame();
    assert_eq!((frame.meta().segments(), frame.frame_len(), frame.len()), (3, 13, 4));
    let mut bytes = [0; 16];
    assert_eq!(frame.copy_to(&mut bytes), 13);
    assert_eq!(&bytes[..13], b"one two three");
    assert_eq!(frame.copy_to(&mut bytes[..6]), 6);
    let rest = head.unchain().unwrap();
    assert_eq!((head.frame().meta().segments(), rest.frame().meta().segments()), (1, 2));
    assert!(head.unchain().is_none());
    // Of another pool: it comes back.
    let stranger = head.chain(one()).unwrap_err();
    assert!(!head.is_chain() && stranger.is_empty());
    drop((head, rest));
    assert_eq!(pool.counters().strays, 3);
    assert!(pool.audit().is_home());
}

#[test]
fn what_is_of_another_pool_is_refused() {
    let (ours, theirs) = (pool::<Cpu>(4), pool::<Cpu>(4));
    let (mut cache, mut other) = (ours.cache(), theirs.cache());
    let mut burst = Burst::new(&ours);
    cache.take(&mut burst, 2);
    assert!(panics(|| other.give(cache.take_one().unwrap())));
    assert!(panics(|| burst.recycle(&mut other)));
    assert!(panics(|| burst.recycle_front(&mut other, 1)));
    assert!(panics(|| burst.push(other.take_one().unwrap())));
    assert!(panics(|| assert_eq!(other.take(&mut burst, 1), 1)));
    assert!(panics(|| assert_eq!(burst.append_front(&mut Burst::new(&theirs), 1), 0)));
    drop((burst, cache, other));
    assert!(ours.audit().is_home() && theirs.audit().is_home());
}

#[test]
fn a_burst_takes_no_more_than_its_limit() {
    let pool = pool::<Cpu>(1024);
    let mut cache = pool.cache();
    let mut burst = Burst::with_limit(&pool, 4);
    assert_eq!(cache.take(&mut burst, 100), 4);
    assert_eq!(burst.room(), 0);
    // A full burst has no room for one more, and none that wraps around.
    assert!(panics(|| burst.push(cache.take_one().unwrap())));
    assert_eq!((burst.len(), burst.room(), cache.take(&mut burst, 1000)), (4, 0, 0));
    let mut more = Burst::with_limit(&pool, usize::MAX);
    assert_eq!(cache.take(&mut more, usize::MAX), Burst::<Cpu>::CAPACITY);
    assert_eq!(burst.append_front(&mut more, 9), 0);
    burst.set_limit(6);
    assert_eq!(burst.append_front(&mut more, 9), 2);
    burst.set_limit(0);
    assert_eq!((burst.len(), burst.room()), (6, 0), "never below what it has");
    assert!(panics(|| assert!(burst.frame(6).is_empty())));
    assert!(panics(|| drop(burst.swap_remove(6))));
    assert!(panics(|| drop(burst.drain_front(7))));
}

#[test]
fn a_forgotten_drain_leaves_no_frame_with_two_owners() {
    let pool = pool::<Cpu>(4);
    let mut cache = pool.cache();
    let mut burst = Burst::new(&pool);
    cache.take(&mut burst, 3);
    let mut drain = burst.drain_front(2);
    let taken = drain.next().unwrap();
    std::mem::forget(drain);
    assert!(burst.is_empty(), "what was not taken is lost, what was taken has one owner");
    burst.recycle(&mut cache);
    drop((taken, burst, cache));
    let audit = pool.audit();
    assert_eq!((audit.free, audit.held), (2, 2));
}

#[test]
fn a_drain_cut_short_leaves_the_rest_in_order() {
    let pool = pool::<Cpu>(8);
    let mut cache = pool.cache();
    let mut burst = Burst::new(&pool);
    cache.take(&mut burst, 5);
    let slots: Vec<_> = burst.iter().map(|frame| frame.slot()).collect();
    let first = burst.drain_front(4).next().unwrap();
    assert_eq!(first.slot(), slots[0]);
    assert!(burst.iter().map(|frame| frame.slot()).eq(slots[1..].iter().copied()));
}

#[test]
fn what_a_driver_surrenders_can_be_adopted() {
    let pool = pool::<Cpu>(8);
    let mut cache = pool.cache();
    let mut burst = Burst::new(&pool);
    cache.take(&mut burst, 5);
    let mut wire = Vec::new();
    let sent = burst.surrender_front(4, |slots| {
        wire.extend_from_slice(&slots[..3]);
        3
    });
    assert_eq!((sent, burst.len(), pool.audit().held), (3, 2, 5));
    assert!(panics(|| assert_eq!(burst.surrender_front(3, |slots| slots.len()), 3)));
    assert!(panics(|| assert_eq!(burst.surrender_front(1, |_| 2), 2)));
    assert_eq!(burst.len(), 2);
}

#[test]
fn a_peers_bytes_are_copied_and_bounded() {
    let pool = pool::<Peer>(1);
    let mut buf = pool.cache().take_one().unwrap();
    buf.frame_mut().set_len(8);
    assert_eq!(buf.frame_mut().copy_in(0, b"eight ch and more"), 8);
    assert_eq!(buf.frame_mut().copy_in(6, b"CH"), 2);
    assert_eq!(buf.frame_mut().copy_in(8, b"x"), 0);
    assert_eq!(buf.frame_mut().copy_in(usize::MAX, b"x"), 0);
    let mut bytes = [0; 16];
    assert_eq!(buf.frame().copy_out(0, &mut bytes), 8);
    assert_eq!(&bytes[..8], b"eight CH");
    assert_eq!(buf.frame().copy_out(5, &mut bytes[..2]), 2);
    assert_eq!(&bytes[..2], b" C");
    assert_eq!(buf.frame().copy_out(9, &mut bytes), 0);
    assert_eq!(buf.frame().copy_out(usize::MAX, &mut bytes), 0);
}

#[test]
fn a_device_buffer_is_an_address() {
    let pool = pool::<Device>(2);
    let mut cache = pool.cache();
    let (first, second) = (cache.take_one().unwrap(), cache.take_one().unwrap());
    let base = pool.areas()[0].region.base().addr().get();
    let (area, offset) = first.frame().place();
    assert_eq!((area.index(), first.frame().address()), (0, base + offset));
    assert_eq!(first.frame().address().abs_diff(second.frame().address()), 128);
}

struct Splits {
    heads: Pool<Cpu>,
    data: Pool<Device>,
    cache: SplitCache,
    burst: SplitBurst,
}

impl Splits {
    /// Frames of which those in `with_data` have a payload of their number's length plus one.
    fn new(frames: usize, with_data: &[usize]) -> Self {
        let (heads, data) = (pool(64), pool(64));
        let mut splits = Self {
            cache: SplitCache::new(&heads, &data),
            burst: SplitBurst::new(&heads, &data),
            heads,
            data,
        };
        (0..frames).for_each(|frame| splits.push(frame, with_data.contains(&frame)));
        splits
    }

    fn push(&mut self, frame: usize, has_data: bool) {
        let mut head = self.cache.heads.take_one().unwrap();
        head.frame_mut().set_len(frame + 1);
        let data = has_data.then(|| self.cache.data.take_one().unwrap()).map(|mut data| {
            data.frame_mut().set_len(frame + 1);
            data
        });
        self.burst.push(Split { head, data });
    }

    /// Per frame, the numbers that head and payload say.
    fn numbers(&self) -> Vec<(usize, Option<usize>)> {
        let number = |len: usize| len - 1;
        let frames = self.burst.iter();
        frames.map(|f| (number(f.head.len()), f.data.map(|data| number(data.len())))).collect()
    }

    fn ends_at_home(self) -> bool {
        let Self { heads, data, cache, burst } = self;
        drop((cache, burst));
        heads.audit().is_home() && data.audit().is_home()
    }
}

#[test]
fn split_frames_keep_their_payloads() {
    let mut splits = Splits::new(4, &[1, 3]);
    assert_eq!(splits.numbers(), [(0, None), (1, Some(1)), (2, None), (3, Some(3))]);
    assert_eq!((splits.burst.len(), splits.burst.room()), (4, 28));
    let drained: Vec<_> = splits.burst.drain().collect();
    let lens = drained.iter().map(|f| (f.head.len(), f.data.as_ref().map(Buf::len)));
    assert!(lens.eq([(1, None), (2, Some(2)), (3, None), (4, Some(4))]));
    assert!(splits.burst.is_empty());
    splits.push(9, true);
    assert_eq!(splits.numbers(), [(9, Some(9))]);
    splits.burst.recycle(&mut splits.cache);
    drop(drained);
    assert!(splits.ends_at_home());
}

#[test]
fn a_split_drain_cut_short_keeps_payloads_with_their_heads() {
    for taken in 0..=5 {
        let mut splits = Splits::new(5, &[0, 2, 3]);
        let expected = splits.numbers().split_off(taken);
        assert_eq!(splits.burst.drain().take(taken).count(), taken);
        assert_eq!(splits.numbers(), expected, "after {taken}");
        splits.push(8, true);
        assert_eq!(splits.numbers().pop(), Some((8, Some(8))));
        assert!(splits.ends_at_home());
    }
}

#[test]
fn a_split_burst_taken_apart_panics_at_worst() {
    let mut splits = Splits::new(3, &[0, 2]);
    splits.burst.parts_mut().1.recycle(&mut splits.cache.data);
    assert!(panics(|| assert!(splits.burst.frame(2).data.is_some())), "a payload that is gone");
    assert!(splits.burst.frame(1).data.is_none());
    assert!(splits.burst.drain().all(|frame| frame.data.is_none()));
    splits.push(4, true);
    assert_eq!(splits.numbers(), [(4, Some(4))]);
    // Heads alone gone, as a receiver does that keeps the payloads.
    splits.burst.parts_mut().0.recycle(&mut splits.cache.heads);
    assert!(splits.burst.is_empty());
    splits.burst.parts_mut().1.recycle(&mut splits.cache.data);
    splits.push(5, true);
    assert_eq!(splits.numbers(), [(5, Some(5))]);
    // Bursts of another pool swapped in: nothing of theirs mixes with ours.
    let other = pool::<Cpu>(4);
    let mut foreign = Burst::new(&other);
    other.cache().take(&mut foreign, 1);
    std::mem::swap(splits.burst.parts_mut().0, &mut foreign);
    assert!(panics(|| splits.push(6, false)));
    assert!(panics(|| splits.burst.recycle(&mut splits.cache)));
    std::mem::swap(splits.burst.parts_mut().0, &mut foreign);
    drop(foreign);
    assert!(other.audit().is_home() && splits.ends_at_home());
}

#[test]
fn a_burst_in_one_area_has_the_addresses_that_it_has_area_by_area() {
    let pool = Pool::<Cpu>::builder().slots(64).stride(128).headroom(32).max_areas(3).cache_size(8);
    let pool = pool.memory(&Heap::new()).build().unwrap();
    for _ in 0..2 {
        pool.add_area(&Heap::new(), 64).unwrap();
    }
    let mut cache = pool.cache();
    let mut bursts: Vec<Burst<Cpu>> = (0..3).map(|_| Burst::with_limit(&pool, 64)).collect();
    while let Some(mut buf) = cache.take_one() {
        // Lengths and offsets differ, so that places differ from homes.
        let len = buf.frame().slot().index() as usize % 90;
        assert!(buf.frame_mut().append(&vec![0; len]) && buf.frame_mut().trim_front(len / 2));
        bursts[buf.frame().home().0.index()].push(buf);
    }
    let start = |area: usize| 0x10_0000_0000 * (area as u64 + 1);
    for (area, burst) in bursts.iter().enumerate() {
        assert_eq!(burst.len(), 64, "area {area}");
        let one = burst.in_one_area(|id| Some(start(id.index()))).expect("one area");
        let homes: Vec<u64> =
            burst.homes().map(|(id, offset)| start(id.index()) + offset as u64).collect();
        assert_eq!(one.homes().collect::<Vec<_>>(), homes, "area {area}");
        for (at, (meta, (id, offset))) in burst.places().enumerate() {
            let (same, address) = one.place(at);
            assert_eq!(address, start(id.index()) + offset as u64, "area {area}, frame {at}");
            assert!(std::ptr::eq(meta, same));
        }
        assert!(burst.in_one_area(|_| None).is_none(), "an area that nobody knows");
    }
    let mut mixed = Burst::with_limit(&pool, 64);
    for burst in &mut bursts {
        mixed.push(burst.pop().expect("a buffer"));
    }
    assert!(mixed.in_one_area(|_| Some(0)).is_none(), "three areas are not one");
    assert!(Burst::<Cpu>::with_limit(&pool, 1).in_one_area(|_| Some(0)).is_none(), "nor is none");
}
