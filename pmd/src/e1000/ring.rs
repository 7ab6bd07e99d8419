//! A ring of descriptors in memory that the device writes at any time, and the doorbell that goes with
//! it. Knows sizes and order, not what descriptors say.
#![allow(unsafe_code, reason = "atomic access to memory that a device shares")]

use std::{
    mem::ManuallyDrop,
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU64, Ordering, fence},
};

use crate::{
    QueueCounters,
    pci::{Gate, Mmio, SharedMemory},
};

/// A descriptor: little-endian words of 64 bits, as both chips count them.
#[repr(C, align(16))]
pub(super) struct Descriptor<const WORDS: usize>([AtomicU64; WORDS]);

/// Legacy, extended, context, data and advanced ones (82574 §7.1.4, §7.2.5; 82576 §7.1.4, §7.2.2).
pub(super) type Short = Descriptor<2>;
/// Packet split (82574 §7.1.5).
pub(super) type Long = Descriptor<4>;

const _: () = assert!(size_of::<Short>() == 16);
const _: () = assert!(size_of::<Long>() == 32);

impl<const WORDS: usize> Descriptor<WORDS> {
    /// The word with the done bit. Acquire: the device writes that bit last, so every other word read
    /// after this call is of the same write-back, or of a later one that a broken device made.
    #[inline(always)]
    pub(super) fn load_done(&self, word: usize) -> u64 {
        u64::from_le(self.0[word].load(Ordering::Acquire))
    }

    /// Another word, read once, after [`Descriptor::load_done`].
    #[inline(always)]
    pub(super) fn load(&self, word: usize) -> u64 {
        u64::from_le(self.0[word].load(Ordering::Relaxed))
    }

    /// Writes all words. Relaxed: the device looks here only once the doorbell was rung, and
    /// [`Doorbell::ring`] orders that.
    #[inline(always)]
    pub(super) fn store(&self, words: [u64; WORDS]) {
        for (cell, word) in self.0.iter().zip(words) {
            cell.store(word.to_le(), Ordering::Relaxed);
        }
    }
}

/// Descriptors, by an index that runs free and is masked here.
pub(super) struct Ring<D> {
    first: NonNull<D>,
    mask: usize,
    memory: Option<SharedMemory>,
    gate: Gate,
}

// SAFETY: an address in memory that `memory` keeps, which is `Send`.
unsafe impl<D: Send> Send for Ring<D> {}

impl<D> Ring<D> {
    /// The first `count` descriptors (a power of two) of a piece of memory.
    ///
    /// # Panics
    /// If the memory is too small for them or not aligned to them.
    pub(super) fn new(memory: SharedMemory, count: usize, gate: Gate) -> Self {
        let first = memory.base().cast::<D>();
        assert!(count.is_power_of_two(), "a ring of {count} descriptors");
        assert!(count * size_of::<D>() <= memory.len(), "{count} descriptors in {memory:?}");
        assert!(first.is_aligned(), "a ring at {first:?}");
        Self { first, mask: count - 1, memory: Some(memory), gate }
    }

    /// Descriptors.
    #[inline(always)]
    pub(super) fn count(&self) -> usize {
        self.mask + 1
    }

    /// An index that stands for descriptor 0 and wraps after one turn: a wrap that every run meets
    /// cannot hide.
    pub(super) fn origin(&self) -> usize {
        self.count().wrapping_neg()
    }

    /// Where an index that runs free points.
    #[inline(always)]
    pub(super) fn place(&self, index: usize) -> usize {
        index & self.mask
    }

    /// The descriptors from an index on, up to `most`, as far as they lie in one piece.
    #[inline(always)]
    pub(super) fn run(&self, index: usize, most: usize) -> &[D] {
        let at = index & self.mask;
        let count = most.min(self.count() - at);
        // SAFETY: `at + count <= count of all`, which the memory spans (`new`).
        let first = unsafe { self.first.add(at) };
        // SAFETY: as `at`, for each of them.
        unsafe { slice::from_raw_parts(first.as_ptr(), count) }
    }

    /// The descriptor at an index.
    #[inline(always)]
    pub(super) fn at(&self, index: usize) -> &D {
        // SAFETY: masked, and `new` checked that the memory spans all of them.
        let at = unsafe { self.first.add(index & self.mask) };
        // SAFETY: inside memory that lives as long as `self` (`new`, `drop`), aligned, initialised by
        // whoever zeroed it; descriptors are atomics, which the device may write meanwhile.
        unsafe { at.as_ref() }
    }
}

impl<D> Drop for Ring<D> {
    /// Until the device has stopped it may read and write here: the memory goes then, or stays.
    fn drop(&mut self) {
        let memory = ManuallyDrop::new(self.memory.take());
        self.gate.when_stopped(|_| drop(ManuallyDrop::into_inner(memory)));
    }
}

/// The tail register of one ring: hands descriptors to the device.
pub(super) struct Doorbell<M> {
    mmio: M,
    tail: u32,
    /// What one descriptor counts there.
    unit: usize,
}

impl<M: Mmio> Doorbell<M> {
    /// Hands over all descriptors before the one at `place`, by one register write.
    #[inline(always)]
    pub(super) fn ring(&self, place: usize) {
        // Release: whoever sees the new tail sees the descriptors written before. The write itself is
        // ordered behind the fence by `Mmio::write`.
        fence(Ordering::Release);
        #[expect(clippy::cast_possible_truncation, reason = "at most twice the ring, 65536")]
        self.mmio.write(self.tail, (place * self.unit) as u32);
    }
}

/// What a queue belongs to: what stops it, and where it counts.
pub(super) struct Start {
    pub(super) gate: Gate,
    pub(super) counters: QueueCounters,
}

/// What the control plane gives a queue besides buffers.
pub(super) struct Wiring<M> {
    /// The queue's number, for messages.
    pub(super) index: usize,
    /// Zeroed memory for the ring; the ring's registers point there.
    pub(super) memory: SharedMemory,
    /// Descriptors of the ring: a power of two, 8 or more (rings are multiples of 128 bytes).
    pub(super) descriptors: usize,
    /// The registers.
    pub(super) mmio: M,
    /// Byte offset of the ring's tail register (RDT, TDT).
    pub(super) tail: u32,
    /// The start this queue belongs to.
    pub(super) gate: Gate,
    /// The queue's counters; the control plane keeps a clone.
    pub(super) counters: QueueCounters,
}

impl<M: Mmio> Wiring<M> {
    /// The parts a queue works with. `unit` is what one descriptor counts in the tail register.
    pub(super) fn split<D>(self, unit: usize) -> (Ring<D>, Doorbell<M>, Report) {
        let Self { index, memory, descriptors, mmio, tail, gate, counters } = self;
        let ring = Ring::new(memory, descriptors, gate.clone());
        (ring, Doorbell { mmio, tail, unit }, Report { index, gate, counters })
    }
}

/// Where a queue reports to.
pub(super) struct Report {
    pub(super) index: usize,
    pub(super) gate: Gate,
    pub(super) counters: QueueCounters,
}
