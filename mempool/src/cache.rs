//! A worker's own stack of free slots. Passed as an argument; no thread-locals, no globals. Slots
//! move between it and the shared list in bulk.
#![allow(unsafe_code, reason = "the fast path moves slots between raw arrays")]

use std::{
    mem::MaybeUninit,
    ptr::NonNull,
    slice,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crossbeam_utils::CachePadded;

use crate::{
    Access, Buf, Burst, Pool, Slot,
    core::{CacheGauge, Core, add, bump},
    slot::{PAD, copy_slots},
    template::Template,
};

/// A stack of free slots that belongs to one worker. Dropping it gives them back.
pub struct Cache<A: Access> {
    core: NonNull<Core>,
    len: usize,
    size: usize,
    /// Free slots, then room for one burst more.
    slots: Box<[MaybeUninit<u32>]>,
    /// What `audit` reads of this cache.
    gauge: Arc<CachePadded<CacheGauge>>,
    pool: Pool<A>,
}

// SAFETY: the core is shared and `Send + Sync`; the slots are this cache's alone.
unsafe impl<A: Access> Send for Cache<A> {}

impl<A: Access> Cache<A> {
    pub(crate) fn new(pool: &Pool<A>) -> Self {
        const { assert!(!A::COUNTED, "shared buffers come from `Buf::share`, not from a cache") };
        let size = pool.cache_size();
        let gauge = Arc::<CachePadded<CacheGauge>>::default();
        let mut control = pool.core().control();
        control.caches.retain(|known| known.strong_count() > 0);
        control.caches.push(Arc::downgrade(&gauge));
        drop(control);
        Self {
            core: pool.core_ptr(),
            len: 0,
            size,
            slots: vec![MaybeUninit::uninit(); size + Burst::<A>::CAPACITY + 2 * PAD]
                .into_boxed_slice(),
            gauge,
            pool: pool.clone(),
        }
    }

    #[inline(always)]
    fn core(&self) -> &Core {
        // SAFETY: `pool` keeps the core alive.
        unsafe { self.core.as_ref() }
    }

    /// The pool whose slots these are.
    #[must_use]
    pub fn pool(&self) -> &Pool<A> {
        &self.pool
    }

    /// Free slots in this cache.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the next take goes to the shared list.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline(always)]
    fn set_len(&mut self, len: usize) {
        self.len = len;
        // Relaxed: a figure for `audit`, ordered by nothing. The field above stays the one to compute
        // with: reading this one back costs half of null-io-1 again.
        #[expect(clippy::cast_possible_truncation, reason = "a cache holds a few thousand slots")]
        self.gauge.len.store(len as u32, Ordering::Relaxed);
    }

    /// The first `count` slots of the array.
    #[inline(always)]
    fn held(&mut self, from: usize, to: usize) -> &mut [u32] {
        let held = &mut self.slots[from..to];
        // SAFETY: callers name a range below `len`, which was written.
        unsafe { slice::from_raw_parts_mut(held.as_mut_ptr().cast(), held.len()) }
    }

    /// Appends up to `count` fresh buffers to `burst` (empty, at the pool's headroom); returns how
    /// many there were. Fewer than asked means that the pool is exhausted or the burst full.
    ///
    /// # Panics
    /// If the burst is of another pool.
    #[inline]
    pub fn take(&mut self, burst: &mut Burst<A>, count: usize) -> usize {
        let before = burst.len();
        let got = self.take_bare(burst, count);
        let core = self.core();
        let (first, fresh) =
            (core.table.first_meta(), Template::new(core.fresh, core.table.stride()));
        for &slot in &burst.slots()[before..before + got] {
            // SAFETY: slots are made by the pool inside the index space, which the table spans.
            let meta = unsafe { first.add(slot as usize) };
            // SAFETY: the burst owns the slot, hence its metadata.
            unsafe { fresh.write(meta) };
        }
        got
    }

    /// As [`Cache::take`], but leaves the metadata as the last owner left it: for whoever writes all
    /// of it anyway ([`crate::FrameMut::received`]), or needs none.
    ///
    /// # Panics
    /// If the burst is of another pool.
    #[inline]
    pub fn take_bare(&mut self, burst: &mut Burst<A>, count: usize) -> usize {
        assert!(burst.core_ptr() == self.core, "cache and burst are of two pools");
        let mut count = count.min(burst.room());
        if self.len < count || self.core().is_draining() {
            count = self.refill(count);
        }
        let from = self.len - count;
        // SAFETY: `from` is at most `len`, which is within the array.
        let first = unsafe { self.slots.as_ptr().add(from) };
        // SAFETY: `from + count` is at most the array's length less the padding, and the burst has
        // room for `count` and padding behind.
        unsafe { copy_slots(first, burst.tail_ptr(), count) };
        burst.grow(count);
        let before = burst.len() - count;
        self.core().note_taken(&burst.slots()[before..]);
        self.set_len(from);
        count
    }

    /// Takes one fresh buffer.
    #[inline]
    pub fn take_one(&mut self) -> Option<Buf<A>> {
        if self.len == 0 || self.core().is_draining() {
            return self.take_one_slow();
        }
        let last = self.len - 1;
        // SAFETY: below `len`, which is within the array.
        let slot = unsafe { self.slots.get_unchecked(last) };
        // SAFETY: below `len`, so it was written.
        let slot = unsafe { slot.assume_init() };
        self.set_len(last);
        Some(self.fresh(slot))
    }

    /// The owner of a slot that has just left home.
    #[inline(always)]
    fn fresh(&self, slot: u32) -> Buf<A> {
        let core = self.core();
        core.note_taken(&[slot]);
        // SAFETY: the slot left home for this call's result: it is ours.
        unsafe { core.table.meta(slot).write(core.fresh) };
        // SAFETY: as above; the `Buf` is its one owner from here on.
        unsafe { Buf::from_raw(self.core, slot) }
    }

    #[cold]
    #[inline(never)]
    fn take_one_slow(&mut self) -> Option<Buf<A>> {
        if self.size == 0 && !self.core().is_draining() {
            // Nothing is kept here: straight off the shared list.
            let Some(slot) = self.core().free.take_one() else {
                add(&self.gauge.exhausted, 1);
                return None;
            };
            return Some(self.fresh(slot));
        }
        if self.refill(1) == 0 {
            return None;
        }
        let last = self.len - 1;
        // SAFETY: below `len`, so it was written.
        let slot = unsafe { self.slots[last].assume_init() };
        self.set_len(last);
        Some(self.fresh(slot))
    }

    /// Gives one buffer back.
    ///
    /// # Panics
    /// If the buffer is of another pool.
    #[inline]
    pub fn give(&mut self, buf: Buf<A>) {
        assert!(buf.core_ptr() == self.core, "cache and buffer are of two pools");
        if buf.is_chain() {
            return drop(buf);
        }
        let slot = buf.into_raw();
        self.core().note_given(&[slot]);
        let len = self.len;
        // SAFETY: `len <= size` between calls, and the array has room for a burst more.
        unsafe { self.slots.get_unchecked_mut(len) }.write(slot);
        self.set_len(len + 1);
        if len >= self.size {
            self.spill();
        }
    }

    /// Moves all slots of the burst into this cache. The burst's frames are single segments.
    #[inline(always)]
    pub(crate) fn give_burst(&mut self, burst: &mut Burst<A>) {
        assert!(burst.core_ptr() == self.core, "cache and burst are of two pools");
        let count = burst.len();
        self.core().note_given(burst.slots());
        // SAFETY: `len` is within the array.
        let end = unsafe { self.slots.as_mut_ptr().add(self.len) };
        // SAFETY: the burst is padded; this array has room for `size`, a full burst and padding, and
        // `len <= size` between calls.
        unsafe { copy_slots(burst.slots_ptr(), end, count) };
        burst.forget();
        self.set_len(self.len + count);
        if self.len > self.size || self.core().is_draining() {
            self.spill();
        }
    }

    /// Makes `want` slots available if it can; returns how many of them are.
    #[cold]
    #[inline(never)]
    fn refill(&mut self, want: usize) -> usize {
        if self.core().is_draining() {
            self.evict();
        }
        if self.len < want {
            let most = want - self.len + self.size / 2;
            let at = self.len;
            let end = self.slots[at..].as_mut_ptr();
            // SAFETY: `at + most <= want + size / 2`, inside the array.
            let got = unsafe { self.core().take_shared(end, most) };
            self.set_len(at + got);
            add(&self.gauge.refills, 1);
            if self.len < want {
                add(&self.gauge.exhausted, 1);
            }
        }
        want.min(self.len)
    }

    /// Gives the coldest slots back to the shared list, down to half the cache's size.
    #[cold]
    #[inline(never)]
    fn spill(&mut self) {
        if self.core().is_draining() {
            self.evict();
        }
        if self.len <= self.size {
            return;
        }
        let excess = self.len - self.size / 2;
        let pool = self.pool.clone();
        pool.core().put_shared(self.held(0, excess));
        add(&self.gauge.spills, 1);
        self.slots.copy_within(excess..self.len, 0);
        self.set_len(self.len - excess);
    }

    /// Parks what this cache holds of draining areas.
    fn evict(&mut self) {
        let pool = self.pool.clone();
        let len = self.len;
        let kept = pool.core().park(self.held(0, len));
        self.set_len(kept);
    }

    /// What an idle worker calls now and then: lets go of slots of areas that are being drained.
    /// One load when there are none.
    #[inline]
    pub fn tidy(&mut self) {
        if self.core().is_draining() {
            self.evict();
        }
    }

    /// Gives every slot back to the shared list.
    pub fn flush(&mut self) {
        let pool = self.pool.clone();
        let len = self.len;
        pool.core().put_shared(self.held(0, len));
        self.set_len(0);
    }

    /// Numbers of the slots in this cache, for debugging.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        // SAFETY: below `len`, so it was written.
        self.slots[..self.len].iter().map(|slot| Slot(unsafe { slot.assume_init() }))
    }
}

impl<A: Access> Drop for Cache<A> {
    fn drop(&mut self) {
        self.flush();
        let events = &self.core().events;
        let past = |counter: &AtomicU64| {
            usize::try_from(counter.swap(0, Ordering::Relaxed)).unwrap_or(usize::MAX)
        };
        bump(&events.refills, past(&self.gauge.refills));
        bump(&events.spills, past(&self.gauge.spills));
        bump(&events.exhausted, past(&self.gauge.exhausted));
    }
}
