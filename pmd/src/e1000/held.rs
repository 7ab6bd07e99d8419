//! Buffers that a device holds, and their addresses there. They come home by completion, or all at once
//! when the device has provably stopped, even if their queue ended before; else they, and their mapping,
//! stay with it.
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
    /// Until the device has stopped it may use the buffers: they come home then. If it never does they
    /// leak, and are counted.
    fn drop(&mut self) {
        // SAFETY: once, here; the field is not used again.
        let inner = unsafe { ManuallyDrop::take(&mut self.inner) };
        self.gate.when_stopped(|proof| inner.reclaim(proof));
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

    /// As [`MappedPool::refresh`]. The device need not be stopped: it holds no buffer of an area that has gone.
    pub(super) fn refresh(&mut self) -> Result<(), MapError> {
        self.inner.refresh()
    }

    /// Writes where the device finds each of the fresh buffers in front of a burst, as far as it can reach
    /// them and `places` go; returns how many.
    #[inline(always)]
    pub(super) fn describe<P>(
        &mut self,
        burst: &Burst<A>,
        places: impl ExactSizeIterator<Item = P>,
        mut write: impl FnMut(P, Iova),
    ) -> usize {
        let mut known = self.known();
        let start = |area: AreaId| known.iova((area, 0)).map(|iova| iova.0);
        let Some(buffers) = burst.in_one_area(start) else {
            return self.describe_each(burst, places, write);
        };
        let count = places.len().min(burst.len());
        for (place, home) in places.zip(buffers.homes()) {
            write(place, Iova(home));
        }
        count
    }

    /// The same of buffers in several areas, or in one that is new.
    #[cold]
    fn describe_each<P>(
        &mut self,
        burst: &Burst<A>,
        places: impl Iterator<Item = P>,
        mut write: impl FnMut(P, Iova),
    ) -> usize {
        let mut count = 0;
        for (place, home) in places.zip(burst.homes()) {
            let Some(iova) = self.iova(home) else { break };
            write(place, iova);
            count += 1;
        }
        count
    }

    /// What is mapped now, for a pass over many places.
    #[inline(always)]
    pub(super) fn known(&self) -> Known<'_> {
        self.inner.known()
    }
}

impl<A: Access, D: DmaMapper> Drop for Mapping<A, D> {
    /// Until the device has stopped it may use its addresses: they are unmapped then, or stay mapped.
    fn drop(&mut self) {
        // SAFETY: once, here; the field is not used again.
        let inner = ManuallyDrop::new(unsafe { ManuallyDrop::take(&mut self.inner) });
        self.gate.when_stopped(|_| drop(ManuallyDrop::into_inner(inner)));
    }
}
