//! What a bad wire does: loses, swaps and duplicates frames, at given shares, from a seed. The same
//! seed gives the same faults.

use crate::{Error, PortSpec};

/// Shares are out of 2^32.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) loss: u32,
    pub(super) reorder: u32,
    pub(super) dup: u32,
    seed: u64,
    /// Frames a second that the sending end takes; 0 is no limit.
    pub(super) rate: u64,
}

/// What happens to one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Pass,
    Lose,
    /// Passes after the next one.
    Swap,
    Duplicate,
}

impl Faults {
    pub(super) fn from_spec(spec: &PortSpec) -> Result<Self, Error> {
        let share = |key: &str| -> Result<u32, Error> {
            let Some(text) = spec.options.get(key) else {
                return Ok(0);
            };
            parse_share(text).ok_or_else(|| Error::BadOption {
                port: spec.to_string(),
                why: format!("option {key}={text}: should be a share such as 1% or 0.01"),
            })
        };
        Ok(Self {
            loss: share("loss")?,
            reorder: share("reorder")?,
            dup: share("dup")?,
            seed: spec.option("seed", "a number")?.unwrap_or(1),
            rate: spec.option("rate", "frames a second")?.unwrap_or(0),
        })
    }

    /// The same faults with a sequence of its own for each queue.
    pub(super) fn for_queue(self, queue: usize) -> Self {
        Self {
            seed: self
                .seed
                .wrapping_add((queue as u64).wrapping_mul(0x9e37_79b9)),
            ..self
        }
    }

    pub(super) fn any(&self) -> bool {
        self.loss | self.reorder | self.dup != 0
    }

    /// Draws the next frame's fate.
    pub(super) fn next(&mut self) -> Fate {
        let draw = self.draw();
        let mut edge = self.loss;
        if draw < edge {
            return Fate::Lose;
        }
        edge = edge.saturating_add(self.reorder);
        if draw < edge {
            return Fate::Swap;
        }
        if draw < edge.saturating_add(self.dup) {
            Fate::Duplicate
        } else {
            Fate::Pass
        }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014), upper half.
    fn draw(&mut self) -> u32 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 32) as u32
    }
}

/// `1%` or `0.01`, as a share of 2^32.
fn parse_share(text: &str) -> Option<u32> {
    let share: f64 = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().ok()? / 100.0,
        None => text.parse().ok()?,
    };
    if !(0.0..=1.0).contains(&share) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0..=1 of 2^32"
    )]
    let scaled = (share * f64::from(u32::MAX)) as u32;
    Some(scaled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_as_percent_or_fraction_and_nothing_else() {
        assert_eq!(parse_share("100%"), Some(u32::MAX));
        assert_eq!(parse_share("0.5"), Some(u32::MAX / 2));
        assert_eq!(parse_share("0"), Some(0));
        for bad in ["", "x", "101%", "-1%", "1.5", "NaN"] {
            assert_eq!(parse_share(bad), None, "{bad}");
        }
    }

    fn draw(mut faults: Faults) -> Vec<Fate> {
        (0..100_000).map(|_| faults.next()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_faults_near_their_shares() {
        let faults = Faults {
            loss: u32::MAX / 100,
            dup: u32::MAX / 50,
            seed: 7,
            ..Faults::default()
        };
        let (first, second) = (draw(faults), draw(faults));
        assert!(first == second);
        let lost = first.iter().filter(|fate| **fate == Fate::Lose).count();
        assert!((800..1200).contains(&lost), "{lost} of 100000 lost at 1 %");
        assert!(first != draw(faults.for_queue(1)));
    }
}
