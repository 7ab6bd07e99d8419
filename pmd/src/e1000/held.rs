//! Buffers that a device holds, and their addresses there. They come home by completion, or all at once
//! when the device has provably stopped; else they, and their mapping, stay with it.
#![allow(unsafe_code, reason = "takes a field out of a value that is being dropped")]

use std::mem::ManuallyDrop;

use mempool::{Access, AreaId, Buf, Burst, InFlight, Pool, RxMeta};

use crate::{DmaMapper, Iova, Known, MapError, MappedPool, pci::Gate};

/// Which buffer is where with the device.
pub(super) struct Ledger<A: Access> {
    inner: ManuallyDrop<InFlight<A>>,
    gate: Gate,
}

impl<A: Access> Ledger<A> {
    pub(super) fn new(pool: &Pool<A>, positions: usize, gate: Gate) -> Self {
        Self { inner: ManuallyDrop::new(InFlight::new(pool, positions)), gate }
    }

    /// The pool.
    pub(super) fn pool(&self) -> &Pool<A> {
        self.inner.pool()
    }

    /// Frames held now.
    pub(super) fn len(&self) -> usize {
        self.inner.len()
    }

    /// Hands over the first `count` frames of a burst at consecutive positions, which are free.
    #[inline(always)]
    pub(super) fn post(&mut self, position: usize, burst: &mut Burst<A>, count: usize) {
        let posted = self.inner.post_front(position, burst, count);
        debug_assert_eq!(posted, count, "positions that a queue counts as free are free");
    }

    /// Hands over one frame; it comes back if the position is taken.
    pub(super) fn post_one(&mut self, position: usize, buf: Buf<A>) -> Result<(), Buf<A>> {
        self.inner.post(position, buf).map(|_| ())
    }

    /// Takes the frame at a position back.
    #[inline(always)]
    pub(super) fn complete(&mut self, position: usize) -> Option<Buf<A>> {
        self.inner.complete(position)
    }

    /// Takes those at consecutive positions back, each with what was received into it; see
    /// [`InFlight::receive_into`].
    #[inline(always)]
    pub(super) fn receive_into<C>(
        &mut self,
        position: usize,
        burst: &mut Burst<A>,
        completions: &[C],
        received: impl FnMut(&C) -> Option<(usize, RxMeta)>,
    ) -> usize {
        self.inner.receive_into(position, burst, completions, received)
    }

    /// Takes those at consecutive positions back, as far as the burst has room; returns how many.
    #[inline(always)]
    pub(super) fn complete_into(
        &mut self,
        position: usize,
        count: usize,
        burst: &mut Burst<A>,
    ) -> usize {
        self.inner.complete_into(position, count, burst)
    }
}

impl<A: Access> Drop for Ledger<A> {
    /// Without proof the device may still use the buffers: they leak, and are counted.
    fn drop(&mut self) {
        // SAFETY: once, here; the field is not used again.
        let inner = unsafe { ManuallyDrop::take(&mut self.inner) };
        match self.gate.proof() {
            Some(proof) => inner.reclaim(proof),
            None => drop(inner),
        }
    }
}

/// A pool in the device's address space.
pub(super) struct Mapping<A: Access, D: DmaMapper> {
    inner: ManuallyDrop<MappedPool<A, D>>,
    gate: Gate,
}

impl<A: Access, D: DmaMapper> Mapping<A, D> {
    pub(super) fn new(pool: &Pool<A>, mapper: D, gate: Gate) -> Result<Self, MapError> {
        Ok(Self { inner: ManuallyDrop::new(MappedPool::new(pool, mapper)?), gate })
    }

    /// A place of the pool as the device sees it; `None` if its memory cannot be mapped.
    #[inline(always)]
    pub(super) fn iova(&mut self, place: (AreaId, usize)) -> Option<Iova> {
        self.inner.iova(place)
    }

    /// What is mapped now, for a pass over many places.
    #[inline(always)]
    pub(super) fn known(&self) -> Known<'_> {
        self.inner.known()
    }
}

impl<A: Access, D: DmaMapper> Drop for Mapping<A, D> {
    /// Without proof the device may still use its addresses: they stay mapped.
    fn drop(&mut self) {
        if self.gate.proof().is_some() {
            // SAFETY: once, here; the field is not used again.
            unsafe { ManuallyDrop::drop(&mut self.inner) };
        }
    }
}
