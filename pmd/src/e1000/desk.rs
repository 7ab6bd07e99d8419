//! For unit tests: the device's side of one ring, worked by hand, a descriptor at a time. Not a model of a
//! chip; it lays out descriptors anew, from the datasheets, and checks what a queue hands it.
#![allow(unsafe_code, reason = "stands for a device: reads and writes memory by address")]

use std::{
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use mempool::{Cpu, Device, Pool, heap::Heap};

use super::ring::Wiring;
use crate::{
    Iova, QueueCounters,
    pci::{Gate, Mmio, SharedMemory},
};

/// The tail register, and how often it was written.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail(Arc<(AtomicU32, AtomicU32)>);

impl Mmio for Tail {
    fn read(&self, _offset: u32) -> u32 {
        0
    }

    fn write(&self, offset: u32, value: u32) {
        assert_eq!(offset, TAIL);
        self.0.0.store(value, Ordering::Relaxed);
        self.0.1.fetch_add(1, Ordering::Relaxed);
    }
}

const TAIL: u32 = 0x2818;

/// The device's side of a ring.
pub(super) struct Desk {
    words: Arc<[AtomicU64]>,
    /// Words of a descriptor.
    size: usize,
    count: usize,
    /// The next descriptor that the device uses; below `count`.
    pub(super) head: usize,
    pub(super) tail: Tail,
    pub(super) gate: Gate,
}

impl Desk {
    /// A ring of `count` descriptors of `size` words.
    pub(super) fn new(count: usize, size: usize) -> (Self, Wiring<Tail>) {
        // One word more: descriptors are aligned to 16.
        let words: Arc<[AtomicU64]> = (0..=count * size).map(|_| AtomicU64::new(0)).collect();
        let (tail, gate) = (Tail::default(), Gate::new());
        let desk = Self { words, size, count, head: 0, tail: tail.clone(), gate: gate.clone() };
        let base = NonNull::from(&desk.words[desk.first()]).cast();
        let memory = SharedMemory::new(base, Iova(0), count * size * 8, Arc::clone(&desk.words));
        let counters = QueueCounters::default();
        let wiring =
            Wiring { index: 0, memory, descriptors: count, mmio: tail, tail: TAIL, gate, counters };
        (desk, wiring)
    }

    fn first(&self) -> usize {
        usize::from(!(self.words.as_ptr() as usize).is_multiple_of(16))
    }

    /// A word of a descriptor.
    pub(super) fn word(&self, place: usize, word: usize) -> &AtomicU64 {
        &self.words[self.first() + place * self.size + word]
    }

    pub(super) fn read(&self, place: usize, word: usize) -> u64 {
        self.word(place, word).load(Ordering::Acquire)
    }

    /// Writes a word of the descriptor at the head.
    pub(super) fn write(&self, word: usize, value: u64) {
        self.word(self.head, word).store(value, Ordering::Release);
    }

    /// Where the tail points.
    pub(super) fn tail(&self) -> usize {
        let tail = self.tail.0.0.load(Ordering::Relaxed) as usize;
        let unit = self.size / 2;
        assert!(tail.is_multiple_of(unit) && tail / unit < self.count, "tail {tail}");
        tail / unit
    }

    /// Writes to the tail register so far.
    pub(super) fn doorbells(&self) -> u32 {
        self.tail.0.1.load(Ordering::Relaxed)
    }

    /// Descriptors that are the device's.
    pub(super) fn ours(&self) -> usize {
        (self.tail() + self.count - self.head) % self.count
    }

    pub(super) fn advance(&mut self) {
        self.head = (self.head + 1) % self.count;
    }

    /// Writes bytes by an address that the queue gave.
    pub(super) fn put(address: u64, bytes: &[u8]) {
        let to = std::ptr::with_exposed_provenance_mut::<u8>(usize::try_from(address).unwrap());
        // SAFETY: an address of a posted buffer, which has room (the caller keeps to its size).
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// Reads bytes by an address that the queue gave.
    pub(super) fn get(address: u64, len: usize) -> Vec<u8> {
        let from = std::ptr::with_exposed_provenance::<u8>(usize::try_from(address).unwrap());
        // SAFETY: an address of a posted frame of that length.
        unsafe { std::slice::from_raw_parts(from, len) }.to_vec()
    }

    /// Uses one descriptor for (a piece of) a whole frame; false if there is none.
    pub(super) fn put_piece(&mut self, bytes: &[u8], is_last: bool) -> bool {
        if self.ours() == 0 {
            return false;
        }
        assert_eq!(self.read(self.head, 1), 0, "a descriptor is given without a done bit");
        Self::put(self.read(self.head, 0), bytes);
        let status = 1 | u64::from(is_last) << 1;
        self.write(0, 0);
        self.write(1, status | (bytes.len() as u64) << 32);
        self.advance();
        true
    }

    /// Receives a whole frame into buffers of `buffer` bytes; false, and nothing done, if there are too
    /// few descriptors.
    pub(super) fn put_frame(&mut self, frame: &[u8], buffer: usize) -> bool {
        if self.ours() < frame.len().div_ceil(buffer) {
            return false;
        }
        let mut pieces = frame.chunks(buffer).peekable();
        while let Some(piece) = pieces.next() {
            assert!(self.put_piece(piece, pieces.peek().is_none()));
        }
        true
    }

    /// States anything in the descriptor at the head, in the words that both kinds of 16 bytes have.
    pub(super) fn put_words(&mut self, words: &[u64]) {
        assert!(self.ours() > 0, "no descriptor");
        for (at, word) in words.iter().enumerate().rev() {
            self.write(at, *word);
        }
        self.advance();
    }
}

/// A pool of buffers with `room` bytes behind the usual headroom.
pub(super) fn pool(slots: usize, room: usize) -> Pool<Cpu> {
    let builder = Pool::<Cpu>::builder().slots(slots).headroom(128).stride(128 + room);
    builder.memory(&Heap::new()).build().unwrap()
}

/// A pool of payload buffers.
pub(super) fn device_pool(slots: usize, room: usize) -> Pool<Device> {
    Pool::<Device>::builder().slots(slots).stride(room).memory(&Heap::new()).build().unwrap()
}

/// Bytes of a frame that differ by number and place.
pub(super) fn frame(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((number * 31 + at * 7 + at / 256) % 256).unwrap()).collect()
}
