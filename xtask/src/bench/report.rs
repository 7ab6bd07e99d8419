//! The report for people: one page that needs no other, with the machine, a table a suite and its charts. Knows
//! figures and verdicts; judges nothing itself.

use std::fmt::Write;

use memwire_charts::page::{self, Kind};

use super::curves::{self, Curve};
use super::outcome::{Figures, Outcome, Spread};
use super::ranges;
use super::scene::Scene;
use super::table::{Show, Verdict, absence, bytes, named, number, target, verdict};
use super::targets::Suite;

/// A curve's size: two stand side by side.
const WIDTH: f64 = 680.0;
const HEIGHT: f64 = 300.0;
/// The width of a chart of ranges, which has the page's to itself.
const WHOLE_WIDTH: f64 = 1040.0;

/// How ours is called beside peers.
pub(super) const MEMWIRE: &str = "memwire";

/// The page.
pub(super) fn text(scene: &Scene, outcomes: &[Outcome], show: Show) -> String {
    let mut body = String::new();
    // Writing to a `String` never fails.
    let _ = write(&mut body, scene, outcomes, show);
    page::whole("memwire bench", &body)
}

fn write(body: &mut String, scene: &Scene, outcomes: &[Outcome], show: Show) -> std::fmt::Result {
    writeln!(body, "<h1>memwire bench</h1>")?;
    writeln!(
        body,
        "<div class=\"quiet\">{}, UTC</div>",
        memwire_charts::text::escape(&scene.began)
    )?;
    writeln!(body, "<code>{}</code>", memwire_charts::text::escape(&scene.command))?;
    page::facts(body, &scene.machine)?;
    page::facts(body, &scene.versions)?;
    tiles(body, outcomes, show)?;
    writeln!(
        body,
        "<p class=\"quiet\">Ticks of the time-stamp counter and exact user instructions, per object: less is better. \
         A dot is the figure that counts: the least window on one core, the median across two; the line goes \
         from the least window to the 90th percentile. A ratio is ours by theirs.</p>"
    )?;
    let mut suites: Vec<Suite> = outcomes.iter().map(|outcome| outcome.case.suite).collect();
    suites.dedup();
    for suite in suites {
        let of_suite: Vec<&Outcome> =
            outcomes.iter().filter(|outcome| outcome.case.suite == suite).collect();
        writeln!(body, "<h2>{}</h2>", suite.name())?;
        writeln!(body, "<p class=\"quiet\">{}</p>", suite.about())?;
        if show.times() {
            charts(body, &of_suite, scene)?;
        }
        suite_table(body, &of_suite, scene, show)?;
    }
    Ok(())
}

/// How many lines are as they must be.
fn tiles(body: &mut String, outcomes: &[Outcome], show: Show) -> std::fmt::Result {
    let (mut met, mut missed, mut without, mut skipped) = (0, 0, 0, 0);
    for outcome in outcomes {
        let figures = outcome.figures();
        skipped += usize::from(figures.is_empty());
        for figures in &figures {
            match verdict(outcome, figures, show) {
                Verdict::Met => met += 1,
                Verdict::Missed(_) => missed += 1,
                Verdict::NoTarget | Verdict::NoPeer => without += 1,
            }
        }
    }
    writeln!(body, "<div class=\"tiles\">")?;
    for (name, count, class) in [
        ("targets met", met, " class=\"good\""),
        ("targets missed", missed, if missed > 0 { " class=\"bad\"" } else { "" }),
        ("without a target or its peer", without, ""),
        ("not run", skipped, ""),
    ] {
        writeln!(
            body,
            "<div class=\"tile\"><span class=\"quiet\">{name}</span><b{class}>{count}</b></div>"
        )?;
    }
    writeln!(body, "</div>")
}

/// Points of curves as curves, all other cases as ranges.
fn charts(body: &mut String, outcomes: &[&Outcome], scene: &Scene) -> std::fmt::Result {
    let curves: Vec<Curve> = curves::of(outcomes, scene.tsc_ghz);
    if !curves.is_empty() {
        writeln!(body, "<div class=\"charts\">")?;
        for curve in &curves {
            let drawing = curve.0.draw(WIDTH, HEIGHT);
            page::card(body, &curve.0.title, (WIDTH, HEIGHT), &drawing)?;
        }
        writeln!(body, "</div>")?;
    }
    let ranges = ranges::of(outcomes);
    if !ranges.is_empty() {
        let size = (WHOLE_WIDTH, ranges.height());
        page::card(body, &ranges.title, size, &ranges.draw(WHOLE_WIDTH))?;
    }
    Ok(())
}

/// Of an object, touched by the host: a column of suites that are about it.
const BYTES: &str = "host bytes";
const HEADS: [(&str, Kind); 11] = [
    ("case", Kind::Words),
    ("who", Kind::Words),
    ("least", Kind::Figure),
    ("median", Kind::Figure),
    ("90 %", Kind::Figure),
    ("ns", Kind::Figure),
    ("instructions", Kind::Figure),
    (BYTES, Kind::Figure),
    ("ratio", Kind::Figure),
    ("target", Kind::Words),
    ("verdict", Kind::Words),
];

fn suite_table(
    body: &mut String,
    outcomes: &[&Outcome],
    scene: &Scene,
    show: Show,
) -> std::fmt::Result {
    let mut rows = Vec::new();
    for outcome in outcomes {
        let figures = outcome.figures();
        if figures.is_empty() {
            let mut row = vec![cell(&outcome.case.name, Kind::Words), cell(MEMWIRE, Kind::Words)];
            row.extend((0..7).map(|_| cell("-", Kind::Figure)));
            row.push(cell(&target(&outcome.case, show), Kind::Words));
            row.push(cell(&absence(outcome), Kind::Words));
            rows.push(row);
        }
        for figures in &figures {
            rows.extend(lines(outcome, figures, scene, show));
        }
    }
    let has_bytes = outcomes.iter().any(|outcome| outcome.has_host_bytes());
    let is_shown = |at: usize| has_bytes || HEADS[at].0 != BYTES;
    let heads: Vec<_> = (0..HEADS.len()).filter(|at| is_shown(*at)).map(|at| HEADS[at]).collect();
    for row in &mut rows {
        let cells = std::mem::take(row).into_iter().enumerate();
        *row = cells.filter(|(at, _)| is_shown(*at)).map(|(_, cell)| cell).collect();
    }
    page::table(body, &heads, rows.iter())
}

/// A line for ours, and one for each peer.
fn lines(
    outcome: &Outcome,
    figures: &Figures,
    scene: &Scene,
    show: Show,
) -> Vec<Vec<(String, Kind)>> {
    let time = |value: Option<f64>| cell(&number(value.filter(|_| show.times())), Kind::Figure);
    let cells = |name: &str, who: &str, spread: &Spread, ticks: f64, ratio: Option<f64>| {
        vec![
            cell(name, Kind::Words),
            cell(who, Kind::Words),
            time(Some(spread.least)),
            time(Some(spread.median)),
            time(Some(spread.p90)),
            time(outcome.case.suite.unit().nanos(ticks, scene.tsc_ghz)),
            cell(&number(spread.instructions), Kind::Figure),
            cell(&bytes(spread.host_bytes), Kind::Figure),
            time(ratio),
        ]
    };
    let verdict = verdict(outcome, figures, show);
    let kind = match verdict {
        Verdict::Met => Kind::Good,
        Verdict::Missed(_) => Kind::Bad,
        Verdict::NoTarget | Verdict::NoPeer => Kind::Words,
    };
    let mut ours = cells(&named(outcome, figures), MEMWIRE, &figures.spread, figures.ticks, None);
    ours.extend([cell(&target(&outcome.case, show), Kind::Words), cell(&verdict.text(), kind)]);
    let theirs = figures.peers.iter().map(|peer| {
        let mut line = cells("", &peer.name, &peer.spread, peer.ticks, Some(peer.ratio));
        line.extend([cell("", Kind::Words), cell("", Kind::Words)]);
        line
    });
    std::iter::once(ours).chain(theirs).collect()
}

fn cell(text: &str, kind: Kind) -> (String, Kind) {
    (text.to_owned(), kind)
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Round;
    use super::super::outcome::tests::{case, row};
    use super::*;

    fn outcome(name: &str, ours: f64, dpdk: f64) -> Outcome {
        let mut case = case(false);
        name.clone_into(&mut case.name);
        let round =
            Round { memwire: row(ours, ours, None), peers: vec![vec![row(dpdk, dpdk, None)]] };
        Outcome { rounds: vec![round], ..Outcome::new(case) }
    }

    fn scene() -> Scene {
        Scene {
            command: "cargo xtask bench <x>".to_owned(),
            machine: vec![("kernel", "6.1".to_owned())],
            tsc_ghz: 2.0,
            ..Scene::default()
        }
    }

    #[test]
    fn the_page_shows_figures_spreads_and_verdicts_in_words_and_colour() {
        let outcomes = [outcome("quick", 10.0, 20.0), outcome("slow", 30.0, 20.0)];
        let page = text(&scene(), &outcomes, Show::All);
        assert!(page::is_well_formed(&page), "{page}");
        for part in [
            "cargo xtask bench &lt;x&gt;",
            "<span class=\"quiet\">kernel</span><b>6.1</b>",
            "<td class=\"words good\">met</td>",
            "<td class=\"words bad\">MISSED ratio by 50 %</td>",
            "<b class=\"bad\">1</b>",
            // 10 ticks at 2 GHz are 5 ns.
            "<td>10.00</td><td>10.00</td><td>20.00</td><td>5.00</td><td>100.0</td>",
            "<svg class=\"chart\"",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(!page.contains("http"), "needs nothing from elsewhere");
    }

    #[test]
    fn counting_instructions_draws_no_times() {
        let page = text(&scene(), &[outcome("quick", 10.0, 20.0)], Show::Instructions);
        assert!(!page.contains("<svg") && page.contains("<td>100.0</td>"), "{page}");
    }

    #[test]
    fn what_did_not_run_says_why() {
        let skipped = Some("needs root".to_owned());
        let outcome = Outcome { skipped, ..Outcome::new(case(false)) };
        let page = text(&scene(), &[outcome], Show::All);
        assert!(page.contains("SKIP needs root") && page::is_well_formed(&page), "{page}");
    }
}
