//! Which bytes of a range are handed out. Numbers only.

use std::{collections::BTreeMap, ops::Range};

/// A range, carved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Carver {
    all: Range<u64>,
    /// First byte and bytes of each part that is out.
    used: BTreeMap<u64, u64>,
}

impl Carver {
    pub(crate) fn new(all: Range<u64>) -> Self {
        Self { all, used: BTreeMap::new() }
    }

    /// The first free `len` bytes (more than 0) at a multiple of `align`.
    pub(crate) fn take(&mut self, len: u64, align: u64) -> Option<u64> {
        let fits = |gap: Range<u64>| {
            let at = gap.start.checked_next_multiple_of(align)?;
            (at.checked_add(len)? <= gap.end).then_some(at)
        };
        let at = self.gaps().find_map(fits)?;
        self.used.insert(at, len);
        Some(at)
    }

    /// Gives back what starts there.
    pub(crate) fn give(&mut self, at: u64) {
        self.used.remove(&at);
    }

    /// Bytes in all.
    pub(super) fn capacity(&self) -> u64 {
        self.all.end - self.all.start
    }

    /// Parts that are out.
    pub(super) fn parts(&self) -> usize {
        self.used.len()
    }

    /// Bytes that are out.
    pub(crate) fn used(&self) -> u64 {
        self.used.values().sum()
    }

    /// Bytes of the largest part that could be had.
    pub(crate) fn largest(&self) -> u64 {
        self.gaps().map(|gap| gap.end - gap.start).max().unwrap_or(0)
    }

    fn gaps(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let starts = self.used.keys().copied().chain([self.all.end]);
        let ends = [self.all.start].into_iter();
        let ends = ends.chain(self.used.iter().map(|(at, len)| at + len));
        ends.zip(starts).map(|(from, to)| from..to)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_are_carved_first_fit_and_aligned() {
        let mut carver = Carver::new(0x1000..0x9000);
        assert_eq!(carver.take(0x1000, 0x1000), Some(0x1000));
        assert_eq!(carver.take(0x2000, 0x4000), Some(0x4000));
        assert_eq!(carver.take(0x1000, 0x1000), Some(0x2000));
        assert_eq!((carver.used(), carver.largest()), (0x4000, 0x3000));
        assert_eq!(carver.take(0x4000, 0x1000), None);
        carver.give(0x4000);
        assert_eq!(carver.take(0x4000, 0x1000), Some(0x3000));
    }

    proptest! {
        #[test]
        fn parts_never_overlap_and_all_come_back(
            steps in proptest::collection::vec((1u64..9, 0u32..3, any::<bool>(), 0usize..16), 1..80),
        ) {
            let all = 0x3000..0x40_000;
            let mut carver = Carver::new(all.clone());
            let mut held: Vec<(u64, u64)> = Vec::new();
            for (pages, align, is_take, which) in steps {
                if is_take || held.is_empty() {
                    let (len, align) = (pages << 12, 0x1000u64 << align);
                    let Some(at) = carver.take(len, align) else {
                        prop_assert!(carver.largest() < len + align);
                        continue;
                    };
                    prop_assert!(at % align == 0 && at >= all.start && at + len <= all.end);
                    prop_assert!(held.iter().all(|(a, l)| at + len <= *a || a + l <= at));
                    held.push((at, len));
                } else {
                    carver.give(held.swap_remove(which % held.len()).0);
                }
                prop_assert_eq!(carver.used(), held.iter().map(|(_, len)| len).sum::<u64>());
            }
        }
    }
}
