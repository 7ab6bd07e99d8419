//! The command line of `gpurx-consumer`.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use memwire_apps::{idle::IdleMode, units::parse_duration};

/// Take the blocks that a gpurx with --consumer receives: map their memory read-only, follow the row map,
/// check every row, and give them back.
#[derive(Parser, Clone, Debug)]
#[command(name = "gpurx-consumer", version)]
pub struct Args {
    /// The socket that gpurx --consumer names
    #[arg(long, value_name = "SOCKET")]
    pub socket: PathBuf,
    /// What is done with rows
    #[arg(long, value_name = "SINK", default_value = "verify")]
    pub sink: SinkChoice,
    /// Payload memory by another file of the same bytes, where what gpurx passes cannot be mapped by the
    /// CPU: a BAR's, such as /sys/bus/pci/devices/0000:03:00.0/resource2
    #[arg(long, value_name = "FILE")]
    pub memory: Option<PathBuf>,
    /// How long to wait for gpurx to listen
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub wait: Duration,
    /// End after this time [default: when gpurx does]
    #[arg(short = 't', long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// What is done between empty polls
    #[arg(long, value_name = "MODE", default_value = "sleep")]
    pub idle: IdleMode,
    /// Keep each block for this long
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub delay: Option<Duration>,
    /// Die like a process that is killed, with this block taken and not given back
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub die_after: Option<u64>,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What is done with rows.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkChoice {
    /// Check sequence and checksum of every row
    Verify,
    /// Read whole blocks, as a kernel would, into a digest
    Tensor,
    /// Count rows, and look at none
    Count,
}
