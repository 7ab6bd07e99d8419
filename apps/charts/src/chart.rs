//! Line and area charts as SVG text: axes with units, a grid, a legend. Colours are classes, so that
//! one style sheet serves light and dark; text is anchored, so that no font has to be measured.

use std::fmt::Write;

use crate::text::escape;

/// Style of charts, for a style sheet or a `<style>` of an SVG: eight colours that can be told apart
/// on white and on black.
pub const STYLE: &str = "\
.chart{font:12px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}\
.chart text{fill:#4b5563}.chart .title{fill:#111827;font-size:14px;font-weight:600}\
.chart .grid{stroke:#e5e7eb;fill:none}.chart .axis{stroke:#9ca3af;fill:none}\
.chart .line{fill:none;stroke-width:1.8;stroke-linejoin:round}.chart .area{stroke:none}\
.c0{stroke:#2563eb}.c1{stroke:#c2410c}.c2{stroke:#15803d}.c3{stroke:#a21caf}\
.c4{stroke:#0e7490}.c5{stroke:#b45309}.c6{stroke:#dc2626}.c7{stroke:#6b7280}\
.a0,.k0{fill:#2563eb}.a1,.k1{fill:#c2410c}.a2,.k2{fill:#15803d}.a3,.k3{fill:#a21caf}\
.a4,.k4{fill:#0e7490}.a5,.k5{fill:#b45309}.a6,.k6{fill:#dc2626}.a7,.k7{fill:#6b7280}\
.chart .area{fill-opacity:.75}.d1{stroke-dasharray:6 3}.d2{stroke-dasharray:2 3}\
@media(prefers-color-scheme:dark){\
.chart text{fill:#a1aab8}.chart .title{fill:#f3f4f6}\
.chart .grid{stroke:#2b3340}.chart .axis{stroke:#5b6676}\
.c0{stroke:#6ea8fe}.c1{stroke:#fb923c}.c2{stroke:#4ade80}.c3{stroke:#e879f9}\
.c4{stroke:#22d3ee}.c5{stroke:#fbbf24}.c6{stroke:#f87171}.c7{stroke:#9ca3af}\
.a0,.k0{fill:#6ea8fe}.a1,.k1{fill:#fb923c}.a2,.k2{fill:#4ade80}.a3,.k3{fill:#e879f9}\
.a4,.k4{fill:#22d3ee}.a5,.k5{fill:#fbbf24}.a6,.k6{fill:#f87171}.a7,.k7{fill:#9ca3af}}";

/// Colours there are; further series are dashed.
const COLOURS: usize = 8;
/// Series that a chart can show.
pub const MOST: usize = 3 * COLOURS;
/// Around the plot: left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (76.0, 56.0, 20.0, 28.0);
/// Steps of the vertical axis, about.
const STEPS: f64 = 5.0;
/// Ticks of an axis at most, decades included.
const MOST_TICKS: i32 = 24;
/// Values beyond are no measurement.
const HIGHEST: f64 = 1e18;

/// Values over what the axis is of; a gap where there was none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// For the legend.
    pub name: String,
    /// From left to right.
    pub points: Vec<(f64, Option<f64>)>,
}

/// What the horizontal axis is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Along {
    /// Seconds since the start.
    #[default]
    Seconds,
    /// Sizes of that unit, at least 1: each twice as large as far from the one before.
    Doublings(&'static str),
}

/// How values are written at the axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number with a prefix of 1000s, and this behind it.
    Of(&'static str),
    /// A number as it is, and this behind it.
    Plain(&'static str),
    /// Share of 1.
    Share,
    /// Nanoseconds, on a logarithmic axis.
    Nanos,
}

/// One chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Of the horizontal axis.
    pub along: Along,
    /// Of the vertical axis.
    pub unit: Unit,
    /// At most [`MOST`].
    pub series: Vec<Series>,
    /// Whether series stand on each other.
    pub is_stacked: bool,
    /// Where the axis ends, at least.
    pub top: f64,
}

impl Chart {
    /// Whether there is nothing to draw.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.series.iter().any(|series| series.points.iter().any(|(_, value)| value.is_some()))
    }

    /// The chart as a group of SVG elements, with its corner at 0, 0.
    #[must_use]
    pub fn draw(&self, width: f64, height: f64) -> String {
        let mut svg = String::new();
        let plane = Plane::new(self, width, height);
        // Writing to a `String` never fails.
        let _ = self.write(&mut svg, &plane);
        svg
    }

    fn write(&self, svg: &mut String, plane: &Plane) -> std::fmt::Result {
        let title = escape(&self.title);
        writeln!(svg, r#"<text class="title" x="{:.0}" y="18">{title}</text>"#, 12)?;
        self.legend(svg, plane)?;
        let (left, right, bottom) = (plane.left, plane.right, plane.bottom);
        for (value, text) in plane.ticks(self.unit) {
            let y = plane.y(value);
            writeln!(svg, r#"<path class="grid" d="M{left:.1} {y:.1}H{right:.1}"/>"#)?;
            let (x, y) = (left - 8.0, y + 4.0);
            writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="end">{text}</text>"#)?;
        }
        writeln!(svg, r#"<path class="axis" d="M{left:.1} {bottom:.1}H{right:.1}"/>"#)?;
        for (at, text) in self.marks(plane) {
            let x = plane.x(at);
            let (tick, y) = (bottom + 4.0, bottom + 18.0);
            writeln!(svg, r#"<path class="axis" d="M{x:.1} {bottom:.1}V{tick:.1}"/>"#)?;
            writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="middle">{text}</text>"#)?;
        }
        if self.is_stacked { self.areas(svg, plane) } else { self.lines(svg, plane) }
    }

    /// What stands below the horizontal axis: round times, or the sizes that were measured.
    fn marks(&self, plane: &Plane) -> Vec<(f64, String)> {
        let Along::Doublings(unit) = self.along else {
            return time_ticks(plane.start, plane.end);
        };
        let points = self.series.iter().flat_map(|series| &series.points);
        let mut sizes: Vec<f64> = points.map(|(at, _)| *at).collect();
        sizes.sort_by(f64::total_cmp);
        let mut marks: Vec<(f64, String)> = Vec::new();
        for size in sizes {
            // Two that are closer than their texts are wide would be one blot.
            let room = 7.0 * (size.log10().max(0.0) + 2.0);
            if marks.last().is_none_or(|(last, _)| plane.x(size) - plane.x(*last) >= room) {
                marks.push((size, format!("{size}")));
            }
        }
        if let Some((_, text)) = marks.last_mut() {
            *text = format!("{text} {unit}").trim_end().to_owned();
        }
        marks
    }

    /// A key per series, as many as stand in one line.
    fn legend(&self, svg: &mut String, plane: &Plane) -> std::fmt::Result {
        let mut x = plane.left;
        for (at, series) in self.series.iter().enumerate().take(MOST) {
            let name: String = series.name.chars().take(40).collect();
            // Letters are about this wide; it matters only for the space between two keys.
            let wide = 24.0 + 6.8 * name.chars().count() as f64;
            if x + wide > plane.right && at + 1 < self.series.len().min(MOST) {
                let more = self.series.len() - at;
                return writeln!(svg, r#"<text x="{x:.0}" y="40">and {more} more</text>"#);
            }
            let colour = at % COLOURS;
            writeln!(
                svg,
                r#"<rect class="k{colour}" x="{x:.0}" y="31" width="10" height="10" rx="2"/>"#
            )?;
            writeln!(svg, r#"<text x="{:.0}" y="40">{}</text>"#, x + 15.0, escape(&name))?;
            x += wide;
        }
        Ok(())
    }

    fn lines(&self, svg: &mut String, plane: &Plane) -> std::fmt::Result {
        for (at, series) in self.series.iter().enumerate().take(MOST) {
            let (mut path, mut is_down) = (String::new(), false);
            for &(time, value) in &series.points {
                if let Some(value) = value {
                    let pen = if is_down { 'L' } else { 'M' };
                    write!(path, "{pen}{:.1} {:.1}", plane.x(time), plane.y(value))?;
                }
                is_down = value.is_some();
            }
            let (colour, dash) = (at % COLOURS, at / COLOURS);
            let name = escape(&series.name);
            writeln!(
                svg,
                r#"<path class="line c{colour} d{dash}" d="{path}"><title>{name}</title></path>"#
            )?;
        }
        Ok(())
    }

    fn areas(&self, svg: &mut String, plane: &Plane) -> std::fmt::Result {
        let Some(first) = self.series.first() else { return Ok(()) };
        let mut below = vec![0.0; first.points.len()];
        for (at, series) in self.series.iter().enumerate().take(MOST) {
            let above: Vec<f64> = below
                .iter()
                .zip(&series.points)
                .map(|(below, (_, value))| below + value.unwrap_or(0.0))
                .collect();
            let corner = |at: usize, value: f64| {
                format!("{:.1} {:.1}", plane.x(first.points[at].0), plane.y(value))
            };
            let up = above.iter().enumerate().map(|(at, value)| corner(at, *value));
            let down = below.iter().enumerate().rev().map(|(at, value)| corner(at, *value));
            let path = up.chain(down).collect::<Vec<_>>().join("L");
            let (colour, name) = (at % COLOURS, escape(&series.name));
            writeln!(
                svg,
                r#"<path class="area a{colour}" d="M{path}Z"><title>{name}</title></path>"#
            )?;
            below = above;
        }
        Ok(())
    }
}

/// From values to places.
struct Plane {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    start: f64,
    end: f64,
    low: f64,
    high: f64,
    step: f64,
    is_log: bool,
    along: Along,
}

impl Plane {
    fn new(chart: &Chart, width: f64, height: f64) -> Self {
        let points = chart.series.iter().flat_map(|series| &series.points);
        let end = points.clone().fold(0.0, |end, (time, _)| time.max(end));
        let (start, end) = match chart.along {
            // Times are since the start.
            Along::Seconds => (0.0, if end > 0.0 { end } else { 1.0 }),
            Along::Doublings(_) => {
                let least = points.clone().fold(end, |least, (at, _)| at.min(least)).max(1.0);
                (least, if end > least { end } else { 2.0 * least })
            }
        };
        let is_log = chart.unit == Unit::Nanos;
        let values = points.filter_map(|(_, value)| *value).map(|value| value.min(HIGHEST));
        let (low, high, step) = if is_log {
            let real = values.filter(|value| *value > 0.0);
            let (low, high) = real.fold((f64::MAX, 1.0f64), |(l, h), v| (l.min(v), h.max(v)));
            let low = low.min(high);
            (10f64.powf(low.log10().floor()), 10f64.powf(high.log10().floor() + 1.0), 0.0)
        } else {
            let highest = if chart.is_stacked { 0.0 } else { values.fold(0.0, f64::max) };
            let step = nice(highest.max(chart.top) / STEPS);
            (0.0, (highest.max(chart.top) / step).ceil().max(1.0) * step, step)
        };
        let (left, top, right, bottom) = MARGIN;
        let (right, bottom) = (width - right, height - bottom);
        let along = chart.along;
        Self { left, right, top, bottom, start, end, low, high, step, is_log, along }
    }

    fn x(&self, at: f64) -> f64 {
        let share = match self.along {
            Along::Seconds => (at - self.start) / (self.end - self.start),
            Along::Doublings(_) => {
                (at.max(self.start) / self.start).log2() / (self.end / self.start).log2()
            }
        };
        self.left + share * (self.right - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        let share = if self.is_log {
            (value.max(self.low) / self.low).log10() / (self.high / self.low).log10()
        } else {
            value / self.high
        };
        self.bottom - share.clamp(0.0, 1.0) * (self.bottom - self.top)
    }

    fn ticks(&self, unit: Unit) -> Vec<(f64, String)> {
        let value = |at: i32| match self.is_log {
            true => self.low * 10f64.powi(at),
            false => self.low + self.step * f64::from(at),
        };
        let values = (0..MOST_TICKS).map(value).take_while(|value| *value <= self.high * 1.0001);
        values.map(|value| (value, tick_text(value, self.high, self.step, unit))).collect()
    }
}

/// 1, 2 or 5 times a power of ten, no less than `least`.
fn nice(least: f64) -> f64 {
    if least <= 0.0 || !least.is_finite() {
        return 1.0;
    }
    let power = 10f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * power >= least * 0.9999);
    factor.unwrap_or(10.0) * power
}

/// All ticks of an axis take the prefix of its highest, and the digits of its step.
fn tick_text(value: f64, high: f64, step: f64, unit: Unit) -> String {
    let (scale, prefix) = match high {
        // Things that are counted one by one are written out as long as they are few.
        high if high < 1e5 && unit == Unit::Of("") => (1.0, ""),
        high if high >= 1e9 => (1e9, "G"),
        high if high >= 1e6 => (1e6, "M"),
        high if high >= 1e3 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let (scale, suffix) = match unit {
        Unit::Of(unit) => (scale, format!(" {prefix}{unit}")),
        Unit::Plain(unit) => (1.0, format!(" {unit}")),
        Unit::Share => (0.01, " %".to_owned()),
        Unit::Nanos => return crate::text::duration(value).replace(".00", ""),
    };
    let step = step / scale;
    let digits = if step >= 1.0 || step <= 0.0 { 0.0 } else { (-step.log10()).ceil().min(6.0) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 6")]
    let digits = digits as usize;
    let text = match unit {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 1e5")]
        Unit::Of("") if scale == 1.0 && step >= 1.0 => crate::text::grouped(value as u64),
        _ => format!("{:.digits$}{suffix}", value / scale),
    };
    if value == 0.0 { "0".to_owned() } else { text.trim_end().to_owned() }
}

/// Times that people count in.
fn time_ticks(start: f64, end: f64) -> Vec<(f64, String)> {
    const STEPS: [f64; 15] = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0,
        21600.0, 86400.0,
    ];
    let least = (end - start) / 8.0;
    let step = match STEPS.into_iter().find(|step| *step >= least) {
        _ if least < 0.5 => nice(least),
        Some(step) => step,
        None => (least / 86400.0).ceil() * 86400.0,
    };
    let text = |time: f64| match time {
        time if end <= 120.0 && step < 1.0 => format!("{time:.2}").trim_end_matches('0').to_owned(),
        time if end <= 120.0 => format!("{time:.0}"),
        time if end <= 7200.0 => format!("{:.0}:{:02.0}", (time / 60.0).floor(), time % 60.0),
        time => format!("{:.0}:{:02.0} h", (time / 3600.0).floor(), (time / 60.0).floor() % 60.0),
    };
    let first = (start / step).ceil();
    let ticks = (0..20).map(|at| (first + f64::from(at)) * step);
    let ticks = ticks.take_while(|time| *time <= end * 1.0001);
    ticks
        .map(|time| {
            let text = text(time);
            let text = text.trim_end_matches('.');
            (time, if end <= 120.0 { format!("{text} s") } else { text.to_owned() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[f64], unit: Unit) -> Chart {
        let points = values.iter().enumerate().map(|(at, value)| (at as f64, Some(*value)));
        let series = Series { name: "a <b> & \"c\"".into(), points: points.collect() };
        Chart {
            title: "T & t".into(),
            along: Along::Seconds,
            unit,
            series: vec![series],
            is_stacked: false,
            top: 0.0,
        }
    }

    #[test]
    fn axes_are_of_round_numbers_with_one_unit() {
        let texts = |chart: &Chart| -> Vec<String> {
            let plane = Plane::new(chart, 800.0, 300.0);
            plane.ticks(chart.unit).into_iter().map(|(_, text)| text).collect()
        };
        let rates = chart(&[0.0, 3.2e6, 5.2e6], Unit::Of("pps"));
        assert_eq!(texts(&rates), ["0", "2 Mpps", "4 Mpps", "6 Mpps"]);
        assert_eq!(
            texts(&chart(&[0.9], Unit::Share)),
            ["0", "20 %", "40 %", "60 %", "80 %", "100 %"]
        );
        assert_eq!(texts(&chart(&[0.0], Unit::Of("")))[0], "0");
        assert_eq!(texts(&chart(&[2e3, 9e4], Unit::Nanos)), ["1 µs", "10 µs", "100 µs"]);
    }

    #[test]
    fn time_is_in_steps_that_people_count_in() {
        let texts = |end: f64| -> Vec<String> {
            time_ticks(0.0, end).into_iter().map(|(_, text)| text).collect()
        };
        assert_eq!(texts(5.0), ["0 s", "1 s", "2 s", "3 s", "4 s", "5 s"]);
        assert_eq!(texts(1.0).first().unwrap(), "0 s");
        assert_eq!(texts(600.0), ["0:00", "2:00", "4:00", "6:00", "8:00", "10:00"]);
        assert_eq!(texts(36_000.0)[1], "2:00 h");
    }

    #[test]
    fn doublings_are_equally_far_apart_and_marked_where_they_were_measured() {
        let points = [64.0, 128.0, 256.0, 1500.0].map(|at| (at, Some(at)));
        let series = Series { name: "cost".into(), points: points.into() };
        let chart = Chart {
            along: Along::Doublings("B"),
            series: vec![series],
            ..chart(&[], Unit::Plain("ns"))
        };
        let plane = Plane::new(&chart, 800.0, 300.0);

        let [first, second, third] = [64.0, 128.0, 256.0].map(|at| plane.x(at));

        assert!((third - second - (second - first)).abs() < 1e-6);
        let marks: Vec<String> = chart.marks(&plane).into_iter().map(|(_, text)| text).collect();
        assert_eq!(marks, ["64", "128", "256", "1500 B"]);
        assert_eq!(plane.ticks(chart.unit).last().unwrap().1, "1500 ns");
    }

    #[test]
    fn names_cannot_leave_their_place() {
        let svg = chart(&[1.0, 2.0], Unit::Of("pps")).draw(800.0, 300.0);
        assert!(
            svg.contains("a &lt;b&gt; &amp; &quot;c&quot;") && svg.contains("T &amp; t"),
            "{svg}"
        );
        assert!(!svg.contains("<b>"), "{svg}");
    }

    #[test]
    fn a_gap_lifts_the_pen() {
        let mut gap = chart(&[1.0, 2.0, 3.0, 4.0], Unit::Of("pps"));
        gap.series[0].points[1].1 = None;
        let svg = gap.draw(800.0, 300.0);
        let line = svg.lines().find(|line| line.contains("class=\"line")).unwrap();
        assert_eq!((line.matches('M').count(), line.matches('L').count()), (2, 1), "{line}");
    }

    #[test]
    fn odd_numbers_make_no_odd_pictures() {
        for values in [&[][..], &[0.0], &[f64::MAX], &[1e-300], &[0.0, 0.0, 1e18]] {
            for unit in [Unit::Of("pps"), Unit::Share, Unit::Nanos] {
                for is_stacked in [false, true] {
                    let chart = Chart { is_stacked, ..chart(values, unit) };
                    let svg = chart.draw(800.0, 300.0);
                    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{values:?}: {svg}");
                    assert!(svg.len() < 20_000, "{values:?} {unit:?}: {}", svg.len());
                }
            }
        }
    }
}
