//! What a device holds. While a buffer is posted no handle to it exists; it comes home by its own
//! completion or by proof that DMA has stopped. Without proof it leaks, and is counted.
#![allow(unsafe_code, reason = "turns posted slot numbers back into owners")]

use std::sync::{Arc, atomic::Ordering};

use crate::{
    Access, Buf, Burst, Pool, RxMeta, Slot,
    core::{Gauge, bump},
};

/// Proof that a device has stopped reading and writing the buffers of one queue: a successful reset,
/// an acknowledged queue disable, bus mastering off, the mapping gone.
#[derive(Debug)]
pub struct Quiesced(());

impl Quiesced {
    /// States that DMA has stopped.
    ///
    /// # Safety
    /// The device has no way left to touch any buffer posted through the ledger this proof is used
    /// with.
    #[must_use]
    pub unsafe fn new() -> Self {
        Self(())
    }
}

/// The ledger of one queue: which buffer is posted at which ring position. The trusted copy against
/// which everything a device says is checked.
pub struct InFlight<A: Access> {
    ledger: Box<[u32]>,
    posted: usize,
    /// Slots behind the first ones of posted frames: 0 unless chains are posted.
    tails: usize,
    gauge: Arc<Gauge>,
    pool: Pool<A>,
}

impl<A: Access> InFlight<A> {
    /// A ledger of `positions` ring positions for buffers of `pool`.
    #[must_use]
    pub fn new(pool: &Pool<A>, positions: usize) -> Self {
        let gauge = Arc::new(Gauge::default());
        let mut control = pool.core().control();
        control.in_flight.retain(|known| known.strong_count() > 0);
        control.in_flight.push(Arc::downgrade(&gauge));
        drop(control);
        Self {
            ledger: vec![Slot::NONE; positions].into_boxed_slice(),
            posted: 0,
            tails: 0,
            gauge,
            pool: pool.clone(),
        }
    }

    /// Frames posted now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.posted
    }

    /// Whether nothing is posted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.posted == 0
    }

    /// Ring positions.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ledger.len()
    }

    /// The pool whose buffers these are.
    #[must_use]
    pub fn pool(&self) -> &Pool<A> {
        &self.pool
    }

    fn publish(&mut self, posted: usize) {
        self.posted = posted;
        // References are not slots: one slot may be posted several times. For the audit a shared
        // buffer stays with whoever holds its other references.
        if !A::COUNTED {
            let slots = u32::try_from(posted + self.tails).unwrap_or(u32::MAX);
            // Relaxed: a figure for `audit`.
            self.gauge.store(slots, Ordering::Relaxed);
        }
    }

    /// Slots behind the first one of a frame.
    ///
    /// # Safety
    /// The caller owns the frame, or borrows its owner.
    unsafe fn tails_of(&self, slot: u32) -> usize {
        // SAFETY: whoever owns the frame owns its metadata (caller).
        usize::from(unsafe { (*self.pool.core().table.meta(slot)).segments } - 1)
    }

    /// Posts a buffer at a ring position: from here on only the device may touch it.
    ///
    /// # Errors
    /// The buffer comes back if the position is taken, does not exist, or the buffer is of another
    /// pool.
    pub fn post(&mut self, position: usize, buf: Buf<A>) -> Result<Slot, Buf<A>> {
        let ours = buf.core_ptr() == self.pool.core_ptr();
        match self.ledger.get_mut(position) {
            Some(entry) if *entry == Slot::NONE && ours => {
                self.tails += buf.frame().meta().segments() - 1;
                *entry = buf.into_raw();
                let slot = Slot(*entry);
                self.publish(self.posted + 1);
                Ok(slot)
            }
            _ => Err(buf),
        }
    }

    /// The slot posted at a position.
    #[must_use]
    pub fn posted_at(&self, position: usize) -> Option<Slot> {
        self.ledger.get(position).filter(|slot| **slot != Slot::NONE).map(|slot| Slot(*slot))
    }

    /// Takes the buffer at a position back: its own completion. `None` if nothing is posted there,
    /// whatever the device said.
    #[must_use]
    pub fn complete(&mut self, position: usize) -> Option<Buf<A>> {
        let slot = std::mem::replace(self.ledger.get_mut(position)?, Slot::NONE);
        if slot == Slot::NONE {
            return None;
        }
        if self.tails > 0 {
            // SAFETY: the ledger owned the frame until now.
            self.tails -= unsafe { self.tails_of(slot) };
        }
        self.publish(self.posted - 1);
        // SAFETY: `post` took the one owner of this slot; the entry is cleared, so this is again the
        // one.
        Some(unsafe { Buf::from_raw(self.pool.core_ptr(), slot) })
    }

    /// Posts the first `count` frames of a burst at consecutive positions from `position` on,
    /// wrapping; stops at a position that is taken. Returns how many.
    ///
    /// # Panics
    /// If the burst is of another pool, or the ledger has no positions.
    pub fn post_front(&mut self, position: usize, burst: &mut Burst<A>, count: usize) -> usize {
        assert!(burst.core_ptr() == self.pool.core_ptr(), "ledger and burst are of two pools");
        let count = count.min(burst.len());
        if burst.has_chains() {
            for &slot in &burst.slots()[..count] {
                // SAFETY: the burst owns the frame.
                self.tails += unsafe { self.tails_of(slot) };
            }
        }
        let mut posted = 0;
        while posted < count {
            let run = self.run(position.wrapping_add(posted), count - posted);
            let slots = &burst.slots()[posted..][..run.len()];
            let places = &mut self.ledger[run];
            let free = free(places);
            places[..free].copy_from_slice(&slots[..free]);
            posted += free;
            if free < slots.len() {
                break;
            }
        }
        if burst.has_chains() {
            for &slot in &burst.slots()[posted..count] {
                // SAFETY: the burst owns the frame: it stays there.
                self.tails -= unsafe { self.tails_of(slot) };
            }
        }
        burst.remove_front(posted);
        self.publish(self.posted + posted);
        posted
    }

    /// Positions from `position` on, up to `count`, as far as they lie in one piece.
    fn run(&self, position: usize, count: usize) -> std::ops::Range<usize> {
        let at = position % self.ledger.len();
        at..at + count.min(self.ledger.len() - at)
    }

    /// Completes up to `count` consecutive positions from `position` on, wrapping, into `burst`;
    /// stops at one where nothing is posted, or when the burst is full. Returns how many.
    ///
    /// # Panics
    /// If the burst is of another pool, or the ledger has no positions.
    pub fn complete_into(&mut self, position: usize, count: usize, burst: &mut Burst<A>) -> usize {
        assert!(burst.core_ptr() == self.pool.core_ptr(), "ledger and burst are of two pools");
        // At most two pieces, the second at the ledger's start. More than all of it there cannot be.
        let count = count.min(self.ledger.len()).min(burst.room());
        let first = self.run(position, count);
        let second = 0..count - first.len();
        let mut done = 0;
        for run in [first, second] {
            let places = &mut self.ledger[run];
            let held = held(places);
            // SAFETY: `done + held <= count`, for which the burst has room; two allocations.
            unsafe {
                burst.tail_ptr().cast::<u32>().copy_from_nonoverlapping(places.as_ptr(), held)
            };
            places[..held].fill(Slot::NONE);
            burst.grow(held);
            done += held;
            if held < places.len() {
                break;
            }
        }
        if self.tails > 0 {
            burst.note_chains();
        }
        if self.tails > 0 {
            for &slot in &burst.slots()[burst.len() - done..] {
                // SAFETY: the burst owns the frame.
                self.tails -= unsafe { self.tails_of(slot) };
            }
        }
        self.publish(self.posted - done);
        done
    }

    /// Completes consecutive positions from `position` on into `burst`, each with the length and metadata
    /// that `received` makes of the next of the `completions` (see [`crate::FrameMut::received`]): until
    /// it makes none, as many as the burst has room for and as lie in one piece; stops at one where
    /// nothing is posted. Returns how many.
    ///
    /// # Panics
    /// If the burst is of another pool, the ledger has no positions or holds chains, or a slot has no room
    /// for its length.
    #[inline(always)]
    pub fn receive_into<C>(
        &mut self,
        position: usize,
        burst: &mut Burst<A>,
        completions: &[C],
        mut received: impl FnMut(&C) -> Option<(usize, RxMeta)>,
    ) -> usize {
        assert!(self.tails == 0, "frames are received into single buffers");
        let core = self.pool.core();
        let (fresh, stride, table) = (core.fresh, core.table.stride(), core.table.meta(0));
        let slots = &self.ledger[self.run(position, burst.room().min(completions.len()))];
        let most = held(slots);
        let mut done = most;
        for (at, (&slot, completion)) in slots[..most].iter().zip(completions).enumerate() {
            let Some((len, rx)) = received(completion) else {
                done = at;
                break;
            };
            // SAFETY: the table spans every slot of the pool (as `Table::meta`).
            let meta = unsafe { table.add(slot as usize) };
            // SAFETY: the ledger owns the slot, hence its metadata.
            unsafe { meta.write(fresh.received(stride, len, &rx)) };
        }
        self.complete_into(position, done, burst)
    }

    /// Takes everything back: the device has stopped.
    pub fn reclaim(mut self, proof: Quiesced) {
        let Quiesced(()) = proof;
        for position in 0..self.ledger.len() {
            drop(self.complete(position));
        }
    }
}

/// Positions in front at which nothing is posted. All at once, which is quick, and one by one only if that
/// is not so for all.
fn free(positions: &[u32]) -> usize {
    if empty(positions) == positions.len() { positions.len() } else { leading(positions, true) }
}

/// Positions in front at which something is posted, as [`free`].
fn held(positions: &[u32]) -> usize {
    if empty(positions) == 0 { positions.len() } else { leading(positions, false) }
}

/// Positions at which nothing is posted. 32 bits wide, so that four and more are counted at once.
#[inline(always)]
fn empty(positions: &[u32]) -> usize {
    positions.iter().fold(0_u32, |sum, slot| sum + u32::from(*slot == Slot::NONE)) as usize
}

#[cold]
fn leading(positions: &[u32], free: bool) -> usize {
    positions.iter().take_while(|slot| (**slot == Slot::NONE) == free).count()
}

impl<A: Access> Drop for InFlight<A> {
    /// Without proof the buffers stay with the device: they leak, are counted, and keep their memory
    /// mapped for good.
    fn drop(&mut self) {
        if self.posted > 0 {
            if !A::COUNTED {
                bump(&self.pool.core().events.leaked, self.posted + self.tails);
            }
            tracing::warn!(
                pool = self.pool.name(),
                buffers = self.posted,
                "queue dropped without proof that DMA has stopped: its buffers are lost"
            );
        }
    }
}
