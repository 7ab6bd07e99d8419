//! How many buffers a set of queues and workers can tie up at once, so that a combination that must
//! wedge is refused at start.

/// One queue pair's rings, in descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueuePlan {
    /// Receive ring: that many buffers wait in it, always.
    pub rx_ring: usize,
    /// Transmit ring: up to that many buffers wait in it.
    pub tx_ring: usize,
}

/// What draws on one pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizing {
    /// Queue pairs fed from the pool.
    pub queues: Vec<QueuePlan>,
    /// Workers, each with a cache.
    pub workers: usize,
    /// Slots a cache keeps.
    pub cache: usize,
    /// Frames of a burst.
    pub burst: usize,
    /// Buffers the application keeps across bursts (blocks being filled, queues of its own).
    pub held: usize,
}

/// The pool cannot feed the queues and workers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "pool of {slots} buffers is too small: rings take {rings}, {workers} caches of {cache} keep up \
     to {caches}, bursts hold {bursts}, the application {held}: at least {needed} are needed (next power of two: {})",
    needed.checked_next_power_of_two().unwrap_or(*needed)
)]
pub struct SizingError {
    /// Buffers of the pool.
    pub slots: usize,
    /// Buffers needed.
    pub needed: usize,
    /// Of which in rings.
    pub rings: usize,
    /// Workers.
    pub workers: usize,
    /// Slots of a cache.
    pub cache: usize,
    /// Of which in caches.
    pub caches: usize,
    /// Of which in bursts.
    pub bursts: usize,
    /// Of which with the application.
    pub held: usize,
}

impl Sizing {
    fn parts(&self) -> (usize, usize, usize) {
        let add = |sum: usize, more| sum.saturating_add(more);
        let rings = self.queues.iter().flat_map(|queue| [queue.rx_ring, queue.tx_ring]);
        let times = |each| self.workers.saturating_mul(each);
        (rings.fold(0, add), times(self.cache), times(self.burst))
    }

    /// Buffers that can be out at once: with so many, no worker ever finds the pool empty because
    /// others' caches and rings sit on it.
    #[must_use]
    pub fn needed(&self) -> usize {
        let (rings, caches, bursts) = self.parts();
        [caches, bursts, self.held].into_iter().fold(rings, usize::saturating_add)
    }

    /// Checks a pool size.
    ///
    /// # Errors
    /// It is less than [`Sizing::needed`]; the message lists what takes how many.
    pub fn check(&self, slots: usize) -> Result<(), SizingError> {
        let needed = self.needed();
        if slots >= needed {
            return Ok(());
        }
        let (rings, caches, bursts) = self.parts();
        let Self { workers, cache, held, .. } = *self;
        Err(SizingError { slots, needed, rings, workers, cache, caches, bursts, held })
    }
}

/// Bytes for people: `640 B`, `12 KiB`, `2.1 GiB` (powers of 1024).
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scale = 1u64;
    while unit + 1 < UNITS.len() && bytes / scale >= 1024 {
        scale *= 1024;
        unit += 1;
    }
    let (whole, rest) = (bytes / scale, bytes % scale);
    let tenth = u128::from(rest) * 10 / u128::from(scale);
    if unit == 0 || tenth == 0 || whole >= 100 {
        format!("{whole} {}", UNITS[unit])
    } else {
        format!("{whole}.{tenth} {}", UNITS[unit])
    }
}
