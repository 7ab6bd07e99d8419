//! Runs one case and prints one row: `case <TAB> least <TAB> median <TAB> instructions <TAB>
//! placement`, ticks of the time-stamp counter per object. The C peer prints the same.

use std::process::ExitCode;

use benches::{CannotRunHere, cases::CASES, placement};
use clap::Parser;

/// The exit status where the machine or the build lacks what the case needs; the peer's too.
const CANNOT_RUN_HERE: u8 = 3;

/// Measures one case of memwire's bars.
#[derive(Parser)]
struct Args {
    /// The case; without one, all are listed.
    case: Option<String>,
    /// Windows to take the least and the median of.
    #[arg(long, default_value_t = 61)]
    windows: usize,
    /// Measure the same without what the case is about.
    #[arg(long)]
    without: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let Some(name) = args.case else {
        CASES.iter().for_each(|case| println!("{:<14} {}", case.name, case.about));
        return Ok(ExitCode::SUCCESS);
    };
    let case = CASES.iter().find(|case| case.name == name);
    let case =
        case.ok_or_else(|| anyhow::anyhow!("no case '{name}'; run without one for a list"))?;
    let run = match args.without {
        false => case.run,
        true => case.without.ok_or_else(|| anyhow::anyhow!("'{name}' has nothing to leave out"))?,
    };
    if case.is_pinned && !placement::pin(0) {
        eprintln!("could not pin to a core: figures will vary");
    }
    let outcome = match run(args.windows) {
        Err(error) if error.is::<CannotRunHere>() => {
            eprintln!("{error}");
            return Ok(ExitCode::from(CANNOT_RUN_HERE));
        }
        outcome => outcome?,
    };
    let instructions = outcome.instructions.map_or("-".into(), |count| format!("{count:.1}"));
    let placed = match outcome.placement {
        None => "-",
        Some((before, after)) if before == after => before.name(),
        Some(_) => "mixed",
    };
    let ticks = outcome.ticks;
    println!("{name}\t{:.2}\t{:.2}\t{instructions}\t{placed}", ticks.least, ticks.median);
    Ok(ExitCode::SUCCESS)
}
