//! Many producers, many consumers, whole bulks: one compare-and-swap claims a run of cells, one
//! store publishes it. The protocol of `rte_ring`'s MP/MC mode, on 4-byte values.
//!
//! Indices run free and wrap; `head` claims, `tail` publishes. A thread that claimed later waits for
//! the one before it to publish, so a peer preempted between the two holds the others up: waiters
//! spin briefly, then yield.
#![allow(unsafe_code, reason = "moves values through cells that the indices hand over")]

use std::mem::MaybeUninit;

use crossbeam_utils::CachePadded;

use super::cells::Cells;
use crate::sync::{AtomicU32, Ordering, Patience};

struct End {
    head: AtomicU32,
    tail: AtomicU32,
}

impl End {
    fn at(start: u32) -> CachePadded<Self> {
        CachePadded::new(Self { head: AtomicU32::new(start), tail: AtomicU32::new(start) })
    }

    /// Publishes `from..to`, after everyone who claimed before has. `exclusive` runs in between, when
    /// nobody else publishes: a place to count without a locked instruction.
    #[inline]
    fn publish(&self, from: u32, to: u32, exclusive: impl FnOnce()) {
        let mut patience = Patience::new();
        // Acquire: what earlier publishers wrote, and counted, comes before what we do; our release
        // below then hands their cells over with ours.
        while self.tail.load(Ordering::Acquire) != from {
            patience.wait();
        }
        exclusive();
        // Release: the cells written (or read) above are handed over with this store.
        self.tail.store(to, Ordering::Release);
    }
}

/// A bounded multi-producer multi-consumer ring of `u32` with bulk operations.
pub struct Mpmc {
    cells: Cells,
    prod: CachePadded<End>,
    cons: CachePadded<End>,
}

impl Mpmc {
    /// A ring with room for `capacity` values (rounded up to a power of two).
    ///
    /// # Panics
    /// If `capacity` is more than 2^31.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self::starting_at(capacity, 0)
    }

    /// As [`Mpmc::new`], with the indices started at `start`: tests begin shortly before the wrap.
    #[must_use]
    pub fn starting_at(capacity: usize, start: u32) -> Self {
        let cells = Cells::new(capacity.max(1).next_power_of_two());
        Self { cells, prod: End::at(start), cons: End::at(start) }
    }

    /// Values that fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.cells.len() as usize
    }

    /// Values in the ring that a consumer could take now; exact when nobody else is active.
    #[must_use]
    pub fn len(&self) -> usize {
        // Acquire on both: whoever reads "all home" may free what the last publisher touched.
        let taken = self.cons.tail.load(Ordering::Acquire);
        let put = self.prod.tail.load(Ordering::Acquire);
        put.wrapping_sub(taken).min(self.cells.len()) as usize
    }

    /// Whether nothing can be taken now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts all of `values`, or none if they do not fit; true if they did.
    #[inline]
    #[must_use]
    pub fn put(&self, values: &[u32]) -> bool {
        let count = values.len();
        // SAFETY: `MaybeUninit<u32>` has the layout of `u32`, and is only read through this view.
        let values = unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), count) };
        // SAFETY: every value is initialised: they were a `&[u32]`.
        unsafe { self.put_raw(values, || ()) }
    }

    /// As [`Mpmc::put`], and runs `exclusive` at a moment when no other producer is in its own.
    #[inline(always)]
    pub(crate) fn put_noting(&self, values: &[u32], exclusive: impl FnOnce()) -> bool {
        // SAFETY: as in `put`.
        let values = unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) };
        // SAFETY: as in `put`.
        unsafe { self.put_raw(values, exclusive) }
    }

    /// # Safety
    /// Every value is initialised.
    #[inline(always)]
    unsafe fn put_raw(&self, values: &[MaybeUninit<u32>], exclusive: impl FnOnce()) -> bool {
        if values.is_empty() {
            return true;
        }
        let Ok(count) = u32::try_from(values.len()) else { return false };
        // Acquire: the consumers' tail, read next, is then no older than this head.
        let mut head = self.prod.head.load(Ordering::Acquire);
        loop {
            // Acquire: pairs with a consumer's publish; the cells it read are ours to overwrite.
            let taken = self.cons.tail.load(Ordering::Acquire);
            // `head` may be stale, then `used` may exceed the size: the exchange below fails.
            let used = head.wrapping_sub(taken);
            if used > self.cells.len() || count > self.cells.len() - used {
                let now = self.prod.head.load(Ordering::Relaxed);
                if now == head {
                    return false;
                }
                head = now;
                continue;
            }
            // Relaxed: the claim orders nothing; `publish` does.
            match self.prod.head.compare_exchange_weak(
                head,
                head.wrapping_add(count),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        // SAFETY: the exchange made `head..head + count` ours, and the check above says that every
        // earlier reader of these cells has published.
        unsafe { self.cells.write(head, values) };
        self.prod.publish(head, head.wrapping_add(count), exclusive);
        true
    }

    /// Takes up to `values.len()` values, oldest first; returns how many.
    #[inline]
    pub fn take(&self, values: &mut [u32]) -> usize {
        // SAFETY: `values` is valid for writes of its length.
        unsafe { self.take_raw(values.as_mut_ptr().cast(), values.len()) }
    }

    /// Takes the oldest value.
    #[inline]
    pub fn take_one(&self) -> Option<u32> {
        let mut value = MaybeUninit::uninit();
        // SAFETY: `value` is room for one.
        let got = unsafe { self.take_raw(&raw mut value, 1) };
        // SAFETY: it was written if one was taken.
        (got == 1).then(|| unsafe { value.assume_init() })
    }

    /// As [`Mpmc::take`], into memory that may be uninitialised.
    ///
    /// # Safety
    /// `to` is valid for writes of `most` values.
    #[inline(always)]
    pub(crate) unsafe fn take_raw(&self, to: *mut MaybeUninit<u32>, most: usize) -> usize {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        // Acquire: the producers' tail, read next, is then no older than this head; an older one
        // would make the ring seem empty.
        let mut head = self.cons.head.load(Ordering::Acquire);
        let count = loop {
            // Acquire: pairs with a producer's publish; its cells are ours to read.
            let put = self.prod.tail.load(Ordering::Acquire);
            let there = put.wrapping_sub(head);
            // A stale `head` shows as a distance beyond the size; the reload below mends it.
            let count = if there > self.cells.len() { 0 } else { there.min(most) };
            if count == 0 {
                let now = self.cons.head.load(Ordering::Relaxed);
                if now == head {
                    return 0;
                }
                head = now;
                continue;
            }
            match self.cons.head.compare_exchange_weak(
                head,
                head.wrapping_add(count),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => break count,
                Err(now) => head = now,
            }
        };
        // SAFETY: the exchange made `head..head + count` ours; they were published before `put`.
        unsafe { self.cells.read(head, to, count as usize) };
        self.cons.publish(head, head.wrapping_add(count), || ());
        count as usize
    }
}
