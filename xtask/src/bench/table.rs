//! The printed table, and the words that it shares with the report.

use std::fmt::Write;

use super::outcome::{Figures, Outcome};
use super::targets::Case;

/// Which columns mean something in this run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// Times and instructions.
    All,
    /// Instructions only.
    Instructions,
}

impl Show {
    /// Whether times were taken with care.
    pub(super) fn times(self) -> bool {
        self == Self::All
    }
}

/// One line a case and peer; the same for each placement of those across cores.
pub(super) fn print(outcomes: &[Outcome], show: Show) -> String {
    let mut lines = vec![HEADS.map(str::to_owned).to_vec()];
    for outcome in outcomes {
        let figures = outcome.figures();
        if figures.is_empty() {
            lines.push(empty_line(outcome));
        }
        for figures in figures {
            add_lines(&mut lines, outcome, &figures, show);
        }
    }
    if !outcomes.iter().any(Outcome::has_host_bytes) {
        for line in &mut lines {
            let kept = line.drain(..).zip(HEADS).filter(|(_, head)| *head != BYTES);
            *line = kept.map(|(field, _)| field).collect();
        }
    }
    let mut text = aligned(&lines);
    text.push_str(
        "ticks are of the TSC (in the suite guest: ns of its time); all figures are per object\n",
    );
    text
}

/// Bytes of an object that the host touched: a column where a case says so.
const BYTES: &str = "host B";
const HEADS: [&str; 11] = [
    "case", "memwire", "instr", BYTES, "peer", "ticks", "instr", BYTES, "ratio", "target",
    "verdict",
];

/// Ours with the first peer, and a line for each further one.
fn add_lines(lines: &mut Vec<Vec<String>>, outcome: &Outcome, figures: &Figures, show: Show) {
    let ticks = |ticks: Option<f64>| number(ticks.filter(|_| show.times()));
    let mut peers = figures.peers.iter();
    let mut cells = |mut line: Vec<String>| {
        let peer = peers.next()?;
        line.extend([
            peer.name.clone(),
            ticks(Some(peer.ticks)),
            number(peer.spread.instructions),
            bytes(peer.spread.host_bytes),
            ticks(Some(peer.ratio)),
        ]);
        Some(line)
    };
    let ours = vec![
        named(outcome, figures),
        ticks(Some(figures.ticks)),
        number(figures.spread.instructions),
        bytes(figures.spread.host_bytes),
    ];
    let mut first = cells(ours.clone()).unwrap_or_else(|| {
        ours.into_iter().chain(std::iter::repeat_n("-".to_owned(), 5)).collect()
    });
    first.extend([target(&outcome.case, show), verdict(outcome, figures, show).text()]);
    lines.push(first);
    while let Some(line) = cells(vec![String::new(); 4]) {
        lines.push(line);
    }
}

/// The case, and where its cores were.
pub(super) fn named(outcome: &Outcome, figures: &Figures) -> String {
    let name = &outcome.case.name;
    figures
        .placement
        .as_ref()
        .map_or_else(|| name.clone(), |placement| format!("{name} {placement}"))
}

/// Whether a line reaches what it must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is nothing to reach.
    NoTarget,
    /// A peer that the target is against did not run.
    NoPeer,
    Met,
    /// By how much, in words.
    Missed(String),
}

impl Verdict {
    pub(super) fn text(&self) -> String {
        match self {
            Self::NoTarget => "-".to_owned(),
            Self::NoPeer => "no peer to compare with".to_owned(),
            Self::Met => "met".to_owned(),
            Self::Missed(how) => format!("MISSED {how}"),
        }
    }
}

pub(super) fn verdict(outcome: &Outcome, figures: &Figures, show: Show) -> Verdict {
    match outcome.misses_of(figures, show.times()) {
        _ if !has_target(&outcome.case, show) => Verdict::NoTarget,
        None => Verdict::NoPeer,
        Some(misses) if misses.is_empty() => Verdict::Met,
        Some(misses) => Verdict::Missed(misses.join(", ")),
    }
}

/// Why a case has no figures.
pub(super) fn absence(outcome: &Outcome) -> String {
    match &outcome.skipped {
        Some(why) => format!("SKIP {why}"),
        None => "no round in like placement".to_owned(),
    }
}

fn empty_line(outcome: &Outcome) -> Vec<String> {
    let mut line = vec![outcome.case.name.clone()];
    line.extend(std::iter::repeat_n("-".to_owned(), 8));
    line.extend([target(&outcome.case, Show::All), absence(outcome)]);
    line
}

fn has_target(case: &Case, show: Show) -> bool {
    case.instructions.is_some()
        || case.more.is_some()
        || (show.times() && (case.ticks.is_some() || case.ratio.is_some()))
}

pub(super) fn target(case: &Case, show: Show) -> String {
    let peer = case.peers.first().map_or("", String::as_str);
    let parts = [
        case.ticks.filter(|_| show.times()).map(|most| format!("<= {most}")),
        case.instructions.map(|most| format!("<= {most} instr")),
        case.more.map(|most| format!("<= {peer} + {most} instr")),
        case.ratio.filter(|_| show.times()).map(|most| format!("<= {most} x {peer}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

/// Two digits behind the point; one for what is long enough.
pub(super) fn number(value: Option<f64>) -> String {
    value.map_or_else(
        || "-".to_owned(),
        |value| match value {
            value if value >= 1000.0 => format!("{value:.0}"),
            value if value >= 100.0 => format!("{value:.1}"),
            value => format!("{value:.2}"),
        },
    )
}

/// Bytes, of which there often are none at all.
pub(super) fn bytes(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"))
}

/// Text to the left, figures to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(String::len).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let mut printed = String::new();
        for (column, (field, width)) in line.iter().zip(&widths).enumerate() {
            let head = lines.first().and_then(|heads| heads.get(column)).map(String::as_str);
            let is_figure = !matches!(head, Some("case" | "peer" | "target" | "verdict"));
            // Writing to a string does not fail.
            let _ = if is_figure {
                write!(printed, "{field:>width$}  ")
            } else {
                write!(printed, "{field:<width$}  ")
            };
        }
        text.push_str(printed.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Round;
    use super::super::outcome::tests::{case, row};
    use super::*;

    fn outcome(ours: f64, dpdk: Option<f64>) -> Outcome {
        let row = |least| row(least, least, None);
        let round = Round { memwire: row(ours), peers: vec![dpdk.map(row).into_iter().collect()] };
        Outcome { rounds: vec![round], ..Outcome::new(case(false)) }
    }

    fn second_line(outcome: Outcome, show: Show) -> String {
        print(&[outcome], show).lines().nth(1).expect("a line a case").to_owned()
    }

    #[test]
    fn the_verdict_is_met_missed_or_unknown() {
        assert!(second_line(outcome(10.0, Some(20.0)), Show::All).ends_with("met"));
        let missed = second_line(outcome(25.0, Some(20.0)), Show::All);
        assert!(missed.ends_with("MISSED ratio by 25 %"), "{missed}");
        let alone = second_line(outcome(25.0, None), Show::All);
        assert!(alone.ends_with("no peer to compare with"), "{alone}");
    }

    #[test]
    fn counting_instructions_shows_no_times() {
        let line = second_line(outcome(12.34, Some(2.0)), Show::Instructions);
        assert!(line.contains("123.4") && !line.contains("12.34"), "{line}");
    }

    #[test]
    fn a_further_peer_has_a_line_of_its_own() {
        let mut outcome = outcome(10.0, Some(20.0));
        outcome.case.peers.push("rtrb".to_owned());
        outcome.rounds[0].peers.push(vec![row(40.0, 40.0, None)]);
        let text = print(&[outcome], Show::All);
        let line = text.lines().nth(2).expect("a second line");
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["rtrb", "40.00", "400.0", "0.25"]);
    }

    #[test]
    fn bytes_that_the_host_touched_are_columns_where_a_case_has_them() {
        let mut outcome = outcome(10.0, Some(20.0));
        assert!(!print(&[], Show::All).contains(BYTES));
        outcome.rounds[0].memwire.host_bytes = Some(0.0);
        outcome.rounds[0].peers[0][0].host_bytes = Some(1400.0);
        let text = print(&[outcome], Show::All);
        let words: Vec<&str> = text.lines().nth(1).expect("a line").split_whitespace().collect();
        assert_eq!(words[1..9], ["10.00", "100.0", "0", "dpdk", "20.00", "200.0", "1400", "0.50"]);
    }

    #[test]
    fn what_did_not_run_says_why() {
        let mut skipped = Outcome::new(case(false));
        skipped.skipped = Some("needs root".to_owned());
        let line = second_line(skipped, Show::All);
        assert!(line.ends_with("SKIP needs root"), "{line}");
    }
}
