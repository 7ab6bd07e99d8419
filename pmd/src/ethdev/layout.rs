//! Which mbuf is which slot: one for each, at a fixed distance, so that either is arithmetic on the other.
//! Keeps one byte per slot: whether it is with DPDK. Calls nothing of DPDK's.
#![allow(unsafe_code, reason = "writes fields of mbufs that it owns")]

use std::{
    ptr::null_mut,
    sync::atomic::{AtomicU8, Ordering},
};

use dpdk_sys::{self as sys, mbuf};
use mempool::AreaInfo;

/// Where data starts in a fresh mbuf; what DPDK was built with.
#[expect(clippy::cast_possible_truncation, reason = "128, or what fits `data_off`")]
const HEADROOM: u16 = sys::MEMWIRE_HEADROOM as u16;

/// Bytes from an mbuf to the next, a power of two: the header that DPDK puts before each object, the mbuf, and
/// its private part.
pub(super) const DISTANCE: usize = if sys::MEMWIRE_CACHE_LINE == 64 { 256 } else { 512 };
const SHIFT: u32 = DISTANCE.trailing_zeros();
const _: () = assert!(DISTANCE.is_power_of_two());

/// An mbuf.
pub(super) type Mbuf = *mut sys::rte_mbuf;

/// The mbufs of one area.
struct Chunk {
    area: usize,
    first_slot: u32,
    slots: u32,
    /// Numbers that these slots have for themselves: the next power of two.
    span: usize,
    /// The first slot's memory.
    base: *mut u8,
    /// The first slot's mbuf, as a number too.
    first: Mbuf,
    start: usize,
}

/// The slots and mbufs of one area, for loops over a burst: no calls, and arithmetic apart from what writes, so
/// that the compiler does it for several at once.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    first_slot: u32,
    /// Numbers that the area's slots have for themselves: a power of two, or none.
    span: usize,
    start: Mbuf,
    lent: &'a [AtomicU8],
}

/// Slots and their mbufs.
pub(super) struct Layout {
    chunks: Vec<Chunk>,
    stride: usize,
    /// By slot: 1 where it is with DPDK. Numbers that no slot has are never lent.
    lent: Box<[AtomicU8]>,
}

// SAFETY: addresses only; who may write through them is the owner of the slot.
unsafe impl Send for Layout {}
// SAFETY: as above.
unsafe impl Sync for Layout {}

impl Part<'_> {
    /// The mbufs of slots, up to the first that is of another area; returns how many.
    #[inline(always)]
    pub(super) fn mbufs(self, slots: &[u32], places: &mut [Mbuf]) -> usize {
        let index = |slot: &u32| slot.wrapping_sub(self.first_slot) as usize;
        let mut all = 0;
        for (slot, place) in slots.iter().zip(&mut *places) {
            let index = index(slot);
            all |= index;
            *place = self.start.wrapping_byte_add(index << SHIFT);
        }
        self.known(all, slots.iter().take(places.len()).map(index))
    }

    /// The numbers of mbufs' slots by `put`, up to the first that is of another area; returns how many. Which of
    /// them DPDK had, [`Part::take_back`] says.
    #[inline(always)]
    pub(super) fn slots<P>(
        self,
        mbufs: &[Mbuf],
        places: &mut [P],
        put: impl Fn(&mut P, u32),
    ) -> usize {
        let index = |mbuf: &Mbuf| mbuf.addr().wrapping_sub(self.start.addr()) >> SHIFT;
        let mut all = 0;
        for (mbuf, place) in mbufs.iter().zip(&mut *places) {
            let index = index(mbuf);
            all |= index;
            #[expect(clippy::cast_possible_truncation, reason = "what is too much is not counted")]
            let slot = self.first_slot.wrapping_add(index as u32);
            put(place, slot);
        }
        self.known(all, mbufs.iter().take(places.len()).map(index))
    }

    /// How many indices from the front on are the area's, where `all` is their bits together.
    #[inline(always)]
    fn known(self, all: usize, mut indices: impl ExactSizeIterator<Item = usize>) -> usize {
        let count = indices.len();
        // The span is a power of two: no bits beyond it, no index beyond it.
        if all < self.span {
            return count;
        }
        indices.position(|index| index >= self.span).unwrap_or(count)
    }

    /// Notes that a slot is given to DPDK from here on. The slot's owner alone calls this.
    ///
    /// # Safety
    /// [`Part::mbufs`] of this part knew the slot.
    #[inline(always)]
    pub(super) unsafe fn lend(self, slot: u32) {
        // SAFETY: the table spans all areas' numbers (`Layout::add`), and the slot is of one (caller).
        let lent = unsafe { self.lent.get_unchecked(slot as usize) };
        // Relaxed: whoever takes it back got it by way of DPDK, which orders.
        lent.store(1, Ordering::Relaxed);
    }

    /// Notes that a slot came back from DPDK; false if it was not there.
    ///
    /// # Safety
    /// [`Part::slots`] of this part knew the slot.
    #[inline(always)]
    pub(super) unsafe fn take_back(self, slot: u32) -> bool {
        // SAFETY: as in `lend`.
        let lent = unsafe { self.lent.get_unchecked(slot as usize) };
        let was_lent = lent.load(Ordering::Relaxed) != 0;
        if was_lent {
            lent.store(0, Ordering::Relaxed);
        }
        was_lent
    }
}

impl Layout {
    /// For a pool with slots of `stride` bytes, numbered below `bound`.
    pub(super) fn new(stride: usize, bound: usize) -> Self {
        let lent = (0..bound).map(|_| AtomicU8::new(0)).collect();
        Self { chunks: Vec::new(), stride, lent }
    }

    /// Bytes of a slot as an mbuf's buffer: its length has 16 bits.
    pub(super) fn buffer(&self) -> u16 {
        u16::try_from(self.stride).unwrap_or(u16::MAX)
    }

    /// Adds an area whose mbufs start at `first`.
    ///
    /// # Panics
    /// If the area's slots have numbers beyond the bound.
    pub(super) fn add(&mut self, area: &AreaInfo, first: Mbuf) {
        let span = area.slots.next_power_of_two();
        assert!(area.first_slot as usize + span <= self.lent.len(), "slots beyond the bound");
        self.chunks.push(Chunk {
            area: area.id.index(),
            first_slot: area.first_slot,
            slots: u32::try_from(area.slots).unwrap_or(0),
            span,
            base: area.region.base().as_ptr(),
            first,
            start: first.addr(),
        });
    }

    /// The area of an mbuf; one without slots if it is no mirror's.
    #[inline(always)]
    pub(super) fn part_of(&self, mbuf: Mbuf) -> Part<'_> {
        let has =
            |chunk: &&Chunk| mbuf.addr().wrapping_sub(chunk.start) >> SHIFT < chunk.slots as usize;
        self.part(self.chunks.iter().find(has))
    }

    /// The area of a slot; one without slots if it has no mbufs.
    #[inline(always)]
    pub(super) fn part_with(&self, slot: u32) -> Part<'_> {
        let has = |chunk: &&Chunk| slot.wrapping_sub(chunk.first_slot) < chunk.slots;
        self.part(self.chunks.iter().find(has))
    }

    #[inline(always)]
    fn part(&self, chunk: Option<&Chunk>) -> Part<'_> {
        let Some(chunk) = chunk else {
            return Part { first_slot: 0, span: 0, start: null_mut(), lent: &[] };
        };
        let Chunk { first_slot, span, first: start, .. } = *chunk;
        Part { first_slot, span, start, lent: &self.lent }
    }

    /// The mbuf of a slot, if it has one.
    #[inline(always)]
    pub(super) fn mbuf(&self, slot: u32) -> Option<Mbuf> {
        for chunk in &self.chunks {
            let index = slot.wrapping_sub(chunk.first_slot);
            if index < chunk.slots {
                return Some(chunk.first.wrapping_byte_add((index as usize) << SHIFT));
            }
        }
        None
    }

    /// The slot of an mbuf, if it is one of these.
    #[inline(always)]
    pub(super) fn slot(&self, mbuf: Mbuf) -> Option<u32> {
        for chunk in &self.chunks {
            let distance = mbuf.addr().wrapping_sub(chunk.start);
            let index = distance >> SHIFT;
            if index < chunk.slots as usize {
                #[expect(clippy::cast_possible_truncation, reason = "below the area's slots")]
                return Some(chunk.first_slot + index as u32);
            }
        }
        None
    }

    /// The mbuf of a slot that is given to DPDK from here on. The slot's owner alone calls this.
    #[cold]
    pub(super) fn lend(&self, slot: u32) -> Option<Mbuf> {
        let mbuf = self.mbuf(slot)?;
        // Relaxed: whoever takes it back got it by way of DPDK, which orders.
        self.lent[slot as usize].store(1, Ordering::Relaxed);
        Some(mbuf)
    }

    /// The mbufs of slots that are given to DPDK from here on, up to the first that has none; returns how many.
    /// The slots' owner alone calls this.
    pub(super) fn lend_all(&self, slots: &[u32], places: &mut [Mbuf]) -> usize {
        let part = self.part_with(slots.first().copied().unwrap_or(0));
        let known = part.mbufs(slots, places);
        // SAFETY: `mbufs` said that it knows them.
        slots[..known].iter().for_each(|slot| unsafe { part.lend(*slot) });
        // Those of other areas.
        let others = slots.iter().zip(places).skip(known).map_while(|(slot, place)| {
            *place = self.lend(*slot)?;
            Some(())
        });
        known + others.count()
    }

    /// The slots of mbufs that DPDK gave back, at the front of `slots`, which has room for all; returns how many.
    /// Leaves out what is no mirror's, or ours already.
    pub(super) fn take_back_all(&self, mbufs: &[Mbuf], slots: &mut [u32]) -> usize {
        let part = self.part_of(mbufs.first().copied().unwrap_or(null_mut()));
        let known = part.slots(mbufs, slots, |place, slot| *place = slot);
        let mut count = 0;
        for at in 0..known {
            let slot = slots[at];
            slots[count] = slot;
            // SAFETY: `slots` said that it knows it.
            let is_back = unsafe { part.take_back(slot) } || self.take_back(mbufs[at]).is_some();
            count += usize::from(is_back);
        }
        // Those of other areas, or of none.
        for &mbuf in &mbufs[known..] {
            if let Some(slot) = self.take_back(mbuf) {
                slots[count] = slot;
                count += 1;
            }
        }
        count
    }

    /// The slot of an mbuf that DPDK gave back; none if it is no mirror's, or is ours already.
    #[cold]
    pub(super) fn take_back(&self, mbuf: Mbuf) -> Option<u32> {
        let slot = self.slot(mbuf)?;
        let lent = &self.lent[slot as usize];
        if lent.load(Ordering::Relaxed) == 0 {
            return twice(slot);
        }
        lent.store(0, Ordering::Relaxed);
        Some(slot)
    }

    /// Says that a slot was not given after all.
    #[inline(always)]
    pub(super) fn keep(&self, slot: u32) {
        self.lent[slot as usize].store(0, Ordering::Relaxed);
    }

    /// The mbufs that DPDK has.
    pub(super) fn lent(&self) -> Vec<Mbuf> {
        let slots = (0u32..).zip(&self.lent);
        let lent = slots.filter(|(_, lent)| lent.load(Ordering::Relaxed) != 0);
        lent.filter_map(|(slot, _)| self.mbuf(slot)).collect()
    }

    /// Makes the mbufs of all areas what they are for good: external buffers at their slots.
    /// `shared` is where each has its [`sys::rte_mbuf_ext_shared_info`], behind it.
    ///
    /// # Safety
    /// Each mbuf and the `private` bytes behind it are writable and nobody else's; the pool's areas are mapped
    /// at their own addresses for devices.
    pub(super) unsafe fn prepare(&self, pool: *mut sys::rte_mempool, private: u16) {
        for chunk in &self.chunks {
            for index in 0..chunk.slots as usize {
                let at = chunk.first.wrapping_byte_add(index << SHIFT);
                let buffer = chunk.base.wrapping_add(index * self.stride);
                // SAFETY: the caller's promise.
                unsafe { self.prepare_one(at, buffer, pool, private) };
            }
        }
    }

    /// # Safety
    /// As [`Layout::prepare`], of one.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one fact: the mbuf is ours to write")]
    unsafe fn prepare_one(
        &self,
        at: Mbuf,
        buffer: *mut u8,
        pool: *mut sys::rte_mempool,
        private: u16,
    ) {
        let shared = at.wrapping_add(1).cast::<sys::rte_mbuf_ext_shared_info>();
        let info = sys::rte_mbuf_ext_shared_info {
            free_cb: Some(forever),
            fcb_opaque: null_mut(),
            refcnt: 1,
        };
        // SAFETY: the mbuf and what is behind it are writable and nobody else's (caller); `mbuf` has the
        // places of its fields from the C compiler.
        unsafe {
            at.write_bytes(0, 1);
            shared.write(info);
            mbuf::buf_addr(at).write(buffer.cast());
            mbuf::buf_iova(at).write(buffer.expose_provenance() as u64);
            mbuf::buf_len(at).write(self.buffer());
            mbuf::data_off(at).write(HEADROOM);
            mbuf::refcnt(at).write(1);
            mbuf::nb_segs(at).write(1);
            mbuf::port(at).write(u16::MAX);
            mbuf::ol_flags(at).write(sys::MEMWIRE_F_EXTERNAL);
            mbuf::pool(at).write(pool);
            mbuf::shinfo(at).write(shared);
            mbuf::priv_size(at).write(private);
        }
    }

    /// Whether a pool's areas are still those that the mbufs point to.
    pub(super) fn is_of(&self, areas: &[AreaInfo]) -> bool {
        let fits = |chunk: &Chunk, area: &AreaInfo| {
            chunk.area == area.id.index()
                && chunk.base == area.region.base().as_ptr()
                && chunk.slots as usize == area.slots
        };
        areas.len() == self.chunks.len()
            && areas.iter().all(|area| self.chunks.iter().any(|chunk| fits(chunk, area)))
    }
}

/// The buffer of a pinned mbuf is never freed.
unsafe extern "C" fn forever(_: *mut std::ffi::c_void, _: *mut std::ffi::c_void) {}

#[cold]
fn twice(slot: u32) -> Option<u32> {
    tracing::error!(slot, "DPDK gave a buffer back that it did not have: ignored");
    None
}

#[cfg(test)]
mod tests {
    use mempool::{Cpu, Pool, heap::Heap};

    use super::*;

    #[test]
    fn slots_and_mbufs_are_arithmetic_on_each_other_and_come_back_once() {
        let pool = Pool::<Cpu>::builder().slots(64).memory(&Heap::new()).build().unwrap();
        let mut layout = Layout::new(pool.stride(), pool.slot_bound());
        let start: Mbuf = std::ptr::without_provenance_mut(0x10000);
        layout.add(&pool.areas()[0], start);
        assert_eq!(layout.mbuf(3), Some(start.wrapping_byte_add(3 * DISTANCE)));
        assert_eq!(layout.mbuf(64), None);
        let mbuf = layout.lend(63).unwrap();
        assert_eq!(layout.lent(), [mbuf]);
        assert_eq!(layout.take_back(mbuf), Some(63));
        assert_eq!(layout.take_back(mbuf), None, "it is ours already");
        let mut mbufs = [null_mut(); 3];
        assert_eq!(layout.part_with(62).mbufs(&[62, 3, 64], &mut mbufs), 2, "64 is of no area");
        assert_eq!(mbufs[..2], [layout.mbuf(62).unwrap(), layout.mbuf(3).unwrap()]);
        assert_eq!(layout.part_with(64).mbufs(&[64], &mut mbufs), 0);
        assert_eq!(layout.slot(start.wrapping_byte_add(64 * DISTANCE)), None);
        assert_eq!(layout.slot(std::ptr::without_provenance_mut(0x0ff00)), None);
        assert!(layout.is_of(&pool.areas()));
    }

    #[test]
    fn of_mbufs_that_come_back_those_are_left_out_that_are_foreign_or_were_not_lent() {
        let pool = Pool::<Cpu>::builder().slots(48).memory(&Heap::new()).build().unwrap();
        let mut layout = Layout::new(pool.stride(), pool.slot_bound());
        let start: Mbuf = std::ptr::without_provenance_mut(0x10000);
        layout.add(&pool.areas()[0], start);
        let mbuf = |place: usize| start.wrapping_byte_add(place * DISTANCE);
        for slot in [3, 5, 47] {
            layout.lend(slot).unwrap();
        }
        let mut slots = [0; 8];
        // 3 twice; 4 is ours; 50 is beyond the area's slots, but below the power of two; 1000 is far away.
        let back = [3, 3, 4, 50, 47, 1000, 5, 5].map(mbuf);
        assert_eq!(layout.take_back_all(&back, &mut slots), 3);
        assert_eq!(slots[..3], [3, 47, 5]);
        assert_eq!(layout.take_back_all(&back, &mut slots), 0, "all are ours already");
        assert!(layout.lent().is_empty());
    }
}
