//! Which addresses of a device's are taken: places mappings inside the ranges that the kernel names.
//! Numbers only; maps nothing.

use std::collections::BTreeMap;

/// From here upward if there is room: below are what 32-bit devices and the machine itself like to use.
const PREFERRED: u64 = 1 << 32;

/// The addresses of one address space.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space {
    /// What devices can reach: first and last, sorted, apart.
    ranges: Vec<(u64, u64)>,
    /// What is taken: first address and bytes.
    used: BTreeMap<u64, u64>,
    /// The smallest page.
    page: u64,
}

/// A wish for an address: a multiple of `align`, plus `phase`, which is smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) align: u64,
    pub(crate) phase: u64,
}

impl Place {
    /// The place for memory that starts at `base` in its own space: so that the IOMMU can use the large
    /// pages that the memory is made of.
    pub(crate) fn like(base: u64, len: u64, page: u64) -> Self {
        let large = [1 << 30, 2 << 20].into_iter().find(|&large| len >= large && large >= page);
        let align = large.unwrap_or(page.max(1));
        Self { align, phase: base % align }
    }
}

impl Space {
    /// What devices can reach, first and last each, and the smallest page (a power of two).
    pub(crate) fn set_ranges(&mut self, ranges: &[(u64, u64)], page: u64) {
        self.ranges = ranges.iter().copied().filter(|(first, last)| first <= last).collect();
        self.ranges.sort_unstable();
        self.page = page.max(1);
    }

    /// The smallest page.
    pub(crate) fn page(&self) -> u64 {
        self.page
    }

    /// The last address that devices can reach.
    pub(crate) fn limit(&self) -> u64 {
        self.ranges.last().map_or(0, |&(_, last)| last)
    }

    /// Bytes that can be reached and are free, at most `u64::MAX`.
    pub(crate) fn free_bytes(&self) -> u64 {
        let all = self.ranges.iter().map(|&(first, last)| u128::from(last - first) + 1);
        let used: u128 = self.used.values().map(|&len| u128::from(len)).sum();
        u64::try_from(all.sum::<u128>().saturating_sub(used)).unwrap_or(u64::MAX)
    }

    /// Takes `len` bytes: at the place wished for, or at any multiple of a page if there is none left.
    pub(crate) fn take(&mut self, len: u64, place: Place) -> Option<u64> {
        let anywhere = Place { align: self.page, phase: 0 };
        let found = self.find(len, place).or_else(|| self.find(len, anywhere))?;
        self.used.insert(found, len);
        Some(found)
    }

    /// Gives back what starts there.
    pub(crate) fn give(&mut self, iova: u64) {
        self.used.remove(&iova);
    }

    fn find(&self, len: u64, place: Place) -> Option<u64> {
        let len = len.max(1);
        let windows = [(PREFERRED, u64::MAX), (self.page, PREFERRED - 1)];
        windows.into_iter().find_map(|(low, high)| {
            self.ranges.iter().find_map(|&(first, last)| {
                self.find_between(first.max(low), last.min(high), len, place)
            })
        })
    }

    /// The first free place between two addresses, both included.
    fn find_between(&self, first: u64, last: u64, len: u64, place: Place) -> Option<u64> {
        if first > last {
            return None;
        }
        // What was taken before `first` may reach into it.
        let before = self.used.range(..first).next_back();
        let mut from = before.map_or(first, |(&start, &len)| first.max(start.saturating_add(len)));
        let mut taken = self.used.range(first..=last);
        loop {
            let candidate = place.at_or_above(from)?;
            let end = candidate.checked_add(len - 1).filter(|&end| end <= last)?;
            // Everything taken that ends before the candidate lies behind us.
            match taken.find(|&(&start, &len)| start.saturating_add(len) > candidate) {
                Some((&start, &len)) if start <= end => from = start.checked_add(len)?,
                _ => return Some(candidate),
            }
        }
    }
}

impl Place {
    fn at_or_above(self, from: u64) -> Option<u64> {
        let floor = from - from % self.align;
        let here = floor.checked_add(self.phase)?;
        if here >= from { Some(here) } else { here.checked_add(self.align) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: u64 = 4096;
    const ANY: Place = Place { align: PAGE, phase: 0 };

    fn space(ranges: &[(u64, u64)]) -> Space {
        let mut space = Space::default();
        space.set_ranges(ranges, PAGE);
        space
    }

    #[test]
    fn addresses_start_at_4_gib_and_follow_each_other() {
        let mut space = space(&[(0, 0xfedf_ffff), (0xfef0_0000, 0x7f_ffff_ffff)]);
        assert_eq!(space.take(0x2000, ANY), Some(1 << 32));
        assert_eq!(space.take(0x1000, ANY), Some((1 << 32) + 0x2000));
        space.give(1 << 32);
        assert_eq!(space.take(0x1000, ANY), Some(1 << 32), "what was given back is taken again");
        assert_eq!(space.take(0x2000, ANY), Some((1 << 32) + 0x3000), "and only where it fits");
    }

    #[test]
    fn a_device_of_32_bits_gets_low_addresses_and_never_0() {
        let mut space = space(&[(0, 0xffff_ffff)]);
        assert_eq!(space.take(0x1000, ANY), Some(0x1000));
        assert_eq!(space.limit(), 0xffff_ffff);
    }

    #[test]
    fn a_hole_between_ranges_is_not_used() {
        let mut space = space(&[(0, 0x2fff), (0x8000, 0x8fff)]);
        assert_eq!(space.take(0x2000, ANY), Some(0x1000));
        assert_eq!(space.take(0x2000, ANY), None);
        assert_eq!(space.take(0x1000, ANY), Some(0x8000));
        assert_eq!(space.free_bytes(), 0x1000, "the page at 0, which is never used");
    }

    #[test]
    fn large_memory_is_placed_as_it_lies_in_its_own_space() {
        let base = 0x7f00_0020_1000;
        let place = Place::like(base, 4 << 20, PAGE);
        assert_eq!(place, Place { align: 2 << 20, phase: 0x1000 });
        let mut space = space(&[(0, u64::MAX)]);
        assert_eq!(space.take(4 << 20, place), Some((1 << 32) + 0x1000));
        assert_eq!(Place::like(base, 1 << 30, PAGE).align, 1 << 30);
        assert_eq!(Place::like(base, 0x1000, PAGE), ANY);
    }

    #[test]
    fn without_room_for_the_place_any_page_will_do() {
        let mut space = space(&[(0x1000, 0x30_0fff)]);
        let place = Place { align: 2 << 20, phase: 0x1000 };
        assert_eq!(space.take(2 << 20, place), Some(0x1000));
        assert_eq!(space.take(0x10_0000, place), Some(0x20_1000));
    }

    #[test]
    fn the_end_of_the_address_space_is_not_walked_over() {
        let mut space = space(&[(u64::MAX - 0x1fff, u64::MAX)]);
        assert_eq!(space.take(0x1000, ANY), Some(u64::MAX - 0x1fff));
        assert_eq!(space.take(0x1000, ANY), Some(u64::MAX - 0xfff));
        assert_eq!(space.take(0x1000, ANY), None);
    }

    proptest! {
        /// Whatever is taken and given back: inside the ranges, apart from each other, where wished.
        #[test]
        fn what_is_taken_is_apart_and_inside(
            ranges in proptest::collection::vec((0u64..1 << 34, 0u64..1 << 24), 1..4),
            steps in proptest::collection::vec((1u64..2000, any::<bool>(), 0usize..64), 1..120),
        ) {
            let mut at = 0;
            let ranges: Vec<(u64, u64)> = ranges.iter().map(|&(gap, len)| {
                let first = (at + gap) / PAGE * PAGE;
                at = first + (len / PAGE + 1) * PAGE;
                (first, at - 1)
            }).collect();
            let mut space = space(&ranges);
            let mut held: Vec<(u64, u64)> = Vec::new();
            for (pages, is_take, which) in steps {
                if is_take || held.is_empty() {
                    let len = pages * PAGE;
                    let place = Place::like((which as u64) * PAGE, len, PAGE);
                    if let Some(iova) = space.take(len, place) {
                        let end = iova + (len - 1);
                        prop_assert!(iova != 0 && iova % PAGE == 0);
                        prop_assert!(ranges.iter().any(|&(a, b)| a <= iova && end <= b));
                        prop_assert!(held.iter().all(|&(a, l)| end < a || a + l <= iova));
                        held.push((iova, len));
                    }
                } else {
                    let (iova, _) = held.swap_remove(which % held.len());
                    space.give(iova);
                }
            }
            let all: u64 = ranges.iter().map(|&(a, b)| b - a + 1).sum();
            let used: u64 = held.iter().map(|&(_, len)| len).sum();
            prop_assert_eq!(space.free_bytes(), all - used);
        }
    }
}
