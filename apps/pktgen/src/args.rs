//! What the user can say.

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use memwire_apps::{
    args::{PoolArgs, PortArgs, RunArgs},
    memory::MemoryArgs,
    ports,
    units::{Rate, parse_duration, parse_share},
    watch::WatchArgs,
};

use crate::headers::HeaderArgs;

const LONG_ABOUT: &str = "\
Makes traffic, sends it at an even pace, and measures what comes back.

The first port sends. Where there are more, the others receive; with --rx the first one does too. \
Every frame carries a sequence number of its flow, a CRC-32C of its payload, and, where it is long \
enough, the time it was made: so what is lost, late, doubled or damaged is known of each flow, and how \
long frames took. At the end every frame and every buffer is accounted for, or the exit code is 4.

Sizes are without FCS, as everywhere in memwire: 60 is the shortest Ethernet frame.

Without -p it shows itself: an in-process wire, for three seconds.";

const EXAMPLES: &str = "\
Examples:
  pktgen
      sends over a wire inside the process and measures it
  pktgen -p null: --size 64 -t 5s
      what making a frame costs
  pktgen -p eth1 --rate 10mpps --size imix --flows 1k --dst 10.1.0.0/16 -t 30s --json
      a mix of sizes in a thousand flows
  pktgen -p eth1 -p eth2 --rate 50% --size 512 -t 10s --max-loss 0.001%
      through a device under test, from eth1 to eth2, at half of the link's speed
  pktgen -p eth1 -p eth2 --search-ndr --size 64
      the highest rate without loss (RFC 2544 §26.1)
  pktgen -p eth1 --replay in.pcap --rate 2gbps --loop 10
      a capture, ten times, at a rate of its own
  pktgen --rx-only -p eth2 --size 512 -t 1m
      measures what another pktgen with the same headers sends

Exit codes:
  0 ok, also after ^C    1 the run failed    2 bad usage    3 something is missing here
  4 --max-loss or --check did not hold, or frames or buffers are unaccounted for    130 second ^C";

/// Makes traffic, and measures what comes back.
#[derive(Parser, Clone, Debug)]
#[command(name = "pktgen", version, long_about = LONG_ABOUT, after_help = after_help())]
pub struct Args {
    /// The ports: the first sends.
    #[command(flatten)]
    pub ports: PortArgs,
    /// The frames.
    #[command(flatten)]
    pub headers: HeaderArgs,
    /// How they are sent.
    #[command(flatten)]
    pub send: SendArgs,
    /// What is measured.
    #[command(flatten)]
    pub receive: ReceiveArgs,
    /// The search for the highest rate.
    #[command(flatten)]
    pub search: SearchArgs,
    /// Where buffers are.
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// How many buffers.
    #[command(flatten)]
    pub pool: PoolArgs,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
    /// How to be watched.
    #[command(flatten)]
    pub watch: WatchArgs,
}

/// How frames are sent.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Sending")]
pub struct SendArgs {
    /// Frames to send: 10mpps, 5gbps (frames without FCS, preamble and gap) or 50% of the link (with
    /// them) [default: as fast as the port takes them]
    #[arg(long, value_name = "RATE")]
    pub rate: Option<Rate>,
    /// Send the frames of a capture
    #[arg(long, value_name = "FILE", conflicts_with_all = ["size", "flows", "header", "template", "search_ndr", "rx_only"])]
    pub replay: Option<PathBuf>,
    /// With --replay: keep the gaps of the capture
    #[arg(long, requires = "replay", conflicts_with = "rate")]
    pub pace: bool,
    /// With --replay: so many times; 0 is for ever
    #[arg(long = "loop", value_name = "N", requires = "replay", default_value_t = 1)]
    pub rounds: u64,
}

/// What is measured.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Receiving")]
pub struct ReceiveArgs {
    /// Receive on the first port, too
    #[arg(long)]
    pub rx: bool,
    /// Send nothing: every port receives
    #[arg(long, conflicts_with_all = ["rx", "rate", "search_ndr"])]
    pub rx_only: bool,
    /// How long to wait for late frames after the last was sent
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = parse_duration)]
    pub linger: Duration,
    /// Fail (exit 4) if more frames than this share are lost; the limit of --search-ndr [default there: 0%]
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    pub max_loss: Option<f64>,
    /// Fail (exit 4) if any frame is lost, reordered, doubled or damaged
    #[arg(long)]
    pub check: bool,
}

/// The search for the highest rate.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Search")]
pub struct SearchArgs {
    /// Search the highest rate at which no more than --max-loss is lost, from --rate downwards
    #[arg(long)]
    pub search_ndr: bool,
    /// Time of one trial
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    pub trial: Duration,
    /// Stop once the rate is known to this share of the highest
    #[arg(long, value_name = "SHARE", default_value = "0.5%", value_parser = resolution)]
    pub resolution: f64,
}

fn resolution(text: &str) -> Result<f64, String> {
    let share = parse_share(text).map_err(|error| error.to_string())?;
    if (0.0001..=0.5).contains(&share) { Ok(share) } else { Err("should be 0.01% to 50%".into()) }
}

fn after_help() -> String {
    format!("{EXAMPLES}\n\n{}", ports::drivers_help())
}
