//! How many slots of a pool are with a library that keeps its own books: what [`crate::InFlight`] is for a
//! device's ring, without knowing which slot is where.

use std::sync::{Arc, atomic::Ordering};

use crate::{
    Access, Pool,
    core::{Gauge, bump},
};

/// Counts the slots that [`crate::Burst::surrender_front`] gave away and [`crate::Burst::adopt`] has not
/// brought back, so that the pool's audit shows them in flight. Shared by all who give and take.
pub struct Surrendered<A: Access> {
    gauge: Arc<Gauge>,
    pool: Pool<A>,
}

impl<A: Access> Surrendered<A> {
    /// None yet.
    #[must_use]
    pub fn new(pool: &Pool<A>) -> Self {
        let gauge = Arc::new(Gauge::default());
        let mut control = pool.core().control();
        control.in_flight.retain(|known| known.strong_count() > 0);
        control.in_flight.push(Arc::downgrade(&gauge));
        drop(control);
        Self { gauge, pool: pool.clone() }
    }

    /// The pool whose slots these are.
    #[must_use]
    pub fn pool(&self) -> &Pool<A> {
        &self.pool
    }

    /// Slots away now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.gauge.load(Ordering::Relaxed) as usize
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
