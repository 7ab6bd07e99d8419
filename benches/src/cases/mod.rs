//! What is measured, by name. The C peer has the same names.

mod af_packet;
mod app;
mod ethdev;
mod forward;
mod gpurx;
mod nic;
mod pcap;
mod pktgen;
mod pool;
mod ring;
mod sweep;
mod testpmd;

pub use sweep::{SWEEPS, Sweep};

use crate::{instructions, placement::Placement, window::Ticks};

/// What one case came to.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Ticks per object.
    pub ticks: Ticks,
    /// User instructions per object, where one core does the work.
    pub instructions: Option<f64>,
    /// Where the cores were, before and after; for cross-core cases.
    pub placement: Option<(Placement, Placement)>,
    /// Bytes of an object that the host's processors touched, where a case is about that.
    pub host_bytes: Option<f64>,
}

/// Measures with that many windows.
pub type Run = fn(usize) -> anyhow::Result<Outcome>;

/// One case.
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// Runs it with that many windows.
    pub run: Run,
    /// The same done in other ways, by name: without what is measured, by another crate.
    pub peers: &'static [(&'static str, Run)],
    /// Whether it stays on one core; others see to their threads or processes themselves.
    pub is_pinned: bool,
}

/// A case on one core.
const fn case(name: &'static str, about: &'static str, run: Run) -> Case {
    Case { name, about, run, peers: &[], is_pinned: true }
}

/// A case that sees to its threads or processes itself.
const fn free(name: &'static str, about: &'static str, run: Run) -> Case {
    Case { name, about, run, peers: &[], is_pinned: false }
}

/// Every case.
pub const CASES: &[Case] = &[
    case("pktbuf-32", "take 32, init metadata, recycle", pool::pktbuf_32),
    case("pktbuf-spill", "the same with 1024 out", pool::pktbuf_spill),
    case("bare-32", "indices only: take 32, give 32", pool::bare_32),
    case("bare-1", "one buffer: take, give", pool::bare_1),
    case("stray", "one buffer by the shared list, no cache", pool::stray),
    case("null-io-32", "null to null, burst 32", forward::null_32),
    case("null-io-1", "null to null, burst 1", forward::null_1),
    case("ring-io-32", "ring loop on one core, burst 32", forward::ring_32),
    case("pktgen-64", "64 B frames from a template, numbered, into null", pktgen::null_64),
    case("pktgen-ring-1k", "1 KiB, numbered, stamped, CRC32C, over ring and back", pktgen::ring),
    case("pktgen-fresh-1k", "the same, each payload written and summed anew", pktgen::ring_fresh),
    case("pcap-replay", "a capture of 64 B frames, received in a loop", pcap::replay),
    case("pcap-write", "64 B frames captured into /dev/null", pcap::write),
    free("l2fwd-io", "the app l2fwd, null to null, frames as they are", app::l2fwd),
    free("l2fwd-swap", "the same, addresses swapped", app::l2fwd_swap),
    Case {
        peers: &[("without", app::l2fwd_unwatched)],
        ..free("watch-metrics", "l2fwd with metrics, and without", app::l2fwd_metrics)
    },
    Case {
        peers: &[("without", app::l2fwd_unwatched)],
        ..free("watch-tui", "l2fwd with its screen, and without", app::l2fwd_tui)
    },
    case("e1000e-rx", "82574 in software: receive 32 frames of 64 B", nic::e1000e_rx),
    case("e1000e-split", "frames of 256 B, heads and payloads split", nic::e1000e_split),
    case("e1000e-tx", "82574 in software: send 32 frames of 64 B, reap as many", nic::e1000e_tx),
    case("igb-rx", "82576 in software: receive 32 frames of 64 B", nic::igb_rx),
    case("igb-split", "frames of 256 B, heads and payloads split", nic::igb_split),
    case("igb-tx", "82576 in software: send 32 frames of 64 B, reap as many", nic::igb_tx),
    case("ethdev-null-32", "DPDK's net_null to net_null, burst 32", ethdev::null_32),
    case("ethdev-null-1", "the same, burst 1", ethdev::null_1),
    case("ethdev-null-rx", "DPDK's net_null: receive 32 and free", ethdev::null_rx),
    case("ethdev-null-tx", "DPDK's net_null: take 32 and send", ethdev::null_tx),
    case("ethdev-ring-32", "round DPDK's net_ring, burst 32", ethdev::ring_32),
    case("ethdev-ring-1", "the same, burst 1", ethdev::ring_1),
    Case {
        peers: &[("testpmd", testpmd::io)],
        ..free("l2fwd-ethdev", "the app l2fwd, DPDK's net_null to net_null", app::l2fwd_ethdev)
    },
    Case {
        peers: &[("testpmd", testpmd::swap)],
        ..free("l2fwd-ethdev-swap", "the same, addresses swapped", app::l2fwd_ethdev_swap)
    },
    Case {
        peers: &[
            ("rtrb", ring::rtrb::same_core_32),
            ("arrayqueue", ring::array_queue::same_core_32),
        ],
        ..case("spsc-32", "SPSC ring on one core, bulk 32", ring::same_core_32)
    },
    Case {
        peers: &[("rtrb", ring::rtrb::cross_32)],
        ..free("spsc-x32", "SPSC ring core to core, bulk 32", ring::cross_32)
    },
    Case {
        peers: &[("rtrb", ring::rtrb::cross_1), ("arrayqueue", ring::array_queue::cross_1)],
        ..free("spsc-x1", "SPSC ring core to core, one by one", ring::cross_1)
    },
    Case {
        peers: &[("rtrb", ring::rtrb::round_trip), ("arrayqueue", ring::array_queue::round_trip)],
        ..free("spsc-rtt", "SPSC round trip, two rings", ring::round_trip)
    },
    Case {
        peers: &[("bounce", gpurx::bounce_64)],
        ..free("gpurx-64", "gpurx on its demo wire, payloads of 64 B, directly", gpurx::direct_64)
    },
    Case {
        peers: &[("bounce", gpurx::bounce_1400)],
        ..free("gpurx-1400", "the same, 1400 B", gpurx::direct_1400)
    },
    case("af-tx-64", "packet sockets over veth: send frames of 64 B", af_packet::tx_64),
    case("af-tx-1500", "the same, 1500 B", af_packet::tx_1500),
    case("af-rx-64", "packet sockets over veth: receive frames of 64 B", af_packet::rx_64),
    case("af-rx-1500", "the same, 1500 B", af_packet::rx_1500),
    case("af-path-64", "64 B sent by a plain socket and received: both", af_packet::path_64),
    case("af-path-1500", "the same, 1500 B", af_packet::path_1500),
];

/// Objects whose instructions are counted, about: each instruction takes some 10 microseconds then.
const COUNTED: usize = 512;
/// Steps whose instructions are counted at least.
const STEPS_LEAST: usize = 2;

/// Measures work on one core: `step` handles `objects` objects.
fn one_core(windows: usize, objects: usize, step: impl FnMut()) -> Outcome {
    stepped(windows, objects, (COUNTED / objects).clamp(STEPS_LEAST, 64), step)
}

/// The same, with instructions counted over `repeats` steps: few where a step has many, since each
/// instruction then costs microseconds.
fn stepped(windows: usize, objects: usize, repeats: usize, mut step: impl FnMut()) -> Outcome {
    let ticks = crate::window::measure(windows, objects, &mut step);
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let instructions = instructions::count(|| (0..repeats).for_each(|_| step()))
        .map(|count| count as f64 / (repeats * objects) as f64);
    Outcome { ticks, instructions, placement: None, host_bytes: None }
}
