//! The command line.
#![allow(rustdoc::broken_intra_doc_links, reason = "the brackets of `--help` are no links")]

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use memwire_apps::{
    args::{PoolArgs, PortArgs, RunArgs},
    memory::MemorySpec,
    units::{Rate, parse_duration, parse_share, parse_size},
    watch::WatchArgs,
};

use crate::{
    flow::{Flow, Prefix},
    path::PathChoice,
    probe::ProbeChoice,
    seq::SeqField,
};

/// Receive UDP streams: headers into host memory, payloads into device memory, as rows of a tensor.
/// Without a port, a demo runs: an in-process wire, fake device memory, about five seconds.
#[derive(Parser, Clone, Debug)]
#[command(name = "gpurx", version, after_help = memwire_apps::ports::drivers_help())]
pub struct Args {
    #[command(flatten)]
    pub ports: PortArgs,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub pool: PoolArgs,
    /// Memory for payloads: p2p:BDF/barN[,offset=SIZE][,len=SIZE][,cpu=off] (another device's BAR),
    /// dmabuf:fd=N, dmabuf:SOCKET, dmabuf:udmabuf:SIZE, dmabuf:heap:NAME:SIZE, fake[:SIZE],
    /// host, hugepage[:2M|:1G], private, or auto [default: fake for the demo, auto otherwise]
    #[arg(short = 'm', long = "mem", value_name = "MEMORY")]
    pub memory: Option<MemorySpec>,
    /// How payloads get there: direct (the port splits frames), bounce (received whole, copied), or
    /// auto (direct where the port can)
    #[arg(long, value_name = "PATH", default_value = "auto")]
    pub path: PathChoice,
    /// Run twice on the same traffic, directly and by the bounce path, and tell the difference; -c and -t are
    /// of each run
    #[arg(long, conflicts_with = "path")]
    pub compare: bool,
    /// Measure what workers spend per packet: time, and CPU instructions where they can be counted
    #[arg(long)]
    pub cost: bool,
    /// Prove before the first frame that the port writes where the memory is: auto (memory of a device, direct
    /// path), always, or off
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub probe: ProbeChoice,
    /// The port that sends the frames for it, if the receiving one has no loopback
    #[arg(long, value_name = "PORT")]
    pub probe_from: Option<String>,
    /// Where payloads go while device memory is revoked (by its provider, or by SIGUSR1, which also
    /// resumes): host (a pool taken at the start), or drop (counted); headers keep flowing
    #[arg(long, value_name = "POLICY", default_value = "host")]
    pub on_revoke: OnRevoke,
    #[command(flatten)]
    pub stream: StreamArgs,
    #[command(flatten)]
    pub blocks: BlockArgs,
    #[command(flatten)]
    pub consumer: ConsumerArgs,
    #[command(flatten)]
    pub demo: DemoArgs,
    #[command(flatten)]
    pub watch: WatchArgs,
}

/// Which frames, and what is done with them.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Stream")]
pub struct StreamArgs {
    /// Sequence number: memwire, memwire-short, rtp[:CSRCS], spead[:ITEMS], vita49[:BYTES],
    /// offset:bytes:be|le behind the UDP header, or ipid: the IPv4 identification, before it
    #[arg(long, value_name = "FIELD", default_value = "memwire")]
    pub seq: SeqField,
    /// Only frames to this UDP port [default: any; 9000 for the demo]
    #[arg(long, value_name = "PORT")]
    pub udp_port: Option<u16>,
    /// Only frames from this address or prefix
    #[arg(long, value_name = "ADDR")]
    pub src: Option<Prefix>,
    /// Only frames to this address or prefix
    #[arg(long, value_name = "ADDR")]
    pub dst: Option<Prefix>,
    /// Only frames with this VLAN id
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(0..=4095))]
    pub vlan: Option<u16>,
    /// What is done with rows
    #[arg(long, value_name = "SINK", default_value = "verify")]
    pub sink: SinkChoice,
    /// The file that --sink pcap writes
    #[arg(long, value_name = "FILE", required_if_eq("sink", "pcap"))]
    pub out: Option<PathBuf>,
    /// Fail (exit 4) if more rows than this share are missing, e.g. 0.1%
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    pub max_loss: Option<f64>,
}

impl StreamArgs {
    /// The flow's conditions.
    #[must_use]
    pub fn flow(&self) -> Flow {
        Flow { udp_port: self.udp_port, src: self.src, dst: self.dst, vlan: self.vlan }
    }
}

/// Where payloads go while device memory is revoked.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRevoke {
    /// To host memory
    #[default]
    Host,
    /// Nowhere; they are counted
    Drop,
}

/// What is done with rows.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkChoice {
    /// Check sequence and checksum of every row
    Verify,
    /// Read whole blocks, as a kernel would, into a digest
    Tensor,
    /// Place rows and read none: somebody else reads the memory they land in
    Place,
    /// Write frames to a file
    Pcap,
    /// Count frames
    Count,
}

impl SinkChoice {
    /// Whether rows are placed.
    #[must_use]
    pub fn places(self) -> bool {
        matches!(self, Self::Verify | Self::Tensor | Self::Place)
    }
}

/// How rows make blocks.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Blocks")]
pub struct BlockArgs {
    /// Rows of a block
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(4..=1 << 24))]
    pub rows: u32,
    /// Blocks that the payload memory holds [default: as many as ring and window need]
    #[arg(long, value_name = "N")]
    pub blocks: Option<usize>,
    /// Blocks of payload memory that are added when a consumer keeps so many that it runs short; they go again
    /// when it has not been short for two seconds. 0: none
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub grow: usize,
    /// The same in host memory, when there is no more of the other; rows in it are counted. 0: none
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub spill: usize,
    /// Blocks that stay open for frames that come late
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub window: u16,
    /// Hand a block over this long after its first row, complete or not
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = parse_duration)]
    pub deadline: Duration,
    /// The consumer wants contiguous tensors: move rows that are out of place
    #[arg(long)]
    pub contiguous: bool,
}

/// A consumer in another process.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Consumer in another process")]
pub struct ConsumerArgs {
    /// Hand blocks over to a process that connects to this socket: gpurx-consumer, or one of yours
    #[arg(long, value_name = "SOCKET")]
    pub consumer: Option<PathBuf>,
    /// Blocks wait for a consumer while none is there, as far as there is memory, instead of being
    /// dropped unseen
    #[arg(long, requires = "consumer")]
    pub consumer_wait: bool,
    /// Count blocks that a consumer keeps for longer than this [default: 1s]
    #[arg(long, value_name = "TIME", requires = "consumer", value_parser = parse_duration)]
    pub consumer_deadline: Option<Duration>,
}

/// The demo's wire and sender.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Demo (without -p)")]
pub struct DemoArgs {
    /// Share of frames that the wire loses, e.g. 1%
    #[arg(long, value_name = "SHARE", value_parser = parse_share, conflicts_with = "ports")]
    pub loss: Option<f64>,
    /// Share of frames that change places with the next
    #[arg(long, value_name = "SHARE", value_parser = parse_share, conflicts_with = "ports")]
    pub swap: Option<f64>,
    /// Share of frames that come twice
    #[arg(long, value_name = "SHARE", value_parser = parse_share, conflicts_with = "ports")]
    pub dup: Option<f64>,
    /// Share of frames of another flow
    #[arg(long, value_name = "SHARE", value_parser = parse_share, conflicts_with = "ports")]
    pub foreign: Option<f64>,
    /// Frames to send, e.g. 1mpps or 2gbps [default: as fast as possible]
    #[arg(long, value_name = "RATE", conflicts_with = "ports")]
    pub rate: Option<Rate>,
    /// Bytes of a UDP payload, test header included [default: 1K]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "ports")]
    pub payload: Option<usize>,
    /// Seed of all that is random [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "ports")]
    pub seed: Option<u64>,
}
