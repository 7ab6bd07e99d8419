//! The printed table and its JSON twin.

use std::fmt::Write;

use serde_json::{Value, json};

use super::outcome::{Figures, Outcome};
use super::row::Row;
use super::targets::{Against, Case};

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

/// One line a case; one a placement for those across cores.
pub(super) fn print(outcomes: &[Outcome], show: Show) -> String {
    let mut lines = vec![
        ["case", "memwire", "instr", "peer", "instr", "ratio", "target", "verdict"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for outcome in outcomes {
        let figures = outcome.figures();
        if figures.is_empty() {
            lines.push(empty_line(outcome));
        }
        for figures in figures {
            lines.push(line(outcome, &figures, show));
        }
    }
    let mut text = aligned(&lines);
    text.push_str("ticks are of the TSC; ticks and instructions are per object\n");
    text
}

fn line(outcome: &Outcome, figures: &Figures, show: Show) -> Vec<String> {
    let name = match &figures.placement {
        Some(placement) => format!("{} {placement}", outcome.case.name),
        None => outcome.case.name.clone(),
    };
    let ticks = |ticks: Option<f64>| number(ticks.filter(|_| show.times()));
    let verdict = match outcome.misses_of(figures, show.times()) {
        _ if !has_target(&outcome.case, show) => "-".to_owned(),
        None => "no peer to compare with".to_owned(),
        Some(misses) if misses.is_empty() => "met".to_owned(),
        Some(misses) => format!("MISSED {}", misses.join(", ")),
    };
    vec![
        name,
        ticks(Some(figures.ticks)),
        number(figures.instructions),
        ticks(figures.dpdk_ticks),
        number(figures.dpdk_instructions),
        ticks(figures.ratio()),
        target(&outcome.case, show),
        verdict,
    ]
}

fn empty_line(outcome: &Outcome) -> Vec<String> {
    let why =
        if outcome.cannot_run { "SKIP cannot run here" } else { "no round in like placement" };
    let mut line = vec![outcome.case.name.clone()];
    line.extend(std::iter::repeat_n("-".to_owned(), 5));
    line.extend([target(&outcome.case, Show::All), why.to_owned()]);
    line
}

fn has_target(case: &Case, show: Show) -> bool {
    case.instructions.is_some()
        || case.more.is_some()
        || (show.times() && (case.ticks.is_some() || case.ratio.is_some()))
}

fn target(case: &Case, show: Show) -> String {
    let peer = if case.against == Against::Without { "without" } else { "DPDK" };
    let parts = [
        case.ticks.filter(|_| show.times()).map(|most| format!("<= {most}")),
        case.instructions.map(|most| format!("<= {most} instr")),
        case.more.map(|most| format!("<= {peer} + {most} instr")),
        case.ratio.filter(|_| show.times()).map(|most| format!("<= {most} x {peer}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
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
            let is_figure = (1..=5).contains(&column);
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

/// Every round and every figure, for a machine.
pub(super) fn json(outcomes: &[Outcome], peer: &str) -> String {
    let cases: Vec<Value> = outcomes
        .iter()
        .map(|outcome| {
            let case = &outcome.case;
            json!({
                "case": case.name,
                "target": {
                    "ticks": case.ticks, "instructions": case.instructions,
                    "instructions_above_peer": case.more, "ratio": case.ratio,
                },
                "figures": outcome.figures().iter().map(|figures| json!({
                    "placement": figures.placement,
                    "ticks": figures.ticks,
                    "instructions": figures.instructions,
                    "dpdk_ticks": figures.dpdk_ticks,
                    "dpdk_instructions": figures.dpdk_instructions,
                    "ratio": figures.ratio(),
                    "missed": outcome.misses_of(figures, true),
                })).collect::<Vec<_>>(),
                "rounds": outcome.rounds.iter().map(|round| json!({
                    "memwire": row(&round.memwire),
                    "dpdk": round.dpdk.iter().map(row).collect::<Vec<_>>(),
                })).collect::<Vec<_>>(),
            })
        })
        .collect();
    let report = json!({
        "schema": "memwire-bench-1",
        "machine": processor(),
        "peer": peer,
        "unit": "TSC ticks and user instructions per object",
        "cases": cases,
    });
    format!("{report:#}\n")
}

fn row(row: &Row) -> Value {
    json!({
        "least": row.least,
        "median": row.median,
        "instructions": row.instructions,
        "placement": row.placement,
    })
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Round;
    use super::super::targets::Suite;
    use super::*;

    fn outcome(ours: f64, dpdk: Option<f64>) -> Outcome {
        let row = |least| Row {
            case: "stray".to_owned(),
            least,
            median: least,
            instructions: Some(20.0),
            placement: None,
        };
        let case = Case {
            suite: Suite::Pool,
            name: "stray".to_owned(),
            two_cores: false,
            ticks: None,
            instructions: None,
            more: None,
            ratio: Some(1.0),
            against: Against::Dpdk,
        };
        let round = Round { memwire: row(ours), dpdk: dpdk.map(row).into_iter().collect() };
        Outcome { case, rounds: vec![round], cannot_run: false }
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
        let line = second_line(outcome(12.34, Some(20.0)), Show::Instructions);
        assert!(line.contains("20.00") && !line.contains("12.34"), "{line}");
    }

    #[test]
    fn the_json_holds_rounds_and_figures() {
        let text = json(&[outcome(10.0, Some(20.0))], "DPDK");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["cases"][0]["figures"][0]["ratio"], 0.5);
        assert_eq!(value["cases"][0]["rounds"][0]["dpdk"][0]["least"], 20.0);
    }
}
