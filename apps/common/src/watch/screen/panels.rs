//! The parts of the screen as lines of text, each made for a width. A part without data is no part.

use memwire_charts::text::{cut, duration, grouped};
use ratatui::text::{Line, Span};

use super::{
    theme::{Theme, Tone},
    view::View,
};
use crate::{
    units::{format_bits, format_frames},
    watch::Sample,
};

/// A title, and what stands below it.
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) lines: Vec<Line<'static>>,
}

/// Widest name in front of a bar.
const NAME: usize = 20;

/// The ports: one line each, behind a line of headings.
pub(super) fn ports(view: &View, width: usize) -> Vec<Line<'static>> {
    let (Some(now), Some(change)) = (view.now(), view.change()) else { return Vec::new() };
    let theme = view.theme;
    let all = ["rx", "rx bits", "tx", "tx bits", "drops/s", "dropped", "state"];
    let wanted: &[usize] = match width {
        0..52 => &[0, 2, 5],
        52..84 => &[0, 1, 2, 5],
        _ => &[0, 1, 2, 3, 4, 5, 6],
    };
    // A direction that no port is used in has no columns.
    let receives = now.ports.iter().any(|port| port.rx.offered > 0);
    let sends = now.ports.iter().any(|port| port.tx.offered > 0);
    let is_used = |at: &usize| match at {
        0 | 1 => receives || !sends,
        2 | 3 => sends,
        // Where there is little room, only what is not well is told.
        6 => width >= 110 || now.ports.iter().any(|port| port.health != "good"),
        _ => true,
    };
    let shown: Vec<usize> = wanted.iter().copied().filter(is_used).collect();
    let cell = 12;
    let name_width = width.saturating_sub(shown.len() * cell).clamp(8, 44);
    let heading = |at: &usize| Span::styled(format!("{:>cell$}", all[*at]), quiet(theme));
    let mut heads = vec![Span::styled(fit("port", name_width), quiet(theme))];
    heads.extend(shown.iter().map(heading));
    let mut lines = vec![Line::from(heads)];
    for port in &now.ports {
        let now = change.port(&port.name).unwrap_or_default();
        let dropped = port.rx.drops.total() + port.tx.drops.total();
        let is_well = ["good", "ended"].contains(&&*port.health);
        let rx = if now.rx.mpps > 0.0 { Tone::Good } else { Tone::Quiet };
        let tx = if now.tx.mpps > 0.0 { Tone::Second } else { Tone::Quiet };
        let cells = [
            (format_frames(now.rx.mpps * 1e6), rx),
            (format_bits(now.rx.gbps * 1e9), rx),
            (format_frames(now.tx.mpps * 1e6), tx),
            (format_bits(now.tx.gbps * 1e9), tx),
            (format_frames(now.drops), if now.drops > 0.0 { Tone::Bad } else { Tone::Quiet }),
            (grouped(dropped), if dropped > 0 { Tone::Bad } else { Tone::Quiet }),
            (cut(&port.health, cell - 1), if is_well { Tone::Quiet } else { Tone::Bad }),
        ];
        let cell = |at: &usize| {
            let (text, tone) = &cells[*at];
            Span::styled(format!("{text:>cell$}"), theme.style(*tone))
        };
        let mut spans = vec![Span::raw(fit(&port.name, name_width))];
        spans.extend(shown.iter().map(cell));
        lines.push(Line::from(spans));
    }
    lines
}

/// Everything below ports and rates, the more telling first.
pub(super) fn others(view: &View, width: usize) -> Vec<Panel> {
    let Some(now) = view.now() else { return Vec::new() };
    let panels = [
        Panel { title: "pools", lines: pools(now, view.theme, width) },
        Panel { title: "busy", lines: stages(view, now, width) },
        Panel { title: "levels", lines: levels(now, view.theme, width) },
        Panel { title: "drops", lines: drops(view, width) },
        Panel { title: "latency", lines: latency(now, width) },
        Panel { title: "counts", lines: counts(view, now, width) },
        Panel {
            title: "log",
            lines: view.lines.iter().map(|line| Line::raw(cut(line, width))).collect(),
        },
    ];
    panels.into_iter().filter(|panel| !panel.lines.is_empty()).collect()
}

fn pools(now: &Sample, theme: Theme, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for pool in &now.pools {
        let states = [
            ("free", pool.free + pool.drained, '░', Tone::Good),
            ("cached", pool.cached, '▒', Tone::Third),
            ("in flight", pool.in_flight, '▓', Tone::Second),
            ("held", pool.held, '█', Tone::Warm),
            ("leaked", pool.leaked, '!', Tone::Bad),
        ];
        let name_width = NAME.min(width / 3);
        let room = width.saturating_sub(name_width + 1);
        let mut bar = vec![Span::raw(fit(&pool.name, name_width)), Span::raw(" ")];
        let mut legend = Vec::new();
        let (mut done, mut filled) = (0, 0);
        for (state, buffers, glyph, tone) in states {
            done += buffers;
            let until = (room * done).checked_div(pool.capacity).unwrap_or(0).min(room);
            let text = glyph.to_string().repeat(until - filled);
            bar.push(Span::styled(text, theme.style(tone)));
            filled = until;
            if buffers > 0 {
                let mark = Span::styled(glyph.to_string(), theme.style(tone));
                legend.push([mark, Span::raw(format!(" {buffers} {state}  "))]);
            }
        }
        lines.push(Line::from(bar));
        lines.extend(packed(legend, width));
    }
    lines
}

/// As many of the entries in a line as there is room for.
fn packed(entries: Vec<[Span<'static>; 2]>, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![Line::default()];
    for entry in entries {
        let wide: usize = entry.iter().map(Span::width).sum();
        // The two spaces behind the last one need no room.
        if lines.last().is_some_and(|line| line.width() > 0 && line.width() + wide > width + 2) {
            lines.push(Line::default());
        }
        lines.last_mut().into_iter().for_each(|line| line.extend(entry.clone()));
    }
    lines
}

fn stages(view: &View, now: &Sample, width: usize) -> Vec<Line<'static>> {
    let Some(change) = view.change() else { return Vec::new() };
    let line = |stage| {
        let busy = change.busy(stage);
        let text = busy.map_or("-".into(), |busy| format!("{:.1} %", busy * 100.0));
        bar_line(&stage.name, busy.unwrap_or(0.0), &text, (view.theme, Tone::Good), width)
    };
    now.stages.iter().map(line).collect()
}

fn levels(now: &Sample, theme: Theme, width: usize) -> Vec<Line<'static>> {
    let line = |level: &crate::watch::Level| {
        let share = if level.of > 0.0 { level.value / level.of } else { 0.0 };
        let text = format!("{} of {}", short(level.value), short(level.of));
        bar_line(&level.name, share, &text, (theme, Tone::Third), width)
    };
    now.levels.iter().map(line).collect()
}

fn drops(view: &View, width: usize) -> Vec<Line<'static>> {
    let (Some(now), Some(change)) = (view.now(), view.change()) else { return Vec::new() };
    let before = change.before().all_drops();
    let line = |(reason, frames): (String, u64)| {
        let since = before.0.get(&reason).copied().unwrap_or(0);
        let rate = change.per_second(since, frames);
        let tone = if rate > 0.0 { Tone::Bad } else { Tone::Quiet };
        let style = view.theme.style(tone);
        let right = format!("{:>14}{:>12}", grouped(frames), format_frames(rate));
        let name = fit(&reason, width.saturating_sub(right.len()));
        Line::from(vec![Span::raw(name), Span::styled(right, style)])
    };
    now.all_drops().0.into_iter().map(line).collect()
}

fn latency(now: &Sample, width: usize) -> Vec<Line<'static>> {
    let Some(latency) = now.latency else { return Vec::new() };
    let [p50, p90, p99, p999, p9999] = latency.quantiles().map(|(_, ns)| duration(ns as f64));
    let mean = duration(latency.mean_ns);
    let (min, max) = (duration(latency.min_ns as f64), duration(latency.max_ns as f64));
    let pairs = [
        [("p50", p50), ("p99.9", p999)],
        [("p90", p90), ("p99.99", p9999)],
        [("p99", p99), ("max", max)],
        [("min", min), ("mean", mean)],
    ];
    let half = (width / 2).max(16);
    let text = |pair: [(&str, String); 2]| {
        let cells = pair.map(|(name, value)| format!("{name:<7}{value:>9}"));
        Line::raw(cells.map(|cell| fit(&cell, half)).concat().trim_end().to_owned())
    };
    pairs.map(text).into()
}

fn counts(view: &View, now: &Sample, width: usize) -> Vec<Line<'static>> {
    let Some(change) = view.change() else { return Vec::new() };
    let line = |count: &crate::watch::Count| {
        let of = |sample: &Sample| sample.counts.iter().find(|old| old.name == count.name).cloned();
        let before = of(change.before()).map_or(0, |old| old.value);
        let rate = change.per_second(before, count.value);
        let more = if rate > 0.0 { format!("{}/s", short(rate)) } else { String::new() };
        let right = format!("{:>16}{more:>12}", grouped(count.value));
        let name = fit(&count.name.replace('_', " "), width.saturating_sub(right.len()));
        let style = view.theme.style(if count.value == 0 { Tone::Quiet } else { Tone::Title });
        Line::from(vec![Span::raw(name), Span::styled(right, style)])
    };
    now.counts.iter().map(line).collect()
}

/// A name, a bar that is full at `share` 1, and a text.
fn bar_line(
    name: &str,
    share: f64,
    text: &str,
    (theme, tone): (Theme, Tone),
    width: usize,
) -> Line<'static> {
    let (name_width, text_width) = (NAME.min(width / 3), text.chars().count().max(8) + 1);
    let room = width.saturating_sub(name_width + 1 + text_width);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1")]
    let filled = (share.clamp(0.0, 1.0) * room as f64).round() as usize;
    Line::from(vec![
        Span::raw(fit(name, name_width)),
        Span::raw(" "),
        Span::styled("█".repeat(filled), theme.style(tone)),
        Span::styled("░".repeat(room - filled), quiet(theme)),
        Span::raw(format!("{text:>text_width$}")),
    ])
}

fn quiet(theme: Theme) -> ratatui::style::Style {
    theme.style(Tone::Quiet)
}

/// Exactly `width` wide.
fn fit(text: &str, width: usize) -> String {
    format!("{:<width$}", cut(text, width))
}

/// `12`, `3.4 k`, `5.67 M`.
fn short(value: f64) -> String {
    format_frames(value).trim_end_matches("pps").trim_end().to_owned()
}
