//! What the user can say.

use clap::{Parser, ValueEnum};
use memwire_apps::{
    args::{PoolArgs, PortArgs, RunArgs},
    memory::MemoryArgs,
    ports,
};
use serde::Serialize;

const LONG_ABOUT: &str = "\
Forwards frames between two ports, in both directions.

What one port receives, the other sends. Each queue has a worker on a core of its own, which takes \
a burst from queue i of one port and gives it to queue i of the other. Frames that the other port \
has no room for are dropped and counted at once: waiting would only make all of them late. At the \
end every frame and every buffer is accounted for, or the exit code is 4.

Runs until ^C, -t, -c, or until ports that end by themselves (a capture file) have ended.";

const EXAMPLES: &str = "\
Examples:
  l2fwd -p null: -p null: -t 5s
      what the framework itself costs, without a wire
  l2fwd -p af_packet:veth0 -p af_packet:veth1 --mode forward
      joins two interfaces, as a cable would (needs CAP_NET_RAW)
  l2fwd -p pcap:in.pcap -p pcap:,tx=out.pcap --json
      plays a capture through and prints the totals as JSON
  l2fwd -p eth0 -p eth1 --mode forward --mirror pcap:,tx=copy.pcap
      keeps a copy of every frame that passes between two interfaces
  l2fwd -p eth0 -p eth1 -q 2 -l 2-3 -m hugepage
      two queues each, on cores 2 and 3, buffers in 2 MiB pages

Exit codes:
  0 ok, also after ^C    1 the run failed    2 bad usage    3 something is missing here
  4 frames or buffers unaccounted for    130 second ^C";

/// Forwards frames between two ports.
#[derive(Parser, Clone, Debug)]
#[command(name = "l2fwd", version, long_about = LONG_ABOUT, after_help = after_help())]
pub struct Args {
    /// The ports: exactly two.
    #[command(flatten)]
    pub ports: PortArgs,
    /// What happens to a frame on its way
    #[arg(long, value_name = "MODE", default_value = "mac-swap")]
    pub mode: Mode,
    /// A third port that gets a copy of every frame, without copying a byte
    #[arg(long, value_name = "SPEC")]
    pub mirror: Option<String>,
    /// Where buffers are.
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// How many buffers.
    #[command(flatten)]
    pub pool: PoolArgs,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What happens to a frame on its way.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Source and destination address change places
    MacSwap,
    /// Nothing: as a cable would
    Forward,
}

fn after_help() -> String {
    format!("{EXAMPLES}\n\nPorts:\n{}", ports::drivers_help())
}
