//! Passes over a burst's slots for drivers: what is the same for all of them is read once, and kept out of
//! the way of the stores that a driver does in between.
#![allow(unsafe_code, reason = "reads and writes the metadata of slots that the burst owns")]

use crate::{Access, AreaId, Burst, Meta, RxMeta, core::Core};

/// Where slots lie.
#[derive(Clone, Copy)]
struct Geometry {
    shift: u32,
    mask: u32,
    stride: usize,
}

impl Geometry {
    fn of(core: &Core) -> Self {
        let shift = core.table.shift();
        Self { shift, mask: (1 << shift) - 1, stride: core.table.stride() }
    }

    #[inline(always)]
    fn area(self, slot: u32) -> AreaId {
        AreaId((slot >> self.shift) as usize)
    }

    #[inline(always)]
    fn offset(self, slot: u32) -> usize {
        (slot & self.mask) as usize * self.stride
    }
}

/// Frames of a burst that all lie in one area, which starts at a known address.
#[derive(Clone, Copy)]
pub struct OneArea<'a> {
    slots: &'a [u32],
    core: &'a Core,
    /// What a slot's number times the stride lacks to its address.
    bias: u64,
    stride: u64,
}

impl<'a> OneArea<'a> {
    /// [`Burst::homes`], as addresses.
    #[inline(always)]
    pub fn homes(self) -> impl ExactSizeIterator<Item = u64> + use<'a> {
        let bias = self.bias.wrapping_add(self.core.fresh.offset() as u64);
        let stride = self.stride;
        self.slots.iter().map(move |slot| (u64::from(*slot) * stride).wrapping_add(bias))
    }

    /// [`Burst::places`], as addresses.
    #[inline(always)]
    pub fn places(self) -> impl ExactSizeIterator<Item = (&'a Meta, u64)> + use<'a> {
        let table = self.core.table.meta(0);
        self.slots.iter().map(move |slot| {
            // SAFETY: the table spans every slot of the pool (as `Table::meta`).
            let meta = unsafe { table.add(*slot as usize) };
            // SAFETY: the burst owns the slot, hence its metadata, and is borrowed.
            self.placed(unsafe { &*meta }, *slot)
        })
    }

    /// The `index`-th of [`OneArea::places`].
    ///
    /// # Panics
    /// If there are fewer frames.
    #[inline(always)]
    #[must_use]
    pub fn place(self, index: usize) -> (&'a Meta, u64) {
        let slot = self.slots[index];
        // SAFETY: the burst owns the slot, hence its metadata, and is borrowed.
        self.placed(unsafe { &*self.core.table.meta(slot) }, slot)
    }

    #[inline(always)]
    fn placed(self, meta: &'a Meta, slot: u32) -> (&'a Meta, u64) {
        let start = (u64::from(slot) * self.stride).wrapping_add(self.bias);
        (meta, start.wrapping_add(meta.offset() as u64))
    }
}

impl<A: Access> Burst<A> {
    /// The frames, if the first segments of all of them lie in one area and `start` knows that area's
    /// address, in whatever address space.
    #[inline(always)]
    pub fn in_one_area(&self, start: impl FnOnce(AreaId) -> Option<u64>) -> Option<OneArea<'_>> {
        let (slots, geometry) = (self.slots(), Geometry::of(self.core()));
        let first = *slots.first()?;
        let differing = slots.iter().fold(0, |bits, slot| bits | (slot ^ first));
        if differing & !geometry.mask != 0 {
            return None;
        }
        let stride = geometry.stride as u64;
        let before = u64::from(first & !geometry.mask) * stride;
        let bias = start(geometry.area(first))?.wrapping_sub(before);
        // Opaque, or the compiler subtracts the area's first slot from each before it multiplies.
        let bias = std::hint::black_box(bias);
        Some(OneArea { slots, core: self.core(), bias, stride })
    }

    /// For each frame, where a fresh buffer's payload starts in its slot, whatever the metadata says:
    /// [`crate::Frame::home`] of all.
    #[inline(always)]
    pub fn homes(&self) -> impl ExactSizeIterator<Item = (AreaId, usize)> {
        let (geometry, start) = (Geometry::of(self.core()), self.core().fresh.offset());
        self.slots().iter().map(move |slot| (geometry.area(*slot), geometry.offset(*slot) + start))
    }

    /// For each frame the metadata of its first segment, and where that lies: [`crate::Frame::meta`] and
    /// [`crate::Frame::place`] of all.
    #[inline(always)]
    pub fn places(&self) -> impl ExactSizeIterator<Item = (&Meta, (AreaId, usize))> {
        let geometry = Geometry::of(self.core());
        let table = self.core().table.meta(0);
        self.slots().iter().map(move |slot| {
            // SAFETY: the table spans every slot of the pool (as `Table::meta`).
            let meta = unsafe { table.add(*slot as usize) };
            // SAFETY: the burst owns the slot, hence its metadata, and is borrowed.
            let meta = unsafe { &*meta };
            (meta, (geometry.area(*slot), geometry.offset(*slot) + meta.offset()))
        })
    }

    /// States the frames from the `from`-th on as received, each with the next length and metadata of
    /// `received`; see [`crate::FrameMut::received`]. Frames for which there are none stay as they are; none
    /// of the others may be a chain.
    ///
    /// # Panics
    /// If a slot has no room for its length.
    #[inline(always)]
    pub fn received_each(&mut self, from: usize, received: impl Iterator<Item = (usize, RxMeta)>) {
        let core = self.core();
        let (fresh, stride, table) = (core.fresh, core.table.stride(), core.table.meta(0));
        for (&slot, (len, rx)) in self.slots()[from..].iter().zip(received) {
            // SAFETY: the table spans every slot of the pool (as `Table::meta`).
            let meta = unsafe { table.add(slot as usize) };
            // SAFETY: the burst owns the slot, hence its metadata.
            unsafe { meta.write(fresh.received(stride, len, &rx)) };
        }
    }
}
