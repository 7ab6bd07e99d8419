//! `cargo xtask test`: every stage in turn, what it counted and how long it took, one closing line.
//!
//! A failing stage does not stop the later ones; only a workspace that does not build does.

mod beside;
mod cargo_tests;
mod dpdk;
mod memcheck;
mod setup;
mod unprivileged;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};

use self::beside::Beside;
use crate::lint;
use crate::tally::Counts;
use crate::workspace::{Workspace, cargo};

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Let the tests run their long form (sets MEMWIRE_FULL=1).
    #[arg(long)]
    full: bool,
    /// Run only this stage (may be given several times).
    #[arg(long, value_name = "STAGE")]
    only: Vec<Stage>,
}

/// The stages, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// Install what the other stages use and reserve hugepages (as root; else say what is missing).
    Setup,
    /// Build all tests; the rest is pointless if this fails.
    Build,
    /// What `cargo xtask lint` does.
    Lint,
    /// Unit, integration, property, compile-fail and doc tests.
    Unit,
    /// The unit tests again as an ordinary user.
    Unprivileged,
    /// The first command of the README, as an ordinary user.
    FreshRun,
    /// Tests of the crates with unsafe code, and the apps, under valgrind.
    Memcheck,
    /// The lock-free parts under every interleaving.
    Loom,
    /// Long runs at release speed (tests/soak.rs of any crate).
    Soak,
    /// Real traffic in network namespaces (tests/netns.rs of any crate).
    Namespaces,
    /// Ports of DPDK's, with its testpmd at the other end; the apps over them.
    Dpdk,
    /// The benchmarks run at all.
    BenchSmoke,
    /// Drivers on emulated NICs behind an IOMMU, in QEMU (tests/guest.rs of any crate).
    Guest,
}

impl Stage {
    /// Whether others that use the processors would show in what it finds.
    fn goes_by_the_clock(self) -> bool {
        matches!(self, Self::Soak | Self::Namespaces | Self::Dpdk | Self::BenchSmoke | Self::Guest)
    }
}

struct Finished {
    stage: Stage,
    counts: Counts,
    took: Duration,
}

/// Runs the stages; the exit status says whether anything failed.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut finished: Vec<Finished> = Vec::new();
    let is_chosen = |stage| options.only.is_empty() || options.only.contains(&stage);
    let mut testbed = None;
    for &stage in Stage::value_variants() {
        if !is_chosen(stage) {
            continue;
        }
        println!("=== {}", name(stage));
        let start = Instant::now();
        if stage.goes_by_the_clock() {
            testbed.take().into_iter().for_each(Beside::wait);
        }
        // What a stage could not even do is that stage's failure, not the end of the run.
        let counts = run_stage(stage, options.full).unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            Counts::failure()
        });
        let took = start.elapsed();
        let verdict = if counts.failed == 0 { "ok" } else { "FAILED" };
        println!("stage {}: {verdict} {:.1} s", name(stage), took.as_secs_f64());
        let pointless = stage == Stage::Build && counts.failed > 0;
        finished.push(Finished { stage, counts, took });
        if stage == Stage::Build && !pointless && is_chosen(Stage::Guest) {
            testbed = Beside::start(&["testbed", "setup", "--kernel", "all"]);
        }
        if pointless {
            println!("the workspace does not build: the other stages are left out");
            break;
        }
    }
    Ok(report(&finished))
}

fn run_stage(stage: Stage, full: bool) -> Result<Counts> {
    match stage {
        Stage::Setup => setup::run(&Workspace::read()?),
        Stage::Build => {
            let output = cargo(&["test", "--workspace", "--no-run"]).stream()?;
            Ok(Counts::check(output.success))
        }
        Stage::Lint => lint::check(&lint::Options::default()),
        Stage::Unit => cargo_tests::unit(&Workspace::read()?, full),
        Stage::Memcheck => memcheck::run(&Workspace::read()?),
        Stage::Loom => cargo_tests::loom(&Workspace::read()?, full),
        Stage::Soak => cargo_tests::soak(&Workspace::read()?, full),
        Stage::Namespaces => cargo_tests::namespaces(&Workspace::read()?, full),
        Stage::Guest => cargo_tests::guest(&Workspace::read()?, full),
        Stage::Dpdk => dpdk::run(&Workspace::read()?, full),
        Stage::BenchSmoke => {
            let output = cargo(&["xtask", "bench", "--quick", "--rounds", "1"]).stream()?;
            Ok(Counts::check(output.success))
        }
        Stage::Unprivileged => unprivileged::tests(&Workspace::read()?),
        Stage::FreshRun => unprivileged::fresh_run(&Workspace::read()?),
    }
}

/// The table of stages, the names of those that failed, and the closing line.
fn report(finished: &[Finished]) -> ExitCode {
    println!();
    println!("{:<14} {:>8} {:>8} {:>8} {:>9}", "stage", "passed", "failed", "skipped", "seconds");
    let mut total = Counts::default();
    for Finished { stage, counts, took } in finished {
        println!(
            "{:<14} {:>8} {:>8} {:>8} {:>9.1}",
            name(*stage),
            counts.passed,
            counts.failed,
            counts.skipped,
            took.as_secs_f64(),
        );
        total += counts.clone();
    }
    let failing: Vec<String> = finished
        .iter()
        .filter(|done| done.counts.failed > 0)
        .map(|done| name(done.stage))
        .collect();
    if !failing.is_empty() {
        println!("failing stages: {}", failing.join(", "));
    }
    for test in &total.failing {
        println!("failed: {test}");
    }
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn name(stage: Stage) -> String {
    stage.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
