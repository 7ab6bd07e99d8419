//! `cargo xtask bench`: memwire's bars against their targets and against peers in the same run.
//!
//! Ours and DPDK's run in turn, so that what else happens on the machine hits both alike. On one
//! core the least of all rounds counts; across cores only rounds in which both saw the same
//! placement of the two cores are compared, by their medians.

mod curves;
mod guest;
mod json;
mod measure;
mod netns;
mod ours;
mod outcome;
mod peer;
mod ranges;
mod report;
mod row;
mod scene;
mod table;
mod targets;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::workspace::Workspace;
use measure::{Programs, measure};
use scene::Scene;
use targets::{Case, Suite};

/// A load average that says that others use the processors too.
const BUSY: f64 = 1.0;
/// Rounds in a guest whose time is counted in instructions: more say the same.
const GUEST_ROUNDS: usize = 2;
/// The exit status of `--strict` when a target is missed (as the apps: a check failed).
const TARGET_MISSED: u8 = 4;

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// The suites to run; all if none is named, with --quick all but guest and sweep.
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
    /// Where every figure goes, as JSON [default: target/bench/report.json].
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the report goes, a page in one file [default: target/bench/report.html].
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
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
    let load = scene::load();
    let workspace = Workspace::read()?;
    let cases = chosen(options, targets::read(&workspace.root)?);
    let with_dpdk = cases.iter().any(|case| case.suite == Suite::Dpdk);
    let programs = Programs {
        // First, since the others take the place of what it builds.
        over_dpdk: with_dpdk.then(|| ours::build_over_dpdk(&workspace)).transpose()?.flatten(),
        ours: ours::build(&workspace)?,
        peers: peer::build(&workspace)?,
    };
    let mut scene = Scene::of(&workspace, &programs.ours, &programs.peers.about, &load)?;
    let (mut lab, l2fwd) = (guest::Lab::default(), programs.ours.with_file_name("l2fwd"));
    let mut outcomes = Vec::new();
    for case in cases {
        eprintln!("{} …", case.name);
        outcomes.push(match case.suite {
            Suite::Guest => {
                guest::measure(case, &mut lab, &l2fwd, options.rounds().min(GUEST_ROUNDS))?
            }
            _ => measure(case, &programs, options)?,
        });
    }
    let measured = if options.instructions { table::Show::Instructions } else { table::Show::All };
    println!("dpdk: {}", programs.peers.about);
    print!("{}", table::print(&outcomes, measured));
    if load
        .split(' ')
        .next()
        .and_then(|load| load.parse().ok())
        .is_some_and(|load: f64| load > BUSY)
    {
        println!(
            "note: the machine was busy at the start (load {load}); two-core times suffer most"
        );
    }
    scene.end();
    let folder = workspace.target.join("bench");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let path = options.json.clone().unwrap_or_else(|| folder.join("report.json"));
    write(&path, &json::text(&scene, &outcomes))?;
    let page = options.report.clone().unwrap_or_else(|| folder.join("report.html"));
    write(&page, &report::text(&scene, &outcomes, measured))?;
    println!("figures: {}\nreport: {}", path.display(), page.display());
    let missed = outcomes.iter().any(|outcome| outcome.misses(measured.times()));
    Ok(if options.strict && missed { ExitCode::from(TARGET_MISSED) } else { ExitCode::SUCCESS })
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())
}

fn chosen(options: &Options, mut cases: Vec<Case>) -> Vec<Case> {
    let is_short = options.quick || options.instructions;
    cases.retain(|case| match options.suites.is_empty() {
        true => !(is_short && case.suite.is_long()),
        false => options.suites.contains(&case.suite),
    });
    // Two cores and a guest have no instruction counts.
    let is_counted = |case: &Case| !case.two_cores && case.suite != Suite::Guest;
    cases.retain(|case| !options.instructions || is_counted(case));
    cases
}
