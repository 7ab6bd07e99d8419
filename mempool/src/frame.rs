//! Views of a slot that somebody owns: what the type allows and nothing more.
#![allow(unsafe_code, reason = "turns an owned slot's address into slices")]

use std::{marker::PhantomData, slice};

use crate::{
    Access, AreaId, Device, Meta, Peer, Readable, RxMeta, Slot, Writable, core::Core, meta::leaves,
};

/// A read-only view of a frame.
pub struct Frame<'a, A: Access> {
    core: &'a Core,
    slot: u32,
    access: PhantomData<A>,
}

impl<A: Access> Clone for Frame<'_, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A: Access> Copy for Frame<'_, A> {}

impl<'a, A: Access> Frame<'a, A> {
    /// # Safety
    /// The slot is owned by something that is borrowed for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn new(core: &'a Core, slot: u32) -> Self {
        Self { core, slot, access: PhantomData }
    }

    /// The slot's number.
    #[must_use]
    pub fn slot(self) -> Slot {
        Slot(self.slot)
    }

    /// Whether the slot is one of this core's.
    pub(crate) fn is_of(self, core: &Core) -> bool {
        std::ptr::eq(self.core, core)
    }

    /// The metadata of this segment.
    #[inline(always)]
    #[must_use]
    pub fn meta(self) -> &'a Meta {
        // SAFETY: the owner is borrowed for 'a, and nobody else writes its metadata.
        unsafe { &*self.core.table.meta(self.slot) }
    }

    /// Bytes of payload in this segment.
    #[inline(always)]
    #[must_use]
    pub fn len(self) -> usize {
        self.meta().len()
    }

    /// Whether this segment is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Bytes of payload of the whole frame.
    #[must_use]
    pub fn frame_len(self) -> usize {
        self.segments().map(Self::len).sum()
    }

    /// This segment and those behind it.
    pub fn segments(self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self), |segment| segment.next())
    }

    /// The segment behind this one.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        let next = self.meta().next;
        // SAFETY: the owner of this segment owns the whole chain.
        (next != Slot::NONE).then(|| unsafe { Self::new(self.core, next) })
    }

    /// Area of the slot, and where its payload starts there, in bytes: what a mapper turns into an
    /// IOVA and a copy engine into an address.
    #[inline(always)]
    #[must_use]
    pub fn place(self) -> (AreaId, usize) {
        let table = &self.core.table;
        (AreaId(table.area_of(self.slot)), table.offset_of(self.slot) + self.meta().offset())
    }

    /// As [`Frame::place`] of a fresh buffer in this slot, whatever the metadata says: where a device
    /// is to write into buffers of [`crate::Cache::take_bare`].
    #[inline(always)]
    #[must_use]
    pub fn home(self) -> (AreaId, usize) {
        let Core { table, fresh, .. } = self.core;
        (AreaId(table.area_of(self.slot)), table.offset_of(self.slot) + fresh.offset())
    }
}

impl<'a, A: Readable> Frame<'a, A> {
    /// The payload of this segment.
    #[inline(always)]
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        let meta = self.meta();
        // SAFETY: `offset` is within the slot (kept by `FrameMut`).
        let first = unsafe { self.core.table.address(self.slot).add(meta.offset()) };
        // SAFETY: the area's memory is readable and initialised (`Access::accepts`), `offset + len`
        // is within the slot (kept by `FrameMut`), and the owner, borrowed here, is the only one who
        // could write.
        unsafe { slice::from_raw_parts(first, meta.len()) }
    }

    /// Copies the whole frame, all segments, into `to`; returns how many bytes fitted.
    pub fn copy_to(self, to: &mut [u8]) -> usize {
        let mut at = 0;
        for segment in self.segments() {
            let bytes = segment.bytes();
            let count = bytes.len().min(to.len() - at);
            to[at..at + count].copy_from_slice(&bytes[..count]);
            at += count;
        }
        at
    }
}

impl Frame<'_, Device> {
    /// Address of the payload, in the address space of the memory's provider. A number: there is
    /// nothing the CPU may read there.
    #[must_use]
    pub fn address(self) -> usize {
        self.core.table.address(self.slot).addr() + self.meta().offset()
    }
}

impl Frame<'_, Peer> {
    /// Copies payload out, from `offset` on; returns how many bytes there were. Each byte is read
    /// once, whatever the peer does meanwhile.
    pub fn copy_out(self, offset: usize, to: &mut [u8]) -> usize {
        let meta = self.meta();
        let count = meta.len().saturating_sub(offset).min(to.len());
        let base = self.core.table.address(self.slot);
        let base = base.wrapping_add(meta.offset()).wrapping_add(offset);
        for (at, byte) in to[..count].iter_mut().enumerate() {
            // SAFETY: within the slot's payload, mapped readable (`Access::accepts`).
            *byte = unsafe { base.wrapping_add(at).read_volatile() };
        }
        count
    }
}

/// A view that changes a buffer: its bytes where the type allows, its metadata always.
pub struct FrameMut<'a, A: Access> {
    core: &'a Core,
    slot: u32,
    access: PhantomData<&'a mut A>,
}

impl<'a, A: Access> FrameMut<'a, A> {
    /// # Safety
    /// The slot is owned by something that is exclusively borrowed for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn new(core: &'a Core, slot: u32) -> Self {
        Self { core, slot, access: PhantomData }
    }

    /// The same slot, read-only.
    #[inline(always)]
    #[must_use]
    pub fn view(&self) -> Frame<'_, A> {
        // SAFETY: the owner is borrowed for longer than this view.
        unsafe { Frame::new(self.core, self.slot) }
    }

    #[inline(always)]
    fn meta_mut(&mut self) -> &mut Meta {
        // SAFETY: the owner is exclusively borrowed.
        unsafe { &mut *self.core.table.meta(self.slot) }
    }

    fn stride(&self) -> usize {
        self.core.table.stride()
    }

    /// Bytes before the payload.
    #[must_use]
    pub fn headroom(&self) -> usize {
        self.view().meta().offset()
    }

    /// Bytes behind the payload.
    #[must_use]
    pub fn tailroom(&self) -> usize {
        let view = self.view();
        self.stride() - view.meta().offset() - view.len()
    }
}

/// Metadata is the owner's to change, whatever the memory: all accesses but `Shared`, whose slot has
/// other readers.
macro_rules! owner_methods {
    ($($access:ty),*) => {$(
        impl FrameMut<'_, $access> {
            /// Sets the payload's length, keeping its start.
            ///
            /// # Panics
            /// If the slot has no room for it.
            #[inline(always)]
            pub fn set_len(&mut self, len: usize) {
                let longest = self.view().meta().longest(self.stride());
                if len > longest {
                    leaves(len, longest);
                }
                #[expect(clippy::cast_possible_truncation, reason = "at most the stride, 2^30")]
                let len = len as u32;
                self.meta_mut().len = len;
            }

            /// Empties the buffer and puts its start at `headroom`.
            ///
            /// # Panics
            /// If the slot has no room for it.
            #[inline(always)]
            pub fn reset(&mut self, headroom: usize) {
                assert!(headroom <= self.stride(), "headroom {headroom} leaves the slot");
                let offset = u16::try_from(headroom).unwrap_or(u16::MAX);
                let meta = self.meta_mut();
                (meta.offset, meta.len) = (offset, 0);
            }

            /// States a received frame: its length from the pool's headroom on, and what the driver
            /// knows of it. Writes all of the metadata, so the buffer may come from
            /// [`crate::Cache::take_bare`].
            ///
            /// # Panics
            /// If the slot has no room for it; in debug builds, if further segments are chained
            /// behind it (they would be lost).
            #[inline(always)]
            pub fn received(&mut self, len: usize, rx: &RxMeta) {
                debug_assert!(self.view().next().is_none(), "received over a chain");
                let meta = self.core.fresh.received(self.stride(), len, rx);
                *self.meta_mut() = meta;
            }

            /// Restates what is known of the frame, keeping length and place.
            pub fn set_rx(&mut self, rx: &RxMeta) {
                let meta = self.meta_mut();
                (meta.port, meta.vlan, meta.offload) = (rx.port, rx.vlan, rx.offload);
                (meta.hash, meta.timestamp) = (rx.hash, rx.timestamp);
            }

            /// Asks the sender of the frame for more than its bytes. What was received with it is
            /// forgotten.
            pub fn ask(&mut self, tx: &crate::TxMeta) {
                self.meta_mut().set_tx(tx);
            }

            /// Drops `count` bytes from the front; false, and nothing done, if there are fewer.
            #[must_use]
            pub fn trim_front(&mut self, count: usize) -> bool {
                let meta = self.meta_mut();
                let (Ok(count), Ok(less)) = (u32::try_from(count), u16::try_from(count)) else {
                    return false;
                };
                if count > meta.len || meta.offset.checked_add(less).is_none() {
                    return false;
                }
                meta.len -= count;
                meta.offset += less;
                true
            }
        }
    )*};
}

owner_methods!(crate::Cpu, Device, Peer);

impl<'a, A: Writable> FrameMut<'a, A> {
    /// The payload.
    #[inline(always)]
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let meta = *self.view().meta();
        self.span(meta.offset(), meta.len())
    }

    /// The payload, for as long as the owner is borrowed.
    #[must_use]
    pub(crate) fn into_bytes_mut(mut self) -> &'a mut [u8] {
        let meta = *self.view().meta();
        self.span(meta.offset(), meta.len())
    }

    /// All of the slot behind the payload's start: what a copying driver fills before it says how
    /// much came.
    #[inline(always)]
    #[must_use]
    pub fn room_mut(&mut self) -> &mut [u8] {
        let offset = self.view().meta().offset();
        self.span(offset, self.stride() - offset)
    }

    #[inline(always)]
    fn span<'b>(&mut self, offset: usize, len: usize) -> &'b mut [u8] {
        debug_assert!(offset + len <= self.stride(), "{len} B at {offset} leave the slot");
        // SAFETY: `offset <= stride`, so the address stays in the slot.
        let first = unsafe { self.core.table.address(self.slot).add(offset) };
        // SAFETY: the memory is readable, writable and initialised (`Access::accepts`), the span is
        // within the slot, and the owner is exclusively borrowed by every caller's result.
        unsafe { slice::from_raw_parts_mut(first, len) }
    }
}

impl FrameMut<'_, crate::Cpu> {
    /// Makes room for a header of `count` bytes before the payload and returns it, or `None` if the
    /// headroom is too small: encapsulation without a copy.
    pub fn prepend(&mut self, count: usize) -> Option<&mut [u8]> {
        let more = u16::try_from(count).ok()?;
        let meta = self.meta_mut();
        meta.offset = meta.offset.checked_sub(more)?;
        meta.len += u32::from(more);
        let offset = meta.offset();
        Some(self.span(offset, count))
    }

    /// Appends bytes; false, and nothing done, if the slot has no room for them.
    #[must_use]
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > self.tailroom() {
            return false;
        }
        let meta = *self.view().meta();
        self.span(meta.offset() + meta.len(), bytes.len()).copy_from_slice(bytes);
        self.set_len(meta.len() + bytes.len());
        true
    }
}

impl FrameMut<'_, Peer> {
    /// Copies bytes into the payload, from `offset` on; returns how many fitted.
    pub fn copy_in(&mut self, offset: usize, bytes: &[u8]) -> usize {
        let meta = *self.view().meta();
        let count = meta.len().saturating_sub(offset).min(bytes.len());
        let base = self.core.table.address(self.slot);
        let base = base.wrapping_add(meta.offset()).wrapping_add(offset);
        for (at, byte) in bytes[..count].iter().enumerate() {
            // SAFETY: within the slot's payload, mapped writable (`Access::accepts`).
            unsafe { base.wrapping_add(at).write_volatile(*byte) };
        }
        count
    }
}
