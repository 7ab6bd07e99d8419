//! What is measured, by name. The C peer has the same names.

mod forward;
mod pool;
mod ring;

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
}

/// One case.
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// Runs it with that many windows.
    pub run: fn(usize) -> anyhow::Result<Outcome>,
}

/// Every case.
pub const CASES: &[Case] = &[
    Case { name: "pktbuf-32", about: "take 32, init metadata, recycle", run: pool::pktbuf_32 },
    Case { name: "pktbuf-spill", about: "the same with 1024 out", run: pool::pktbuf_spill },
    Case { name: "bare-32", about: "indices only: take 32, give 32", run: pool::bare_32 },
    Case { name: "bare-1", about: "one buffer: take, give", run: pool::bare_1 },
    Case { name: "stray", about: "one buffer by the shared list, no cache", run: pool::stray },
    Case { name: "null-io-32", about: "null to null, burst 32", run: forward::null_32 },
    Case { name: "null-io-1", about: "null to null, burst 1", run: forward::null_1 },
    Case { name: "ring-io-32", about: "ring loop on one core, burst 32", run: forward::ring_32 },
    Case { name: "spsc-32", about: "SPSC ring on one core, bulk 32", run: ring::same_core_32 },
    Case { name: "spsc-x32", about: "SPSC ring core to core, bulk 32", run: ring::cross_32 },
    Case { name: "spsc-x1", about: "SPSC ring core to core, one by one", run: ring::cross_1 },
    Case { name: "spsc-rtt", about: "SPSC round trip, two rings", run: ring::round_trip },
    Case { name: "rtrb-x32", about: "rtrb core to core, chunks of 32", run: ring::rtrb_32 },
    Case {
        name: "arrayqueue-x1",
        about: "crossbeam ArrayQueue core to core",
        run: ring::array_queue,
    },
];

/// Measures work on one core: `step` handles `objects` objects.
fn one_core(windows: usize, objects: usize, mut step: impl FnMut()) -> Outcome {
    let ticks = crate::window::measure(windows, objects, &mut step);
    let repeats = 64;
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let instructions = instructions::count(|| (0..repeats).for_each(|_| step()))
        .map(|count| count as f64 / (repeats * objects) as f64);
    Outcome { ticks, instructions, placement: None }
}
