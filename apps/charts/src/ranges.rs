//! A chart of ranges: rows with a mark for each series, on a logarithmic axis, so that what costs one and what costs
//! a hundred stand on one picture. A mark is a dot where the figure is and a line over the spread.

use std::fmt::Write;

use crate::text::escape;

/// Around the plot: left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (170.0, 56.0, 64.0, 30.0);
/// Height of a mark, and between rows.
const MARK: f64 = 17.0;
const GAP: f64 = 11.0;
/// Series that can be told apart by colour.
const COLOURS: usize = 8;
/// Axis steps within a decade, where it has few.
const FEW_DECADES: f64 = 2.5;

/// A figure with its spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Which series.
    pub series: usize,
    /// Where the line begins.
    pub low: f64,
    /// Where the dot is.
    pub mark: f64,
    /// Where the line ends.
    pub high: f64,
}

/// One row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// To the left.
    pub name: String,
    /// One below the other.
    pub ranges: Vec<Range>,
}

/// The chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranges {
    /// Above it.
    pub title: String,
    /// Of the axis, in words.
    pub unit: String,
    /// Names for the legend.
    pub series: Vec<String>,
    /// From top to bottom.
    pub rows: Vec<Row>,
}

impl Ranges {
    /// Whether there is nothing to draw.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values().next().is_none()
    }

    /// What a drawing of all rows needs.
    #[must_use]
    pub fn height(&self) -> f64 {
        let rows = self.rows.iter().map(|row| GAP + MARK * row.ranges.len().max(1) as f64);
        MARGIN.1 + rows.sum::<f64>() + MARGIN.3
    }

    /// The chart as SVG elements, with its corner at 0, 0; [`Ranges::height`] high.
    #[must_use]
    pub fn draw(&self, width: f64) -> String {
        let mut svg = String::new();
        // Writing to a `String` never fails.
        let _ = self.write(&mut svg, width);
        svg
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        let ranges = self.rows.iter().flat_map(|row| &row.ranges);
        ranges
            .flat_map(|range| [range.low, range.mark, range.high])
            .filter(|value| value.is_finite() && *value > 0.0)
    }

    fn write(&self, svg: &mut String, width: f64) -> std::fmt::Result {
        let axis = Axis::over(self.values(), MARGIN.0, width - MARGIN.2);
        let (top, bottom) = (MARGIN.1, self.height() - MARGIN.3);
        let (title, unit) = (escape(&self.title), escape(&self.unit));
        writeln!(svg, r#"<text class="title" x="12" y="18">{title}</text>"#)?;
        self.legend(svg)?;
        for value in axis.ticks() {
            let x = axis.x(value);
            writeln!(svg, r#"<path class="grid" d="M{x:.1} {top:.1}V{bottom:.1}"/>"#)?;
            let (text, y) = (short(value), bottom + 16.0);
            writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="middle">{text}</text>"#)?;
        }
        let (x, y) = (MARGIN.0 - 12.0, bottom + 16.0);
        writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="end">{unit}</text>"#)?;
        let mut y = top;
        for row in &self.rows {
            let high = MARK * row.ranges.len().max(1) as f64;
            let (x, middle) = (MARGIN.0 - 12.0, y + (GAP + high) / 2.0 + 4.0);
            let name = escape(&row.name);
            writeln!(svg, r#"<text x="{x:.1}" y="{middle:.1}" text-anchor="end">{name}</text>"#)?;
            for (at, range) in row.ranges.iter().enumerate() {
                let middle = y + GAP / 2.0 + MARK * (at as f64 + 0.5);
                self.mark(svg, &axis, range, middle)?;
            }
            y += GAP + high;
            let (left, right) = (MARGIN.0, axis.right);
            writeln!(svg, r#"<path class="grid" d="M{left:.1} {y:.1}H{right:.1}"/>"#)?;
        }
        Ok(())
    }

    fn legend(&self, svg: &mut String) -> std::fmt::Result {
        let mut x = MARGIN.0;
        for (at, name) in self.series.iter().enumerate() {
            let colour = at % COLOURS;
            writeln!(
                svg,
                r#"<rect class="k{colour}" x="{x:.0}" y="31" width="10" height="10" rx="2"/>"#
            )?;
            writeln!(svg, r#"<text x="{:.0}" y="40">{}</text>"#, x + 15.0, escape(name))?;
            // Letters are about this wide; it matters only for the space between two keys.
            x += 30.0 + 6.8 * name.chars().count() as f64;
        }
        Ok(())
    }

    fn mark(&self, svg: &mut String, axis: &Axis, range: &Range, y: f64) -> std::fmt::Result {
        if !(range.mark.is_finite() && range.mark > 0.0) {
            return Ok(());
        }
        let colour = range.series % COLOURS;
        let (low, mark, high) = (axis.x(range.low), axis.x(range.mark), axis.x(range.high));
        writeln!(svg, r#"<path class="line c{colour}" d="M{low:.1} {y:.1}H{high:.1}"/>"#)?;
        writeln!(svg, r#"<path class="line c{colour}" d="M{high:.1} {:.1}v6"/>"#, y - 3.0)?;
        let series = self.series.get(range.series).map_or("", String::as_str);
        writeln!(
            svg,
            r#"<circle class="k{colour}" cx="{mark:.1}" cy="{y:.1}" r="4"><title>{}: {}</title></circle>"#,
            escape(series),
            short(range.mark)
        )?;
        let (x, y) = (mark.max(high) + 9.0, y + 4.0);
        writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}">{}</text>"#, short(range.mark))
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.1} M", value / 1e6),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}").trim_end_matches(".0").to_owned(),
        value => {
            let text = format!("{value:.2}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

/// From values to places, by their logarithms.
struct Axis {
    left: f64,
    right: f64,
    low: f64,
    high: f64,
}

impl Axis {
    /// An axis from just below the least to just above the most, between round numbers.
    fn over(values: impl Iterator<Item = f64>, left: f64, right: f64) -> Self {
        let ends = values.fold(None, |ends: Option<(f64, f64)>, value| {
            Some(ends.map_or((value, value), |(l, h)| (l.min(value), h.max(value))))
        });
        let (low, high) = ends.unwrap_or((1.0, 10.0));
        let round = steps().filter(|step| *step <= low).last().unwrap_or(low);
        let above = steps().find(|step| *step >= high && *step > round).unwrap_or(high * 2.0);
        Self { left, right, low: round, high: above }
    }

    fn x(&self, value: f64) -> f64 {
        let share = (value.max(self.low) / self.low).log10() / (self.high / self.low).log10();
        self.left + share.clamp(0.0, 1.0) * (self.right - self.left)
    }

    fn ticks(&self) -> Vec<f64> {
        let is_short = (self.high / self.low).log10() <= FEW_DECADES;
        let is_decade = |step: &f64| (step.log10() - step.log10().round()).abs() < 1e-6;
        steps()
            .filter(|step| is_short || is_decade(step))
            .filter(|step| *step >= self.low * 0.9999 && *step <= self.high * 1.0001)
            .collect()
    }
}

/// 1, 2 and 5 times all powers of ten that a cost can have.
fn steps() -> impl Iterator<Item = f64> {
    (-4..12).flat_map(|power| [1.0, 2.0, 5.0].map(|factor| factor * 10f64.powi(power)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(values: &[(f64, f64, f64)]) -> Ranges {
        let range = |(at, &(low, mark, high)): (usize, &(f64, f64, f64))| Row {
            name: format!("row <{at}>"),
            ranges: vec![Range { series: at, low, mark, high }],
        };
        Ranges {
            title: "T".into(),
            unit: "ticks".into(),
            series: vec!["ours".into(), "theirs".into()],
            rows: values.iter().enumerate().map(range).collect(),
        }
    }

    fn places(svg: &str) -> Vec<f64> {
        let dots = svg.split("cx=\"").skip(1);
        dots.map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn ten_times_as_much_is_as_far_from_one_as_a_hundred_from_ten() {
        let svg = ranges(&[(1.0, 1.0, 1.0), (10.0, 10.0, 10.0), (100.0, 100.0, 100.0)]).draw(800.0);
        let places = places(&svg);
        assert!((places[2] - places[1] - (places[1] - places[0])).abs() < 0.2, "{places:?}");
        assert!((places[0] - MARGIN.0).abs() < 0.1 && (places[2] - (800.0 - MARGIN.2)).abs() < 0.1);
    }

    #[test]
    fn a_line_goes_over_the_spread_and_the_figure_stands_beside_it() {
        let svg = ranges(&[(2.0, 3.0, 5.0)]).draw(800.0);
        let axis = Axis::over([2.0, 5.0].into_iter(), MARGIN.0, 800.0 - MARGIN.2);
        let line = format!("M{:.1} ", axis.x(2.0));
        assert!(svg.contains(&line) && svg.contains(&format!("H{:.1}", axis.x(5.0))), "{svg}");
        assert!(svg.contains(">3</text>"), "{svg}");
    }

    #[test]
    fn names_cannot_leave_their_place() {
        let svg = ranges(&[(1.0, 2.0, 3.0)]).draw(800.0);
        assert!(svg.contains("row &lt;0&gt;") && crate::page::is_well_formed(&svg), "{svg}");
    }

    #[test]
    fn odd_numbers_make_no_odd_pictures() {
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-300, 1e300] {
            let svg = ranges(&[(value, value, value), (1.0, 2.0, 3.0)]).draw(800.0);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{value}: {svg}");
        }
        assert!(ranges(&[]).is_empty() && ranges(&[(0.0, 0.0, 0.0)]).is_empty());
    }
}
