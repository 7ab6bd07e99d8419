//! The forwarding table: which station of which VLAN was last seen on which port. Shared by all
//! workers; looking up and refreshing take no lock and never wait. Knows no frames, and no clock: the
//! time is an argument.
//!
//! A station is two words: a key (VLAN and address) and what was seen (port and time). It lives in one
//! of two buckets of eight, so a look-up reads the keys of two cache lines at most. A key is only ever
//! put in, replaced or taken out by who holds the one `busy` flag; a worker that finds it held leaves
//! the station to its next frame, and floods until then. Readers read key, word, key: if a key was the
//! same before and after, the word between was its own.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    time::Duration,
};

use crossbeam_utils::CachePadded;

/// Stations of a bucket.
const WAYS: usize = 8;
/// Set in every key, so that no key is zero; zero is an empty place.
const USED: u64 = 1 << 63;
/// Entries that a table can be asked for.
pub(crate) const MOST_ENTRIES: usize = 1 << 24;

/// A station: 48 bits of address under 12 bits of VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Station(u64);

impl Station {
    #[inline]
    pub(crate) fn new(vlan: u16, mac: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = mac;
        let mac = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        Self(USED | u64::from(vlan & 0xfff) << 48 | mac)
    }
}

/// When and where a station was seen: milliseconds over a 16-bit port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen(u64);

impl Seen {
    #[inline]
    fn new(port: u16, now_ms: u64) -> Self {
        Self(now_ms << 16 | u64::from(port))
    }

    #[inline]
    fn port(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    fn at_ms(self) -> u64 {
        self.0 >> 16
    }
}

/// What became of an attempt to learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learnt {
    /// It was known, on this port.
    Known,
    /// It is known from now on.
    New,
    /// It was known on another port.
    Moved,
    /// There is no room for it.
    Full,
    /// Another worker was changing the table; the station's next frame will do.
    Busy,
}

#[derive(Default)]
#[repr(align(128))]
struct Bucket {
    keys: [AtomicU64; WAYS],
    seen: [AtomicU64; WAYS],
}

impl Bucket {
    /// Where the key is: in the first place or two, as a rule, of a table that is not near its end.
    #[inline]
    fn find(&self, key: u64) -> Option<usize> {
        let at = self.keys.iter().position(|place| place.load(Ordering::Relaxed) == key)?;
        // Acquire: whoever stored the key stored what was seen before.
        fence(Ordering::Acquire);
        Some(at)
    }
}

/// The table.
pub(crate) struct Fdb {
    buckets: Vec<Bucket>,
    mask: usize,
    seeds: [u64; 2],
    capacity: usize,
    ageing_ms: u64,
    len: CachePadded<AtomicUsize>,
    busy: CachePadded<AtomicBool>,
}

/// The right to put keys in and take them out.
struct Writing<'a>(&'a AtomicBool);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        // Release: what was changed is seen by the next one who writes.
        self.0.store(false, Ordering::Release);
    }
}

impl Fdb {
    /// A table of up to `capacity` stations, each forgotten `ageing` after it was last seen.
    pub(crate) fn new(capacity: usize, ageing: Duration) -> Self {
        // Twice the places there are stations for: two full buckets are then next to impossible.
        let buckets = (capacity * 2).div_ceil(WAYS).next_power_of_two();
        let random = RandomState::new();
        // A multiplier has to be odd.
        let seeds = [random.hash_one(0_u64), random.hash_one(1_u64) | 1];
        Self {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            mask: buckets - 1,
            seeds,
            capacity,
            ageing_ms: u64::try_from(ageing.as_millis()).unwrap_or(u64::MAX).min(u64::MAX >> 16),
            len: CachePadded::default(),
            busy: CachePadded::default(),
        }
    }

    /// Stations in the table.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Stations that fit.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    #[inline]
    fn buckets_of(&self, station: Station) -> [&Bucket; 2] {
        // Seeded, so that nobody can choose addresses that meet in one bucket.
        let wide = u128::from(station.0 ^ self.seeds[0]) * u128::from(self.seeds[1]);
        #[expect(clippy::cast_possible_truncation, reason = "folded: both halves are in it")]
        let hash = (wide >> 64) as u64 ^ wide as u64;
        #[expect(clippy::cast_possible_truncation, reason = "the mask has fewer than 32 bits")]
        let [first, second] = [hash as usize & self.mask, (hash >> 32) as usize & self.mask];
        [&self.buckets[first], &self.buckets[second]]
    }

    #[inline]
    fn find(&self, station: Station) -> Option<(&AtomicU64, &AtomicU64)> {
        for bucket in self.buckets_of(station) {
            if let Some(at) = bucket.find(station.0) {
                return Some((&bucket.keys[at], &bucket.seen[at]));
            }
        }
        None
    }

    /// The port that a station was last seen on, unless that is too long ago.
    #[inline]
    pub(crate) fn find_port(&self, station: Station, now_ms: u64) -> Option<u16> {
        let (key, seen) = self.find(station)?;
        // Acquire: if this is the word of another station, that has the place now, then the load of
        // the key below sees that too.
        let seen = Seen(seen.load(Ordering::Acquire));
        if key.load(Ordering::Relaxed) != station.0 || self.is_old(seen, now_ms) {
            return None;
        }
        Some(seen.port())
    }

    #[inline]
    fn is_old(&self, seen: Seen, now_ms: u64) -> bool {
        now_ms.saturating_sub(seen.at_ms()) > self.ageing_ms
    }

    /// Notes that a station was seen on `port`. Costs a look-up as long as nothing is new.
    #[inline]
    pub(crate) fn learn(&self, station: Station, port: u16, now_ms: u64) -> Learnt {
        let now = Seen::new(port, now_ms);
        let Some((_, place)) = self.find(station) else {
            return self.insert(station, now);
        };
        let before = Seen(place.load(Ordering::Relaxed));
        if before == now {
            return Learnt::Known;
        }
        self.refresh(place, before, now)
    }

    #[inline]
    fn refresh(&self, place: &AtomicU64, before: Seen, now: Seen) -> Learnt {
        // Exchanged, not stored: if another station has the place by now, it keeps its word. If
        // another worker was faster, its word is as good as ours.
        let _ = place.compare_exchange(before.0, now.0, Ordering::Release, Ordering::Relaxed);
        // Its time was over: it was unknown to all look-ups.
        let was_old = self.is_old(before, now.at_ms());
        match (was_old, before.port() == now.port()) {
            (true, _) => Learnt::New,
            (false, true) => Learnt::Known,
            (false, false) => Learnt::Moved,
        }
    }

    fn write(&self) -> Option<Writing<'_>> {
        // Acquire: sees what the one before changed.
        let was_busy =
            self.busy.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err();
        (!was_busy).then(|| Writing(&self.busy))
    }

    #[cold]
    fn insert(&self, station: Station, now: Seen) -> Learnt {
        let Some(_writing) = self.write() else {
            return Learnt::Busy;
        };
        if let Some((_, place)) = self.find(station) {
            // Another worker put it in meanwhile.
            let before = Seen(place.load(Ordering::Relaxed));
            return self.refresh(place, before, now);
        }
        let buckets = self.buckets_of(station);
        let old = |bucket: &Bucket| {
            (0..WAYS).find(|at| {
                let is_used = bucket.keys[*at].load(Ordering::Relaxed) != 0;
                let seen = Seen(bucket.seen[*at].load(Ordering::Relaxed));
                is_used && self.is_old(seen, now.at_ms())
            })
        };
        let free = |bucket: &Bucket| {
            bucket.keys.iter().filter(|key| key.load(Ordering::Relaxed) == 0).count()
        };
        // In the emptier bucket; in the place of a station that nobody will find any more if both,
        // or the table, are full.
        let emptier = if free(buckets[0]) >= free(buckets[1]) { buckets[0] } else { buckets[1] };
        let place = if self.len() < self.capacity { emptier.find(0) } else { None };
        if let Some(at) = place {
            self.len.fetch_add(1, Ordering::Relaxed);
            emptier.put(at, station, now);
            return Learnt::New;
        }
        for bucket in buckets {
            if let Some(at) = old(bucket) {
                bucket.put(at, station, now);
                return Learnt::New;
            }
        }
        Learnt::Full
    }

    /// Forgets the stations for which `is_over` says so; returns how many. For the main thread: waits
    /// for workers that are putting a station in.
    fn forget(&self, is_over: impl Fn(Seen) -> bool) -> usize {
        let mut count = 0;
        for bucket in &self.buckets {
            for (key, seen) in bucket.keys.iter().zip(&bucket.seen) {
                let is_over = || is_over(Seen(seen.load(Ordering::Relaxed)));
                if key.load(Ordering::Acquire) == 0 || !is_over() {
                    continue;
                }
                let writing = loop {
                    match self.write() {
                        Some(writing) => break writing,
                        None => std::thread::yield_now(),
                    }
                };
                // Again: it may have been replaced, or seen, meanwhile.
                if key.load(Ordering::Relaxed) != 0 && is_over() {
                    key.store(0, Ordering::Relaxed);
                    self.len.fetch_sub(1, Ordering::Relaxed);
                    count += 1;
                }
                drop(writing);
            }
        }
        count
    }

    /// Forgets stations that were not seen for too long; returns how many.
    pub(crate) fn age(&self, now_ms: u64) -> usize {
        self.forget(|seen| self.is_old(seen, now_ms))
    }

    /// Forgets the stations of a port; returns how many.
    pub(crate) fn flush(&self, port: u16) -> usize {
        self.forget(|seen| seen.port() == port)
    }
}

impl Bucket {
    /// Gives the place to a station. Only for who may write.
    fn put(&self, at: usize, station: Station, now: Seen) {
        self.keys[at].store(0, Ordering::Relaxed);
        // Release: no reader sees the new word and, after it, the old key.
        fence(Ordering::Release);
        self.seen[at].store(now.0, Ordering::Release);
        // Release: no reader sees the new key and, after it, the old word.
        self.keys[at].store(station.0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
