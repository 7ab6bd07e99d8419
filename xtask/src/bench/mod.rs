//! `cargo xtask bench`: memwire's bars against their targets and against DPDK in the same run.
//!
//! Ours and DPDK's run in turn, so that what else happens on the machine hits both alike. On one
//! core the least of all rounds counts; across cores only rounds in which both saw the same
//! placement of the two cores are compared, by their medians.

mod outcome;
mod peer;
mod row;
mod table;
mod targets;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::child::Child;
use crate::workspace::{Workspace, cargo};
use outcome::{Outcome, Round};
use row::Row;
use targets::{Against, Case, Suite};

/// How many more rounds a two-core case may take to find two of one placement, in multiples.
const PATIENCE: usize = 3;
/// A load average that says that others use the processors too.
const BUSY: f64 = 1.0;
/// The exit status of a bar that cannot run on this machine.
const CANNOT_RUN_HERE: i32 = 3;
/// The exit status of `--strict` when a target is missed (as the apps: a check failed).
const TARGET_MISSED: u8 = 4;

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// The suites to run; all if none is named.
    suites: Vec<Suite>,
    /// Fewer rounds: shows that everything runs, and roughly how fast.
    #[arg(long)]
    quick: bool,
    /// So many rounds of each case [default: 7; 3 with --quick].
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Count instructions only: one round, no times. Exact whatever else the machine does.
    #[arg(long)]
    instructions: bool,
    /// Also write every figure to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// End with status 4 if a target is missed.
    #[arg(long)]
    strict: bool,
}

impl Options {
    fn rounds(&self) -> usize {
        match (self.instructions, self.rounds, self.quick) {
            (true, ..) => 1,
            (false, Some(rounds), _) => rounds.max(1),
            (false, None, true) => 3,
            (false, None, false) => 7,
        }
    }

    fn windows(&self) -> &'static str {
        match (self.instructions, self.quick) {
            (true, _) => "1",
            (false, true) => "31",
            (false, false) => "61",
        }
    }
}

/// Measures, prints the table, and says by the exit status whether everything ran.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let load = load_before();
    let workspace = Workspace::read()?;
    let cases = chosen(options, targets::read(&workspace.root)?);
    let ours = build_ours(&workspace, cases.iter().any(|case| case.suite == Suite::Dpdk))?;
    let peers = peer::build(&workspace)?;
    let mut outcomes = Vec::new();
    for case in cases {
        eprintln!("{} …", case.name);
        outcomes.push(measure(case, &ours, &peers.programs, options)?);
    }
    let measured = if options.instructions { table::Show::Instructions } else { table::Show::All };
    println!("{}", peers.description);
    print!("{}", table::print(&outcomes, measured));
    if let Some(load) = load.filter(|load| *load > BUSY) {
        println!(
            "note: the machine was busy at the start (load {load}); two-core times suffer most"
        );
    }
    if let Some(path) = &options.json {
        let text = table::json(&outcomes, &peers.description);
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    let missed = outcomes.iter().any(|outcome| outcome.misses(measured.times()));
    Ok(if options.strict && missed { ExitCode::from(TARGET_MISSED) } else { ExitCode::SUCCESS })
}

/// The load average of the last minute.
fn load_before() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

fn chosen(options: &Options, mut cases: Vec<Case>) -> Vec<Case> {
    cases.retain(|case| options.suites.is_empty() || options.suites.contains(&case.suite));
    // Two cores have no instruction counts.
    cases.retain(|case| !options.instructions || !case.two_cores);
    cases
}

/// The program of our bars, and beside it the apps that cases run. The whole workspace, so that nothing
/// is built twice with other features where the tests have built it already.
fn build_ours(workspace: &Workspace, with_dpdk: bool) -> Result<PathBuf> {
    let built = cargo(&["build", "--release", "--workspace", "--bins"]).stream()?;
    ensure!(built.success, "the workspace does not build");
    if with_dpdk && peer::is_here() {
        // Our bars alone: the apps that cases run stay as they are.
        let bars = ["build", "--release", "-p", "memwire-benches", "--features", "dpdk"];
        let built = cargo(&[&bars[..], &["--bin", "bars"]].concat()).stream()?;
        if !built.success {
            eprintln!("SKIP suite dpdk: ours does not build with libdpdk here (see above)");
        }
    }
    let program = workspace.target.join("release/bars");
    ensure!(program.is_file(), "memwire-benches built no program `bars`");
    Ok(program)
}

/// Runs one case in turn by everyone, as many rounds as it takes.
fn measure(case: Case, ours: &Path, peers: &[PathBuf], options: &Options) -> Result<Outcome> {
    // Across cores the ring is all inline, so one build of the peer is as good as another.
    let peers = if case.two_cores { &peers[..peers.len().min(1)] } else { peers };
    let without = [ours.to_path_buf()];
    let (peers, extra): (&[PathBuf], _) = match case.against {
        Against::Dpdk => (peers, None),
        Against::Shared => (peer::shared(peers), None),
        Against::Without => (&without, Some("--without")),
        Against::Nothing => (&[], None),
    };
    let mut outcome = Outcome::new(case);
    let limit = options.rounds() * if outcome.case.two_cores { PATIENCE } else { 1 };
    for round in 0..limit {
        if round >= options.rounds() && (peers.is_empty() || outcome.is_comparable()) {
            break;
        }
        let Some(memwire) = run_bar(ours, &outcome.case.name, None, options)? else {
            outcome.cannot_run = true;
            break;
        };
        let mut dpdk = Vec::new();
        for peer in peers {
            dpdk.extend(run_bar(peer, &outcome.case.name, extra, options)?);
        }
        outcome.rounds.push(Round { memwire, dpdk });
    }
    Ok(outcome)
}

/// One run of one bar; none if it says that it cannot run on this machine.
fn run_bar(
    program: &Path,
    case: &str,
    extra: Option<&str>,
    options: &Options,
) -> Result<Option<Row>> {
    let name = program.to_string_lossy();
    let arguments = [case, "--windows", options.windows()].into_iter().chain(extra);
    let output = Child::new(&name).args(arguments).output()?;
    if output.code == Some(CANNOT_RUN_HERE) {
        eprintln!("SKIP {case}: {}", output.stderr.trim());
        return Ok(None);
    }
    if !output.success {
        bail!("{name} {case} ended with status {:?}:\n{}", output.code, output.stderr);
    }
    let row = Row::parse(&output.stdout).with_context(|| format!("{name} {case}"))?;
    ensure!(row.case == case, "{name} {case} reported about {}", row.case);
    Ok(Some(row))
}
