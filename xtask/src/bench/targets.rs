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
    /// Drivers without hardware: null, ring, pcap; and apps on them.
    Wire,
    /// The queues of e1000e and igb, on chips in software.
    Nic,
    /// Ports of DPDK's through our driver beside a C loop over ethdev, and the app l2fwd over them beside testpmd.
    Dpdk,
    /// What it costs to watch an app.
    Watch,
    /// Packet sockets over a veth pair; sending by the thread's CPU time. The path is sending and receiving.
    #[value(name = "af_packet")]
    AfPacket,
    /// The app gpurx over the ring wire with two cores: payloads straight into their memory, beside the bounce path.
    Gpurx,
    /// The app l2fwd beside testpmd in the testbed's guest, on emulated 82574s and 82576s.
    Guest,
    /// How costs grow: with frames, bursts, queues, buffers in use, cores.
    Sweep,
}

/// What times are given in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Of the time-stamp counter.
    Ticks,
    /// Nanoseconds of the guest's time, in which an instruction takes 4.
    GuestNanos,
}

impl Unit {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ticks => "ticks",
            Self::GuestNanos => "ns of the guest's time",
        }
    }

    /// In nanoseconds.
    pub(super) fn nanos(self, value: f64, tsc_ghz: f64) -> Option<f64> {
        match self {
            Self::GuestNanos => Some(value),
            Self::Ticks => (tsc_ghz > 0.0).then(|| value / tsc_ghz),
        }
    }
}

impl Suite {
    /// As it is called on the command line and in the file.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What its figures are, per object.
    pub(super) fn unit(self) -> Unit {
        if self == Self::Guest { Unit::GuestNanos } else { Unit::Ticks }
    }

    /// Whether it takes minutes, so that `--quick` runs it only by name.
    pub(super) fn is_long(self) -> bool {
        matches!(self, Self::Guest | Self::Sweep)
    }

    /// What its cases are, in a line.
    pub(super) fn about(self) -> String {
        let help = self.to_possible_value().and_then(|value| Some(value.get_help()?.to_string()));
        help.unwrap_or_default()
    }
}

/// The peer of a case whose line names none: our C against libdpdk.
pub(super) const DPDK: &str = "dpdk";
/// The same by its shared libraries, which ours calls too.
pub(super) const DPDK_SHARED: &str = "dpdk-shared";
/// Packet sockets without a framework, by a program in C.
pub(super) const SOCKETS: &str = "sockets";
/// The same, and an XDP program at the far end that drops all.
pub(super) const XDP: &str = "xdp";
/// DPDK's forwarder, where it runs as it is.
pub(super) const TESTPMD: &str = "testpmd";
/// The last word of a case without a peer.
const ALONE: &str = "alone";

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
    /// The most user instructions per object above the first peer's.
    pub(super) more: Option<f64>,
    /// The most of the first peer's ticks in the same run, as a ratio.
    pub(super) ratio: Option<f64>,
    /// Who does the same: `dpdk`, or a name that our program knows for the case.
    pub(super) peers: Vec<String>,
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
    let (fields, peers) = match fields[..] {
        [.., ALONE] if fields.len() == 7 => (&fields[..6], Vec::new()),
        [.., peers] if fields.len() == 7 => (&fields[..6], peers.split(',').collect()),
        _ => (&fields[..], vec![DPDK]),
    };
    let [suite, name, cores, ticks, instructions, ratio] = *fields else {
        bail!("expected: suite case cores ticks instructions ratio, and the peers if not dpdk");
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
        peers: peers.into_iter().map(str::to_owned).collect(),
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
        let text = "pool a 1 - - -\nwire b 1 9 - - alone\nring c 1 - - 1.01 dpdk,rtrb\n";
        let peers: Vec<_> = parse(text).expect("fine").into_iter().map(|case| case.peers).collect();
        assert_eq!(peers, [vec!["dpdk"], vec![], vec!["dpdk", "rtrb"]]);
    }

    #[test]
    fn a_plus_makes_instructions_those_above_the_peers() {
        let cases = parse("dpdk a 1 - +4 1.03 dpdk-shared\n").expect("fine");
        assert_eq!((cases[0].instructions, cases[0].more), (None, Some(4.0)));
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
