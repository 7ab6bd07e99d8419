//! Frames of a burst, fetched before a loop comes to them. Knows where they lie; looks at none.
#![allow(unsafe_code, reason = "the instruction is one that takes any address")]

use crate::{Burst, Frame, Readable, core::Core};

const CACHE_LINE: usize = 64;
/// Frames that are fetched before their turn: a line of another core's takes as long as that many are handled in.
const AHEAD: usize = 8;

impl<A: Readable> Burst<A> {
    /// The frames, in order, for loops that look into what another core has just made, or a device: each is
    /// fetched some frames before its turn, its metadata and its first two cache lines. Without that a loop waits
    /// for every single frame as long as handling several takes; where frames lie in the core's own cache it costs
    /// 27 instructions each.
    #[inline(always)]
    pub fn iter_prefetched(&self) -> impl ExactSizeIterator<Item = Frame<'_, A>> {
        (0..AHEAD).for_each(|index| self.prefetch(index));
        self.iter().enumerate().map(|(index, frame)| {
            self.prefetch(index + AHEAD);
            frame
        })
    }

    /// Fetches a frame, if there is one, where a fresh buffer starts.
    #[inline(always)]
    fn prefetch(&self, index: usize) {
        let Some(&slot) = self.slots().get(index) else { return };
        let Core { table, fresh, .. } = self.core();
        let first = table.address(slot).wrapping_add(fresh.offset());
        fetch(table.meta(slot).cast());
        fetch(first);
        fetch(first.wrapping_add(CACHE_LINE));
    }
}

/// Has the processor fetch a cache line; any address will do.
#[inline(always)]
fn fetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: reads nothing, and never faults (Intel SDM, PREFETCHh).
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use crate::{Burst, Cpu, Pool, heap::Heap};

    #[test]
    fn every_frame_comes_once_and_in_order_however_many_there_are() {
        let pool = Pool::<Cpu>::builder().slots(64).memory(&Heap::new()).build().unwrap();
        let mut cache = pool.cache();
        for count in [0, 1, 7, 8, 9, 32] {
            let mut burst = Burst::new(&pool);
            assert_eq!(cache.take(&mut burst, count), count);
            let slots: Vec<u32> =
                burst.iter_prefetched().map(|frame| frame.slot().index()).collect();
            assert_eq!(slots, burst.slots());
            burst.recycle(&mut cache);
        }
    }
}
