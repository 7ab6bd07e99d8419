//! A bounded inline batch of one pool's buffers, held as their indices: a bulk copy of small
//! integers moves it.
#![allow(unsafe_code, reason = "the batch is a raw array of owned slot numbers")]

use std::{mem::MaybeUninit, ptr, ptr::NonNull, slice};

use crate::{
    Access, Buf, Cache, Frame, FrameMut, Meta, Pool, RxMeta, Shared, Slot,
    core::Core,
    slot::{PAD, run},
    template::Template,
};

/// Owns up to [`Burst::CAPACITY`] frames of one pool, in order. Dropping it frees them.
pub struct Burst<A: Access> {
    core: NonNull<Core>,
    len: usize,
    /// Takes at most this many frames: `len <= limit <= CAPACITY`, always.
    limit: usize,
    /// Whether a frame of several segments may be among them.
    chained: bool,
    slots: [MaybeUninit<u32>; CAPACITY + PAD],
    pool: Pool<A>,
}

const CAPACITY: usize = 512;

// SAFETY: owns its slots; the core is `Send + Sync`.
unsafe impl<A: Access> Send for Burst<A> {}

impl<A: Access> Burst<A> {
    /// Frames that fit at most.
    pub const CAPACITY: usize = CAPACITY;
    /// Frames asked for at a time unless [`Burst::with_limit`] says otherwise.
    pub const DEFAULT: usize = 32;

    /// An empty burst of the customary 32 frames.
    #[must_use]
    pub fn new(pool: &Pool<A>) -> Self {
        Self::with_limit(pool, Self::DEFAULT)
    }

    /// An empty burst that takes up to `limit` frames (at most [`Burst::CAPACITY`]).
    #[must_use]
    pub fn with_limit(pool: &Pool<A>, limit: usize) -> Self {
        Self {
            core: pool.core_ptr(),
            len: 0,
            limit: limit.min(CAPACITY),
            chained: false,
            slots: [MaybeUninit::uninit(); CAPACITY + PAD],
            pool: pool.clone(),
        }
    }

    #[inline(always)]
    pub(crate) fn core(&self) -> &Core {
        // SAFETY: `pool` keeps the core alive.
        unsafe { self.core.as_ref() }
    }

    #[inline(always)]
    pub(crate) fn core_ptr(&self) -> NonNull<Core> {
        self.core
    }

    #[inline(always)]
    pub(crate) fn slots_ptr(&self) -> *const MaybeUninit<u32> {
        self.slots.as_ptr()
    }

    /// Where the next slot goes.
    #[inline(always)]
    pub(crate) fn tail_ptr(&mut self) -> *mut MaybeUninit<u32> {
        // SAFETY: `len <= CAPACITY`.
        unsafe { self.slots.as_mut_ptr().add(self.len) }
    }

    /// Says that `count` slots, now owned, were written at the tail.
    #[inline(always)]
    pub(crate) fn grow(&mut self, count: usize) {
        self.len += count;
    }

    /// Says that a frame of several segments may be among the slots.
    pub(crate) fn note_chains(&mut self) {
        self.chained = true;
    }

    /// Forgets all slots: somebody else owns them now.
    #[inline(always)]
    pub(crate) fn forget(&mut self) {
        self.len = 0;
        self.chained = false;
    }

    /// The numbers of the frames' first slots.
    #[inline(always)]
    #[must_use]
    pub fn slots(&self) -> &[u32] {
        // SAFETY: the first `len` were written.
        unsafe { slice::from_raw_parts(self.slots.as_ptr().cast(), self.len) }
    }

    /// The pool whose buffers these are.
    #[must_use]
    pub fn pool(&self) -> &Pool<A> {
        &self.pool
    }

    /// Frames in the burst.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Frames that may still be appended.
    #[inline(always)]
    #[must_use]
    pub fn room(&self) -> usize {
        self.limit - self.len
    }

    /// Changes how many frames the burst takes (at most [`Burst::CAPACITY`], at least those it has).
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.clamp(self.len, CAPACITY);
    }

    /// Whether a frame of several segments may be in the burst.
    #[must_use]
    pub fn has_chains(&self) -> bool {
        self.chained
    }

    /// The `index`-th frame.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline(always)]
    #[must_use]
    pub fn frame(&self, index: usize) -> Frame<'_, A> {
        // SAFETY: the burst owns the slot and is borrowed.
        unsafe { Frame::new(self.core(), self.slots()[index]) }
    }

    /// The `index`-th frame, to change.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline(always)]
    #[must_use]
    pub fn frame_mut(&mut self, index: usize) -> FrameMut<'_, A> {
        let slot = self.slots()[index];
        // SAFETY: the burst owns the slot and is exclusively borrowed.
        unsafe { FrameMut::new(self.core(), slot) }
    }

    /// The frames, in order.
    #[inline(always)]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Frame<'_, A>> {
        // SAFETY: the burst owns the slots and is borrowed.
        self.slots().iter().map(|slot| unsafe { Frame::new(self.core(), *slot) })
    }

    /// Calls `visit` for frames from the front on, as many as `beside` has elements, with the element beside it
    /// and the number and metadata of the frame's first slot, until it says no; returns how often it said
    /// yes. For loops over whole bursts that write elsewhere meanwhile.
    #[inline(always)]
    pub fn visit<T>(&self, beside: &[T], mut visit: impl FnMut(&T, u32, &Meta) -> bool) -> usize {
        let (first, slots) = (self.core().table.first_meta(), self.slots());
        run(beside.len().min(slots.len()), |at| {
            // SAFETY: below the length of both.
            let beside = unsafe { beside.get_unchecked(at) };
            // SAFETY: as above.
            let slot = unsafe { *slots.get_unchecked(at) };
            // SAFETY: slots are made by the pool inside the index space, which the table spans.
            let meta = unsafe { first.add(slot as usize) };
            // SAFETY: the burst owns the slot and is borrowed.
            visit(beside, slot, unsafe { meta.as_ref() })
        })
    }

    /// Calls `change` for every frame from the `from`-th on.
    #[inline(always)]
    pub fn for_each_mut(&mut self, from: usize, mut change: impl FnMut(FrameMut<'_, A>)) {
        let core = self.core();
        for &slot in &self.slots()[from..] {
            // SAFETY: the burst owns the slot and is exclusively borrowed; one view at a time.
            change(unsafe { FrameMut::new(core, slot) });
        }
    }

    /// States every frame from the `from`-th on as received with the same length and metadata; see
    /// [`FrameMut::received`].
    ///
    /// # Panics
    /// If a slot has no room for `len`.
    #[inline(always)]
    pub fn received_alike(&mut self, from: usize, len: usize, rx: &RxMeta) {
        debug_assert!(!self.chained, "frames of several segments are not alike");
        let core = self.core();
        let meta = core.fresh.received(core.table.stride(), len, rx);
        for &slot in &self.slots()[from..] {
            // SAFETY: the burst owns the slot, hence its metadata.
            unsafe { core.table.meta(slot).write(meta) };
        }
    }

    /// Appends a frame.
    ///
    /// # Panics
    /// If the burst is full or the buffer is of another pool.
    #[inline]
    pub fn push(&mut self, buf: Buf<A>) {
        assert!(self.len < self.limit, "burst is full");
        assert!(buf.core_ptr() == self.core, "burst and buffer are of two pools");
        self.chained |= buf.is_chain();
        // SAFETY: `len < limit <= CAPACITY`.
        unsafe { self.slots.get_unchecked_mut(self.len) }.write(buf.into_raw());
        self.len += 1;
    }

    /// Takes the last frame out.
    #[inline]
    pub fn pop(&mut self) -> Option<Buf<A>> {
        let last = *self.slots().last()?;
        self.len -= 1;
        // SAFETY: the burst owned the slot and has just forgotten it.
        Some(unsafe { Buf::from_raw(self.core, last) })
    }

    /// Takes the `index`-th frame out; the last one takes its place.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn swap_remove(&mut self, index: usize) -> Buf<A> {
        let slot = self.slots()[index];
        self.len -= 1;
        self.slots[index] = self.slots[self.len];
        // SAFETY: the burst owned the slot and has just forgotten it.
        unsafe { Buf::from_raw(self.core, slot) }
    }

    /// Takes the first `count` frames out, in order; the others move up.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn drain_front(&mut self, count: usize) -> impl Iterator<Item = Buf<A>> + use<'_, A> {
        self.drained(count)
    }

    /// [`Burst::drain_front`] with its type named.
    pub(crate) fn drained(&mut self, count: usize) -> Drain<'_, A> {
        let len = self.len;
        assert!(count <= len, "only {len} frames");
        // An iterator that is forgotten must not leave frames here that it handed out.
        self.len = 0;
        Drain { burst: self, at: 0, end: count, len }
    }

    /// Moves frames from the front of `other` to the end of this burst, up to `count` and as room
    /// allows; returns how many.
    ///
    /// # Panics
    /// If the bursts are of two pools.
    pub fn append_front(&mut self, other: &mut Self, count: usize) -> usize {
        assert!(other.core == self.core, "bursts are of two pools");
        let count = count.min(other.len).min(self.room());
        // SAFETY: `count` fits both arrays; two bursts never overlap.
        unsafe { self.tail_ptr().copy_from_nonoverlapping(other.slots.as_ptr(), count) };
        self.len += count;
        self.chained |= other.chained;
        other.remove_front(count);
        count
    }

    /// Forgets the first `count` slots, which somebody else owns now, and moves the rest up.
    #[inline(always)]
    pub(crate) fn remove_front(&mut self, count: usize) {
        self.len -= count;
        if self.len == 0 {
            self.chained = false;
        } else if count > 0 {
            self.slots.copy_within(count..count + self.len, 0);
        }
    }

    /// Frees all frames into the worker's cache: the fast path of freeing.
    ///
    /// # Panics
    /// If the cache is of another pool.
    #[inline]
    pub fn recycle(&mut self, cache: &mut Cache<A>) {
        if self.chained || A::COUNTED {
            self.recycle_slow(cache);
        } else {
            cache.give_burst(self);
        }
    }

    /// Frees the first `count` frames into the worker's cache; the others move up.
    ///
    /// # Panics
    /// If there are fewer, or the cache is of another pool.
    pub fn recycle_front(&mut self, cache: &mut Cache<A>, count: usize) {
        if count == self.len {
            return self.recycle(cache);
        }
        for buf in self.drain_front(count) {
            free_segments(buf, cache);
        }
    }

    #[cold]
    fn recycle_slow(&mut self, cache: &mut Cache<A>) {
        let count = self.len;
        for buf in self.drain_front(count) {
            free_segments(buf, cache);
        }
    }

    /// Gives up the first `count` slots without freeing them, for a driver that hands them to the
    /// other end of a wire; returns their numbers.
    ///
    /// Whoever takes them over does so with [`Burst::adopt`]; otherwise they are lost to the pool.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn surrender_front(&mut self, count: usize, take: impl FnOnce(&[u32]) -> usize) -> usize {
        let taken = take(&self.slots()[..count]);
        assert!(taken <= count, "{taken} of {count} slots taken");
        self.remove_front(taken);
        taken
    }

    /// Takes over slots that [`Burst::surrender_front`] gave up: `fill` writes their numbers and
    /// says how many.
    ///
    /// # Safety
    /// `fill` yields slots of this pool that were surrendered and not adopted since; `chained` is
    /// true if a frame of several segments may be among them.
    pub unsafe fn adopt(&mut self, chained: bool, fill: impl FnOnce(&mut [u32]) -> usize) -> usize {
        let room = self.room();
        for slot in &mut self.slots[self.len..self.len + room] {
            slot.write(Slot::NONE);
        }
        // SAFETY: just written; `len + room <= CAPACITY`.
        let free = unsafe { slice::from_raw_parts_mut(self.tail_ptr().cast::<u32>(), room) };
        let count = fill(free);
        assert!(count <= room, "{count} slots for {room} places");
        self.len += count;
        self.chained |= chained;
        count
    }

    /// As [`Burst::adopt`], for single segments that are received alike but for their lengths. They come as
    /// elements of `from`: `number` writes the slots of those at the front, and says of how many, without taking
    /// them over; `take` does that, one by one, and says how long the frame is, until it says none. Returns
    /// how many there were.
    ///
    /// Two passes, since the first is arithmetic that the compiler does for several at once.
    ///
    /// # Panics
    /// If a slot has no room for its length. The slots taken so far are lost then.
    ///
    /// # Safety
    /// As for [`Burst::adopt`], of the slots that `number` wrote and `take` took.
    #[inline(always)]
    pub unsafe fn adopt_received<T>(
        &mut self,
        from: &[T],
        rx: &RxMeta,
        number: impl FnOnce(&[T], &mut [MaybeUninit<u32>]) -> usize,
        mut take: impl FnMut(&T, u32) -> Option<usize>,
    ) -> usize {
        let most = from.len().min(self.room());
        let places = &mut self.slots[self.len..self.len + most];
        let most = number(&from[..most], places).min(most);
        let core = self.core();
        let (first, stride) = (core.table.first_meta(), core.table.stride());
        let alike = Template::new(core.fresh.received(stride, 0, rx), stride);
        let slots = self.slots_ptr().cast::<u32>().wrapping_add(self.len);
        let count = run(most, |at| {
            // SAFETY: below both lengths.
            let from = unsafe { from.get_unchecked(at) };
            // SAFETY: as above, of the places.
            let slot = unsafe { slots.add(at) };
            // SAFETY: `number` wrote it (caller).
            let slot = unsafe { slot.read() };
            let Some(len) = take(from, slot) else { return false };
            // SAFETY: a slot of this pool (caller), which the table spans.
            let meta = unsafe { first.add(slot as usize) };
            // SAFETY: the burst owns the slot from here on, hence its metadata.
            unsafe { alike.write_with(meta, len) };
            true
        });
        self.len += count;
        count
    }
}

/// Frees a frame segment by segment, into the cache where the access allows it.
fn free_segments<A: Access>(mut buf: Buf<A>, cache: &mut Cache<A>) {
    while let Some(rest) = buf.unchain() {
        cache.give(buf);
        buf = rest;
    }
    cache.give(buf);
}

/// Takes frames out of a burst, which is empty meanwhile; what is not taken goes back on drop.
pub(crate) struct Drain<'a, A: Access> {
    burst: &'a mut Burst<A>,
    at: usize,
    end: usize,
    /// Frames there were.
    len: usize,
}

impl<A: Access> Iterator for Drain<'_, A> {
    type Item = Buf<A>;

    fn next(&mut self) -> Option<Buf<A>> {
        if self.at == self.end {
            return None;
        }
        // SAFETY: `at < end <= len`, the number of slots that were written.
        let slot = unsafe { self.burst.slots[self.at].assume_init() };
        self.at += 1;
        // SAFETY: the slot was the burst's; `drop` below brings back only those from `at` on.
        Some(unsafe { Buf::from_raw(self.burst.core, slot) })
    }
}

impl<A: Access> Drop for Drain<'_, A> {
    fn drop(&mut self) {
        self.burst.len = self.len;
        self.burst.remove_front(self.at);
    }
}

impl Burst<Shared> {
    /// Another reference to the `index`-th frame.
    pub(crate) fn clone_at(&self, index: usize) -> Buf<Shared> {
        let slot = self.slots()[index];
        // SAFETY: borrowed from the burst, and never dropped: only cloned.
        let here = std::mem::ManuallyDrop::new(unsafe { Buf::<Shared>::from_raw(self.core, slot) });
        Buf::clone(&here)
    }
}

impl<A: Access> Drop for Burst<A> {
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        if self.chained || A::COUNTED {
            let count = self.len;
            return self.drain_front(count).for_each(drop);
        }
        let core = self.core;
        // SAFETY: `pool` keeps the core alive until after this body.
        let core = unsafe { core.as_ref() };
        core.note_given(self.slots());
        // SAFETY: the first `len` were written, and the burst gives them up.
        let slots = unsafe {
            slice::from_raw_parts_mut(ptr::from_mut(&mut self.slots).cast::<u32>(), self.len)
        };
        core.put_strays(slots);
        self.len = 0;
    }
}
