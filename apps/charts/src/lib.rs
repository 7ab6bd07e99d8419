//! Pages in one file: charts as SVG, tables, numbers as people read them. The apps' `--report` and the report of
//! `cargo xtask bench` are made of it. Colours are classes, so that one file serves light and dark; there is no
//! script, no font and no picture from elsewhere. Knows no app and no measurement, and depends on nothing.

mod chart;
pub mod page;
mod ranges;
pub mod text;

pub use chart::{Along, Chart, MOST, STYLE, Series, Unit};
pub use ranges::{Range, Ranges, Row};
