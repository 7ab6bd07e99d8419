//! Counted buffers: one slot, several readers. Opt-in, so that nobody else pays for the count.
#![allow(unsafe_code, reason = "turns one owner into a counted one and back")]

use std::ptr::NonNull;

use crate::{Buf, Burst, Cache, Cpu, Pool, Shared, core::Core, sync::Ordering};

/// References to one slot at most. Far from the counter's end, as for `Arc`: so many threads cannot
/// be between the addition and the check.
const MAX_REFERENCES: u32 = u32::MAX / 2;

/// A counted, read-only reference to a buffer: cloned for multicast, freed by the last one. Made by
/// [`Buf::share`].
pub type SharedBuf = Buf<Shared>;

/// Starts the count of a slot at one.
///
/// # Safety
/// The caller owns the slot alone, and the pool is shareable.
pub(crate) unsafe fn adopt(core: NonNull<Core>, slot: u32) {
    // SAFETY: alive while the slot is out.
    let core = unsafe { core.as_ref() };
    // Relaxed: nobody else knows the slot yet; handing a clone to another thread orders this.
    core.references[slot as usize].store(1, Ordering::Relaxed);
}

impl Clone for Buf<Shared> {
    fn clone(&self) -> Self {
        let slot = self.slot().index();
        // Relaxed, as for `Arc`: a new reference is made from one that is held.
        let before = self.core().references[slot as usize].fetch_add(1, Ordering::Relaxed);
        if before > MAX_REFERENCES {
            // Only forgotten references come to so many; a count that wraps would free the slot under
            // the others.
            std::process::abort();
        }
        // SAFETY: the count above is this handle's.
        unsafe { Self::from_raw(self.core_ptr(), slot) }
    }
}

impl Buf<Shared> {
    /// References there are, this one included.
    #[must_use]
    pub fn references(&self) -> usize {
        self.core().references[self.slot().index() as usize].load(Ordering::Acquire) as usize
    }

    /// Makes the buffer writable again if this is the only reference.
    ///
    /// # Errors
    /// The reference comes back if there are others.
    pub fn unshare(self) -> Result<Buf<Cpu>, Self> {
        // Acquire, in `references`: what earlier holders did is visible to the new sole owner.
        if self.references() != 1 {
            return Err(self);
        }
        let core = self.core_ptr();
        // SAFETY: the only reference, held by value: nobody can clone it any more.
        Ok(unsafe { Buf::from_raw(core, self.into_raw()) })
    }
}

impl Burst<Shared> {
    /// An empty burst for shared buffers of `pool`.
    #[must_use]
    pub fn of_shared(pool: &Pool<Cpu>) -> Self {
        Self::new(&pool.cast())
    }

    /// Turns every frame of `burst` into a shared one and appends it here. Frames stay behind if
    /// this burst is full.
    ///
    /// # Errors
    /// Nothing moves if the pool was not built [`crate::PoolBuilder::shareable`].
    pub fn share_from(&mut self, burst: &mut Burst<Cpu>) -> Result<usize, NotShareable> {
        if !burst.pool().is_shareable() {
            return Err(NotShareable { pool: burst.pool().name().to_owned() });
        }
        let count = burst.len().min(self.room());
        for frame in burst.drain_front(count) {
            match frame.share() {
                Ok(shared) => self.push(shared),
                Err(frame) => drop(frame),
            }
        }
        Ok(count)
    }

    /// Appends another reference to every frame of this burst to `other`, as far as there is room;
    /// returns how many.
    pub fn clone_into(&self, other: &mut Self) -> usize {
        let count = self.len().min(other.room());
        for at in 0..count {
            other.push(self.clone_at(at));
        }
        count
    }

    /// Drops all references; slots that nobody else holds go to the cache of their pool.
    ///
    /// # Panics
    /// If the cache is of another pool.
    pub fn release(&mut self, cache: &mut Cache<Cpu>) {
        let count = self.len();
        for frame in self.drain_front(count) {
            if let Ok(buf) = frame.unshare() {
                cache.give(buf);
            }
        }
    }
}

/// Buffers of this pool cannot be shared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pool '{pool}' keeps no reference counts; build it with .shareable()")]
pub struct NotShareable {
    /// Name of the pool.
    pub pool: String,
}
