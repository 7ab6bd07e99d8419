//! Models of everything that threads do to each other's slots: the two rings, caches over one shared
//! list, and the last stray free against the end of the pool.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p memwire-mempool --release --test loom`
#![cfg(loom)]
#![allow(unsafe_code, reason = "checked cells stand for the bytes behind slots")]

use loom::{cell::UnsafeCell, model::Builder, sync::Arc, thread};
use mempool::{
    Buf, Burst, Cpu, Pool,
    heap::Heap,
    reap_orphans,
    ring::{Mpmc, channel_starting_at},
};

/// Shortly before the free-running indices wrap.
const WRAP: u32 = u32::MAX;

/// The list of pools that outlived their handles is one for the process: a model must not meet the
/// orphans of another.
#[expect(clippy::disallowed_types, reason = "a test's own lock")]
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Every interleaving with at most `preemptions` switches that nobody asked for.
fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let _alone = ONE_AT_A_TIME.lock();
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.check(model);
}

/// Takes what is there, up to `most`. Nobody here waits for others to come by: two waiters at a time
/// would only wait for each other's turn, for ever, in one of the interleavings.
fn take(ring: &Mpmc, most: usize) -> Vec<u32> {
    let mut values = [0; 4];
    let got = ring.take(&mut values[..most]);
    values[..got].to_vec()
}

fn two_producers_one_consumer(start: u32) {
    explore(6, move || {
        let ring = Arc::new(Mpmc::starting_at(4, start));
        let producers = [[1, 2], [3, 4]].map(|values| {
            let ring = Arc::clone(&ring);
            thread::spawn(move || assert!(ring.put(&values), "there is room for both"))
        });
        let mut taken = take(&ring, 3);
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        taken.extend(take(&ring, 4));
        // Bulks come whole, in their own order.
        assert!(taken == [1, 2, 3, 4] || taken == [3, 4, 1, 2], "{taken:?}");
        assert!(ring.is_empty());
    });
}

#[test]
fn two_producers_fill_a_ring_for_one_consumer() {
    two_producers_one_consumer(0);
}

#[test]
fn two_producers_fill_a_ring_across_the_wrap() {
    two_producers_one_consumer(WRAP - 2);
}

fn one_producer_two_consumers(start: u32) {
    explore(6, move || {
        let ring = Arc::new(Mpmc::starting_at(2, start));
        let consumers = [2, 1].map(|most| {
            let ring = Arc::clone(&ring);
            thread::spawn(move || take(&ring, most))
        });
        assert!(ring.put(&[1, 2]), "an empty ring has room");
        // Fits only where a consumer has made room, in cells that it has read.
        let third = ring.put(&[3]);
        let mut taken = consumers.map(|consumer| consumer.join().unwrap()).concat();
        taken.extend(take(&ring, 2));
        taken.sort_unstable();
        assert_eq!(taken, if third { vec![1, 2, 3] } else { vec![1, 2] });
        assert!(ring.is_empty());
    });
}

#[test]
fn two_consumers_share_what_one_producer_puts() {
    one_producer_two_consumers(0);
}

#[test]
fn two_consumers_share_across_the_wrap() {
    one_producer_two_consumers(WRAP - 1);
}

#[test]
fn a_full_ring_refuses_and_keeps_what_it_has() {
    explore(6, || {
        let ring = Arc::new(Mpmc::starting_at(2, WRAP));
        let other = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || ring.put(&[1, 2]))
        };
        let mine = ring.put(&[3, 4]);
        let theirs = other.join().unwrap();
        assert!(mine != theirs, "one of two bulks fits");
        assert_eq!(take(&ring, 2), if mine { [3, 4] } else { [1, 2] });
        assert_eq!(ring.take_one(), None);
    });
}

/// Values over a channel of two cells, each standing for a checked cell of payload.
fn channel_keeps_order(start: u32, give_back_late: bool) {
    explore(6, move || {
        let (mut producer, mut consumer) = channel_starting_at(2, start);
        let payload: Arc<Vec<_>> = Arc::new((0..2u32).map(UnsafeCell::new).collect());
        let sender = {
            let payload = Arc::clone(&payload);
            thread::spawn(move || {
                for value in 0..3u32 {
                    while producer.room_for(1) == 0 {
                        thread::yield_now();
                    }
                    // SAFETY: the cell came back with the room, which loom checks.
                    payload[value as usize % 2].with_mut(|cell| unsafe { *cell = 10 + value });
                    assert_eq!(producer.send(&[value]), 1);
                }
            })
        };
        let mut expected = 0;
        while expected < 3 {
            let mut values = [9; 2];
            let got = if give_back_late {
                consumer.peek(&mut values)
            } else {
                // One at a time: what is given back must not be read any more.
                consumer.peek(&mut values[..1])
            };
            for value in &values[..got] {
                assert_eq!(*value, expected, "order");
                // SAFETY: the producer published the cell with the value, which loom checks.
                let read = payload[*value as usize % 2].with(|cell| unsafe { *cell });
                assert_eq!(read, 10 + *value);
                expected += 1;
            }
            consumer.give_back(got);
            if got == 0 {
                thread::yield_now();
            }
        }
        sender.join().unwrap();
        assert_eq!(consumer.recv(&mut [0; 2]), 0);
        assert_eq!(consumer.received(), start.wrapping_add(3));
    });
}

#[test]
fn a_channel_keeps_order_and_hands_over_what_is_behind_its_values() {
    channel_keeps_order(0, true);
    channel_keeps_order(0, false);
}

#[test]
fn a_channel_keeps_order_across_the_wrap() {
    channel_keeps_order(WRAP - 1, true);
    channel_keeps_order(WRAP, false);
}

/// The bytes behind slots, as loom sees them: who owns a slot may write its cell.
#[derive(Clone)]
struct Bytes(Arc<Vec<UnsafeCell<u32>>>);

impl Bytes {
    fn of(pool: &Pool<Cpu>) -> Self {
        Self(Arc::new((0..pool.slot_bound()).map(|_| UnsafeCell::new(0)).collect()))
    }

    /// A write by the owner: a second owner, or one that came too early, is a race for loom.
    fn write(&self, buf: &Buf<Cpu>) {
        // SAFETY: the owner's cell, which loom checks.
        self.0[buf.slot().index() as usize].with_mut(|cell| unsafe { *cell += 1 });
    }

    fn write_burst(&self, burst: &Burst<Cpu>) {
        for frame in burst.iter() {
            // SAFETY: the owner's cell, which loom checks.
            self.0[frame.slot().index() as usize].with_mut(|cell| unsafe { *cell += 1 });
        }
    }
}

fn pool(slots: usize, cache_size: usize, areas: usize) -> Pool<Cpu> {
    let builder = Pool::<Cpu>::builder().slots(slots).stride(64).cache_size(cache_size);
    builder.max_areas(areas).shareable().memory(&Heap::new()).build().unwrap()
}

#[test]
fn two_caches_over_a_tiny_pool_never_own_one_slot() {
    explore(6, || {
        let pool = pool(2, 1, 1);
        let bytes = Bytes::of(&pool);
        let worker = |pool: Pool<Cpu>, bytes: Bytes| {
            let mut cache = pool.cache();
            let mut burst = Burst::new(&pool);
            // Refills, maybe short; then spills what is more than one.
            cache.take(&mut burst, 2);
            bytes.write_burst(&burst);
            burst.recycle(&mut cache);
        };
        let other = {
            let (pool, bytes) = (pool.clone(), bytes.clone());
            thread::spawn(move || worker(pool, bytes))
        };
        worker(pool.clone(), bytes);
        other.join().unwrap();
        let audit = pool.audit();
        assert_eq!((audit.free, audit.cached, audit.held), (2, 0, 0));
        drop(pool);
        assert_eq!(reap_orphans(), 0);
    });
}

#[test]
fn a_buffer_dropped_elsewhere_comes_back_to_the_owner_who_refills() {
    explore(6, || {
        let pool = pool(1, 1, 1);
        let bytes = Bytes::of(&pool);
        let mut cache = pool.cache();
        let buf = cache.take_one().unwrap();
        bytes.write(&buf);
        let other = {
            let bytes = bytes.clone();
            thread::spawn(move || {
                bytes.write(&buf);
                drop(buf);
            })
        };
        let again = loop {
            match cache.take_one() {
                Some(buf) => break buf,
                None => thread::yield_now(),
            }
        };
        bytes.write(&again);
        other.join().unwrap();
        drop((again, cache));
        assert_eq!(pool.counters().strays, 2);
        assert!(pool.audit().is_home());
        drop(pool);
        assert_eq!(reap_orphans(), 0);
    });
}

#[test]
fn strays_of_two_threads_are_counted_exactly() {
    explore(6, || {
        let pool = pool(4, 0, 1);
        let mut cache = pool.cache();
        let mut burst = Burst::new(&pool);
        cache.take(&mut burst, 2);
        let buf = cache.take_one().unwrap();
        let other = thread::spawn(move || drop(buf));
        drop(burst);
        other.join().unwrap();
        assert_eq!(pool.counters().strays, 3);
        assert_eq!(pool.audit().free, 4);
        drop((cache, pool));
        assert_eq!(reap_orphans(), 0);
    });
}

#[test]
fn the_last_stray_free_may_meet_the_end_of_the_pool() {
    explore(6, || {
        let pool = pool(2, 0, 1);
        let mut cache = pool.cache();
        let bufs = [(), ()].map(|()| cache.take_one().unwrap());
        drop(cache);
        let others = bufs.map(|buf| thread::spawn(move || drop(buf)));
        // Frees the pool if both are home, else leaves it to the orphans. The ring's cells check that
        // every access to them came before.
        drop(pool);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(reap_orphans(), 0);
    });
}

#[test]
fn a_stray_of_a_drained_area_may_meet_the_end_of_the_pool() {
    explore(6, || {
        let pool = pool(2, 0, 1);
        let mut cache = pool.cache();
        let bufs = [(), ()].map(|()| cache.take_one().unwrap());
        drop(cache);
        pool.drain_area(pool.areas()[0].id).unwrap();
        let others = bufs.map(|buf| thread::spawn(move || drop(buf)));
        drop(pool);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(reap_orphans(), 0);
    });
}

#[test]
fn an_area_is_removed_only_after_its_users_are_done() {
    explore(6, || {
        let pool = pool(1, 0, 2);
        let bytes = Bytes::of(&pool);
        let buf = pool.cache().take_one().unwrap();
        let area = pool.areas()[0].id;
        let other = {
            let bytes = bytes.clone();
            thread::spawn(move || {
                bytes.write(&buf);
                drop(buf);
            })
        };
        while pool.remove_area(area).is_err() {
            thread::yield_now();
        }
        // SAFETY: nobody has a slot of the area any more, which loom checks.
        bytes.0[0].with_mut(|cell| unsafe { *cell += 1 });
        other.join().unwrap();
        drop(pool);
        assert_eq!(reap_orphans(), 0);
    });
}

#[test]
fn the_last_of_two_references_frees_the_slot() {
    explore(6, || {
        let pool = pool(1, 0, 1);
        let bytes = Bytes::of(&pool);
        let buf = pool.cache().take_one().unwrap();
        bytes.write(&buf);
        let shared = buf.share().unwrap();
        let other = {
            let (clone, bytes) = (shared.clone(), bytes.clone());
            thread::spawn(move || {
                // SAFETY: a shared buffer is read only, which loom checks.
                bytes.0[clone.slot().index() as usize].with(|cell| unsafe { *cell });
                drop(clone);
            })
        };
        match shared.unshare() {
            Ok(buf) => bytes.write(&buf),
            Err(shared) => drop(shared),
        }
        other.join().unwrap();
        assert_eq!(pool.audit().free, 1);
        let buf = pool.cache().take_one().unwrap();
        bytes.write(&buf);
        drop((buf, pool));
        assert_eq!(reap_orphans(), 0);
    });
}
