//! The one owner of one slot (or of a chain of them).
#![allow(unsafe_code, reason = "turns slot numbers into owners and back")]

use std::{fmt, marker::PhantomData, mem::ManuallyDrop, ptr::NonNull};

use crate::{Access, Cpu, Frame, FrameMut, Readable, Shared, Slot, Writable, chain, core::Core};

/// The one owner of one slot, or of a frame of several. Neither `Copy` nor `Clone`; dropping it
/// anywhere, on any thread, is correct; recycling a burst into a cache is the fast path.
///
/// A `Buf` may outlive its pool's handles, never the other way round.
pub struct Buf<A: Access> {
    core: NonNull<Core>,
    slot: u32,
    access: PhantomData<A>,
}

const _: () = assert!(size_of::<Option<Buf<Cpu>>>() == 16);

// SAFETY: owns its slot; the core is `Send + Sync`.
unsafe impl<A: Access> Send for Buf<A> {}
// SAFETY: shared access reads only.
unsafe impl<A: Access> Sync for Buf<A> {}

impl<A: Access> Buf<A> {
    /// # Safety
    /// The caller owns the slot of the core behind the pointer, and gives the ownership away.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(core: NonNull<Core>, slot: u32) -> Self {
        Self { core, slot, access: PhantomData }
    }

    /// Gives up ownership without freeing.
    #[inline(always)]
    pub(crate) fn into_raw(self) -> u32 {
        ManuallyDrop::new(self).slot
    }

    #[inline(always)]
    pub(crate) fn core_ptr(&self) -> NonNull<Core> {
        self.core
    }

    #[inline(always)]
    pub(crate) fn core(&self) -> &Core {
        // SAFETY: the core is not freed while a slot is out.
        unsafe { self.core.as_ref() }
    }

    /// A read-only view.
    #[inline(always)]
    #[must_use]
    pub fn frame(&self) -> Frame<'_, A> {
        // SAFETY: this buffer owns the slot, and is borrowed.
        unsafe { Frame::new(self.core(), self.slot) }
    }

    /// A view that changes the buffer.
    #[inline(always)]
    #[must_use]
    pub fn frame_mut(&mut self) -> FrameMut<'_, A> {
        // SAFETY: this buffer owns the slot, and is borrowed exclusively. (A shared buffer's view
        // has no method that writes.)
        unsafe { FrameMut::new(self.core(), self.slot) }
    }

    /// The slot's number.
    #[must_use]
    pub fn slot(&self) -> Slot {
        Slot(self.slot)
    }

    /// Bytes of payload in the first segment.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frame().len()
    }

    /// Whether the first segment is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the frame has more than one segment.
    #[inline(always)]
    #[must_use]
    pub fn is_chain(&self) -> bool {
        self.frame().meta().next != Slot::NONE
    }

    /// Appends the frame of `tail` (a buffer of the same pool) as further segments.
    ///
    /// # Errors
    /// `tail` comes back if it is of another pool, or if the frame would have more than 65,535
    /// segments.
    pub fn chain(&mut self, tail: Self) -> Result<(), Self> {
        chain::append(self, tail)
    }

    /// Takes the segments after the first off, if there are any.
    #[must_use]
    pub fn unchain(&mut self) -> Option<Self> {
        chain::split(self)
    }
}

impl<A: Readable> Buf<A> {
    /// The payload of the first segment.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.frame().bytes()
    }
}

impl<A: Writable> Buf<A> {
    /// The payload of the first segment.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: this buffer owns the slot and is borrowed exclusively for as long as the slice.
        unsafe { FrameMut::<A>::new(self.core(), self.slot) }.into_bytes_mut()
    }
}

impl<A: Access> Drop for Buf<A> {
    #[inline]
    fn drop(&mut self) {
        if A::COUNTED && !self.core().drop_reference(self.slot) {
            return;
        }
        // SAFETY: we own the slot (for a shared one: we were the last), and this is the end of us.
        unsafe { self.core().put_stray(self.slot) };
    }
}

impl<A: Access> fmt::Debug for Buf<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buf")
            .field("pool", &self.core().name)
            .field("access", &A::NAME)
            .field("slot", &self.slot)
            .field("len", &self.len())
            .finish()
    }
}

impl Buf<Cpu> {
    /// Turns the buffer into a counted, read-only one that can be cloned: multicast, mirroring.
    ///
    /// # Errors
    /// The buffer comes back if its pool was not built [`crate::PoolBuilder::shareable`].
    pub fn share(self) -> Result<Buf<Shared>, Self> {
        if self.core().references.is_empty() {
            return Err(self);
        }
        let core = self.core;
        let slot = self.into_raw();
        // SAFETY: the count is set before the first shared handle exists.
        unsafe { crate::shared::adopt(core, slot) };
        // SAFETY: we owned the slot; the count of 1 is this handle.
        Ok(unsafe { Buf::from_raw(core, slot) })
    }
}
