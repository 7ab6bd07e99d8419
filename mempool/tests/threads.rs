//! Many threads at once: what each of them is owed is exact when they are done.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use mempool::{
    Buf, Burst, Cache, Cpu, Error, InFlight, Pool, Provider, ProviderError, ProviderInfo, Region,
    RegionRequest, Revoker,
    heap::Heap,
    ring::{Mpmc, channel_starting_at},
};

/// Start of free-running indices: from the beginning, and shortly before they wrap.
const STARTS: [u32; 4] = [0, u32::MAX - 10, u32::MAX, 1 << 31];

fn pool(slots: usize, cache_size: usize) -> Pool<Cpu> {
    let builder = Pool::<Cpu>::builder().slots(slots).stride(64).headroom(0);
    builder.cache_size(cache_size).shareable().memory(&Heap::new()).build().unwrap()
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).expect("31 bits") % sides
    }
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).expect("a few values")
}

/// Values of one producer: its number in the top bits, then 0, 1, 2, …
const PER_PRODUCER: u32 = 100_000;

fn produce(ring: &Mpmc, producer: u32) {
    let mut dice = Dice(u64::from(producer));
    let mut next = 0;
    while next < PER_PRODUCER {
        let count = (1 + narrow(dice.roll(5))).min(PER_PRODUCER - next);
        let values: Vec<_> = (next..next + count).map(|value| producer << 24 | value).collect();
        while !ring.put(&values) {
            thread::yield_now();
        }
        next += count;
    }
}

fn consume(ring: &Mpmc, done: &AtomicBool, seed: u64) -> Vec<u32> {
    let mut dice = Dice(seed);
    let mut all = Vec::new();
    loop {
        let ends = done.load(Ordering::Acquire);
        let mut values = [0; 7];
        let most = 1 + dice.roll(7);
        let got = ring.take(&mut values[..most]);
        all.extend_from_slice(&values[..got]);
        if got == 0 {
            if ends {
                return all;
            }
            thread::yield_now();
        }
    }
}

#[test]
fn every_value_of_an_mpmc_ring_arrives_once_and_in_its_producers_order() {
    for start in STARTS {
        let ring = Mpmc::starting_at(8, start);
        let done = AtomicBool::new(false);
        let mut arrived = thread::scope(|scope| {
            let producers = [0, 1].map(|producer| {
                let ring = &ring;
                scope.spawn(move || produce(ring, producer))
            });
            let consumers = [7, 8].map(|seed| {
                let (ring, done) = (&ring, &done);
                scope.spawn(move || consume(ring, done, seed))
            });
            producers.into_iter().for_each(|producer| producer.join().unwrap());
            done.store(true, Ordering::Release);
            consumers.map(|consumer| consumer.join().unwrap())
        });
        for values in &arrived {
            for producer in [0, 1] {
                let own = values.iter().filter(|value| **value >> 24 == producer);
                assert!(own.is_sorted_by(|a, b| a < b), "order, from {start}");
            }
        }
        let mut all = std::mem::take(&mut arrived[0]);
        all.extend_from_slice(&arrived[1]);
        all.sort_unstable();
        let sent = [0, 1].into_iter().flat_map(|p| (0..PER_PRODUCER).map(move |v| p << 24 | v));
        assert!(all.into_iter().eq(sent), "once each, from {start}");
        assert!(ring.is_empty() && ring.take_one().is_none());
    }
}

#[test]
fn every_value_of_a_channel_arrives_once_and_in_order() {
    const VALUES: u32 = 400_000;
    for (start, capacity) in STARTS.into_iter().zip([2, 4, 8, 64]) {
        let (mut producer, mut consumer) = channel_starting_at(capacity, start);
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut dice = Dice(1);
                let mut next = 0;
                while next < VALUES {
                    let count = (1 + narrow(dice.roll(2 * capacity))).min(VALUES - next);
                    let values: Vec<_> = (next..next + count).collect();
                    let sent = producer.send(&values);
                    assert!(sent <= capacity);
                    next += narrow(sent);
                    if sent == 0 {
                        thread::yield_now();
                    }
                }
                assert_eq!(producer.sent(), start.wrapping_add(VALUES));
            });
            let mut dice = Dice(2);
            let mut next = 0;
            while next < VALUES {
                let mut values = vec![0; 1 + dice.roll(2 * capacity)];
                let got = if dice.roll(2) == 0 {
                    consumer.recv(&mut values)
                } else {
                    // Looked at twice, given back in part.
                    let seen = consumer.peek(&mut values);
                    let mut again = vec![0; values.len()];
                    assert!(consumer.peek(&mut again) >= seen);
                    assert_eq!(values[..seen], again[..seen]);
                    let part = dice.roll(seen + 1);
                    consumer.give_back(part);
                    part
                };
                assert!(values[..got].iter().copied().eq(next..next + narrow(got)), "order");
                next += narrow(got);
                if got == 0 {
                    thread::yield_now();
                }
            }
            assert_eq!(consumer.recv(&mut [0; 4]), 0);
            assert_eq!(consumer.received(), start.wrapping_add(VALUES));
        });
    }
}

#[test]
fn strays_of_eight_threads_are_counted_exactly() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 200;
    for draining in [false, true] {
        let pool = pool(THREADS * 64, 0);
        let mut cache = pool.cache();
        let mut expected = 0;
        for round in 0..ROUNDS {
            let ready = Barrier::new(THREADS);
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    let mut burst = Burst::new(&pool);
                    cache.take(&mut burst, 8);
                    expected += burst.len() as u64;
                    let ready = &ready;
                    scope.spawn(move || {
                        ready.wait();
                        // Alternately one by one, as a chain with one alone, and as a burst.
                        while let (true, Some(mut buf)) = (burst.len() > 2, burst.pop()) {
                            let _ = burst.pop().map(|tail| buf.chain(tail));
                            drop(buf);
                        }
                        drop(burst);
                    });
                }
                if draining && round == ROUNDS / 2 {
                    // From here on strays of this area are parked, those of the new one are not.
                    pool.add_area(&Heap::new(), THREADS * 64).unwrap();
                    pool.drain_area(pool.areas()[0].id).unwrap();
                }
            });
        }
        drop(cache);
        let audit = pool.audit();
        assert_eq!((pool.counters().strays, audit.held), (expected, 0), "{audit}");
        assert_eq!(audit.drained, if draining { THREADS * 64 } else { 0 });
    }
}

#[test]
fn caches_and_strays_of_many_threads_end_in_balance() {
    const THREADS: u64 = 4;
    let pool = pool(96, 8);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel::<Buf<Cpu>>();
        // What others send is dropped here, far from its cache.
        scope.spawn(move || receiver.into_iter().for_each(drop));
        for seed in 0..THREADS {
            let (pool, sender) = (pool.clone(), sender.clone());
            scope.spawn(move || {
                let mut dice = Dice(seed);
                let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
                for round in 0..5000u64 {
                    let tag = (seed << 32 | round).to_le_bytes();
                    let got = cache.take(&mut burst, 1 + dice.roll(24));
                    (0..got).for_each(|at| assert!(burst.frame_mut(at).append(&tag)));
                    if let Some(mut buf) = cache.take_one() {
                        assert!(buf.frame_mut().append(&tag));
                        let shared = buf.share().unwrap();
                        assert_eq!(shared.bytes(), tag);
                        let clone = shared.clone();
                        drop(shared);
                        cache.give(clone.unshare().unwrap());
                    }
                    for frame in burst.iter() {
                        assert_eq!(frame.bytes(), tag, "somebody else wrote here");
                    }
                    if let Some(buf) = burst.pop().filter(|_| dice.roll(4) == 0) {
                        sender.send(buf).unwrap();
                    }
                    match dice.roll(8) {
                        0 => burst.drain_front(burst.len()).for_each(drop),
                        1 => cache.flush(),
                        _ => {}
                    }
                    burst.recycle(&mut cache);
                }
            });
        }
    });
    let audit = pool.audit();
    assert_eq!((audit.free, audit.capacity), (96, 96), "{audit}");
}

/// Remembers how to revoke what it handed out.
struct Revocable(mpsc::SyncSender<Revoker>);

impl Provider for Revocable {
    fn info(&self) -> ProviderInfo {
        Heap::new().info()
    }

    fn alloc(&self, request: &RegionRequest) -> Result<Region, ProviderError> {
        let region = Heap::new().alloc(request)?;
        self.0.send(region.revoker()).expect("the test listens");
        Ok(region)
    }
}

/// Takes, posts, completes and frees until told to stop; bursts that went through.
fn traffic(pool: &Pool<Cpu>, seed: u64, stop: &AtomicBool) -> u64 {
    let mut dice = Dice(seed);
    let (mut cache, mut burst): (Cache<Cpu>, _) = (pool.cache(), Burst::new(pool));
    let mut ledger = InFlight::new(pool, 32);
    let mut bursts = 0;
    while !stop.load(Ordering::Relaxed) {
        let tag = (seed << 48 | bursts).to_le_bytes();
        let position = dice.roll(1 << 20);
        let got = cache.take(&mut burst, 1 + dice.roll(16));
        (0..got).for_each(|at| assert!(burst.frame_mut(at).append(&tag)));
        assert_eq!(ledger.post_front(position, &mut burst, got), got);
        if got == 0 {
            thread::yield_now();
        }
        assert_eq!(ledger.complete_into(position, got, &mut burst), got);
        for frame in burst.iter() {
            assert_eq!(frame.bytes(), tag, "memory of an area changed under its buffer");
        }
        drop(burst.pop().filter(|_| dice.roll(4) == 0));
        burst.recycle(&mut cache);
        cache.tidy();
        bursts += 1;
    }
    bursts
}

#[test]
fn areas_come_go_and_are_revoked_while_two_workers_run() {
    let (sender, revokers) = mpsc::sync_channel(1);
    let memory = Revocable(sender);
    let builder = Pool::<Cpu>::builder().name("live").slots(64).stride(64).headroom(0);
    let pool = builder.cache_size(16).max_areas(3).memory(&memory).build().unwrap();
    let mut revoker = revokers.recv().unwrap();
    let stop = AtomicBool::new(false);
    let (turns, bursts) = thread::scope(|scope| {
        let workers = [1, 2].map(|seed| {
            let (pool, stop) = (&pool, &stop);
            scope.spawn(move || traffic(pool, seed, stop))
        });
        let limit = Instant::now() + Duration::from_millis(300);
        let mut turns = 0;
        while Instant::now() < limit {
            let old = pool.areas()[0].id;
            let new = pool.add_area(&memory, 32 + turns % 32).unwrap();
            let next = revokers.recv().unwrap();
            // `remove_area` drains by itself what nobody drained.
            if turns % 2 == 0 {
                pool.drain_area(old).unwrap();
            }
            let mut region = loop {
                match pool.remove_area(old) {
                    Ok(region) => break region,
                    Err(Error::Draining { outstanding, slots, .. }) => {
                        assert!((1..=slots).contains(&outstanding));
                        thread::yield_now();
                    }
                    Err(other) => panic!("{other}"),
                }
                assert!(Instant::now() < limit + Duration::from_secs(60), "never drained");
            };
            // Nobody may write there any more: a late write would show below.
            let mut bytes = vec![0xee; region.len()];
            region.write(0, &bytes).unwrap();
            thread::yield_now();
            region.read(0, &mut bytes).unwrap();
            assert!(bytes.iter().all(|byte| *byte == 0xee), "written after removal");
            drop(region);
            revoker = next;
            if turns % 3 == 0 {
                assert!(revoker.revoke());
                assert!(pool.areas().iter().any(|area| area.id == new));
                // A revoked area is of no use: bring another one for the workers.
                pool.add_area(&memory, 64).unwrap();
                let fresh = revokers.recv().unwrap();
                while pool.remove_area(new).is_err() {
                    thread::yield_now();
                }
                revoker = fresh;
            }
            turns += 1;
        }
        stop.store(true, Ordering::Relaxed);
        (turns, workers.map(|worker| worker.join().unwrap()))
    });
    assert!(revoker.is_live());
    let audit = pool.audit();
    assert!(audit.is_home() && audit.drained == 0 && audit.free == audit.capacity, "{audit}");
    assert!(turns > 2 && bursts.iter().all(|count| *count > 100), "{turns} turns, {bursts:?}");
}

#[test]
fn the_registry_and_audits_may_look_while_workers_run() {
    let pool = pool(64, 8);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let worker = scope.spawn(|| traffic(&pool, 3, &stop));
        // Checked once the worker has stopped: a failed assertion must not leave it running.
        let looks: Vec<_> = (0..2000)
            .map(|_| (pool.audit(), mempool::pools().iter().any(|i| i.audit.capacity == 64)))
            .collect();
        stop.store(true, Ordering::Relaxed);
        worker.join().unwrap();
        for (audit, listed) in looks {
            assert!(audit.capacity == 64 && audit.free <= 64 && audit.cached <= 64, "{audit}");
            assert!(listed, "the pool is in the registry");
        }
    });
    assert!(pool.audit().is_home());
}
