//! The conformance suite over virtual devices of one process.

use mempool::heap::Heap;
use pmd::{
    SplitSupport,
    conformance::{self, Overrun, Wire, WireTraits},
};
use providers::Fake;

use crate::{
    rig::{End, LoopWire, PairWire, spec},
    vhost::{vhost, virtio},
};

const QUICK: usize = if cfg!(debug_assertions) { 30_000 } else { 500_000 };

pub(crate) const TRAITS: WireTraits = WireTraits {
    max_frame: 20_000,
    min_frame: 14,
    segments: true,
    split: SplitSupport::None,
    interactive: true,
    rx_buffer_step: 1,
    rx_spare: 0,
    overrun: Overrun::HeldBack,
    budget: QUICK,
};

pub(crate) fn passes(mut wire: impl Wire) {
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

#[test]
fn two_memif_ports_of_one_process_pass() {
    let dir = tempfile::tempdir().expect("a place for a socket");
    let socket = format!("socket={},socket-abstract=no", dir.path().join("memif").display());
    let [client, server] = [("net_memif0", "client"), ("net_memif1", "server")]
        .map(|(name, role)| spec(&format!("{name},role={role},{socket}")));
    // What the driver says of itself (RTE_ETHER_MAX_LEN).
    let traits = WireTraits { budget: QUICK / 4, max_frame: 1518, ..TRAITS };
    let (name, sender) = ("net_memif", End::Client);
    passes(PairWire { name, server, client, sender, descriptors: 1, traits });
}

#[test]
fn virtio_user_and_vhost_of_one_process_pass_in_both_directions() {
    let directions = [
        ("net_virtio_user to net_vhost", End::Client),
        ("net_vhost to net_virtio_user", End::Server),
    ];
    for (name, sender) in directions {
        let dir = tempfile::tempdir().expect("a place for a socket");
        let socket = dir.path().join("vhost");
        let (server, client) = (spec(&vhost(38, &socket)), spec(&virtio(38, &socket)));
        let traits = WireTraits { budget: QUICK / 4, max_frame: 1518, ..TRAITS };
        // A frame's header has a descriptor of its own (virtio 1.2, 5.1.6.2).
        passes(PairWire { name, server, client, sender, descriptors: 2, traits });
    }
}
