//! One producer, one consumer, on two cores. Each cell carries its value and the lap it was written
//! in, so the consumer needs no index of the producer's: one cache line travels where `rte_ring`
//! moves three. The consumer's index travels back only when the producer runs out of known room.
//!
//! Knows numbers, not buffers.

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU32, AtomicU64, Ordering};

struct Ring {
    /// Low half: the value; high half: the lap (1, 2, …), so that a fresh cell (0) is never valid.
    cells: Box<[AtomicU64]>,
    /// How far the consumer got; its own line, read by the producer only when it seems full.
    taken: CachePadded<AtomicU32>,
    bits: u32,
}

impl Ring {
    /// The cell of index `at`.
    #[inline(always)]
    fn index(&self, at: u32) -> usize {
        at as usize & (self.cells.len() - 1)
    }

    /// Cells from index `at` to the end of the array.
    #[inline(always)]
    fn to_wrap(&self, at: u32) -> usize {
        self.cells.len() - self.index(at)
    }

    /// The lap in which index `at` is written, in the cell's high half. Laps run 1.. and wrap
    /// through 2^(32 - bits) values; the cell's earlier content is one lap behind, never equal.
    fn lap(&self, at: u32) -> u64 {
        (u64::from(at >> self.bits) + 1) << 32
    }
}

/// The sending end of [`channel`].
pub struct Producer {
    ring: Arc<Ring>,
    at: u32,
    /// The consumer's index as last read: room is computed from it until it runs out.
    seen: u32,
}

/// The receiving end of [`channel`].
pub struct Consumer {
    ring: Arc<Ring>,
    at: u32,
    /// Values seen by [`Consumer::peek`] whose cells have not been given back.
    peeked: usize,
}

/// A ring of `capacity` values, a power of two from 2 to 2^30.
///
/// # Panics
/// If `capacity` is not such a number.
#[must_use]
pub fn channel(capacity: usize) -> (Producer, Consumer) {
    channel_starting_at(capacity, 0)
}

/// As [`channel`], with the indices started at `start`: tests begin shortly before the wrap.
///
/// # Panics
/// If `capacity` is not a power of two from 2 to 2^30.
#[must_use]
pub fn channel_starting_at(capacity: usize, start: u32) -> (Producer, Consumer) {
    assert!(
        capacity.is_power_of_two() && (2..=1 << 30).contains(&capacity),
        "ring size {capacity}: a power of two from 2 to 2^30"
    );
    let ring = Arc::new(Ring {
        cells: (0..capacity).map(|_| AtomicU64::new(0)).collect(),
        taken: CachePadded::new(AtomicU32::new(start)),
        bits: capacity.trailing_zeros(),
    });
    let producer = Producer { ring: Arc::clone(&ring), at: start, seen: start };
    (producer, Consumer { ring, at: start, peeked: 0 })
}

impl Producer {
    /// Values that fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ring.cells.len()
    }

    /// How many of the values sent so far the consumer has taken, as a free-running count.
    pub fn taken(&mut self) -> u32 {
        // Acquire: what the consumer did before it gave the cells back is visible after this.
        self.seen = self.ring.taken.load(Ordering::Acquire);
        self.seen
    }

    /// How many values were sent so far, as a free-running count.
    #[must_use]
    pub fn sent(&self) -> u32 {
        self.at
    }

    /// Known room, after asking the consumer's index if `want` needs it.
    #[inline]
    pub fn room_for(&mut self, want: usize) -> usize {
        let capacity = self.ring.cells.len();
        let mut room = capacity - self.at.wrapping_sub(self.seen) as usize;
        if room < want {
            room = capacity - self.at.wrapping_sub(self.taken()) as usize;
        }
        room
    }

    /// The latency path: one value, nothing else to work out.
    #[inline]
    fn send_one(&mut self, value: u32) -> usize {
        if self.at.wrapping_sub(self.seen) as usize >= self.ring.cells.len()
            && self.room_for(1) == 0
        {
            return 0;
        }
        let cell = &self.ring.cells[self.ring.index(self.at)];
        // Release: as in `send`.
        cell.store(self.ring.lap(self.at) | u64::from(value), Ordering::Release);
        self.at = self.at.wrapping_add(1);
        1
    }

    /// Sends from the front of `values` as many as fit; returns how many.
    #[inline]
    pub fn send(&mut self, values: &[u32]) -> usize {
        if let [one] = values {
            return self.send_one(*one);
        }
        let count = values.len().min(self.room_for(values.len()));
        let (now, wrapped) = values[..count].split_at(count.min(self.ring.to_wrap(self.at)));
        for values in [now, wrapped] {
            let (start, lap) = (self.ring.index(self.at), self.ring.lap(self.at));
            for (cell, value) in self.ring.cells[start..start + values.len()].iter().zip(values) {
                // Release: what the caller wrote for this value is visible to whoever reads it here.
                cell.store(lap | u64::from(*value), Ordering::Release);
            }
            self.at = self.at.wrapping_add(narrow(values.len()));
        }
        count
    }
}

/// A count of values: far below 2^32, since rings are at most 2^30.
#[inline(always)]
fn narrow(count: usize) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "at most the ring's size, 2^30")]
    let narrow = count as u32;
    narrow
}

impl Consumer {
    /// Takes up to `values.len()` values, oldest first; returns how many. The cells go back to the
    /// producer at once.
    #[inline]
    pub fn recv(&mut self, values: &mut [u32]) -> usize {
        let count = self.peek(values);
        self.give_back(count);
        count
    }

    /// As [`Consumer::recv`], but the cells stay until [`Consumer::give_back`]: what a software
    /// device does that still reads the buffers behind the values.
    #[inline]
    pub fn peek(&mut self, values: &mut [u32]) -> usize {
        // An empty ring is the commonest answer, and the quickest to find out. Acquire: as below.
        let next = self.ring.cells[self.ring.index(self.at)].load(Ordering::Acquire);
        if next >> 32 << 32 != self.ring.lap(self.at) {
            return 0;
        }
        if let [one] = values {
            #[expect(clippy::cast_possible_truncation, reason = "the low half is the value")]
            let low = next as u32;
            *one = low;
            self.peeked = self.peeked.max(1);
            return 1;
        }
        let most = values.len().min(self.ring.cells.len());
        let split = most.min(self.ring.to_wrap(self.at));
        let (now, wrapped) = values[..most].split_at_mut(split);
        let mut count = 0;
        for values in [now, wrapped] {
            let at = self.at.wrapping_add(narrow(count));
            let (start, lap) = (self.ring.index(at), self.ring.lap(at));
            for (cell, value) in self.ring.cells[start..start + values.len()].iter().zip(values) {
                // Acquire: pairs with the producer's release of this very cell.
                let cell = cell.load(Ordering::Acquire);
                if cell >> 32 << 32 != lap {
                    self.peeked = self.peeked.max(count);
                    return count;
                }
                #[expect(clippy::cast_possible_truncation, reason = "the low half is the value")]
                let low = cell as u32;
                *value = low;
                count += 1;
            }
        }
        self.peeked = self.peeked.max(count);
        count
    }

    /// Gives the oldest `count` cells back to the producer.
    ///
    /// # Panics
    /// If fewer values were seen: a cell that was not read is not ours to give.
    #[inline]
    pub fn give_back(&mut self, count: usize) {
        assert!(count <= self.peeked, "{count} cells given back, {} were seen", self.peeked);
        if count == 0 {
            return;
        }
        self.peeked -= count;
        self.at = self.at.wrapping_add(narrow(count));
        // Release: the consumer's reads of the cells, and of the buffers behind them, are done.
        self.ring.taken.store(self.at, Ordering::Release);
    }

    /// How many values were given back so far, as a free-running count.
    #[must_use]
    pub fn received(&self) -> u32 {
        self.at
    }
}
