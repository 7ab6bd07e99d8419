//! `cargo xtask lint`: everything that judges the code without running it.

mod inventory;
mod layering;
mod rust_words;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::child::Child;
use crate::tally::Counts;
use crate::workspace::{Workspace, cargo, has_cargo_command};

/// How to lint.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Rewrite docs/unsafe-files.txt from what is there, for you to read and commit.
    #[arg(long)]
    bless: bool,
}

/// Runs all checks; the exit status says whether any failed.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let counts = check(options)?;
    println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
    Ok(if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs all checks, each whatever the others said.
pub(crate) fn check(options: &Options) -> Result<Counts> {
    let workspace = Workspace::read()?;
    let mut counts = Counts::default();
    counts += component("fmt", cargo(&["fmt", "--all", "--check"]))?;
    counts += component(
        "clippy",
        cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    )?;
    let docs = cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-Dwarnings");
    counts += verdict("docs", docs.stream()?.success);
    counts += own("layering", &layering::violations(&workspace.packages));
    counts += own("unsafe inventory", &inventory::problems(&workspace.root, options.bless)?);
    counts += component("deny", cargo(&["deny", "check", "licenses", "bans", "sources"]))?;
    Ok(counts)
}

/// A check by a part of the toolchain that may not be installed.
fn component(name: &str, child: Child) -> Result<Counts> {
    if !has_cargo_command(name) {
        return Ok(Counts::skip(name, &format!("cargo-{name} is not installed")));
    }
    Ok(verdict(name, child.stream()?.success))
}

fn own(name: &str, problems: &[String]) -> Counts {
    for problem in problems {
        println!("{problem}");
    }
    verdict(name, problems.is_empty())
}

fn verdict(name: &str, passed: bool) -> Counts {
    println!("lint {name}: {}", if passed { "ok" } else { "FAILED" });
    Counts::check(passed)
}
