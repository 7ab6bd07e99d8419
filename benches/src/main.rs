//! Runs one case and prints one row: `case <TAB> least <TAB> median <TAB> 90th percentile <TAB>
//! instructions <TAB> placement`, ticks of the time-stamp counter per object. The peers in C print the same.

use benches::{cases::CASES, placement, window::Ticks};
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
    /// Measure the same done in another way: without what the case is about, by another crate.
    #[arg(long, value_name = "NAME")]
    peer: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.clock {
        println!("{:.4}", benches::window::ticks_per_nano());
        return Ok(());
    }
    let Some(name) = args.case else {
        CASES.iter().for_each(|case| println!("{:<14} {}", case.name, case.about));
        return Ok(());
    };
    let case = CASES.iter().find(|case| case.name == name);
    let case =
        case.ok_or_else(|| anyhow::anyhow!("no case '{name}'; run without one for a list"))?;
    let run = match &args.peer {
        None => case.run,
        Some(peer) => {
            let peer = case.peers.iter().find(|(name, _)| name == peer);
            peer.ok_or_else(|| anyhow::anyhow!("'{name}' has no peer of that name here"))?.1
        }
    };
    if case.is_pinned && !placement::pin(0) {
        eprintln!("could not pin to a core: figures will vary");
    }
    let outcome = run(args.windows)?;
    let instructions = outcome.instructions.map_or("-".into(), |count| format!("{count:.1}"));
    let placed = match outcome.placement {
        None => "-",
        Some((before, after)) if before == after => before.name(),
        Some(_) => "mixed",
    };
    let Ticks { least, median, p90 } = outcome.ticks;
    println!("{name}\t{least:.3}\t{median:.3}\t{p90:.3}\t{instructions}\t{placed}");
    Ok(())
}
