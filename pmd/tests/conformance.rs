//! The conformance suite on the reference, on `ring`, and on `ring` behind the bounce path.

use mempool::heap::Heap;
use pmd::{
    AnyRxQueue, Config, Device, Error, Queues, Registry, RxMemory, TxQueue,
    bounce::Bounce,
    conformance::{self, Joined, ReferenceWire, Setup, Wire, WireTraits},
};
use providers::Fake;

const QUICK: usize = if cfg!(debug_assertions) { 60_000 } else { 1_000_000 };

/// A wire between two ports of one registry.
struct PortWire {
    name: &'static str,
    spec: &'static str,
    bounce: bool,
    traits: WireTraits,
}

struct Ports {
    // Queues go before the devices they belong to.
    tx: Box<dyn TxQueue>,
    rx: AnyRxQueue,
    _devices: [Box<dyn Device>; 2],
}

impl Joined for Ports {
    fn tx(&mut self) -> &mut dyn TxQueue {
        &mut *self.tx
    }
    fn rx(&mut self) -> &mut AnyRxQueue {
        &mut self.rx
    }
}

impl Wire for PortWire {
    fn name(&self) -> &'static str {
        self.name
    }

    fn connect(&mut self, setup: &Setup) -> Result<Box<dyn Joined>, Error> {
        let mut registry = Registry::new();
        let mut sender = registry.open(self.spec)?;
        let mut receiver = registry.open(self.spec)?;
        let config = Config::default().with_tx(&setup.tx).rings(setup.ring);
        let Queues { mut tx, .. } = sender.start(config)?;
        let inner = match &setup.rx {
            RxMemory::Split(split) if self.bounce => RxMemory::Whole(split.heads.clone()),
            memory => memory.clone(),
        };
        let Queues { mut rx, .. } =
            receiver.start(Config::default().with_rx(inner).rings(setup.ring))?;
        let rx = match (&setup.rx, rx.remove(0)) {
            (RxMemory::Split(split), AnyRxQueue::Whole(inner)) => {
                AnyRxQueue::Split(Box::new(Bounce::new(inner, split.clone(), setup.ring)?))
            }
            (_, rx) => rx,
        };
        Ok(Box::new(Ports { tx: tx.remove(0), rx, _devices: [sender, receiver] }))
    }

    fn traits(&self) -> WireTraits {
        self.traits
    }
}

const RING: WireTraits = WireTraits {
    max_frame: 20_000,
    min_frame: 14,
    segments: true,
    split: true,
    interactive: true,
    budget: QUICK,
};

fn passes(mut wire: impl Wire, at_least: usize) {
    let ran = conformance::run(&mut wire, &Heap::new(), &Fake::new());
    let ran = ran.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(ran.len() >= at_least, "only {ran:?} ran");
}

#[test]
fn the_reference_passes_its_own_suite() {
    passes(ReferenceWire, 7);
}

#[test]
fn ring_passes_and_splits_in_software() {
    passes(PortWire { name: "ring", spec: "ring:conformance", bounce: false, traits: RING }, 9);
}

#[test]
fn a_small_ring_passes() {
    passes(PortWire { name: "ring 2", spec: "ring:tiny,size=2", bounce: false, traits: RING }, 9);
}

#[test]
fn the_bounce_path_passes_as_a_split_queue() {
    passes(PortWire { name: "bounce", spec: "ring:bounce", bounce: true, traits: RING }, 9);
}
