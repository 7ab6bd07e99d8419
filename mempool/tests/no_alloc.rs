//! The packet path allocates nothing: every allocation of the process is counted, and a million
//! bursts make none.
#![allow(unsafe_code, reason = "a global allocator that counts; states that no device exists")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use mempool::{
    Burst, Cache, Cpu, Device, InFlight, Pool, RxMeta, Split, SplitBurst, SplitCache, heap::Heap,
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends has nothing to count any more.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: the system's allocator, and a counter that allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BURSTS: usize = 1_000_000;
const COUNT: usize = 8;

fn pool(cache_size: usize) -> Pool<Cpu> {
    let builder = Pool::<Cpu>::builder().slots(1024).stride(64).headroom(0);
    builder.cache_size(cache_size).shareable().memory(&Heap::new()).build().unwrap()
}

/// Runs `burst` a million times; the calls of the allocator that this thread made meanwhile.
fn allocations(mut burst: impl FnMut(usize)) -> u64 {
    burst(0);
    let before = ALLOCATIONS.get();
    (0..BURSTS).for_each(&mut burst);
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.get() - before, 2);
}

#[test]
fn take_and_recycle() {
    let pool = pool(64);
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    let made = allocations(|_| {
        assert_eq!(cache.take(&mut burst, COUNT), COUNT);
        burst.received_alike(0, 60, &RxMeta::default());
        burst.recycle(&mut cache);
    });
    assert_eq!(made, 0);
}

#[test]
fn take_one_and_give() {
    let pool = pool(64);
    let mut cache = pool.cache();
    let made = allocations(|at| {
        let mut buf = cache.take_one().unwrap();
        assert!(buf.frame_mut().append(&at.to_le_bytes()));
        cache.give(buf);
    });
    assert_eq!(made, 0);
}

#[test]
fn stray_buffers_and_bursts() {
    let pool = pool(0);
    let mut cache = pool.cache();
    let made = allocations(|_| {
        drop(cache.take_one());
        let mut burst = Burst::new(&pool);
        cache.take_bare(&mut burst, COUNT);
    });
    assert_eq!(made, 0);
}

#[test]
fn chain_and_unchain() {
    let pool = pool(64);
    let mut cache = pool.cache();
    let made = allocations(|at| {
        let mut head = cache.take_one().unwrap();
        head.chain(cache.take_one().unwrap()).unwrap();
        if at.is_multiple_of(2) {
            let tail = head.unchain().unwrap();
            cache.give(tail);
        }
        // Half of them as a chain.
        cache.give(head);
    });
    assert_eq!(made, 0);
}

#[test]
fn share_and_release() {
    let pool = pool(64);
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    let [mut first, mut second] = [(), ()].map(|()| Burst::of_shared(&pool));
    let made = allocations(|_| {
        cache.take(&mut burst, COUNT);
        assert_eq!(first.share_from(&mut burst), Ok(COUNT));
        assert_eq!(first.clone_into(&mut second), COUNT);
        first.release(&mut cache);
        second.release(&mut cache);
    });
    assert_eq!(made, 0);
}

#[test]
fn post_and_complete() {
    let pool = pool(64);
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    let mut ledger = InFlight::new(&pool, 3 * COUNT);
    let made = allocations(|at| {
        cache.take_bare(&mut burst, COUNT);
        assert_eq!(ledger.post_front(at * COUNT, &mut burst, COUNT), COUNT);
        if at.is_multiple_of(2) {
            assert_eq!(ledger.complete_into(at * COUNT, COUNT, &mut burst), COUNT);
            burst.recycle(&mut cache);
        } else {
            for position in 0..COUNT {
                cache.give(ledger.complete((at * COUNT + position) % (3 * COUNT)).unwrap());
            }
        }
    });
    assert_eq!(made, 0);
    assert!(ledger.is_empty());
}

#[test]
fn spill_and_refill() {
    let pool = pool(COUNT);
    let mut cache = pool.cache();
    let mut bursts: Vec<_> = (0..8).map(|_| Burst::new(&pool)).collect();
    let made = allocations(|at| {
        // Eight bursts out, eight back: the cache holds one.
        let burst = &mut bursts[at % 8];
        if at / 8 % 2 == 0 {
            assert_eq!(cache.take(burst, COUNT), COUNT);
        } else {
            burst.recycle(&mut cache);
        }
    });
    assert_eq!(made, 0);
    let counters = pool.counters();
    assert!(counters.refills > 100_000 && counters.spills > 100_000, "{counters:?}");
}

#[test]
fn drain_and_swap_and_append() {
    let pool = pool(64);
    let mut cache = pool.cache();
    let [mut first, mut second] = [(), ()].map(|()| Burst::new(&pool));
    let made = allocations(|_| {
        cache.take(&mut first, COUNT);
        second.append_front(&mut first, COUNT / 2);
        let buf = second.swap_remove(0);
        first.push(buf);
        first.drain_front(2).for_each(|buf| cache.give(buf));
        first.recycle_front(&mut cache, 1);
        first.recycle(&mut cache);
        second.recycle(&mut cache);
    });
    assert_eq!(made, 0);
}

fn split(cache: &mut SplitCache, whole: bool) -> Split {
    let head = cache.heads.take_one().unwrap();
    Split { head, data: if whole { None } else { cache.data.take_one() } }
}

#[test]
fn split_frames() {
    let heads = pool(64);
    let data = Pool::<Device>::builder().slots(64).memory(&Heap::new()).build().unwrap();
    let mut cache = SplitCache::new(&heads, &data);
    let mut burst = SplitBurst::new(&heads, &data);
    let made = allocations(|at| {
        for frame in 0..COUNT {
            burst.push(split(&mut cache, frame.is_multiple_of(2)));
        }
        assert_eq!(burst.iter().filter(|frame| frame.data.is_some()).count(), COUNT / 2);
        if at.is_multiple_of(2) {
            for Split { head, data } in burst.drain() {
                cache.heads.give(head);
                data.into_iter().for_each(|data| cache.data.give(data));
            }
        }
        burst.recycle(&mut cache);
    });
    assert_eq!(made, 0);
}

#[test]
fn a_draining_area_is_no_exception() {
    let pool = pool(64);
    let mut cache: Cache<Cpu> = pool.cache();
    let mut burst = Burst::new(&pool);
    let kept = cache.take_one();
    pool.add_area(&Heap::new(), 256).unwrap();
    pool.drain_area(pool.areas()[0].id).unwrap();
    let made = allocations(|_| {
        cache.take(&mut burst, COUNT);
        burst.recycle(&mut cache);
        cache.tidy();
    });
    assert_eq!(made, 0);
    assert_eq!(pool.audit().held, usize::from(kept.is_some()));
}
