//! The command line of memwire, the operator's command.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use memwire_apps::{Exit, exit, logs};
use operator::Failure;

fn main() -> ExitCode {
    let args = operator::Args::parse();
    logs::init(0, false);
    exit::run(|| {
        let mut out = io::BufWriter::new(io::stdout().lock());
        let done = operator::run(&args, &mut out).and_then(|()| Ok(out.flush()?));
        match done.err().and_then(Failure::for_user) {
            None => Ok(Exit::Ok),
            Some(error) => Err(error),
        }
    })
}
