//! From a suite's outcomes to a chart of ranges: a row a case, a mark for ours and for each peer.

use memwire_charts::{Range, Ranges, Row};

use super::curves;
use super::outcome::{Outcome, Spread};
use super::report::MEMWIRE;
use super::table::named;

/// All that are no points of curves.
pub(super) fn of(outcomes: &[&Outcome]) -> Ranges {
    let unit = outcomes.first().map_or("", |outcome| outcome.case.suite.unit().name());
    let mut chart = Ranges {
        title: format!("Cost of an object in {unit}"),
        unit: String::new(),
        series: vec![MEMWIRE.to_owned()],
        rows: Vec::new(),
    };
    for outcome in outcomes.iter().filter(|outcome| curves::point(&outcome.case.name).is_none()) {
        for figures in outcome.figures() {
            let mut ranges = vec![range(0, &figures.spread, figures.ticks)];
            for peer in &figures.peers {
                let known = chart.series.iter().position(|name| *name == peer.name);
                let series = known.unwrap_or_else(|| {
                    chart.series.push(peer.name.clone());
                    chart.series.len() - 1
                });
                ranges.push(range(series, &peer.spread, peer.ticks));
            }
            chart.rows.push(Row { name: named(outcome, &figures), ranges });
        }
    }
    chart
}

fn range(series: usize, spread: &Spread, mark: f64) -> Range {
    Range { series, low: spread.least, mark, high: spread.p90 }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Round;
    use super::super::outcome::tests::{case, row};
    use super::*;

    #[test]
    fn a_peer_has_one_colour_in_all_rows() {
        let outcome = |peers: &[&str]| {
            let mut case = case(false);
            case.peers = peers.iter().map(|peer| (*peer).to_owned()).collect();
            let rows = peers.iter().map(|_| vec![row(2.0, 3.0, None)]).collect();
            let rounds = vec![Round { memwire: row(1.0, 2.0, None), peers: rows }];
            Outcome { rounds, ..Outcome::new(case) }
        };
        let (both, one) = (outcome(&["dpdk", "rtrb"]), outcome(&["rtrb"]));

        let chart = of(&[&both, &one]);

        assert_eq!(chart.series, ["memwire", "dpdk", "rtrb"]);
        let series = |at: usize| -> Vec<usize> {
            chart.rows[at].ranges.iter().map(|range| range.series).collect()
        };
        assert_eq!((series(0), series(1)), (vec![0, 1, 2], vec![0, 2]));
        assert_eq!((chart.rows[0].ranges[0].mark, chart.rows[0].ranges[0].high), (1.0, 4.0));
    }
}
