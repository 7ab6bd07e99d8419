//! From samples over time to charts: which curves there are, and what they are of. Draws nothing.

use memwire_charts::{Along, Chart, MOST, Series, Unit, text::cut};

use super::{Sample, history::Change};

/// Longest name of a port in a legend.
const LONGEST: usize = 36;

/// Frames per second, bits per second, and drops per second of all ports.
pub(super) fn of_ports(samples: &[Sample]) -> Vec<Chart> {
    let bits = both_ways(samples, |rates| rates.gbps * 1e9);
    let charts = [
        chart("Frames per second", Unit::Of("pps"), both_ways(samples, |rates| rates.mpps * 1e6)),
        chart("Bits per second, layer 2", Unit::Of("b/s"), bits),
        chart("Drops per second, by reason", Unit::Of("pps"), drops(samples)),
    ];
    charts.into_iter().filter(|chart| !chart.is_empty()).collect()
}

/// Everything else.
pub(super) fn of_the_app(samples: &[Sample]) -> Vec<Chart> {
    let mut charts = Vec::new();
    let busy = named(samples, |sample| &sample.stages, |stage| &stage.name);
    let busy = busy.into_iter().map(|name| {
        steps(samples, &name, |change, after| {
            change.busy(after.stages.iter().find(|stage| stage.name == name)?)
        })
    });
    let title = "Busy: share of rounds that found something";
    charts.push(Chart { top: 1.0, ..chart(title, Unit::Share, busy.collect()) });
    let levels = named(samples, |sample| &sample.levels, |level| &level.name);
    let levels = levels.into_iter().map(|name| {
        values(samples, &name, |sample| {
            let level = sample.levels.iter().find(|level| level.name == name)?;
            (level.of > 0.0).then_some(level.value / level.of)
        })
    });
    charts.push(Chart { top: 1.0, ..chart("Levels", Unit::Share, levels.collect()) });
    let pools = named(samples, |sample| &sample.pools, |pool| &pool.name);
    charts.extend(pools.iter().map(|name| pool(samples, name)));
    let quantiles = [("p50", 0), ("p90", 1), ("p99", 2), ("p99.9", 3), ("p99.99", 4)];
    let latency = quantiles.map(|(name, at)| {
        values(samples, name, |sample| Some(sample.latency.as_ref()?.quantiles()[at].1 as f64))
    });
    charts.push(chart("Latency since the start", Unit::Nanos, latency.into()));
    charts.into_iter().filter(|chart| !chart.is_empty()).collect()
}

fn chart(title: &str, unit: Unit, series: Vec<Series>) -> Chart {
    let along = Along::Seconds;
    Chart { title: title.to_owned(), along, unit, series, is_stacked: false, top: 0.0 }
}

/// Buffers of a pool, by where they are.
fn pool(samples: &[Sample], name: &str) -> Chart {
    type Read = fn(&crate::report::PoolReport) -> usize;
    let states: [(&str, Read); 5] = [
        ("held", |pool| pool.held),
        ("in flight", |pool| pool.in_flight),
        ("cached", |pool| pool.cached),
        ("free", |pool| pool.free + pool.drained),
        ("leaked", |pool| pool.leaked),
    ];
    let find = |sample: &Sample, read: Read| {
        Some(read(sample.pools.iter().find(|pool| pool.name == name)?) as f64)
    };
    let series = states.map(|(state, read)| values(samples, state, |sample| find(sample, read)));
    // All states of every pool, so that a state has one colour; but leaks are news.
    let is_news =
        |series: &Series| series.points.iter().any(|(_, value)| value.is_some_and(|v| v > 0.0));
    let series = series.into_iter();
    let series = series.filter(|series| series.name != "leaked" || is_news(series)).collect();
    let top = samples.iter().filter_map(|sample| find(sample, |pool| pool.capacity));
    let top = top.fold(0.0, f64::max);
    let title = format!("Buffers of pool {name}");
    Chart { is_stacked: true, top, ..chart(&title, Unit::Of(""), series) }
}

/// Rates of each port, received and sent; a direction that was never used has no curve.
fn both_ways(samples: &[Sample], of: fn(&crate::report::Rates) -> f64) -> Vec<Series> {
    let mut series = Vec::new();
    for name in named(samples, |sample| &sample.ports, |port| &port.name) {
        for direction in ["rx", "tx"] {
            let is_rx = direction == "rx";
            let used = samples.iter().flat_map(|sample| &sample.ports).any(|port| {
                port.name == name && if is_rx { port.rx.offered } else { port.tx.offered } > 0
            });
            if used {
                let title = format!("{} {direction}", cut(&name, LONGEST));
                series.push(steps(samples, &title, |change, _| {
                    let port = change.port(&name)?;
                    Some(of(if is_rx { &port.rx } else { &port.tx }))
                }));
            }
        }
    }
    strongest(series)
}

fn drops(samples: &[Sample]) -> Vec<Series> {
    let all: Vec<_> = samples.iter().map(Sample::all_drops).collect();
    let reasons = all.last().into_iter().flat_map(|drops| drops.0.keys());
    let of = |reason: &String| {
        let points = samples.windows(2).zip(all.windows(2)).map(|(pair, drops)| {
            let count = |at: usize| drops[at].0.get(reason).copied().unwrap_or(0);
            let rate = Change::new(&pair[0], &pair[1]).per_second(count(0), count(1));
            (pair[1].at.as_secs_f64(), Some(rate))
        });
        Series { name: reason.clone(), points: points.collect() }
    };
    reasons.map(of).collect()
}

/// With more curves than a chart shows, the highest ones.
fn strongest(mut series: Vec<Series>) -> Vec<Series> {
    if series.len() > MOST {
        let sum = |series: &Series| series.points.iter().filter_map(|point| point.1).sum::<f64>();
        series.sort_by(|a, b| sum(b).total_cmp(&sum(a)));
    }
    series
}

/// All names there ever were, in the order of their coming.
fn named<'a, T: 'a>(
    samples: &'a [Sample],
    all: fn(&'a Sample) -> &'a Vec<T>,
    name: fn(&'a T) -> &'a String,
) -> Vec<String> {
    let mut names = Vec::new();
    for name in samples.iter().flat_map(all).map(name) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// A value of each sample.
fn values(samples: &[Sample], name: &str, of: impl Fn(&Sample) -> Option<f64>) -> Series {
    let points = samples.iter().map(|sample| (sample.at.as_secs_f64(), of(sample)));
    Series { name: name.to_owned(), points: points.collect() }
}

/// A value of each step from one sample to the next, which stands where the step ends.
fn steps(
    samples: &[Sample],
    name: &str,
    of: impl Fn(Change<'_>, &Sample) -> Option<f64>,
) -> Series {
    let points = samples.windows(2).map(|pair| {
        let change = Change::new(&pair[0], &pair[1]);
        (pair[1].at.as_secs_f64(), of(change, &pair[1]))
    });
    Series { name: name.to_owned(), points: points.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::history::tests::at;

    #[test]
    fn curves_are_of_what_there_is() {
        let samples: Vec<_> = (1..5).map(|second| at(second * 1000)).collect();
        let titles = |charts: &[Chart]| -> Vec<String> {
            charts.iter().map(|chart| chart.title.clone()).collect()
        };
        let ports = of_ports(&samples);
        assert_eq!(
            titles(&ports),
            ["Frames per second", "Bits per second, layer 2", "Drops per second, by reason"]
        );
        let names: Vec<_> = ports[0].series.iter().map(|series| &*series.name).collect();
        assert_eq!(names, ["ring:a rx", "ring:a tx"]);
        assert_eq!(ports[0].series[0].points, [2.0, 3.0, 4.0].map(|at| (at, Some(500.0))));
        let app = of_the_app(&samples);
        assert_eq!(
            titles(&app),
            [
                "Busy: share of rounds that found something",
                "Levels",
                "Buffers of pool heads",
                "Latency since the start"
            ]
        );
        assert_eq!(app[1].series[0].points[0], (1.0, Some(0.25)));
        assert_eq!(app[2].series.len(), 4, "nothing leaked");
        assert!(of_ports(&[]).is_empty() && of_the_app(&[Sample::default()]).is_empty());
    }

    #[test]
    fn a_port_that_goes_leaves_a_gap() {
        let mut samples: Vec<_> = (1..6).map(|second| at(second * 1000)).collect();
        samples[2].ports.clear();
        let chart = &of_ports(&samples)[0];
        assert_eq!(chart.series[0].points[1], (3.0, None));
        assert!(chart.series[0].points[3].1.is_some());
    }
}
