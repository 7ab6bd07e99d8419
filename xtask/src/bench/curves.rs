//! From cases that are points of a curve to charts: how a cost grows with the size of something. Such a case is
//! called `AXIS/WHAT@SIZE`; all of an axis are one chart, with a line for ours and for each peer's of every WHAT.

use memwire_charts::{Along, Chart, Series, Unit};

use super::outcome::Outcome;
use super::report::MEMWIRE;

/// What is known of an axis: its name in cases, the chart's title, the unit of sizes.
const AXES: [(&str, &str, &str); 5] = [
    ("size", "Cost of a frame by its size", "B"),
    ("burst", "Cost of a frame by the size of bursts", ""),
    ("queues", "Cost of a frame by the number of queues that a core polls", ""),
    ("pool", "Cost of a buffer by how many are in use", ""),
    ("cores", "Cost of a frame by the number of cores at work", ""),
];

/// A chart of an axis.
pub(super) struct Curve(pub(super) Chart);

/// Where a case stands on which axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point<'a> {
    pub(super) axis: &'a str,
    pub(super) what: &'a str,
    pub(super) size: u32,
}

/// The case as a point, if it is one.
pub(super) fn point(case: &str) -> Option<Point<'_>> {
    let (name, size) = case.split_once('@')?;
    let (axis, what) = name.split_once('/')?;
    Some(Point { axis, what, size: size.parse().ok()? })
}

/// All charts, in nanoseconds.
pub(super) fn of(outcomes: &[&Outcome], tsc_ghz: f64) -> Vec<Curve> {
    let curves = AXES.iter().map(|(axis, title, unit)| {
        let mut series: Vec<Series> = Vec::new();
        for outcome in outcomes {
            let Some(point) = point(&outcome.case.name).filter(|point| point.axis == *axis) else {
                continue;
            };
            for figures in outcome.figures() {
                let mut add = |who: &str, ticks: f64| {
                    let name = format!("{} {who}", point.what);
                    let known = series.iter().position(|series| series.name == name);
                    let at = known.unwrap_or_else(|| {
                        series.push(Series { name, points: Vec::new() });
                        series.len() - 1
                    });
                    let nanos = (tsc_ghz > 0.0).then(|| ticks / tsc_ghz);
                    series[at].points.push((f64::from(point.size), nanos));
                };
                add(MEMWIRE, figures.ticks);
                figures.peers.iter().for_each(|peer| add(&peer.name, peer.ticks));
            }
        }
        Chart {
            title: (*title).to_owned(),
            along: Along::Doublings(unit),
            unit: Unit::Plain("ns"),
            series,
            is_stacked: false,
            top: 0.0,
        }
    });
    curves.filter(|chart| !chart.is_empty()).map(Curve).collect()
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Round;
    use super::super::outcome::tests::{case, row};
    use super::*;

    #[test]
    fn points_of_one_axis_are_one_chart_with_a_line_for_each_who_and_what() {
        let outcome = |name: &str, ticks: f64| {
            let mut case = case(false);
            name.clone_into(&mut case.name);
            let peers = vec![vec![row(2.0 * ticks, 2.0 * ticks, None)]];
            let rounds = vec![Round { memwire: row(ticks, ticks, None), peers }];
            Outcome { rounds, ..Outcome::new(case) }
        };
        let outcomes =
            [outcome("burst/null@1", 8.0), outcome("burst/null@32", 2.0), outcome("bare-1", 1.0)];

        let curves = of(&outcomes.iter().collect::<Vec<_>>(), 2.0);

        assert_eq!(curves.len(), 1);
        let series = &curves[0].0.series;
        assert_eq!(series[0].name, "null memwire");
        assert_eq!(series[0].points, [(1.0, Some(4.0)), (32.0, Some(1.0))]);
        assert_eq!(series[1].points, [(1.0, Some(8.0)), (32.0, Some(2.0))]);
    }

    #[test]
    fn only_a_name_with_a_size_is_a_point() {
        assert_eq!(point("size/copied@64"), Some(Point { axis: "size", what: "copied", size: 64 }));
        assert_eq!((point("bare-1"), point("size@64"), point("size/x@y")), (None, None, None));
    }
}
