//! Runs bars in turn: ours, then each peer's, as many rounds as a case takes. Knows programs and rows;
//! judges nothing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::Options;
use super::netns;
use super::outcome::{Outcome, Round};
use super::peer::Peers;
use super::row::Row;
use super::targets::{Case, DPDK, DPDK_SHARED, SOCKETS, Suite, XDP};
use crate::child::Child;

/// How many more rounds a two-core case may take to find two of one placement, in multiples.
const PATIENCE: usize = 3;
/// The exit status of a bar that cannot run on this machine.
const CANNOT_RUN_HERE: i32 = 3;

/// Who can be run.
pub(super) struct Programs {
    /// Our bars.
    pub(super) ours: PathBuf,
    /// Our bars over ports of DPDK's, where it can be built against.
    pub(super) over_dpdk: Option<PathBuf>,
    /// What was built in C.
    pub(super) peers: Peers,
}

impl Programs {
    /// Our bars for that case.
    fn of(&self, case: &Case) -> &Path {
        match case.suite {
            Suite::Dpdk => self.over_dpdk.as_ref().unwrap_or(&self.ours),
            _ => &self.ours,
        }
    }
}

/// What became of a run.
enum Ran {
    Row(Row),
    /// It cannot run here, and why.
    Cannot(String),
}

/// Runs one case in turn by everyone.
pub(super) fn measure(case: Case, programs: &Programs, options: &Options) -> Result<Outcome> {
    let mut outcome = Outcome::new(case);
    let has_peers = !outcome.case.peers.is_empty();
    let limit = options.rounds() * if outcome.case.two_cores { PATIENCE } else { 1 };
    for round in 0..limit {
        if round >= options.rounds() && (!has_peers || outcome.is_comparable()) {
            break;
        }
        // Instructions are the same in each round.
        let extra: &[&str] = if round == 0 { &[] } else { &["--times"] };
        let memwire = match run_bar(programs.of(&outcome.case), &outcome.case, extra, options)? {
            Ran::Row(row) => row,
            Ran::Cannot(why) => {
                eprintln!("SKIP {}: {why}", outcome.case.name);
                outcome.skipped = Some(why);
                break;
            }
        };
        let mut peers = Vec::new();
        for name in &outcome.case.peers {
            let (rows, why) = run_peer(name, &outcome.case, programs, extra, options)?;
            if rows.is_empty() && round == 0 {
                eprintln!("SKIP {} by {name}: {why}", outcome.case.name);
            }
            peers.push(rows);
        }
        outcome.rounds.push(Round { memwire, peers });
    }
    Ok(outcome)
}

/// A row for each build of that peer; and why there is none where one cannot run here.
fn run_peer(
    name: &str,
    case: &Case,
    programs: &Programs,
    extra: &[&str],
    options: &Options,
) -> Result<(Vec<Row>, String)> {
    let (mut rows, mut why) = (Vec::new(), "it is not built here".to_owned());
    let mut take = |ran| match ran {
        Ran::Row(row) => rows.push(row),
        Ran::Cannot(reason) => why = reason,
    };
    if [DPDK, DPDK_SHARED, SOCKETS, XDP].contains(&name) {
        for build in programs.peers.of(name, case) {
            take(run_bar(build, case, &[], options)?);
        }
    } else {
        let extra = [&["--peer", name], extra].concat();
        take(run_bar(programs.of(case), case, &extra, options)?);
    }
    Ok((rows, why))
}

/// One run of one bar.
fn run_bar(program: &Path, case: &Case, extra: &[&str], options: &Options) -> Result<Ran> {
    let wrapper = match case.suite {
        Suite::AfPacket => match netns::wrapper() {
            Ok(words) => words.to_vec(),
            Err(why) => return Ok(Ran::Cannot(why.to_owned())),
        },
        _ => Vec::new(),
    };
    let (name, case) = (program.to_string_lossy(), &case.name);
    let mut words = wrapper;
    words.extend([&*name, case, "--windows", options.windows()]);
    words.extend(extra);
    let output = Child::new(words[0]).args(words[1..].iter().copied()).output()?;
    if output.code == Some(CANNOT_RUN_HERE) {
        let why = output.stderr.lines().last().unwrap_or("it does not say why");
        return Ok(Ran::Cannot(why.trim().to_owned()));
    }
    if !output.success {
        bail!("{name} {case} ended with status {:?}:\n{}", output.code, output.stderr);
    }
    let row = Row::parse(&output.stdout).with_context(|| format!("{name} {case}"))?;
    ensure!(row.case == *case, "{name} {case} reported about {}", row.case);
    Ok(Ran::Row(row))
}
