//! Runs one case and prints one row: `case <TAB> least <TAB> median <TAB> 90th percentile <TAB>
//! instructions <TAB> placement <TAB> bytes of an object that the host touched`, ticks of the time-stamp counter per object. The peers in C print the same.

use std::process::ExitCode;

use benches::{
    CannotRunHere,
    cases::{CASES, Outcome, SWEEPS},
    instructions, placement,
    window::{self, Ticks},
};
use clap::Parser;

/// Measures one case of memwire's bars.
#[derive(Parser)]
struct Args {
    /// The case; without one, all are listed.
    case: Option<String>,
    /// Print how many ticks of the time-stamp counter a nanosecond has.
    #[arg(long)]
    clock: bool,
    /// Windows to take the least and the median of.
    #[arg(long, default_value_t = 61)]
    windows: usize,
    /// Times alone: no instructions, which take longer.
    #[arg(long)]
    times: bool,
    /// Measure the same done in another way: without what the case is about, by another crate.
    #[arg(long, value_name = "NAME")]
    peer: Option<String>,
}

/// The exit status where the machine or the build lacks what the case needs; the peers' too.
const CANNOT_RUN_HERE: u8 = 3;

fn main() -> anyhow::Result<ExitCode> {
    match run(&Args::parse()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => match error.downcast::<CannotRunHere>() {
            Ok(why) => {
                eprintln!("{why}");
                Ok(ExitCode::from(CANNOT_RUN_HERE))
            }
            Err(error) => Err(error),
        },
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    if args.clock {
        println!("{:.4}", window::ticks_per_nano());
        return Ok(());
    }
    let Some(name) = &args.case else {
        CASES.iter().for_each(|case| println!("{:<18} {}", case.name, case.about));
        SWEEPS
            .iter()
            .for_each(|sweep| println!("{:<18} {}", format!("{}@N", sweep.name), sweep.about));
        return Ok(());
    };
    if args.times {
        instructions::forgo();
    }
    let outcome = match name.split_once('@') {
        Some((curve, size)) => point(args, curve, size)?,
        None => case(args, name)?,
    };
    let instructions = outcome.instructions.map_or("-".into(), |count| format!("{count:.1}"));
    let placed = match outcome.placement {
        None => "-",
        Some((before, after)) if before == after => before.name(),
        Some(_) => "mixed",
    };
    let touched = outcome.host_bytes.map_or("-".into(), |bytes| format!("{bytes:.1}"));
    let Ticks { least, median, p90 } = outcome.ticks;
    println!("{name}\t{least:.3}\t{median:.3}\t{p90:.3}\t{instructions}\t{placed}\t{touched}");
    Ok(())
}

/// One point of a curve.
fn point(args: &Args, curve: &str, size: &str) -> anyhow::Result<Outcome> {
    let sweep = SWEEPS.iter().find(|sweep| sweep.name == curve);
    let sweep = sweep.ok_or_else(|| no_case(curve))?;
    let size = size.parse().ok().filter(|size| *size > 0);
    let size = size.ok_or_else(|| anyhow::anyhow!("after the @ is a size, 1 at least"))?;
    if sweep.is_pinned {
        pin();
    }
    (sweep.run)(args.windows, size)
}

fn case(args: &Args, name: &str) -> anyhow::Result<Outcome> {
    let case = CASES.iter().find(|case| case.name == name).ok_or_else(|| no_case(name))?;
    let run = match &args.peer {
        None => case.run,
        Some(peer) => {
            let peer = case.peers.iter().find(|(name, _)| name == peer);
            peer.ok_or_else(|| anyhow::anyhow!("'{name}' has no peer of that name here"))?.1
        }
    };
    if case.is_pinned {
        pin();
    }
    run(args.windows)
}

fn no_case(name: &str) -> anyhow::Error {
    anyhow::anyhow!("no case '{name}'; run without one for a list")
}

fn pin() {
    if !placement::pin(0) {
        eprintln!("could not pin to a core: figures will vary");
    }
}
