//! What the user can say.

use std::time::Duration;

use clap::{Parser, ValueEnum};
use memwire_apps::{
    AppError,
    args::{PoolArgs, PortArgs, RunArgs},
    memory::MemoryArgs,
    ports,
    units::{parse_duration, parse_size},
    watch::WatchArgs,
};
use serde::Serialize;

use crate::{
    fdb::MOST_ENTRIES,
    rewrite::{EthDest, Rewrite},
    storm::StormRate,
    vlan::PortVlan,
};

const LONG_ABOUT: &str = "\
Forwards frames between ports: in pairs, or as a learning switch.

In pairs, what port 0 receives port 1 sends, and the other way round; likewise 2 and 3, and so on. A \
single port sends what it receives itself. As a switch, a frame leaves by the port where its \
destination was last seen, or by all others if it was not seen anywhere.

Each worker, on a core of its own, serves some of the ports' receive queues and has its own transmit \
queue on every port it sends to. Frames that a port has no room for are dropped and counted at once: \
waiting would only make all of them late. At the end every frame and every buffer is accounted for, \
or the exit code is 4.

Runs until ^C, -t, -c, or until ports that end by themselves (a capture file) have ended. As a \
switch, an interface that disappears is taken out of service and brought back when it returns.";

const EXAMPLES: &str = "\
Examples:
  l2fwd -p null: -p null: -t 5s
      what the framework itself costs, without a wire
  l2fwd -p eth0 -p eth1
      joins two interfaces, as a cable would (needs CAP_NET_RAW)
  l2fwd -p eth0 --rewrite mac-swap
      sends back what comes in, with source and destination swapped
  l2fwd -p eth0 -p eth1 -p eth2 --mode switch --storm 1kpps
      a switch of three interfaces that floods 1000 frames per second and port at most
  l2fwd -p eth0 -p eth1 -p eth2 --mode switch --vlan 0:access=10 --vlan 1:access=20 --vlan 2:trunk=10,20
      two VLANs, apart on two ports and tagged on the third
  l2fwd -p eth0 -p eth1 --mirror pcap:,tx=copy.pcap
      keeps a copy of every frame that passes between two interfaces
  l2fwd -p pcap:in.pcap -p pcap:,tx=out.pcap --json
      plays a capture through and prints the totals as JSON
  l2fwd -p eth0 -p eth1 -q 2 -l 2-3 -m hugepage
      two queues each, on cores 2 and 3, buffers in 2 MiB pages

Exit codes:
  0 ok, also after ^C    1 the run failed    2 bad usage    3 something is missing here
  4 frames or buffers unaccounted for    130 second ^C";

/// Forwards frames between ports: in pairs, or as a learning switch.
#[derive(Parser, Clone, Debug)]
#[command(name = "l2fwd", version, long_about = LONG_ABOUT, after_help = after_help())]
pub struct Args {
    /// The ports, numbered from 0.
    #[command(flatten)]
    pub ports: PortArgs,
    /// How frames find their way
    #[arg(long, value_name = "MODE", default_value = "pairs")]
    pub mode: Mode,
    /// What happens to a frame between two ports of a pair
    #[arg(long, value_name = "WHAT", default_value = "none")]
    pub rewrite: Rewrite,
    /// With mac-update: to whom frames go that leave by a port [default: 02:00:00:00:00:PORT]
    #[arg(long, value_name = "PORT:MAC")]
    pub eth_dest: Vec<EthDest>,
    /// One more port that gets a copy of every frame, without copying a byte
    #[arg(long, value_name = "SPEC")]
    pub mirror: Option<String>,
    /// What to do when an interface disappears [default: reopen as a switch, stop in pairs; reopen in
    /// either when a device is taken away]
    #[arg(long, value_name = "WHAT")]
    pub on_fault: Option<OnFault>,
    /// The switch.
    #[command(flatten)]
    pub switch: SwitchArgs,
    /// Where buffers are.
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// How many buffers.
    #[command(flatten)]
    pub pool: PoolArgs,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
    /// How to look at it.
    #[command(flatten)]
    pub watch: WatchArgs,
}

/// What a switch can be told. All of it needs `--mode switch`.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Switch")]
pub struct SwitchArgs {
    /// Stations that the forwarding table holds [default: 16K]; frames to others are flooded
    #[arg(long, value_name = "N", value_parser = entries)]
    pub fdb: Option<usize>,
    /// Forget a station that was silent for so long [default: 300s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub ageing: Option<Duration>,
    /// Put a port into VLANs: PORT:access=VID, or PORT:trunk=VID[,VID-VID]*[,native=VID] or
    /// PORT:trunk=all. Ports that are not named are access=1. Without any, tags are not looked at
    #[arg(long, value_name = "PORT:VLANS")]
    pub vlan: Vec<PortVlan>,
    /// Flood at most so many frames per second from each port (broadcast, multicast, unknown)
    #[arg(long, value_name = "RATE")]
    pub storm: Option<StormRate>,
    /// Forward frames to 01:80:c2:00:00:00-0f too (STP, LACP, LLDP, pause), which end at a switch
    #[arg(long)]
    pub forward_reserved: bool,
}

/// How frames find their way.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Ports 0 and 1, 2 and 3, … send what the other receives
    Pairs,
    /// To where the destination was last seen
    Switch,
}

/// What to do when an interface disappears.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFault {
    /// End the run, with exit code 1
    Stop,
    /// Go on without it, and try every 500 ms to open it again
    Reopen,
}

const DEFAULT_ENTRIES: usize = 16 << 10;
const DEFAULT_AGEING: Duration = Duration::from_secs(300);

fn entries(text: &str) -> Result<usize, String> {
    let number = parse_size(text).ok().filter(|n| (1..=MOST_ENTRIES).contains(n));
    number
        .ok_or_else(|| format!("should be a number of stations, 1 to {MOST_ENTRIES}, such as 16K"))
}

fn after_help() -> String {
    format!("{EXAMPLES}\n\n{}", ports::drivers_help())
}

impl SwitchArgs {
    pub(crate) fn entries(&self) -> usize {
        self.fdb.unwrap_or(DEFAULT_ENTRIES)
    }

    pub(crate) fn ageing(&self) -> Duration {
        self.ageing.unwrap_or(DEFAULT_AGEING)
    }

    fn first_given(&self) -> Option<&'static str> {
        [
            (self.fdb.is_some(), "--fdb"),
            (self.ageing.is_some(), "--ageing"),
            (!self.vlan.is_empty(), "--vlan"),
            (self.storm.is_some(), "--storm"),
            (self.forward_reserved, "--forward-reserved"),
        ]
        .into_iter()
        .find_map(|(is_given, name)| is_given.then_some(name))
    }
}

/// Ports at most: their numbers stay far inside what the table has room for.
const MOST_PORTS: usize = 4096;

impl Args {
    /// What to do when an interface disappears.
    #[must_use]
    pub fn on_fault(&self) -> OnFault {
        self.on_fault.unwrap_or(match self.mode {
            Mode::Pairs => OnFault::Stop,
            Mode::Switch => OnFault::Reopen,
        })
    }

    /// What is done when somebody takes a port away: the others go on, unless the user said otherwise.
    #[must_use]
    pub fn on_removal(&self) -> OnFault {
        self.on_fault.unwrap_or(OnFault::Reopen)
    }

    /// Checks what the flags cannot check one by one.
    pub(crate) fn check(&self) -> Result<(), AppError> {
        let count = self.ports.ports.len();
        let usage = |message: String, hint: &str| Err(AppError::usage(message).hint(hint));
        match self.mode {
            _ if count == 0 => usage("no ports given".to_owned(), "l2fwd -p null: -p null:")?,
            _ if count > MOST_PORTS => {
                usage(format!("{count} ports given; {MOST_PORTS} at most"), "run several l2fwd")?;
            }
            Mode::Pairs if count > 1 && count % 2 == 1 => usage(
                format!("pairs need an even number of ports, or one; {count} given"),
                "--mode switch takes any number from 2 on",
            )?,
            Mode::Switch if count < 2 => usage(
                "a switch needs two ports or more; 1 given".to_owned(),
                "l2fwd -p eth0 -p eth1 --mode switch",
            )?,
            Mode::Switch if self.rewrite != Rewrite::None => usage(
                "--rewrite changes what a switch goes by: it is for --mode pairs".to_owned(),
                "leave it out",
            )?,
            Mode::Pairs => {
                if let Some(name) = self.switch.first_given() {
                    usage(format!("{name} is for switches"), "add --mode switch")?;
                }
            }
            Mode::Switch => {}
        }
        if !self.eth_dest.is_empty() && self.rewrite != Rewrite::MacUpdate {
            usage("--eth-dest is for --rewrite mac-update".to_owned(), "add it")?;
        }
        let vlans = self.switch.vlan.iter().map(|vlan| vlan.port);
        check_numbers("--vlan", vlans, count)?;
        check_numbers("--eth-dest", self.eth_dest.iter().map(|dest| dest.port), count)
    }
}

fn check_numbers(
    flag: &str,
    ports: impl Iterator<Item = usize> + Clone,
    count: usize,
) -> Result<(), AppError> {
    for (at, port) in ports.clone().enumerate() {
        if port >= count {
            let message = format!("{flag} {port}: there is no port {port}");
            return Err(AppError::usage(message).hint("ports are numbered from 0, as -p has them"));
        }
        if ports.clone().take(at).any(|other| other == port) {
            let message = format!("{flag} {port}: port {port} is given twice");
            return Err(AppError::usage(message).hint("say all of a port in one flag"));
        }
    }
    Ok(())
}
