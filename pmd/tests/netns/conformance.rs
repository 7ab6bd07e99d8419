//! The suite that every driver passes, over a veth pair.

use std::time::{Duration, Instant};

use mempool::heap::Heap;
use pmd::{
    AnyRxQueue, Bounce, Config, Device, Error, Registry, RxMemory, SplitSupport, TxQueue,
    conformance::{self, Joined, Overrun, Setup, Wire, WireTraits},
};
use providers::Fake;

use crate::lab::{End, Lab};

struct Veth<'l> {
    lab: &'l Lab,
    bounce: bool,
    /// Wrappers around both ends, each with its '@'.
    around: &'static str,
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

    /// The suite counts polls without a frame; a block is handed over after a millisecond.
    fn rx(&mut self) -> &mut AnyRxQueue {
        let end = Instant::now() + Duration::from_micros(50);
        while Instant::now() < end {
            std::thread::yield_now();
        }
        &mut self.rx
    }
}

impl Wire for Veth<'_> {
    fn name(&self) -> &'static str {
        match (self.bounce, self.around) {
            (true, _) => "af_packet, bounce",
            (false, "") => "af_packet",
            _ => "af_packet, wrapped",
        }
    }

    fn connect(&mut self, setup: &Setup) -> Result<Box<dyn Joined>, Error> {
        let open = |name| Registry::new().open(&format!("{}af_packet:{name}", self.around));
        let (sender, tx) = self.lab.within(End::A, || {
            let mut device = open("va")?;
            let config = Config::default().with_tx(&setup.tx).rings(setup.ring);
            let mut queues = device.start(config)?;
            Ok::<_, Error>((device, queues.tx.remove(0)))
        })?;
        let (receiver, rx) = self.lab.within(End::B, || {
            let mut device = open("vb")?;
            let memory = match &setup.rx {
                RxMemory::Split(split) => RxMemory::Whole(split.heads.clone()),
                whole @ RxMemory::Whole(_) => whole.clone(),
            };
            let mut config = Config::default().with_rx(memory).rings(setup.ring);
            config.promiscuous = true;
            let mut queues = device.start(config)?;
            Ok::<_, Error>((device, queues.rx.remove(0)))
        })?;
        let rx = match (&setup.rx, rx) {
            (RxMemory::Split(split), AnyRxQueue::Whole(inner)) => {
                AnyRxQueue::Split(Box::new(Bounce::new(inner, split.clone(), setup.ring)?))
            }
            (_, rx) => rx,
        };
        Ok(Box::new(Ports { tx, rx, _devices: [sender, receiver] }))
    }

    fn traits(&self) -> WireTraits {
        WireTraits {
            max_frame: 9014,
            min_frame: 14,
            segments: true,
            split: if self.bounce { SplitSupport::ProtocolAndLength } else { SplitSupport::None },
            interactive: true,
            rx_buffer_step: 1,
            rx_spare: 0,
            overrun: Overrun::HeldBack,
            budget: 10_000,
        }
    }
}

fn passes(test: &str, bounce: bool, around: &'static str, checks: usize) {
    let Some(lab) = Lab::open(test) else { return };
    lab.set(End::A, "link set va mtu 9000");
    lab.set(End::B, "link set vb mtu 9000");
    let mut wire = Veth { lab: &lab, bounce, around };
    let ran = conformance::run(&mut wire, &Heap::new(), &Fake::new());
    let ran = ran.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(ran.len() >= checks, "only {ran:?} ran");
}

#[test]
fn af_packet_passes_the_conformance_suite() {
    passes("af_packet_passes_the_conformance_suite", false, "", 7);
}

#[test]
fn af_packet_passes_it_behind_the_bounce_path_too() {
    passes("af_packet_passes_it_behind_the_bounce_path_too", true, "", 9);
}

#[test]
fn af_packet_passes_it_with_wrappers_around_it() {
    let around = "trace:/dev/null,every=100@chaos:drop#1000000000,dup=0%@";
    passes("af_packet_passes_it_with_wrappers_around_it", false, around, 7);
}
