//! How long frames are: one size, ranges, lists with weights, a mix. Sizes are without FCS.

use std::str::FromStr;

use crate::units::UnitError;

/// Shortest and longest frame that may be asked for; what headers and ports allow is less.
const LIMITS: std::ops::RangeInclusive<usize> = 60..=65_589;
const WHAT: &str = "frame sizes in bytes without FCS, 60 to 65589: 64, 64-1518, 64-1518/64 (a step), \
    60:7,590:4,1514:1 (weights), or imix";
/// The simple IMIX: 7 : 4 : 1 of 64, 594 and 1518 bytes with FCS.
const IMIX: [(usize, u32); 3] = [(60, 7), (590, 4), (1514, 1)];
/// Frames of one round of a schedule, at most.
const ROUND: u64 = 1 << 20;
/// Up to this much work weights are interleaved; beyond, each size comes in one run per round.
const INTERLEAVE: u64 = 1 << 24;

/// Sizes and their weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    entries: Vec<(usize, u32)>,
    text: String,
}

impl Default for Sizes {
    fn default() -> Self {
        Self::fixed(60)
    }
}

impl FromStr for Sizes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError { text: text.chars().take(80).collect(), what: WHAT };
        if text.trim().eq_ignore_ascii_case("imix") {
            return Ok(Self { entries: IMIX.to_vec(), text: "imix".to_owned() });
        }
        let mut entries = Vec::new();
        for part in text.split(',') {
            let (sizes, weight) = part.split_once(':').unwrap_or((part, "1"));
            let (range, step) = sizes.split_once('/').unwrap_or((sizes, "1"));
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| text.trim().parse::<usize>().ok();
            let (Some(first), Some(last), Some(step)) = (number(first), number(last), number(step))
            else {
                return Err(error());
            };
            let weight = weight.trim().parse::<u32>().ok().filter(|weight| *weight > 0);
            let weight = weight.ok_or_else(error)?;
            if step == 0 || last < first || !LIMITS.contains(&first) || !LIMITS.contains(&last) {
                return Err(error());
            }
            entries.extend((first..=last).step_by(step).map(|size| (size, weight)));
        }
        let sizes = Self { entries, text: text.to_owned() };
        if sizes.round() <= ROUND { Ok(sizes) } else { Err(error()) }
    }
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Sizes {
    /// Frames of one size.
    #[must_use]
    pub fn fixed(size: usize) -> Self {
        Self { entries: vec![(size, 1)], text: size.to_string() }
    }

    /// Frames of a round.
    fn round(&self) -> u64 {
        self.entries.iter().map(|(_, weight)| u64::from(*weight)).sum()
    }

    /// Bytes of a frame on average, without FCS.
    #[must_use]
    pub fn mean(&self) -> f64 {
        let bytes: f64 = self.entries.iter().map(|(size, w)| *size as f64 * f64::from(*w)).sum();
        bytes / self.round().max(1) as f64
    }

    /// Bytes of the longest frame.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.entries.iter().map(|(size, _)| *size).max().unwrap_or(0)
    }

    /// Every size once, ascending.
    #[must_use]
    pub fn distinct(&self) -> Vec<usize> {
        let mut sizes: Vec<_> = self.entries.iter().map(|(size, _)| *size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// One round: for each of its frames, which of [`Sizes::distinct`] it is.
    pub(super) fn schedule(&self) -> Vec<u32> {
        let distinct = self.distinct();
        let index =
            |size: usize| u32::try_from(distinct.binary_search(&size).unwrap_or(0)).unwrap_or(0);
        let entries: Vec<_> = self.entries.iter().map(|(size, w)| (index(*size), *w)).collect();
        if self.round() * entries.len() as u64 > INTERLEAVE {
            let run = |(index, weight): &(u32, u32)| std::iter::repeat_n(*index, *weight as usize);
            return entries.iter().flat_map(run).collect();
        }
        // Smooth weighted round robin: each gains its weight, the richest goes and pays the round.
        let total = i64::try_from(self.round()).unwrap_or(i64::MAX);
        let mut credits = vec![0i64; entries.len()];
        (0..self.round())
            .map(|_| {
                for (credit, (_, weight)) in credits.iter_mut().zip(&entries) {
                    *credit += i64::from(*weight);
                }
                // The first of the richest, so that equal weights keep the order given.
                let most = credits.iter().copied().max().unwrap_or(0);
                let chosen = credits.iter().position(|credit| *credit == most).unwrap_or(0);
                credits[chosen] -= total;
                entries[chosen].0
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(text: &str) -> Vec<usize> {
        let sizes: Sizes = text.parse().unwrap();
        let distinct = sizes.distinct();
        sizes.schedule().into_iter().map(|index| distinct[index as usize]).collect()
    }

    #[test]
    fn ranges_step_through_their_sizes() {
        assert_eq!(sizes("64"), [64]);
        assert_eq!(sizes("64-67"), [64, 65, 66, 67]);
        assert_eq!(sizes("64-100/16,1500"), [64, 80, 96, 1500]);
        assert_eq!("64-1518".parse::<Sizes>().unwrap().mean(), 791.0);
    }

    #[test]
    fn the_mix_is_seven_four_one_and_interleaved() {
        let mix = sizes("imix");
        let count = |size| mix.iter().filter(|one| **one == size).count();
        assert_eq!([count(60), count(590), count(1514)], [7, 4, 1]);
        assert!(mix.windows(4).all(|run| run.iter().any(|size| *size != run[0])), "{mix:?}");
        assert_eq!(sizes("60:7,590:4,1514:1"), mix);
        let mean = "imix".parse::<Sizes>().unwrap().mean();
        assert!((mean - (7.0 * 60.0 + 4.0 * 590.0 + 1514.0) / 12.0).abs() < 1e-9);
    }

    #[test]
    fn large_rounds_keep_their_weights() {
        let mix = sizes("60-9000:2,9500:9");
        assert_eq!(mix.iter().filter(|size| **size == 9500).count(), 9);
        assert_eq!(mix.iter().filter(|size| **size == 77).count(), 2);
    }

    #[test]
    fn sizes_out_of_range_are_refused_by_example() {
        for text in
            ["", "59", "65590", "100-64", "64/0", "64:0", "64-", "x", "64,,65", "60-65589:99"]
        {
            let error = text.parse::<Sizes>().unwrap_err().to_string();
            assert!(error.contains("60:7,590:4,1514:1 (weights), or imix"), "{text}: {error}");
        }
    }
}
