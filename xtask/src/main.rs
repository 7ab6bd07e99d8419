//! memwire's own commands, run as `cargo xtask …`: prove it, lint it, measure it, and run it in a
//! guest.
//!
//! Knows the workspace only through cargo, and links nothing of it but the testbed.

mod bench;
mod child;
mod digest;
mod lint;
mod packages;
mod tally;
mod test;
mod testbed;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// memwire's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every stage of the test suite and close with one line: passed, failed, skipped.
    Test(test::Options),
    /// Format, clippy, docs, layering, unsafe inventory, licences; warnings are errors.
    Lint(lint::Options),
    /// Measure memwire against its targets and against DPDK in the same run.
    Bench(bench::Options),
    /// A throw-away machine with an IOMMU and real PCI NICs, emulated.
    Testbed(testbed::Testbed),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Test(options) => test::run(&options),
        Command::Lint(options) => lint::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Testbed(testbed) => testbed::run(testbed),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
