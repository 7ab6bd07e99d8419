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
    /// The first slot's memory.
    base: *mut u8,
    /// The first slot's mbuf, as a number too.
    first: Mbuf,
    start: usize,
}

/// The slots and mbufs of one area, for loops over a burst: all in registers, and no calls.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    first_slot: u32,
    start: Mbuf,
    lent: &'a [AtomicU8],
}

/// Slots and their mbufs.
pub(super) struct Layout {
    chunks: Vec<Chunk>,
    stride: usize,
    /// By slot: 1 where it is with DPDK.
    lent: Box<[AtomicU8]>,
}

// SAFETY: addresses only; who may write through them is the owner of the slot.
unsafe impl Send for Layout {}
// SAFETY: as above.
unsafe impl Sync for Layout {}

impl Part<'_> {
    /// As [`Layout::lend`]; none if the slot is of another area.
    #[inline(always)]
    pub(super) fn lend(self, slot: u32) -> Option<Mbuf> {
        let index = slot.wrapping_sub(self.first_slot) as usize;
        self.lent.get(index)?.store(1, Ordering::Relaxed);
        Some(self.start.wrapping_byte_add(index << SHIFT))
    }

    /// As [`Layout::take_back`], but says nothing; none if the mbuf is of another area.
    #[inline(always)]
    pub(super) fn take_back(self, mbuf: Mbuf) -> Option<u32> {
        let index = mbuf.addr().wrapping_sub(self.start.addr()) >> SHIFT;
        let lent = self.lent.get(index)?;
        if lent.load(Ordering::Relaxed) == 0 {
            return None;
        }
        lent.store(0, Ordering::Relaxed);
        #[expect(clippy::cast_possible_truncation, reason = "below the area's slots")]
        let index = index as u32;
        Some(self.first_slot + index)
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
    pub(super) fn add(&mut self, area: &AreaInfo, first: Mbuf) {
        self.chunks.push(Chunk {
            area: area.id.index(),
            first_slot: area.first_slot,
            slots: u32::try_from(area.slots).unwrap_or(0),
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
            return Part { first_slot: 0, start: null_mut(), lent: &[] };
        };
        let lent = &self.lent[chunk.first_slot as usize..][..chunk.slots as usize];
        Part { first_slot: chunk.first_slot, start: chunk.first, lent }
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

    /// The slots of mbufs that DPDK gave back, at the front of `slots`; returns how many. Leaves out what is no
    /// mirror's, or ours already.
    pub(super) fn take_back_all(&self, mbufs: &[Mbuf], slots: &mut [u32]) -> usize {
        let part = self.part_of(mbufs.first().copied().unwrap_or(null_mut()));
        let mut count = 0;
        for &mbuf in &mbufs[..mbufs.len().min(slots.len())] {
            if let Some(slot) = part.take_back(mbuf).or_else(|| self.take_back(mbuf)) {
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
        let part = layout.part_with(62);
        assert_eq!(part.lend(62), layout.mbuf(62));
        assert_eq!(part.lend(64), None, "of no area");
        let part = layout.part_of(layout.mbuf(62).unwrap());
        assert_eq!(part.take_back(layout.mbuf(62).unwrap()), Some(62));
        assert_eq!(part.take_back(mbuf), None, "it is ours already");
        assert_eq!(layout.part_with(64).lend(64), None);
        assert_eq!(layout.slot(start.wrapping_byte_add(64 * DISTANCE)), None);
        assert_eq!(layout.slot(std::ptr::without_provenance_mut(0x0ff00)), None);
        assert!(layout.is_of(&pool.areas()));
    }
}
