//! `--plot` and `--report`: what is written after the run. One file each, that needs no other: no
//! script, no font, no picture from elsewhere.

use std::{fmt::Write, time::SystemTime};

use memwire_charts::{
    Chart, STYLE,
    page::{self, Kind},
    text::{clock, duration, escape, grouped},
};

use super::{Sample, curves};
use crate::{
    report::Rates,
    units::{format_bits, format_frames},
};

/// A chart's size in the plot.
const PLOT: (f64, f64) = (960.0, 300.0);
/// A chart's size on the page.
const ON_PAGE: (f64, f64) = (680.0, 270.0);

/// Of a pool that misses buffers at the end.
const NOT_HOME: &str = "NOT ALL HOME";

/// What both say of the run.
pub(super) struct Run {
    pub(super) app: &'static str,
    pub(super) began: SystemTime,
    pub(super) command: Vec<String>,
}

impl Run {
    /// This one, as it begins.
    pub(super) fn now(app: &'static str) -> Self {
        let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        Self { app, began: SystemTime::now(), command: words.collect() }
    }

    fn title(&self) -> String {
        format!("{} {}", self.app, env!("CARGO_PKG_VERSION"))
    }

    fn began(&self) -> String {
        humantime::format_rfc3339_seconds(self.began)
            .to_string()
            .replace('T', " ")
            .replace('Z', " UTC")
    }

    /// As a shell would take it.
    fn command(&self) -> String {
        let quoted = |word: &String| {
            let is_plain = |c: char| c.is_alphanumeric() || "-_=+./:,@%".contains(c);
            match word {
                word if !word.is_empty() && word.chars().all(is_plain) => word.clone(),
                word => format!("'{}'", word.replace('\'', r"'\''")),
            }
        };
        let mut words = self.command.iter();
        let name = words.next().map(|path| path.rsplit('/').next().unwrap_or(path).to_owned());
        name.into_iter().chain(words.map(quoted)).collect::<Vec<_>>().join(" ")
    }
}

/// Rates and drops over time, one below the other.
pub(super) fn plot(run: &Run, samples: &[Sample]) -> String {
    let charts = curves::of_ports(samples);
    let (width, each) = PLOT;
    let height = each * charts.len().max(1) as f64 + 40.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" width=\"{width}\" \
         height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n<style>.back{{fill:#fff}}{STYLE}\
         @media(prefers-color-scheme:dark){{.back{{fill:#0f1319}}}}</style>\n\
         <rect class=\"back\" width=\"100%\" height=\"100%\"/>\n"
    );
    let line = format!("{}, {}: {}", run.title(), run.began(), run.command());
    let line: String = line.chars().take(130).collect();
    // Writing to a `String` never fails.
    let _ = writeln!(svg, "<text x=\"12\" y=\"24\">{}</text>", escape(&line));
    if charts.is_empty() {
        svg += "<text x=\"12\" y=\"80\">no frames came or went</text>\n";
    }
    for (at, chart) in charts.iter().enumerate() {
        let y = 40.0 + each * at as f64;
        let _ =
            write!(svg, "<g transform=\"translate(0 {y})\">\n{}</g>\n", chart.draw(width, each));
    }
    svg + "</svg>\n"
}

/// Everything, on one page.
pub(super) fn report(run: &Run, samples: &[Sample]) -> String {
    let nothing = Sample::default();
    let last = samples.last().unwrap_or(&nothing);
    let mut page = String::new();
    let _ = head(&mut page, run, last);
    let _ = tiles(&mut page, samples, last);
    page += "<h2>Over time</h2>\n<div class=\"charts\">\n";
    for chart in curves::of_ports(samples).iter().chain(&curves::of_the_app(samples)) {
        let _ = card(&mut page, chart);
    }
    page += "</div>\n";
    let _ = tables(&mut page, last);
    page::whole(&format!("{}, {}", run.title(), run.began()), &page)
}

fn head(page: &mut String, run: &Run, last: &Sample) -> std::fmt::Result {
    writeln!(page, "<h1>{}</h1>", escape(&run.title()))?;
    let took = clock(last.at);
    writeln!(page, "<div class=\"quiet\">began {}, ran {took}</div>", escape(&run.began()))?;
    writeln!(page, "<code>{}</code>\n<div class=\"facts\">", escape(&run.command()))?;
    for (name, fact) in &last.facts {
        let (name, fact) = (escape(name), escape(fact));
        writeln!(page, "<span><span class=\"quiet\">{name}</span><b>{fact}</b></span>")?;
    }
    writeln!(page, "</div>")
}

fn tiles(page: &mut String, samples: &[Sample], last: &Sample) -> std::fmt::Result {
    writeln!(page, "<div class=\"tiles\">")?;
    let mut tile = |what: &str, value: String, more: String| {
        writeln!(
            page,
            "<div class=\"tile\"><span class=\"quiet\">{what}</span><b>{}</b>\
             <span class=\"quiet\">{}</span></div>",
            escape(&value),
            escape(&more)
        )
    };
    type Way = fn(&super::PortSample) -> &pmd::QueueStats;
    let ways: [(&str, Way); 2] = [("received", |port| &port.rx), ("sent", |port| &port.tx)];
    for (what, way) in ways {
        let sum = |of: fn(&pmd::QueueStats) -> u64| last.ports.iter().map(|p| of(way(p))).sum();
        let frames: u64 = sum(|stats| stats.delivered);
        if frames > 0 {
            let rates = Rates::of(frames, sum(|stats| stats.bytes), last.at);
            tile(what, grouped(frames), "frames".into())?;
            let bits = format_bits(rates.gbps * 1e9);
            tile(&format!("{what}, mean"), format_frames(rates.mpps * 1e6), bits)?;
        }
    }
    let dropped = last.all_drops().total();
    let offered: u64 = last.ports.iter().map(|port| port.rx.offered + port.tx.offered).sum();
    let share = if offered > 0 { dropped as f64 * 100.0 / offered as f64 } else { 0.0 };
    tile("dropped", grouped(dropped), format!("frames, {share:.4} %"))?;
    if let Some(latency) = &last.latency {
        let more = format!("p50 {}", duration(latency.p50_ns as f64));
        tile("latency p99", duration(latency.p99_ns as f64), more)?;
    }
    tile("time", clock(last.at), format!("{} samples", samples.len()))?;
    writeln!(page, "</div>")
}

fn card(page: &mut String, chart: &Chart) -> std::fmt::Result {
    let (width, height) = ON_PAGE;
    page::card(page, &chart.title, ON_PAGE, &chart.draw(width, height))
}

fn tables(page: &mut String, last: &Sample) -> std::fmt::Result {
    let ports = last.ports.iter().flat_map(|port| {
        [("rx", &port.rx), ("tx", &port.tx)].map(|(way, stats)| {
            let rates = Rates::of(stats.delivered, stats.bytes, last.at);
            [
                format!("{} ({})", port.name, port.driver),
                way.to_owned(),
                grouped(stats.offered),
                grouped(stats.delivered),
                grouped(stats.drops.total()),
                grouped(stats.bytes),
                format_frames(rates.mpps * 1e6),
                format_bits(rates.gbps * 1e9),
                port.health.clone(),
            ]
        })
    });
    let ports = ports.filter(|row| row[2] != "0");
    let heads =
        ["port", "way", "offered", "delivered", "dropped", "bytes", "mean", "layer 2", "state"];
    table(page, "Ports", &heads, ports)?;
    let drops = last.all_drops().0.into_iter().map(|(reason, count)| [reason, grouped(count)]);
    table(page, "Drops by reason", &["reason", "frames"], drops)?;
    let pools = last.pools.iter().map(|pool| {
        let counts = [
            pool.capacity,
            pool.free,
            pool.cached,
            pool.in_flight,
            pool.held,
            pool.leaked,
            pool.drained,
        ];
        let name = [format!("{} ({}, {})", pool.name, pool.provider, pool.access)];
        let mut row: Vec<String> = name.into();
        row.extend(counts.map(|count| grouped(count as u64)));
        row.push(if pool.is_home() { "all home".into() } else { NOT_HOME.into() });
        row
    });
    let heads = [
        "pool",
        "buffers",
        "free",
        "cached",
        "in flight",
        "held",
        "leaked",
        "drained",
        "at the end",
    ];
    table(page, "Pools", &heads, pools)?;
    let stages = last.stages.iter().map(|stage| {
        let idle = if stage.rounds == 0 { 0.0 } else { stage.empty as f64 / stage.rounds as f64 };
        let idle = format!("{:.1} %", idle * 100.0);
        [stage.name.clone(), grouped(stage.rounds), grouped(stage.empty), idle]
    });
    table(page, "Workers", &["worker", "rounds", "empty", "idle"], stages)?;
    let counts = last.counts.iter().map(|count| [count.help.to_owned(), grouped(count.value)]);
    table(page, "Counts", &["what", "count"], counts)?;
    let latency = last.latency.iter().flat_map(|latency| {
        let quantiles = latency.quantiles().map(|(of, ns)| (format!("p{}", of * 100.0), ns as f64));
        let ends = [("min", latency.min_ns as f64), ("mean", latency.mean_ns)];
        let ends = ends.map(|(name, ns)| (name.to_owned(), ns)).into_iter().chain(quantiles);
        let all = ends.chain([("max".to_owned(), latency.max_ns as f64)]);
        all.map(|(name, ns)| [name, duration(ns)]).collect::<Vec<_>>()
    });
    table(page, "Latency", &["quantile", "time"], latency)
}

/// A table; none without rows.
fn table<R: AsRef<[String]>>(
    page: &mut String,
    title: &str,
    heads: &[&str],
    rows: impl Iterator<Item = R>,
) -> std::fmt::Result {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
    writeln!(page, "<h2>{title}</h2>")?;
    let heads: Vec<(&str, Kind)> = heads.iter().map(|head| (*head, Kind::Figure)).collect();
    let rows = rows.map(|row| {
        let cells = row.as_ref().iter().cloned();
        let kind = |cell: &String| if cell == NOT_HOME { Kind::Bad } else { Kind::Figure };
        cells.map(|cell| (kind(&cell), cell)).map(|(kind, cell)| (cell, kind)).collect::<Vec<_>>()
    });
    page::table(page, &heads, rows)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::watch::history::tests::at;

    fn run() -> Run {
        let began = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        let command = ["/bin/gpurx", "-p", "ring:a", "--out", "it's <here>"];
        Run { app: "gpurx", began, command: command.map(str::to_owned).into() }
    }

    fn samples() -> Vec<Sample> {
        let mut samples: Vec<_> = (0..20).map(|step| at(step * 500)).collect();
        for sample in &mut samples {
            sample.ports[0].name = "pcap:<script>alert(1)</script>".into();
        }
        samples
    }

    #[test]
    fn the_page_says_what_ran_and_what_came_of_it() {
        let page = report(&run(), &samples());
        assert!(page::is_well_formed(&page));
        for part in [
            "gpurx 0.",
            "1970-01-02 00:00:00 UTC",
            "gpurx -p ring:a --out &#39;it&#39;\\&#39;&#39;s &lt;here&gt;&#39;",
            "ran 0:00:09",
            "Frames per second",
            "Drops per second, by reason",
            "Buffers of pool heads",
            "Latency since the start",
            "<td>no_buffer</td><td>7</td>",
            "prefers-color-scheme:dark",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(page.contains("&lt;script&gt;alert") && !page.contains("<script"));
        assert!(!page.contains("http"), "needs nothing from elsewhere");
    }

    #[test]
    fn the_plot_is_a_picture_of_its_own() {
        let svg = plot(&run(), &samples());
        assert!(page::is_well_formed(&svg));
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<g transform").count(), 3);
        assert!(!svg.contains("<script"));
    }

    #[test]
    fn a_run_without_frames_has_a_page_too() {
        for samples in [&[][..], &[Sample::default()]] {
            assert!(page::is_well_formed(&report(&run(), samples)));
            assert!(plot(&run(), samples).contains("no frames came or went"));
        }
    }
}
