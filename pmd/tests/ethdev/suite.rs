//! The conformance suite over net_ring, by reference and by copy.

use mempool::heap::Heap;
use pmd::{
    SplitSupport,
    conformance::{self, Overrun, WireTraits},
};
use providers::Fake;

use crate::rig::{LoopWire, spec};

const QUICK: usize = if cfg!(debug_assertions) { 30_000 } else { 500_000 };

const TRAITS: WireTraits = WireTraits {
    max_frame: 20_000,
    min_frame: 14,
    segments: true,
    split: SplitSupport::None,
    interactive: true,
    rx_buffer_step: 1,
    overrun: Overrun::HeldBack,
    budget: QUICK,
};

fn passes(mut wire: LoopWire) {
    let ran = conformance::run(&mut wire, &Heap::new(), &Fake::new());
    let ran = ran.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(ran.len() >= 6, "only {ran:?} ran");
}

#[test]
fn a_ring_of_dpdks_passes_by_reference() {
    passes(LoopWire { name: "net_ring", spec: spec("net_ring0"), traits: TRAITS });
}

#[test]
fn a_ring_of_dpdks_passes_by_copy() {
    let spec = spec("net_ring1,buffers=copy");
    passes(LoopWire {
        name: "net_ring, copied",
        spec,
        traits: WireTraits { max_frame: 9216, ..TRAITS },
    });
}
