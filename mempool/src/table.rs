//! Index arithmetic: slot → metadata and slot → address, by shift and multiply, never by a hash.
//!
//! A slot's number is `area << shift | place in the area`. Metadata of all areas is one contiguous
//! table (reserved for every area the pool may ever have, touched as areas come); packet memory has a
//! base per area.
#![allow(unsafe_code, reason = "owns the side table and computes addresses into it")]

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr, Ordering},
};

use crate::meta::Meta;

/// Areas a pool can have at most: one bit each in the drain mask.
pub(crate) const MAX_AREAS: usize = 64;

pub(crate) struct Table {
    meta: NonNull<Meta>,
    bases: Box<[AtomicPtr<u8>]>,
    shift: u32,
    stride: usize,
    block: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the table hands out addresses; who may touch what lies there is decided by slot ownership.
unsafe impl Send for Table {}
// SAFETY: as above; the bases are atomics.
unsafe impl Sync for Table {}

impl Table {
    /// Room for `areas` areas of `1 << shift` slots; `None` if the index space or memory is not
    /// there.
    pub(crate) fn new(areas: usize, shift: u32, stride: usize) -> Option<Self> {
        let count = areas.checked_shl(shift)?;
        // The last index is `Slot::NONE`.
        if u32::try_from(count).is_err() {
            return None;
        }
        // Alignment 16 keeps the allocator's zeroed pages untouched until an area uses them; the
        // table itself is aligned by hand.
        let layout = Layout::array::<Meta>(count + 2).ok()?.align_to(16).ok()?;
        let layout = Layout::from_size_align(layout.size(), 16).ok()?;
        // SAFETY: the size is at least two entries.
        let block = NonNull::new(unsafe { alloc_zeroed(layout) })
            .unwrap_or_else(|| handle_alloc_error(layout));
        let skip = block.as_ptr().align_offset(64);
        // SAFETY: `skip < 64`, and two entries of 32 bytes are spare.
        let meta = unsafe { block.add(skip) }.cast::<Meta>();
        let bases = (0..areas).map(|_| AtomicPtr::new(ptr::null_mut())).collect();
        Some(Self { meta, bases, shift, stride, block, layout })
    }

    pub(crate) fn areas(&self) -> usize {
        self.bases.len()
    }

    pub(crate) fn shift(&self) -> u32 {
        self.shift
    }

    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// Slots that the index space spans.
    pub(crate) fn count(&self) -> usize {
        self.bases.len() << self.shift
    }

    pub(crate) fn area_of(&self, slot: u32) -> usize {
        (slot >> self.shift) as usize
    }

    /// Byte offset of the slot in its area.
    pub(crate) fn offset_of(&self, slot: u32) -> usize {
        (slot & ((1 << self.shift) - 1)) as usize * self.stride
    }

    pub(crate) fn set_base(&self, area: usize, base: *mut u8) {
        // Release: the region behind the base is complete for whoever gets one of its slots.
        self.bases[area].store(base, Ordering::Release);
    }

    /// Where an area's memory starts; null while there is none.
    pub(crate) fn base(&self, area: usize) -> *mut u8 {
        // Relaxed: as in `address`.
        self.bases[area].load(Ordering::Relaxed)
    }

    /// Metadata of a slot. Exclusive to the slot's owner.
    #[inline(always)]
    pub(crate) fn meta(&self, slot: u32) -> *mut Meta {
        debug_assert!((slot as usize) < self.count(), "slot outside the pool");
        // SAFETY: slots are made by `Pool` inside the index space, which the table spans.
        unsafe { self.meta.as_ptr().add(slot as usize) }
    }

    /// Metadata of slot 0, for loops that write metadata: the compiler cannot know that the table stays.
    #[inline(always)]
    pub(crate) fn first_meta(&self) -> NonNull<Meta> {
        self.meta
    }

    /// Address of a slot's first byte.
    #[inline(always)]
    pub(crate) fn address(&self, slot: u32) -> *mut u8 {
        // Relaxed: whoever owns the slot got it through an acquire that came after the base's store.
        let base = self.bases[self.area_of(slot)].load(Ordering::Relaxed);
        base.wrapping_add(self.offset_of(slot))
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, freed once.
        unsafe { dealloc(self.block.as_ptr(), self.layout) };
    }
}
