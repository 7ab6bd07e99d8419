//! How many slots of a pool are with a library that keeps its own books: what [`crate::InFlight`] is for a
//! device's ring, without knowing which slot is where.

#![expect(clippy::disallowed_types, reason = "control plane: tallies come and go with queues")]

use std::sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering};

use crate::{
    Access, Pool,
    core::{Gauge, bump},
};

/// Counts the slots that [`crate::Burst::surrender_front`] gave away and [`crate::Burst::adopt`] has not
/// brought back, so that the pool's audit shows them in flight. Shared by all who give and take.
pub struct Surrendered<A: Access> {
    gauge: Arc<Gauge>,
    tallies: Mutex<Vec<Weak<Gauge>>>,
    pool: Pool<A>,
}

/// One worker's part of the count: a plain store where [`Surrendered`] itself adds atomically. What one worker
/// gave away another may take back, so a part alone says nothing.
pub struct Tally<A: Access> {
    away: u32,
    gauge: Arc<Gauge>,
    whole: Arc<Gauge>,
    pool: Pool<A>,
}

impl<A: Access> Surrendered<A> {
    /// None yet.
    #[must_use]
    pub fn new(pool: &Pool<A>) -> Self {
        Self { gauge: gauge(pool), tallies: Mutex::default(), pool: pool.clone() }
    }

    /// A worker's own part of the count. It is added to the whole when it is dropped.
    #[must_use]
    pub fn tally(&self) -> Tally<A> {
        let gauge = gauge(&self.pool);
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.retain(|known| known.strong_count() > 0);
        tallies.push(Arc::downgrade(&gauge));
        Tally { away: 0, gauge, whole: Arc::clone(&self.gauge), pool: self.pool.clone() }
    }

    /// The pool whose slots these are.
    #[must_use]
    pub fn pool(&self) -> &Pool<A> {
        &self.pool
    }

    /// Slots away now.
    #[must_use]
    pub fn count(&self) -> usize {
        // A tally is folded under this lock.
        let _control = self.pool.core().control();
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = tallies.iter().filter_map(Weak::upgrade);
        let whole = self.gauge.load(Ordering::Relaxed);
        parts
            .fold(whole, |sum, part| sum.wrapping_add(part.load(Ordering::Relaxed)))
            .cast_signed()
            .max(0) as usize
    }

    /// `count` slots are about to be given away, once per burst: they are counted before they can come back.
    #[inline]
    pub fn gave(&self, count: usize) {
        // Relaxed: a figure for `audit`.
        self.gauge.fetch_add(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// `count` slots came back, once per burst.
    #[inline]
    pub fn took(&self, count: usize) {
        self.gauge.fetch_sub(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}

/// A count that the pool's audit adds to those in flight.
fn gauge<A: Access>(pool: &Pool<A>) -> Arc<Gauge> {
    let gauge = Arc::new(Gauge::default());
    let mut control = pool.core().control();
    control.in_flight.retain(|known| known.strong_count() > 0);
    control.in_flight.push(Arc::downgrade(&gauge));
    gauge
}

impl<A: Access> Tally<A> {
    /// As [`Surrendered::gave`].
    #[inline]
    pub fn gave(&mut self, count: usize) {
        self.publish(self.away.wrapping_add(low(count)));
    }

    /// As [`Surrendered::took`].
    #[inline]
    pub fn took(&mut self, count: usize) {
        self.publish(self.away.wrapping_sub(low(count)));
    }

    #[inline(always)]
    fn publish(&mut self, away: u32) {
        self.away = away;
        // Relaxed: a figure for `audit`, with one writer.
        self.gauge.store(away, Ordering::Relaxed);
    }
}

/// A burst's count; counts wrap anyway.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "at most a burst's capacity, 512")]
fn low(count: usize) -> u32 {
    count as u32
}

impl<A: Access> Drop for Tally<A> {
    fn drop(&mut self) {
        let _control = self.pool.core().control();
        self.gauge.store(0, Ordering::Relaxed);
        self.whole.fetch_add(self.away, Ordering::Relaxed);
    }
}

impl<A: Access> Drop for Surrendered<A> {
    /// What is away now never comes back: it is lost, and counted.
    fn drop(&mut self) {
        let lost = self.count();
        if lost > 0 {
            bump(&self.pool.core().events.leaked, lost);
            tracing::warn!(
                pool = self.pool.name(),
                buffers = lost,
                "a library never gave these buffers back: they are lost"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Burst, Cpu, heap::Heap};

    #[test]
    fn slots_with_a_library_are_in_flight_and_lost_if_it_keeps_them() {
        let pool = Pool::<Cpu>::builder().slots(64).memory(&Heap::new()).build().unwrap();
        let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
        let away = Surrendered::new(&pool);
        cache.take(&mut burst, 3);
        let mut slots = Vec::new();
        away.gave(3);
        burst.surrender_front(3, |given| {
            slots.extend_from_slice(given);
            given.len()
        });
        assert_eq!((pool.audit().in_flight, pool.audit().held), (3, 0));
        adopt(&mut burst, slots[0]);
        away.took(1);
        burst.recycle(&mut cache);
        drop(away);
        let audit = pool.audit();
        assert_eq!((audit.in_flight, audit.leaked, audit.held), (0, 2, 0), "{audit}");
    }

    #[test]
    fn what_one_worker_gives_another_may_take_and_the_sum_is_exact() {
        let pool = Pool::<Cpu>::builder().slots(64).memory(&Heap::new()).build().unwrap();
        let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
        let away = Surrendered::new(&pool);
        let (mut sender, mut receiver) = (away.tally(), away.tally());
        cache.take(&mut burst, 3);
        let mut slots = Vec::new();
        sender.gave(3);
        burst.surrender_front(3, |given| {
            slots.extend_from_slice(given);
            given.len()
        });
        receiver.took(1);
        adopt(&mut burst, slots[0]);
        assert_eq!((away.count(), pool.audit().in_flight, pool.audit().held), (2, 2, 1));
        drop(sender);
        assert_eq!((away.count(), pool.audit().in_flight), (2, 2), "folded into the whole");
        receiver.took(2);
        adopt(&mut burst, slots[1]);
        adopt(&mut burst, slots[2]);
        drop(receiver);
        assert_eq!((away.count(), pool.audit().in_flight, pool.audit().held), (0, 0, 3));
    }

    #[expect(unsafe_code, reason = "plays the library")]
    fn adopt(burst: &mut Burst<Cpu>, slot: u32) {
        // SAFETY: the slot was surrendered by the test, and is adopted once.
        let count = unsafe {
            burst.adopt(false, |free| {
                free[0] = slot;
                1
            })
        };
        assert_eq!(count, 1);
    }
}
