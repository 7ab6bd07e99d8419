//! Where the parts of the screen go. What does not fit is named in the last line; a terminal that is
//! too small for anything says so, and the app goes on.

use memwire_charts::text::{clock, cut};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
    widgets::{Block, BorderType, Paragraph, RenderDirection, Sparkline, Wrap},
};

use super::{
    panels::{self, Panel},
    theme::Tone,
    view::{Bars, View},
};
use crate::units::format_frames;

/// Smallest terminal that something useful fits on.
const LEAST: (u16, u16) = (36, 8);
/// Lines of the rates, borders included: at least, at most.
const RATES: (u16, u16) = (4, 9);

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        too_small(frame, view, area);
        return;
    }
    let width = usize::from(area.width) - 4;
    let ports = panels::ports(view, width);
    let columns = match area.width {
        0..72 => 1,
        72..150 => 2,
        _ => 3,
    };
    let column = (area.width / columns).saturating_sub(4);
    let others = panels::others(view, column.into());
    let wanted = tallest(&others, columns);

    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)])
            .areas(area);
    header(frame, view, head);
    let port_lines = lines(&ports).saturating_add(2).min(body.height.div_ceil(2).max(4));
    let left = body.height - port_lines;
    let rate_lines = left.saturating_sub(wanted).clamp(RATES.0, RATES.1);
    let rate_lines = if left < RATES.0 { 0 } else { rate_lines };
    let [port_area, rate_area, rest] = Layout::vertical([
        Constraint::Length(port_lines),
        Constraint::Length(rate_lines),
        Constraint::Min(0),
    ])
    .areas(body);
    boxed(frame, view, port_area, "ports", ports);
    rates(frame, view, rate_area);
    let hidden = spread(frame, view, rest, columns, others);
    footer(frame, view, foot, &hidden);
}

fn too_small(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let (width, height) = LEAST;
    let text = format!(
        "terminal too small: {}x{}, and {} needs {width}x{height}; it runs on, q stops it",
        area.width, area.height, view.app
    );
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
}

fn header(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let Some(now) = view.now() else { return };
    let name = format!(" {} {}", view.app, env!("CARGO_PKG_VERSION"));
    let clock = format!("{} ", clock(now.at));
    let room = usize::from(area.width).saturating_sub(name.len() + clock.len());
    let facts: Vec<_> = now.facts.iter().map(|(name, fact)| format!("{name} {fact}")).collect();
    let facts = cut(&format!("  {}", facts.join(" · ")), room.saturating_sub(1));
    let gap = " ".repeat(room.saturating_sub(facts.chars().count()));
    let quiet = view.theme.style(Tone::Quiet);
    let line = Line::from(vec![
        Span::styled(name, view.theme.style(Tone::Title)),
        Span::styled(facts, quiet),
        Span::raw(gap),
        Span::raw(clock),
    ]);
    frame.render_widget(line, area);
}

fn footer(frame: &mut Frame<'_>, view: &View, area: Rect, hidden: &[&str]) {
    let mut text = " q or ^C: stop".to_owned();
    if !hidden.is_empty() {
        text += &format!("   no room for: {}", hidden.join(", "));
    }
    let line = Line::styled(cut(&text, area.width.into()), view.theme.style(Tone::Quiet));
    frame.render_widget(line, area);
}

/// The rates of both directions, side by side; a direction without frames has no part.
fn rates(frame: &mut Frame<'_>, view: &View, area: Rect) {
    if area.is_empty() {
        return;
    }
    let both = [("received", &view.rx, Tone::Good), ("sent", &view.tx, Tone::Second)];
    let mut shown: Vec<_> = both.into_iter().filter(|(_, bars, _)| bars.peak > 0.0).collect();
    if shown.is_empty() {
        shown.push(both[0]);
    }
    let areas = Layout::horizontal(vec![Constraint::Fill(1); shown.len()]).split(area);
    for ((name, bars, tone), area) in shown.into_iter().zip(areas.iter()) {
        rate(frame, view, *area, name, bars, tone);
    }
}

fn rate(frame: &mut Frame<'_>, view: &View, area: Rect, name: &str, bars: &Bars, tone: Tone) {
    let now = bars.rates.back().copied().unwrap_or(0) as f64;
    let title = format!(" {name}  {}   peak {} ", format_frames(now), format_frames(bars.peak));
    let block = block(view, cut(&title, usize::from(area.width).saturating_sub(2)));
    let shown = usize::from(block.inner(area).width);
    let newest_first: Vec<u64> = bars.rates.iter().rev().take(shown).copied().collect();
    // A little above the highest, so that a steady rate is not a solid block.
    let highest = newest_first.iter().copied().max().unwrap_or(0);
    let line = Sparkline::default()
        .data(newest_first)
        .max((highest + highest / 8).max(1))
        .direction(RenderDirection::RightToLeft)
        .style(view.theme.style(tone))
        .block(block);
    frame.render_widget(line, area);
}

fn block(view: &View, title: String) -> Block<'static> {
    Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(view.theme.style(Tone::Quiet))
        .title(Span::styled(title, view.theme.style(Tone::Title)))
}

fn boxed(frame: &mut Frame<'_>, view: &View, area: Rect, title: &str, text: Vec<Line<'static>>) {
    let block = block(view, format!(" {title} "));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [_, middle, _] =
        Layout::horizontal([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)])
            .areas(inner);
    frame.render_widget(Paragraph::new(text), middle);
}

fn lines(text: &[Line<'_>]) -> u16 {
    u16::try_from(text.len()).unwrap_or(u16::MAX)
}

/// Puts each panel into the column that is the shortest so far.
fn columns_of(panels: &[Panel], columns: u16) -> Vec<(usize, u16)> {
    let mut heights = vec![0u16; columns.into()];
    let place = |panel: &Panel| {
        let column = (0..heights.len()).min_by_key(|at| heights[*at]).unwrap_or(0);
        let top = heights[column];
        heights[column] = top.saturating_add(lines(&panel.lines).saturating_add(2));
        (column, top)
    };
    panels.iter().map(place).collect()
}

/// Lines that the panels take.
fn tallest(panels: &[Panel], columns: u16) -> u16 {
    let ends = columns_of(panels, columns).into_iter().zip(panels);
    let end =
        |((_, top), panel): ((usize, u16), &Panel)| top.saturating_add(lines(&panel.lines) + 2);
    ends.map(end).max().unwrap_or(0)
}

/// Draws what there is room for; returns the titles of the others.
fn spread(
    frame: &mut Frame<'_>,
    view: &View,
    area: Rect,
    columns: u16,
    panels: Vec<Panel>,
) -> Vec<&'static str> {
    let areas = Layout::horizontal(vec![Constraint::Fill(1); columns.into()]).split(area);
    let places = columns_of(&panels, columns);
    let mut hidden = Vec::new();
    for ((column, top), panel) in places.into_iter().zip(panels) {
        let height = (lines(&panel.lines) + 2).min(area.height.saturating_sub(top));
        // Borders around nothing tell nobody anything.
        if height < 3 {
            hidden.push(panel.title);
            continue;
        }
        let area = Rect { y: area.y + top, height, ..areas[column] };
        boxed(frame, view, area, panel.title, panel.lines);
    }
    hidden
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::watch::{Sample, history::tests::at, screen::theme::Theme};

    fn picture(samples: &[Sample], width: u16, height: u16) -> String {
        let mut view = View::new("gpurx", Theme::plain());
        samples.iter().for_each(|sample| view.push(sample.clone()));
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &view)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn everything_there_is_stands_on_a_usual_terminal() {
        let text = picture(&[at(2000), at(4000)], 100, 32);
        for part in [
            "gpurx 0.",
            "path direct · memory fake",
            "0:00:04",
            "ring:a",
            "500 pps",
            "256 kb/s",
            "received  500 pps   peak 500 pps",
            "sent  10 pps",
            "heads",
            "30 free",
            "16 cached",
            "30 in flight",
            "24 held",
            "worker 0",
            "75.0 %",
            "block fill",
            "128 of 512",
            "foreign",
            "no_buffer",
            "p50      2.00 µs",
            "p99.99   1.00 ms",
            "rows missing",
            "q or ^C: stop",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("no room"), "{text}");
    }

    #[test]
    fn parts_without_data_do_not_appear() {
        let bare = |millis| {
            let whole = at(millis);
            Sample { at: whole.at, ports: whole.ports, ..Sample::default() }
        };
        let text = picture(&[bare(1000), bare(2000)], 100, 32);
        for part in ["pools", "busy", "levels", "latency", "counts"] {
            assert!(!text.contains(part), "{part} in\n{text}");
        }
        assert!(text.contains("ring:a") && text.contains("no_buffer"), "{text}");
    }

    #[test]
    fn a_small_terminal_gets_what_fits_and_the_names_of_the_rest() {
        let text = picture(&[at(1000), at(2000)], 60, 20);
        assert!(text.contains("ring:a") && text.contains("heads"), "{text}");
        assert!(text.contains("no room for: drops, latency, counts"), "{text}");
        let narrow = picture(&[at(1000), at(2000)], 36, 8);
        assert!(narrow.contains("ports") && narrow.contains("ring:a"), "{narrow}");
    }

    #[test]
    fn one_that_is_too_small_says_so() {
        let text = picture(&[at(1000), at(2000)], 20, 5);
        assert!(text.contains("terminal too"), "{text}");
        assert!(text.contains("20x5"), "{text}");
    }

    #[test]
    fn no_size_is_too_odd_to_draw() {
        let many: Vec<Sample> = [1000, 2000]
            .into_iter()
            .map(|millis| {
                let mut sample = at(millis);
                let long = "x".repeat(300);
                sample.ports = vec![sample.ports[0].clone(); 40];
                sample.ports[3].name = long.clone();
                sample.pools = vec![sample.pools[0].clone(); 20];
                sample.pools[1].capacity = 0;
                sample.stages[0].name = long.clone();
                sample.facts = vec![("fact".into(), long)];
                sample
            })
            .collect();
        for (width, height) in
            [(1, 1), (1, 200), (300, 1), (20, 5), (36, 8), (71, 9), (80, 24), (200, 60), (500, 100)]
        {
            picture(&many, width, height);
            picture(&many[..1], width, height);
            picture(&[], width, height);
        }
    }
}
