//! What a bar prints: one line of six fields,
//! `case<TAB>least<TAB>median<TAB>90th percentile<TAB>instructions<TAB>placement`; ours has a seventh, bytes of an object
//! that the host touched.

use anyhow::{Context, Result, bail};

/// One run of one case: TSC ticks and exact user instructions, each per object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) case: String,
    pub(super) least: f64,
    pub(super) median: f64,
    /// Nine windows in ten were no slower.
    pub(super) p90: f64,
    pub(super) instructions: Option<f64>,
    /// Where the two cores were (smt, near, far); mixed if that changed during the run.
    pub(super) placement: Option<String>,
    /// Bytes of an object that the host's processors touched, where a case is about that.
    pub(super) host_bytes: Option<f64>,
}

impl Row {
    pub(super) fn parse(output: &str) -> Result<Self> {
        let line = output.lines().last().context("no row printed")?;
        let fields: Vec<&str> = line.split('\t').collect();
        let [case, least, median, p90, instructions, placement, ref more @ ..] = fields[..] else {
            bail!("a row has six fields, not {}: {line:?}", fields.len());
        };
        Ok(Self {
            case: case.to_owned(),
            least: number(least)?,
            median: number(median)?,
            p90: number(p90)?,
            instructions: present(instructions).map(number).transpose()?,
            placement: present(placement).map(str::to_owned),
            host_bytes: more.first().and_then(|bytes| present(bytes)).map(number).transpose()?,
        })
    }
}

fn present(field: &str) -> Option<&str> {
    (field != "-").then_some(field)
}

fn number(field: &str) -> Result<f64> {
    field.parse().with_context(|| format!("not a number: {field:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_one_core_has_instructions_and_no_placement() {
        let row = Row::parse("bare-32\t0.691\t0.703\t0.8\t3.38\t-\n").expect("well formed");
        assert_eq!(
            (row.case.as_str(), row.least, row.median, row.p90),
            ("bare-32", 0.691, 0.703, 0.8)
        );
        assert_eq!((row.instructions, row.placement), (Some(3.38), None));
    }

    #[test]
    fn a_row_of_two_cores_has_placement_and_no_instructions() {
        let row = Row::parse("spsc-x32\t2.8\t3.1\t3.3\t-\tnear").expect("well formed");
        assert_eq!((row.instructions, row.placement.as_deref()), (None, Some("near")));
    }

    #[test]
    fn a_seventh_field_is_bytes_that_the_host_touched() {
        let row = Row::parse("gpurx-64\t2.8\t3.1\t3.3\t-\tnear\t64.0").expect("well formed");
        assert_eq!(row.host_bytes, Some(64.0));
        assert!(Row::parse("gpurx-64\t2.8\t3.1\t3.3\t-\tnear\tx").is_err());
    }

    #[test]
    fn anything_else_is_an_error_that_shows_the_line() {
        let error = Row::parse("hello").expect_err("no row").to_string();
        assert!(error.contains("hello"), "{error}");
        assert!(Row::parse("").is_err());
        assert!(Row::parse("a\tb\t1\t1\t-\t-").is_err());
    }
}
