//! What a pool and its caches should do, said with vectors: exact slot numbers, in order. Knows
//! numbers only; who holds what is the driver's side of the model.

use std::collections::VecDeque;

use mempool::Counters;

/// Areas the pool may have.
pub(crate) const AREAS: usize = 3;
/// Caches there may be at a time.
pub(crate) const CACHES: usize = 2;

/// The shared list, the caches and the areas.
pub(crate) struct Model {
    size: usize,
    shift: u32,
    pub(crate) areas: [Option<usize>; AREAS],
    draining: [bool; AREAS],
    parked: [usize; AREAS],
    pub(crate) free: VecDeque<u32>,
    pub(crate) caches: [Option<Vec<u32>>; CACHES],
    pub(crate) counters: Counters,
}

impl Model {
    pub(crate) fn new(cache_size: usize, area_slots: usize) -> Self {
        Self {
            size: cache_size,
            shift: area_slots.next_power_of_two().trailing_zeros(),
            areas: [None; AREAS],
            draining: [false; AREAS],
            parked: [0; AREAS],
            free: VecDeque::new(),
            caches: [Some(Vec::new()), None],
            counters: Counters::default(),
        }
    }

    pub(crate) fn drained(&self) -> usize {
        self.parked.iter().sum()
    }

    fn is_draining(&self) -> bool {
        self.draining.contains(&true)
    }

    fn cache(&mut self, at: usize) -> &mut Vec<u32> {
        self.caches[at].as_mut().expect("the driver asks for caches there are")
    }

    /// Parks slots of draining areas and returns the others.
    fn park(&mut self, slots: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let mut kept = Vec::new();
        for slot in slots {
            let area = (slot >> self.shift) as usize;
            if self.draining[area] {
                self.parked[area] += 1;
            } else {
                kept.push(slot);
            }
        }
        kept
    }

    fn put(&mut self, slots: impl IntoIterator<Item = u32>) {
        let kept = self.park(slots);
        self.free.extend(kept);
    }

    /// Slots that come home without a cache.
    pub(crate) fn put_strays(&mut self, slots: &[u32]) {
        self.counters.strays += slots.len() as u64;
        self.put(slots.iter().copied());
    }

    fn take_shared(&mut self, most: usize) -> Vec<u32> {
        loop {
            let count = most.min(self.free.len());
            let got: Vec<_> = self.free.drain(..count).collect();
            if got.is_empty() {
                return got;
            }
            let kept = self.park(got);
            if !kept.is_empty() {
                return kept;
            }
        }
    }

    fn evict(&mut self, cache: usize) {
        let slots = std::mem::take(self.cache(cache));
        *self.cache(cache) = self.park(slots);
    }

    fn refill(&mut self, cache: usize, want: usize) -> usize {
        self.tidy(cache);
        let len = self.cache(cache).len();
        if len < want {
            let got = self.take_shared(want - len + self.size / 2);
            self.cache(cache).extend(got);
            self.counters.refills += 1;
            self.counters.exhausted += u64::from(self.cache(cache).len() < want);
        }
        want.min(self.cache(cache).len())
    }

    pub(crate) fn take(&mut self, cache: usize, mut count: usize) -> Vec<u32> {
        if self.cache(cache).len() < count || self.is_draining() {
            count = self.refill(cache, count);
        }
        let from = self.cache(cache).len() - count;
        self.cache(cache).split_off(from)
    }

    pub(crate) fn take_one(&mut self, cache: usize) -> Option<u32> {
        if self.size == 0 && self.cache(cache).is_empty() && !self.is_draining() {
            let slot = self.free.pop_front();
            self.counters.exhausted += u64::from(slot.is_none());
            return slot;
        }
        self.take(cache, 1).first().copied()
    }

    /// One buffer, or one chain, whose segments are strays.
    pub(crate) fn give(&mut self, cache: usize, frame: &[u32]) {
        if let [slot] = frame {
            self.cache(cache).push(*slot);
            if self.cache(cache).len() > self.size {
                self.spill(cache);
            }
        } else {
            self.put_strays(frame);
        }
    }

    /// A burst of single segments, at once.
    pub(crate) fn give_all(&mut self, cache: usize, slots: &[u32]) {
        self.cache(cache).extend_from_slice(slots);
        if self.cache(cache).len() > self.size || self.is_draining() {
            self.spill(cache);
        }
    }

    fn spill(&mut self, cache: usize) {
        self.tidy(cache);
        let len = self.cache(cache).len();
        if len > self.size {
            let excess = len - self.size / 2;
            let coldest: Vec<_> = self.cache(cache).drain(..excess).collect();
            self.put(coldest);
            self.counters.spills += 1;
        }
    }

    pub(crate) fn tidy(&mut self, cache: usize) {
        if self.is_draining() {
            self.evict(cache);
        }
    }

    pub(crate) fn flush(&mut self, cache: usize) {
        let slots = std::mem::take(self.cache(cache));
        self.put(slots);
    }

    /// The number of the new area, unless there is none left.
    pub(crate) fn add_area(&mut self, slots: usize) -> Option<usize> {
        let at = self.areas.iter().position(Option::is_none)?;
        self.areas[at] = Some(slots);
        let first = u32::try_from(at << self.shift).expect("few areas");
        self.free.extend((first..).take(slots));
        Some(at)
    }

    /// Whether there was such an area to drain.
    pub(crate) fn drain_area(&mut self, area: usize) -> bool {
        if self.areas[area].is_none() {
            return false;
        }
        self.draining[area] = true;
        let all = std::mem::take(&mut self.free);
        self.put(all);
        true
    }

    /// Slots of the area still out: none if it was removed; `None` if there is no such area.
    pub(crate) fn remove_area(&mut self, area: usize) -> Option<usize> {
        self.drain_area(area);
        let out = self.areas[area]? - self.parked[area];
        if out == 0 {
            self.areas[area] = None;
            self.draining[area] = false;
            self.parked[area] = 0;
        }
        Some(out)
    }
}
