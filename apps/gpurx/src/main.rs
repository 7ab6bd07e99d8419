//! `gpurx`: see [`gpurx::args::Args`].

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = gpurx::args::Args::parse();
    memwire_apps::exit::run(|| gpurx::run::run(args))
}
