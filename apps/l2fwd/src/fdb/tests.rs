use std::{
    collections::HashSet,
    sync::{Arc, Barrier},
    thread,
    time::Instant,
};

use super::*;

const AGEING: Duration = Duration::from_millis(1000);

fn station(number: u32) -> Station {
    let [a, b, c, d] = number.to_be_bytes();
    Station::new(1, [2, 0, a, b, c, d])
}

#[test]
fn a_station_is_found_where_it_was_last_seen() {
    let fdb = Fdb::new(16, AGEING);
    assert_eq!(fdb.find_port(station(1), 0), None);
    assert_eq!(fdb.learn(station(1), 3, 0), Learnt::New);
    assert_eq!(fdb.learn(station(1), 3, 0), Learnt::Known);
    assert_eq!(fdb.find_port(station(1), 0), Some(3));
    assert_eq!(fdb.learn(station(1), 7, 5), Learnt::Moved);
    assert_eq!(fdb.find_port(station(1), 5), Some(7));
    assert_eq!(fdb.len(), 1);
}

#[test]
fn the_same_address_in_two_vlans_is_two_stations() {
    let fdb = Fdb::new(16, AGEING);
    let mac = [2, 0, 0, 0, 0, 1];
    fdb.learn(Station::new(10, mac), 1, 0);
    fdb.learn(Station::new(20, mac), 2, 0);
    assert_eq!(fdb.find_port(Station::new(10, mac), 0), Some(1));
    assert_eq!(fdb.find_port(Station::new(20, mac), 0), Some(2));
    assert_eq!(fdb.find_port(Station::new(0, mac), 0), None);
}

#[test]
fn a_silent_station_is_forgotten_and_a_busy_one_is_not() {
    let fdb = Fdb::new(16, AGEING);
    fdb.learn(station(1), 1, 0);
    fdb.learn(station(2), 2, 0);
    assert_eq!(fdb.learn(station(2), 2, 900), Learnt::Known);
    assert_eq!(fdb.find_port(station(1), 1000), Some(1));
    assert_eq!(fdb.find_port(station(1), 1001), None);
    assert_eq!(fdb.find_port(station(2), 1001), Some(2));
    assert_eq!((fdb.age(1001), fdb.len()), (1, 1));
    assert_eq!(fdb.learn(station(1), 5, 1002), Learnt::New);
    assert_eq!(fdb.find_port(station(1), 1002), Some(5));
}

#[test]
fn a_port_that_goes_takes_its_stations_with_it() {
    let fdb = Fdb::new(64, AGEING);
    for number in 0..64 {
        fdb.learn(station(number), u16::try_from(number % 4).unwrap(), 0);
    }
    assert_eq!((fdb.flush(2), fdb.len()), (16, 48));
    for number in 0..64 {
        assert_eq!(fdb.find_port(station(number), 0).is_none(), number % 4 == 2);
    }
}

#[test]
fn it_holds_as_many_stations_as_it_was_asked_for_and_no_more() {
    for capacity in [1, 7, 100, 4096] {
        let fdb = Fdb::new(capacity, AGEING);
        let entries = u32::try_from(capacity).unwrap();
        for number in 0..entries {
            assert_eq!(fdb.learn(station(number), 1, 0), Learnt::New, "{number} of {capacity}");
        }
        assert_eq!(fdb.learn(station(entries), 1, 0), Learnt::Full);
        assert_eq!(fdb.find_port(station(entries), 0), None);
        assert_eq!(fdb.len(), capacity);
        assert!((0..entries).all(|number| fdb.find_port(station(number), 0) == Some(1)));
        assert_eq!(fdb.age(5000), capacity);
        assert_eq!(fdb.learn(station(entries), 1, 5000), Learnt::New);
    }
}

const STATIONS: u32 = 512;

/// A table that changes all the time, and what its threads share.
struct Turmoil {
    fdb: Fdb,
    now_ms: AtomicU64,
    /// Readers that are not done.
    readers: AtomicUsize,
    barrier: Barrier,
}

fn port_of(number: u32) -> u16 {
    u16::try_from(number % 251).unwrap()
}

impl Turmoil {
    fn check(&self, number: u32, now_ms: u64) -> bool {
        let found = self.fdb.find_port(station(number), now_ms);
        assert!(found.is_none_or(|port| port == port_of(number)), "station {number}: {found:?}");
        found.is_some()
    }

    fn write(&self, which: u32) {
        self.barrier.wait();
        while self.readers.load(Ordering::Relaxed) > 0 {
            let now_ms = self.now_ms.fetch_add(1, Ordering::Relaxed);
            for step in 0..STATIONS {
                let number = (step * 7 + which * 131) % STATIONS;
                let learnt = self.fdb.learn(station(number), port_of(number), now_ms);
                assert_ne!(learnt, Learnt::Moved);
            }
            // As the main thread does, if oftener.
            if which == 0 {
                self.fdb.age(now_ms);
                self.fdb.flush(u16::try_from(now_ms % 251).unwrap());
            }
        }
    }

    fn read(&self) -> usize {
        self.barrier.wait();
        let (mut found, mut step, end) = (0, 0_u32, Instant::now() + Duration::from_secs(10));
        // Until a good many were found: writers may not have had a core before.
        while found < 200_000 && (step % 1024 != 0 || Instant::now() < end) {
            let now_ms = self.now_ms.load(Ordering::Relaxed);
            found += usize::from(self.check(step.wrapping_mul(5) % STATIONS, now_ms));
            step = step.wrapping_add(1);
        }
        self.readers.fetch_sub(1, Ordering::Relaxed);
        found
    }
}

/// Every station has one port for ever, so whatever a reader is told must be that port, while others
/// put stations in and take them out.
#[test]
fn readers_never_hear_of_another_stations_port() {
    // Room for half of them: places change hands all the time.
    let turmoil = Turmoil {
        fdb: Fdb::new(256, Duration::from_millis(3)),
        now_ms: AtomicU64::new(0),
        readers: AtomicUsize::new(2),
        barrier: Barrier::new(4),
    };
    let found = thread::scope(|scope| {
        let readers = [0, 1].map(|_| scope.spawn(|| turmoil.read()));
        let writers = [0, 1].map(|which| {
            let turmoil = &turmoil;
            scope.spawn(move || turmoil.write(which))
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        readers.map(|reader| reader.join().unwrap())
    });
    assert_eq!(found, [200_000; 2]);
    assert_keys_are_distinct(&turmoil.fdb);
    assert!(turmoil.fdb.len() <= 256);
    turmoil.fdb.age(u64::from(u32::MAX));
    assert_eq!(turmoil.fdb.len(), 0);
}

#[test]
fn two_workers_that_learn_one_station_at_once_make_one_entry() {
    for round in 0..200_u32 {
        let fdb = Arc::new(Fdb::new(64, AGEING));
        let barrier = Arc::new(Barrier::new(2));
        let threads = [1, 2].map(|port| {
            let (fdb, barrier) = (Arc::clone(&fdb), Arc::clone(&barrier));
            thread::spawn(move || {
                barrier.wait();
                // Busy means: with the station's next frame.
                while fdb.learn(station(round), port, 0) == Learnt::Busy {}
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(fdb.len(), 1);
        assert_keys_are_distinct(&fdb);
    }
}

fn assert_keys_are_distinct(fdb: &Fdb) {
    let keys = fdb.buckets.iter().flat_map(|bucket| &bucket.keys);
    let keys: Vec<_> =
        keys.map(|key| key.load(Ordering::Relaxed)).filter(|key| *key != 0).collect();
    let distinct: HashSet<_> = keys.iter().collect();
    assert_eq!((keys.len(), keys.len()), (distinct.len(), fdb.len()));
}
