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
            // All at once, which is quick, and one by one only if one is taken.
            let are_free = places.iter().fold(true, |all, entry| all & (*entry == Slot::NONE));
            let free = if are_free { places.len() } else { leading(places, true) };
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
        let count = count.min(self.ledger.len());
        let first = self.run(position, count);
        let second = 0..count - first.len();
        let ledger = &mut self.ledger;
        let fill = |free: &mut [u32]| {
            let mut done = 0;
            for run in [first, second] {
                let places = &mut ledger[run];
                let room = places.len().min(free.len() - done);
                let are_held =
                    places[..room].iter().fold(true, |all, entry| all & (*entry != Slot::NONE));
                let held = if are_held { room } else { leading(&places[..room], false) };
                free[done..done + held].copy_from_slice(&places[..held]);
                places[..held].fill(Slot::NONE);
                done += held;
                if held < places.len() {
                    break;
                }
            }
            done
        };
        // SAFETY: the ledger held the one ownership of each slot, and has just given it up.
        let done = unsafe { burst.adopt(self.tails > 0, fill) };
        if self.tails > 0 {
            for &slot in &burst.slots()[burst.len() - done..] {
                // SAFETY: the burst owns the frame.
                self.tails -= unsafe { self.tails_of(slot) };
            }
        }
        self.publish(self.posted - done);
        done
    }

    /// Completes consecutive positions from `position` on into `burst`, each with the next length and
    /// metadata of `received` (see [`crate::FrameMut::received`]): as many as it yields before it ends, as
    /// the burst has room for and as lie in one piece; stops at one where nothing is posted. Returns how
    /// many.
    ///
    /// # Panics
    /// If the burst is of another pool, the ledger has no positions or holds chains, or a slot has no room
    /// for its length.
    #[inline(always)]
    pub fn receive_into(
        &mut self,
        position: usize,
        burst: &mut Burst<A>,
        received: impl Iterator<Item = (usize, RxMeta)>,
    ) -> usize {
        assert!(self.tails == 0, "frames are received into single buffers");
        let core = self.pool.core();
        let (fresh, stride, table) = (core.fresh, core.table.stride(), core.table.meta(0));
        let run = self.run(position, burst.room());
        let mut done = 0;
        for (&slot, (len, rx)) in self.ledger[run].iter().zip(received) {
            if slot == Slot::NONE {
                break;
            }
            // SAFETY: the table spans every slot of the pool (as `Table::meta`).
            let meta = unsafe { table.add(slot as usize) };
            // SAFETY: the ledger owns the slot, hence its metadata.
            unsafe { meta.write(fresh.received(stride, len, &rx)) };
            done += 1;
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

/// How many entries in front are free, or are not.
#[cold]
fn leading(entries: &[u32], free: bool) -> usize {
    entries.iter().take_while(|entry| (**entry == Slot::NONE) == free).count()
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
