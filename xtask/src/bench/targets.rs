//! The cases and what each must reach, read from `benches/targets.txt`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

/// Where the targets are kept.
const FILE: &str = "benches/targets.txt";

/// What the cases are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// Packet buffers and bare indices.
    Pool,
    /// The queue interface, by null ports.
    Burst,
    /// Rings on one core and across two.
    Ring,
    /// Making traffic.
    Pktgen,
    /// Capture files, read and written.
    Pcap,
    /// The queues of e1000e and igb, on chips in software.
    Nic,
    /// Ports of DPDK's through our driver, beside a C loop over ethdev.
    Dpdk,
    /// The app l2fwd.
    L2fwd,
    /// What it costs to watch an app.
    Watch,
}

/// What a case is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Against {
    /// DPDK doing the same, by its better build.
    Dpdk,
    /// DPDK doing the same, by its shared libraries, which ours calls too.
    Shared,
    /// Ours without what the case is about.
    Without,
    /// Nothing.
    Nothing,
}

/// A case and its targets; none where there is no limit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Case {
    pub(super) suite: Suite,
    pub(super) name: String,
    pub(super) two_cores: bool,
    /// The most TSC ticks per object.
    pub(super) ticks: Option<f64>,
    /// The most user instructions per object.
    pub(super) instructions: Option<f64>,
    /// The most user instructions per object above the peer's.
    pub(super) more: Option<f64>,
    /// The most of the peer's ticks in the same run, as a ratio.
    pub(super) ratio: Option<f64>,
    pub(super) against: Against,
}

/// Reads the checked-in targets.
pub(super) fn read(root: &Path) -> Result<Vec<Case>> {
    let text = std::fs::read_to_string(root.join(FILE)).context(FILE)?;
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<Case>> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.split('#').next().unwrap_or("").trim()))
        .filter(|(_, line)| !line.is_empty())
        .map(|(number, line)| case(line).with_context(|| format!("{FILE}:{number}")))
        .collect()
}

fn case(line: &str) -> Result<Case> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (fields, against) = match fields[..] {
        [.., "alone"] => (&fields[..fields.len() - 1], Against::Nothing),
        [.., "shared"] => (&fields[..fields.len() - 1], Against::Shared),
        [.., "without"] => (&fields[..fields.len() - 1], Against::Without),
        _ => (&fields[..], Against::Dpdk),
    };
    let [suite, name, cores, ticks, instructions, ratio] = *fields else {
        bail!("six fields expected: suite case cores ticks instructions ratio");
    };
    let Ok(suite) = Suite::from_str(suite, false) else { bail!("no suite `{suite}`") };
    let (instructions, more) = match instructions.strip_prefix('+') {
        Some(more) => ("-", more),
        None => (instructions, "-"),
    };
    Ok(Case {
        suite,
        name: name.to_owned(),
        two_cores: match cores {
            "1" => false,
            "2" => true,
            _ => bail!("cores are 1 or 2, not {cores}"),
        },
        ticks: limit(ticks)?,
        instructions: limit(instructions)?,
        more: limit(more)?,
        ratio: limit(ratio)?,
        against,
    })
}

fn limit(field: &str) -> Result<Option<f64>> {
    if field == "-" {
        return Ok(None);
    }
    Ok(Some(field.parse().with_context(|| format!("neither a number nor `-`: {field}"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_empty_lines_are_left_out() {
        let cases = parse("# head\n\nring spsc-x32 2 - - 1.0 # like placement\n").expect("fine");
        assert_eq!(cases.len(), 1);
        assert!(cases[0].two_cores && cases[0].suite == Suite::Ring);
        assert_eq!((cases[0].ticks, cases[0].ratio), (None, Some(1.0)));
    }

    #[test]
    fn a_last_word_says_what_to_compare_with() {
        let text = "pool a 1 - - -\npktgen b 1 9 - - alone\nwatch c 1 - - 1.01 without\n";
        let against: Vec<_> =
            parse(text).expect("fine").into_iter().map(|case| case.against).collect();
        assert_eq!(against, [Against::Dpdk, Against::Nothing, Against::Without]);
    }

    #[test]
    fn instructions_with_a_plus_are_those_above_the_peers() {
        let cases = parse("dpdk a 1 - +4 1.03 shared\ndpdk b 1 - 9 -\n").expect("fine");
        assert_eq!((cases[0].instructions, cases[0].more), (None, Some(4.0)));
        assert_eq!((cases[1].instructions, cases[1].more), (Some(9.0), None));
        assert_eq!(cases[0].against, Against::Shared);
    }

    #[test]
    fn a_mistake_is_found_by_its_line() {
        let error = parse("pool a 1 - - -\npool b 3 - - -\n").expect_err("three cores");
        assert_eq!(format!("{error:#}"), "benches/targets.txt:2: cores are 1 or 2, not 3");
        assert!(parse("pond a 1 - - -").is_err());
        assert!(parse("pool a 1 x - -").is_err());
    }

    #[test]
    fn the_checked_in_file_is_sound() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let cases = read(&root).expect("sound");
        for suite in Suite::value_variants() {
            assert!(cases.iter().any(|case| case.suite == *suite), "{suite:?} has no case");
        }
    }
}
