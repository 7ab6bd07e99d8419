//! All rounds of one case, and what they say: which figures stand, and whether targets are met.

use super::row::Row;
use super::targets::Case;

/// The placement that a run has when the cores were moved while it ran.
const MIXED: &str = "mixed";
/// Rounds of one placement that make a comparison.
const LIKE_ROUNDS: usize = 2;

/// Ours and the peer's (one row for each of its builds), taken in turn.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) memwire: Row,
    pub(super) dpdk: Vec<Row>,
}

/// One case with its rounds.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) case: Case,
    pub(super) rounds: Vec<Round>,
    /// The machine lacks what the case needs (a second core).
    pub(super) cannot_run: bool,
}

/// One line of the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Figures {
    pub(super) placement: Option<String>,
    pub(super) ticks: f64,
    pub(super) instructions: Option<f64>,
    pub(super) dpdk_ticks: Option<f64>,
    pub(super) dpdk_instructions: Option<f64>,
}

impl Figures {
    /// Our ticks as a part of DPDK's.
    pub(super) fn ratio(&self) -> Option<f64> {
        self.dpdk_ticks.map(|dpdk| self.ticks / dpdk)
    }

    /// Our instructions less DPDK's.
    pub(super) fn more(&self) -> Option<f64> {
        Some(self.instructions? - self.dpdk_instructions?)
    }
}

impl Outcome {
    pub(super) fn new(case: Case) -> Self {
        Self { case, rounds: Vec::new(), cannot_run: false }
    }

    /// Whether there are enough rounds of one placement to compare.
    pub(super) fn is_comparable(&self) -> bool {
        !self.case.two_cores
            || self.placements().iter().any(|placement| {
                self.rounds.iter().filter(|round| round.is_in(placement)).count() >= LIKE_ROUNDS
            })
    }

    /// The figures that stand: one line for one core, one for each placement that both saw.
    pub(super) fn figures(&self) -> Vec<Figures> {
        if self.rounds.is_empty() {
            return Vec::new();
        }
        if !self.case.two_cores {
            return vec![self.one_core()];
        }
        self.placements().into_iter().map(|placement| self.two_cores(placement)).collect()
    }

    /// What is missed, in words, for one line; `None` if a target needs a figure that is not there.
    pub(super) fn misses_of(&self, figures: &Figures, times: bool) -> Option<Vec<String>> {
        let ticks =
            self.case.ticks.filter(|_| times).map(|most| (Some(figures.ticks), most, "ticks"));
        let instructions =
            self.case.instructions.map(|most| (figures.instructions, most, "instructions"));
        let ratio = self.case.ratio.filter(|_| times).map(|most| (figures.ratio(), most, "ratio"));
        let mut misses = Vec::new();
        for (figure, most, what) in [ticks, instructions, ratio].into_iter().flatten() {
            let figure = figure?;
            if figure > most {
                misses.push(format!("{what} by {:.0} %", ((figure / most - 1.0) * 100.0).ceil()));
            }
        }
        if let Some(most) = self.case.more {
            let more = figures.more()?;
            if more > most {
                misses.push(format!("{:.1} instructions more", more - most));
            }
        }
        Some(misses)
    }

    /// Whether any line misses a target.
    pub(super) fn misses(&self, times: bool) -> bool {
        self.figures()
            .iter()
            .any(|figures| self.misses_of(figures, times).is_some_and(|misses| !misses.is_empty()))
    }

    fn one_core(&self) -> Figures {
        let ours: Vec<&Row> = self.rounds.iter().map(|round| &round.memwire).collect();
        let dpdk: Vec<&Row> = self.rounds.iter().flat_map(|round| &round.dpdk).collect();
        Figures {
            placement: None,
            ticks: least(ours.iter().map(|row| row.least)).unwrap_or(f64::NAN),
            instructions: least(ours.iter().filter_map(|row| row.instructions)),
            dpdk_ticks: least(dpdk.iter().map(|row| row.least)),
            dpdk_instructions: least(dpdk.iter().filter_map(|row| row.instructions)),
        }
    }

    fn two_cores(&self, placement: &str) -> Figures {
        let like: Vec<&Round> = self.rounds.iter().filter(|round| round.is_in(placement)).collect();
        Figures {
            placement: Some(placement.to_owned()),
            ticks: median(like.iter().map(|round| round.memwire.median)).unwrap_or(f64::NAN),
            dpdk_ticks: median(like.iter().flat_map(|round| &round.dpdk).map(|row| row.median)),
            ..Figures::default()
        }
    }

    /// The placements in which a whole round ran, each once.
    fn placements(&self) -> Vec<&str> {
        let mut placements: Vec<&str> = self
            .rounds
            .iter()
            .filter_map(|round| round.memwire.placement.as_deref())
            .filter(|placement| self.rounds.iter().any(|round| round.is_in(placement)))
            .collect();
        placements.sort_unstable();
        placements.dedup();
        placements
    }
}

impl Round {
    /// Whether all runs of the round saw that placement, before and after.
    fn is_in(&self, placement: &str) -> bool {
        placement != MIXED
            && std::iter::once(&self.memwire)
                .chain(&self.dpdk)
                .all(|row| row.placement.as_deref() == Some(placement))
    }
}

fn least(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.min_by(f64::total_cmp)
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::super::targets::{Against, Suite};
    use super::*;

    fn case(two_cores: bool) -> Case {
        Case {
            suite: Suite::Ring,
            name: "case".to_owned(),
            two_cores,
            ticks: None,
            instructions: None,
            more: None,
            ratio: Some(1.0),
            against: Against::Dpdk,
        }
    }

    fn row(least: f64, median: f64, placement: Option<&str>) -> Row {
        Row {
            case: "case".to_owned(),
            least,
            median,
            instructions: placement.is_none().then_some(10.0 * least),
            placement: placement.map(str::to_owned),
        }
    }

    fn outcome(two_cores: bool, rounds: Vec<Round>) -> Outcome {
        Outcome { case: case(two_cores), rounds, cannot_run: false }
    }

    fn across(ours: (f64, &str), dpdk: (f64, &str)) -> Round {
        Round {
            memwire: row(0.0, ours.0, Some(ours.1)),
            dpdk: vec![row(0.0, dpdk.0, Some(dpdk.1))],
        }
    }

    #[test]
    fn on_one_core_the_least_of_all_rounds_and_builds_counts() {
        let round = |ours, dpdk: [f64; 2]| Round {
            memwire: row(ours, 9.0, None),
            dpdk: dpdk.into_iter().map(|least| row(least, 9.0, None)).collect(),
        };

        let figures =
            outcome(false, vec![round(2.0, [5.0, 4.0]), round(3.0, [6.0, 7.0])]).figures();

        assert_eq!((figures[0].ticks, figures[0].dpdk_ticks), (2.0, Some(4.0)));
        assert_eq!(figures[0].ratio(), Some(0.5));
        assert_eq!(figures[0].instructions, Some(20.0));
    }

    #[test]
    fn across_cores_only_rounds_of_one_placement_are_compared() {
        let rounds = vec![
            across((3.0, "near"), (4.0, "near")),
            across((3.0, "near"), (20.0, "far")),
            across((1.0, "mixed"), (1.0, "mixed")),
            across((5.0, "near"), (8.0, "near")),
            across((4.0, "near"), (6.0, "near")),
        ];
        let outcome = outcome(true, rounds);

        let figures = outcome.figures();

        assert_eq!(figures.len(), 1);
        assert_eq!(figures[0].placement.as_deref(), Some("near"));
        assert_eq!((figures[0].ticks, figures[0].dpdk_ticks), (4.0, Some(6.0)));
        assert!(outcome.is_comparable());
    }

    #[test]
    fn rounds_without_like_placement_give_no_figures() {
        let outcome = outcome(true, vec![across((3.0, "near"), (20.0, "far"))]);
        assert!(outcome.figures().is_empty());
        assert!(!outcome.is_comparable());
    }

    #[test]
    fn a_miss_says_by_how_much() {
        let mut outcome = outcome(false, Vec::new());
        outcome.case.ticks = Some(2.0);
        let figures = Figures { ticks: 3.0, dpdk_ticks: Some(2.5), ..Figures::default() };

        let misses = outcome.misses_of(&figures, true).expect("all figures are there");

        assert_eq!(misses, ["ticks by 50 %", "ratio by 20 %"]);
        assert_eq!(outcome.misses_of(&figures, false), Some(Vec::new()));
    }

    #[test]
    fn instructions_above_the_peers_are_a_difference() {
        let mut outcome = outcome(false, Vec::new());
        (outcome.case.ratio, outcome.case.more) = (None, Some(4.0));
        let mut figures = Figures { instructions: Some(30.0), ..Figures::default() };
        assert_eq!(outcome.misses_of(&figures, false), None, "nothing to compare with");
        figures.dpdk_instructions = Some(25.5);
        assert_eq!(outcome.misses_of(&figures, false).unwrap(), ["0.5 instructions more"]);
        figures.dpdk_instructions = Some(26.0);
        assert!(outcome.misses_of(&figures, false).unwrap().is_empty());
    }

    #[test]
    fn a_ratio_without_the_peer_is_neither_met_nor_missed() {
        let figures = Figures { ticks: 3.0, ..Figures::default() };
        assert_eq!(outcome(false, Vec::new()).misses_of(&figures, true), None);
    }
}
