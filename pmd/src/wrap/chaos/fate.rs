//! Which frame of a queue has which fate: a function of seed, direction, queue and the frame's number,
//! and of nothing else. The same plan on the same traffic gives the same faults.

use super::{
    kind::Kind,
    plan::{Placed, Side, WHOLE},
};

/// The fates of a queue's frames, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Fates {
    key: u64,
    /// Number of the frame that is next, from 1.
    number: u64,
    /// Upper edges of the kinds' shares, in the order of [`Kind::ALL`].
    edges: [u64; Kind::ALL.len()],
    /// Sum of all shares.
    total: u64,
    placed: Vec<Placed>,
    /// The first frame for which `placed` is to be asked.
    ask_from: u64,
    /// A fault that goes on over several frames, and for how many more.
    run: Option<(Kind, u64)>,
    drop_for: u64,
    exhaust_for: u64,
}

/// A frame's fate, and 64 bits to draw its details from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    /// Nothing happens if there is none.
    pub(super) kind: Option<Kind>,
    pub(super) draw: u64,
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's finaliser (Steele, Lea, Flood 2014).
#[inline]
pub(super) fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A number below `bound`, from a draw.
pub(super) fn below(draw: u64, bound: usize) -> usize {
    let wide = u128::from(draw) * bound as u128;
    usize::try_from(wide >> 64).unwrap_or(0)
}

impl Fates {
    /// The fates of a queue.
    pub(super) fn new(seed: u64, is_rx: bool, queue: usize, side: &Side) -> Self {
        let stream = ((queue as u64) << 1) | u64::from(is_rx);
        let mut edge = 0;
        let edges = side.shares.map(|share| {
            edge += share;
            edge
        });
        let first = side.placed.iter().map(|placed| placed.first).min();
        Self {
            key: mix(seed ^ mix(stream.wrapping_add(GOLDEN))),
            number: 1,
            edges,
            total: edge,
            placed: side.placed.clone(),
            ask_from: first.unwrap_or(u64::MAX),
            run: None,
            drop_for: side.drop_for,
            exhaust_for: side.exhaust_for,
        }
    }

    /// How the queue fails at the next frame, if it does.
    #[inline]
    pub(super) fn fails_now(&self) -> Option<Kind> {
        if self.number < self.ask_from {
            return None;
        }
        let mut placed = self.placed.iter();
        placed.find(|at| at.kind.is_final() && at.first <= self.number).map(|at| at.kind)
    }

    /// Draws the next frame's fate.
    #[inline]
    pub(super) fn next(&mut self) -> Fate {
        let draw = mix(self.key.wrapping_add(self.number.wrapping_mul(GOLDEN)));
        let luck = draw >> (64 - WHOLE.trailing_zeros());
        let kind = if luck < self.total || self.number >= self.ask_from || self.run.is_some() {
            self.rare(luck)
        } else {
            None
        };
        self.number += 1;
        Fate { kind, draw: mix(draw ^ GOLDEN) }
    }

    #[cold]
    fn rare(&mut self, luck: u64) -> Option<Kind> {
        let number = self.number;
        let placed = self.placed.iter().find(|at| (at.first..=at.last).contains(&number));
        if let Some(placed) = placed {
            return Some(placed.kind);
        }
        if let Some((kind, left)) = self.run {
            self.run = (left > 1).then_some((kind, left - 1));
            return Some(kind);
        }
        let at = self.edges.iter().position(|edge| luck < *edge)?;
        let kind = Kind::ALL[at];
        let frames = match kind {
            Kind::Drop => self.drop_for,
            Kind::Exhaust => self.exhaust_for,
            _ => 1,
        };
        self.run = (frames > 1).then_some((kind, frames - 1));
        Some(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::plan::Plan, *};

    fn draw(plan: &str, is_rx: bool, queue: usize, frames: usize) -> Vec<Fate> {
        let plan = Plan::read(plan).unwrap();
        let side = if is_rx { &plan.rx } else { &plan.tx };
        let mut fates = Fates::new(plan.seed, is_rx, queue, side);
        (0..frames).map(|_| fates.next()).collect()
    }

    fn count(fates: &[Fate], kind: Kind) -> usize {
        fates.iter().filter(|fate| fate.kind == Some(kind)).count()
    }

    #[test]
    fn the_same_seed_gives_the_same_faults_near_their_shares_and_no_two_queues_are_alike() {
        let plan = "seed=7,drop=1%,dup=2%,flip=1/1000";
        let fates = draw(plan, true, 0, 100_000);
        assert_eq!(fates, draw(plan, true, 0, 100_000));
        for (kind, expected) in [(Kind::Drop, 1000), (Kind::Dup, 2000), (Kind::Flip, 100)] {
            let seen = count(&fates, kind);
            assert!(seen.abs_diff(expected) < expected / 5, "{seen} {kind:?}");
        }
        for other in [draw(plan, true, 1, 1000), draw(plan, false, 0, 1000)] {
            assert_ne!(fates[..1000], other);
        }
        assert_ne!(fates[..1000], draw("seed=8,drop=1%,dup=2%,flip=1/1000", true, 0, 1000));
    }

    #[test]
    fn one_more_fault_in_a_plan_moves_none_of_the_others() {
        let few = draw("rx.drop=1%", true, 0, 10_000);
        let more = draw("rx.drop=1%,rx.dup=1%,rx.flip#5000,flip#1", true, 0, 10_000);
        for (number, (few, more)) in few.iter().zip(&more).enumerate() {
            let is_placed = number == 0 || number == 4999;
            assert!(is_placed || few.kind.is_none() || few == more, "frame {number}");
        }
        assert_eq!((more[0].kind, more[4999].kind), (Some(Kind::Flip), Some(Kind::Flip)));
    }

    #[test]
    fn everything_and_nothing_are_shares_too() {
        assert_eq!(count(&draw("drop=100%", true, 0, 10_000), Kind::Drop), 10_000);
        assert_eq!(count(&draw("drop=0", true, 0, 10_000), Kind::Drop), 0);
    }

    #[test]
    fn places_are_exact_and_runs_go_on() {
        let fates = draw("drop#3..5,dup#10,drop.for=4,drop=0.1%", true, 0, 20_000);
        for (number, kind) in [(3, Kind::Drop), (4, Kind::Drop), (5, Kind::Drop), (10, Kind::Dup)] {
            assert_eq!(fates[number - 1].kind, Some(kind), "frame {number}");
        }
        let drops: Vec<_> = (11..20_000).filter(|at| fates[*at].kind == Some(Kind::Drop)).collect();
        assert!(drops.len() > 40);
        let starts = drops.iter().filter(|at| fates[**at - 1].kind != Some(Kind::Drop)).count();
        assert!(drops.len() >= starts * 4 - 3, "{starts} runs of four are {} frames", drops.len());
    }

    #[test]
    fn a_queue_fails_at_its_frame_and_not_before() {
        let plan = Plan::read("fault#3").unwrap();
        let mut fates = Fates::new(1, true, 0, &plan.rx);
        let fails: Vec<_> = (0..4).map(|_| (fates.fails_now(), fates.next()).0).collect();
        assert_eq!(fails, [None, None, Some(Kind::Fault), Some(Kind::Fault)]);
    }

    #[test]
    fn numbers_below_a_bound_reach_both_ends() {
        assert_eq!((below(0, 10), below(u64::MAX, 10), below(u64::MAX, 1)), (0, 9, 0));
    }
}
