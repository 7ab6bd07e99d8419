//! `gpurx-consumer`: see [`gpurx::process`].

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = gpurx::process::args::Args::parse();
    memwire_apps::exit::run(|| gpurx::process::run(&args))
}
