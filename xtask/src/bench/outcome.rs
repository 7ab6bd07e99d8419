//! All rounds of one case, and what they say: which figures stand, and whether targets are met.

use super::row::Row;
use super::targets::Case;

/// The placement that a run has when the cores were moved while it ran.
const MIXED: &str = "mixed";
/// Rounds of one placement that make a comparison.
const LIKE_ROUNDS: usize = 2;

/// Ours and the peers', taken in turn.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) memwire: Row,
    /// In the order of the case's peers; one row for each of a peer's builds, none if it cannot run here.
    pub(super) peers: Vec<Vec<Row>>,
}

/// One case with its rounds.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) case: Case,
    pub(super) rounds: Vec<Round>,
    /// Why it did not run: what the machine lacks.
    pub(super) skipped: Option<String>,
}

/// What somebody's runs of a case come to, per object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    /// The quickest window of all.
    pub(super) least: f64,
    /// The middle one of the rounds' medians.
    pub(super) median: f64,
    /// The middle one of the rounds' 90th percentiles.
    pub(super) p90: f64,
    pub(super) instructions: Option<f64>,
    /// The most of any round.
    pub(super) host_bytes: Option<f64>,
}

/// A peer's figures beside ours.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Peer {
    pub(super) name: String,
    /// Its better build.
    pub(super) spread: Spread,
    /// Its ticks, the least or the median as the case wants.
    pub(super) ticks: f64,
    /// Our ticks as a part of its.
    pub(super) ratio: f64,
}

/// One line of the table: ours, and who was measured beside it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figures {
    pub(super) placement: Option<String>,
    pub(super) spread: Spread,
    /// Ours: the least on one core, the median across two.
    pub(super) ticks: f64,
    /// Without those that did not run.
    pub(super) peers: Vec<Peer>,
    /// Against the first peer of the case.
    pub(super) ratio: Option<f64>,
    /// Our instructions less the first peer's.
    pub(super) more: Option<f64>,
}

impl Outcome {
    pub(super) fn new(case: Case) -> Self {
        Self { case, rounds: Vec::new(), skipped: None }
    }

    /// Whether there are enough rounds of one placement to compare.
    pub(super) fn is_comparable(&self) -> bool {
        !self.case.two_cores
            || self.placements().iter().any(|placement| {
                let like = |round: &&Round| round.is_in(Some(placement), 0);
                self.rounds.iter().filter(like).count() >= LIKE_ROUNDS
            })
    }

    /// The figures that stand: one line for one core, one for each placement that ours and the first
    /// peer saw.
    pub(super) fn figures(&self) -> Vec<Figures> {
        if self.rounds.is_empty() {
            return Vec::new();
        }
        if !self.case.two_cores {
            return self.line(None).into_iter().collect();
        }
        self.placements().into_iter().filter_map(|placement| self.line(Some(placement))).collect()
    }

    /// What is missed, in words, for one line; `None` if a target needs a figure that is not there.
    pub(super) fn misses_of(&self, figures: &Figures, times: bool) -> Option<Vec<String>> {
        let ticks =
            self.case.ticks.filter(|_| times).map(|most| (Some(figures.ticks), most, "ticks"));
        let instructions = figures.spread.instructions;
        let instructions = self.case.instructions.map(|most| (instructions, most, "instructions"));
        let ratio = self.case.ratio.filter(|_| times).map(|most| (figures.ratio, most, "ratio"));
        let mut misses = Vec::new();
        for (figure, most, what) in [ticks, instructions, ratio].into_iter().flatten() {
            let figure = figure?;
            if figure > most {
                misses.push(format!("{what} by {:.0} %", ((figure / most - 1.0) * 100.0).ceil()));
            }
        }
        if let Some(most) = self.case.more {
            let more = figures.more?;
            if more > most {
                misses.push(format!("{:.1} instructions more", more - most));
            }
        }
        Some(misses)
    }

    /// Whether it says how many bytes the host touched.
    pub(super) fn has_host_bytes(&self) -> bool {
        let has = |row: &Row| row.host_bytes.is_some();
        self.rounds.iter().any(|round| has(&round.memwire) || round.peers.iter().flatten().any(has))
    }

    /// Whether any line misses a target.
    pub(super) fn misses(&self, times: bool) -> bool {
        self.figures()
            .iter()
            .any(|figures| self.misses_of(figures, times).is_some_and(|misses| !misses.is_empty()))
    }

    fn line(&self, placement: Option<&str>) -> Option<Figures> {
        let stands =
            |spread: &Spread| if self.case.two_cores { spread.median } else { spread.least };
        let mut peers = Vec::new();
        let (mut ratio, mut more) = (None, None);
        for (at, name) in self.case.peers.iter().enumerate() {
            // Each peer is compared over the rounds in which it and ours saw the same.
            let like: Vec<&Round> =
                self.rounds.iter().filter(|round| round.is_in(placement, at)).collect();
            let (Some(ours), Some(theirs)) = (ours(&like), best_build(&like, at)) else { continue };
            let of_peer = stands(&ours) / stands(&theirs);
            if at == 0 {
                ratio = Some(of_peer);
                more =
                    ours.instructions.zip(theirs.instructions).map(|(ours, theirs)| ours - theirs);
            }
            let ticks = stands(&theirs);
            peers.push(Peer { name: name.clone(), spread: theirs, ticks, ratio: of_peer });
        }
        let like = self.rounds.iter().filter(|round| round.is_in(placement, 0));
        let spread = ours(&like.collect::<Vec<_>>())?;
        let placement = placement.map(str::to_owned);
        Some(Figures { placement, spread, ticks: stands(&spread), peers, ratio, more })
    }

    /// The placements in which ours and the first peer ran in one round, each once.
    fn placements(&self) -> Vec<&str> {
        let mut placements: Vec<&str> = self
            .rounds
            .iter()
            .filter_map(|round| round.memwire.placement.as_deref())
            .filter(|placement| self.rounds.iter().any(|round| round.is_in(Some(placement), 0)))
            .collect();
        placements.sort_unstable();
        placements.dedup();
        placements
    }
}

impl Round {
    /// Whether ours and that peer saw this placement, before and after; a peer that is not there saw
    /// what ours did.
    fn is_in(&self, placement: Option<&str>, peer: usize) -> bool {
        let theirs = self.peers.get(peer).into_iter().flatten();
        placement.is_none_or(|placement| {
            placement != MIXED
                && std::iter::once(&self.memwire)
                    .chain(theirs)
                    .all(|row| row.placement.as_deref() == Some(placement))
        })
    }
}

fn ours(rounds: &[&Round]) -> Option<Spread> {
    Spread::of(rounds.iter().map(|round| &round.memwire))
}

/// Of a peer's builds, the one with the quickest window.
fn best_build(rounds: &[&Round], peer: usize) -> Option<Spread> {
    let builds = rounds.iter().filter_map(|round| Some(round.peers.get(peer)?.len())).max()?;
    let build =
        |at: usize| Spread::of(rounds.iter().filter_map(|round| round.peers.get(peer)?.get(at)));
    (0..builds).filter_map(build).min_by(|one, other| one.least.total_cmp(&other.least))
}

impl Spread {
    fn of<'a>(rows: impl Iterator<Item = &'a Row>) -> Option<Self> {
        let rows: Vec<&Row> = rows.collect();
        Some(Self {
            least: least(rows.iter().map(|row| row.least))?,
            median: median(rows.iter().map(|row| row.median))?,
            p90: median(rows.iter().map(|row| row.p90))?,
            instructions: least(rows.iter().filter_map(|row| row.instructions)),
            host_bytes: rows.iter().filter_map(|row| row.host_bytes).max_by(f64::total_cmp),
        })
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
pub(super) mod tests {
    use super::super::targets::{DPDK, Suite};
    use super::*;

    /// A case with a ratio of 1 to reach.
    pub(in crate::bench) fn case(two_cores: bool) -> Case {
        Case {
            suite: Suite::Ring,
            name: "case".to_owned(),
            two_cores,
            ticks: None,
            instructions: None,
            more: None,
            ratio: Some(1.0),
            peers: vec![DPDK.to_owned()],
        }
    }

    /// A row with ten times as many instructions as ticks.
    pub(in crate::bench) fn row(least: f64, median: f64, placement: Option<&str>) -> Row {
        Row {
            case: "case".to_owned(),
            least,
            median,
            p90: 2.0 * median,
            instructions: placement.is_none().then_some(10.0 * least),
            placement: placement.map(str::to_owned),
            host_bytes: None,
        }
    }

    fn outcome(two_cores: bool, rounds: Vec<Round>) -> Outcome {
        Outcome { rounds, ..Outcome::new(case(two_cores)) }
    }

    fn across(ours: (f64, &str), dpdk: (f64, &str)) -> Round {
        Round {
            memwire: row(0.0, ours.0, Some(ours.1)),
            peers: vec![vec![row(0.0, dpdk.0, Some(dpdk.1))]],
        }
    }

    #[test]
    fn on_one_core_the_least_of_all_rounds_and_builds_counts() {
        let round = |ours, dpdk: [f64; 2]| Round {
            memwire: row(ours, 9.0, None),
            peers: vec![dpdk.into_iter().map(|least| row(least, 9.0, None)).collect()],
        };

        let figures =
            outcome(false, vec![round(2.0, [5.0, 4.0]), round(3.0, [6.0, 7.0])]).figures();

        assert_eq!((figures[0].ticks, figures[0].peers[0].ticks), (2.0, 4.0));
        assert_eq!(figures[0].ratio, Some(0.5));
        assert_eq!(figures[0].spread.instructions, Some(20.0));
        assert_eq!((figures[0].spread.median, figures[0].spread.p90), (9.0, 18.0));
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
        assert_eq!((figures[0].ticks, figures[0].peers[0].ticks), (4.0, 6.0));
        assert!(outcome.is_comparable());
    }

    #[test]
    fn each_peer_has_a_ratio_of_its_own_over_the_rounds_it_shares_with_ours() {
        let mut case = case(true);
        case.peers.push("rtrb".to_owned());
        let mut rounds =
            vec![across((3.0, "near"), (6.0, "near")), across((4.0, "near"), (6.0, "near"))];
        rounds[0].peers.push(vec![row(0.0, 9.0, Some("near"))]);
        rounds[1].peers.push(vec![row(0.0, 90.0, Some("far"))]);

        let figures = Outcome { rounds, ..Outcome::new(case) }.figures();

        let peers: Vec<_> =
            figures[0].peers.iter().map(|peer| (peer.name.as_str(), peer.ticks)).collect();
        assert_eq!(peers, [("dpdk", 6.0), ("rtrb", 9.0)]);
        assert!((figures[0].peers[1].ratio - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(figures[0].ratio, Some(4.0 / 6.0), "the target is against the first");
    }

    #[test]
    fn without_the_first_peer_there_is_no_ratio_to_judge() {
        let mut case = case(false);
        case.peers.push("rtrb".to_owned());
        let round =
            Round { memwire: row(2.0, 2.0, None), peers: vec![vec![], vec![row(4.0, 4.0, None)]] };
        let outcome = Outcome { rounds: vec![round], ..Outcome::new(case) };

        let figures = &outcome.figures()[0];

        assert_eq!((figures.ratio, figures.peers[0].ratio), (None, 0.5));
        assert_eq!(outcome.misses_of(figures, true), None);
    }

    #[test]
    fn instructions_above_the_peers_are_a_difference() {
        let verdict = |theirs: Vec<Row>| {
            let round = Round { memwire: row(3.0, 3.0, None), peers: vec![theirs] };
            let mut outcome = outcome(false, vec![round]);
            (outcome.case.ratio, outcome.case.more) = (None, Some(4.0));
            outcome.misses_of(&outcome.figures()[0], false)
        };
        assert_eq!(verdict(vec![]), None, "nothing to compare with");
        // 30 instructions are ours.
        assert_eq!(verdict(vec![row(2.55, 3.0, None)]).unwrap(), ["0.5 instructions more"]);
        assert!(verdict(vec![row(2.6, 3.0, None)]).unwrap().is_empty());
    }

    #[test]
    fn rounds_without_like_placement_give_no_figures() {
        let outcome = outcome(true, vec![across((3.0, "near"), (20.0, "far"))]);
        assert!(outcome.figures().is_empty());
        assert!(!outcome.is_comparable());
    }

    #[test]
    fn a_miss_says_by_how_much() {
        let round = Round { memwire: row(3.0, 3.0, None), peers: vec![vec![row(2.5, 2.5, None)]] };
        let mut outcome = outcome(false, vec![round]);
        outcome.case.ticks = Some(2.0);
        let figures = &outcome.figures()[0];

        let misses = outcome.misses_of(figures, true).expect("all figures are there");

        assert_eq!(misses, ["ticks by 50 %", "ratio by 20 %"]);
        assert_eq!(outcome.misses_of(figures, false), Some(Vec::new()));
    }
}
