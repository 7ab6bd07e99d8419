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

#[cfg(test)]
mod tests {
    use super::{QueuePlan, Sizing, format_bytes};

    #[test]
    fn a_pool_too_small_for_its_rings_is_refused_with_the_sum() {
        let sizing = Sizing {
            queues: vec![QueuePlan { rx_ring: 512, tx_ring: 256 }; 2],
            workers: 2,
            cache: 256,
            burst: 32,
            held: 100,
        };
        assert_eq!(sizing.needed(), 1536 + 512 + 64 + 100);
        assert_eq!(sizing.check(2212), Ok(()));
        let text = sizing.check(2211).unwrap_err().to_string();
        assert_eq!(
            text,
            "pool of 2211 buffers is too small: rings take 1536, 2 caches of 256 keep up to 512, \
             bursts hold 64, the application 100: at least 2212 are needed (next power of two: 4096)"
        );
        assert_eq!(Sizing::default().check(0), Ok(()));
    }

    #[test]
    fn absurd_figures_saturate() {
        let ring = QueuePlan { rx_ring: usize::MAX, tx_ring: 1 };
        let sizing =
            Sizing { queues: vec![ring], workers: usize::MAX, cache: 2, burst: 2, held: 1 };
        assert_eq!(sizing.needed(), usize::MAX);
        let text = sizing.check(64).unwrap_err().to_string();
        assert!(text.contains("too small"), "{text}");
    }

    #[test]
    fn bytes_are_for_people() {
        let cases = [
            (0, "0 B"),
            (640, "640 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1535, "1.4 KiB"),
            (1536, "1.5 KiB"),
            (12 << 10, "12 KiB"),
            ((2 << 30) + (103 << 20), "2.1 GiB"),
            ((100 << 20) + (512 << 10), "100 MiB"),
            ((1 << 40) - 1, "1023 GiB"),
            (1 << 40, "1 TiB"),
            (u64::MAX, "16777215 TiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(format_bytes(bytes), text, "{bytes}");
        }
    }
}
