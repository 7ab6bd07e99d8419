//! A distribution of nanoseconds with one writer, readable from any thread while it grows: no lock,
//! no stall. Values are kept to 1/64 of themselves; quantiles are HdrHistogram's.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use hdrhistogram::Histogram;

use crate::watch::Latency;

/// Values below this have a cell each; above, each power of two has so many.
const FINE: usize = 1 << FINE_BITS;
const FINE_BITS: u32 = 6;
const CELLS: usize = (64 - FINE_BITS as usize + 1) * FINE;
/// Longest value that is told apart from longer ones: an hour.
const LONGEST: u64 = 3_600_000_000_000;

#[derive(Debug)]
struct Cells {
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
}

/// How often each value occurred. Clones share it; one of them writes.
#[derive(Clone, Debug)]
pub struct Distribution(Arc<Cells>);

impl Default for Distribution {
    fn default() -> Self {
        Self(Arc::new(Cells {
            counts: (0..CELLS).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
        }))
    }
}

/// One writer: no read-modify-write is needed.
#[inline]
fn add(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

#[inline]
fn cell_of(value: u64) -> usize {
    let shift = (64 - FINE_BITS).saturating_sub(value.leading_zeros() + 1) + 1;
    let shift = if value < FINE as u64 { 0 } else { shift };
    // The top bits of the value, at least `FINE` but for the first row.
    #[expect(clippy::cast_possible_truncation, reason = "below 2 * FINE")]
    let fine = (value >> shift) as usize;
    shift as usize * (FINE / 2) + fine
}

/// A value in the middle of a cell.
fn value_of(cell: usize) -> u64 {
    let half = FINE / 2;
    if cell < FINE {
        return cell as u64;
    }
    let shift = (cell - half) / half;
    let fine = (cell - shift * half) as u64;
    (fine << shift) + (1u64 << shift >> 1)
}

impl Distribution {
    /// Counts a value that occurred `times` times. The one writer's alone to call.
    #[inline]
    pub fn record(&self, value: u64, times: u64) {
        let cells = &*self.0;
        let value = value.min(LONGEST);
        add(&cells.counts[cell_of(value)], times);
        add(&cells.sum, value.wrapping_mul(times));
        if value < cells.min.load(Ordering::Relaxed) {
            cells.min.store(value, Ordering::Relaxed);
        }
        if value > cells.max.load(Ordering::Relaxed) {
            cells.max.store(value, Ordering::Relaxed);
        }
    }

    /// Forgets everything. The one writer's alone to call.
    pub fn clear(&self) {
        let cells = &*self.0;
        cells.counts.iter().for_each(|cell| cell.store(0, Ordering::Relaxed));
        cells.sum.store(0, Ordering::Relaxed);
        cells.min.store(u64::MAX, Ordering::Relaxed);
        cells.max.store(0, Ordering::Relaxed);
    }

    /// What several distributions say together; `None` if nothing was counted.
    #[must_use]
    pub fn summary<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Option<Latency> {
        let mut all = Histogram::<u64>::new_with_bounds(1, LONGEST, 3).ok()?;
        let (mut sum, mut min, mut max) = (0.0, u64::MAX, 0);
        for Self(cells) in parts {
            for (cell, count) in cells.counts.iter().enumerate() {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    all.saturating_record_n(value_of(cell), count);
                }
            }
            sum += cells.sum.load(Ordering::Relaxed) as f64;
            min = min.min(cells.min.load(Ordering::Relaxed));
            max = max.max(cells.max.load(Ordering::Relaxed));
        }
        let count = all.len();
        // A cell's middle may lie outside what was seen.
        let at = |quantile| all.value_at_quantile(quantile).clamp(min, max);
        (count > 0).then(|| Latency {
            count,
            min_ns: min,
            mean_ns: sum / count as f64,
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            p9999_ns: at(0.9999),
            max_ns: max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_finds_a_cell_near_itself() {
        let mut last = 0;
        for value in (0..200_000u64).chain((18..42).map(|bits| (1 << bits) + 12_345)) {
            let cell = cell_of(value);
            assert!(cell >= last && cell < CELLS, "{value} in cell {cell}");
            last = cell;
            assert!(value_of(cell).abs_diff(value) <= value / 32, "{value}: {}", value_of(cell));
        }
        assert!(cell_of(u64::MAX) < CELLS);
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let [one, two] = [Distribution::default(), Distribution::default()];
        assert_eq!(Distribution::summary([&one]), None);
        (1..=50_000u64).for_each(|value| one.record(value, 1));
        (50_001..=100_000u64).for_each(|value| two.record(value, 1));
        let all = Distribution::summary([&one, &two]).unwrap();
        assert_eq!((all.count, all.min_ns, all.max_ns), (100_000, 1, 100_000));
        for (value, expected) in
            [(all.p50_ns, 50_000), (all.p99_ns, 99_000), (all.p9999_ns, 99_990)]
        {
            assert!(u64::abs_diff(value, expected) < expected / 32, "{value} for {expected}");
        }
        assert!((all.mean_ns - 50_000.5).abs() < 1.0);
        one.clear();
        assert_eq!(Distribution::summary([&one]), None);
    }
}
