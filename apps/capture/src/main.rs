//! The command line of capture.

use std::process::ExitCode;

use clap::Parser;
use memwire_apps::{Exit, Stop, exit, logs, report::Output};

fn main() -> ExitCode {
    let args = capture::Args::parse();
    logs::init(args.run.verbose, args.run.quiet);
    exit::run(|| {
        let mut output = Output::new(&args.run)?;
        let stop = Stop::on_signals()?;
        capture::run(&args, &mut pmd::Registry::new(), &stop, &mut output)?
            .conclude(&mut output)?;
        Ok(Exit::Ok)
    })
}
