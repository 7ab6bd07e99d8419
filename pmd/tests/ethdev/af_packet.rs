//! The conformance suite between two ports of DPDK's net_af_packet, over a veth pair in namespaces of the
//! test's own.

use std::time::{Duration, Instant};

use mempool::heap::Heap;
use pmd::{
    AnyRxQueue, Config, Device, Error, Registry, RxMemory, SplitSupport, TxQueue,
    conformance::{self, Joined, Overrun, Setup, Wire, WireTraits},
};
use providers::Fake;

use crate::{
    lab::{End, Lab},
    rig::spec,
};

struct Veth<'l> {
    lab: &'l Lab,
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

    /// The suite counts polls without a frame; frames cross the kernel meanwhile.
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
        "net_af_packet"
    }

    fn connect(&mut self, setup: &Setup) -> Result<Box<dyn Joined>, Error> {
        let RxMemory::Whole(pool) = &setup.rx else { unreachable!("no split was promised") };
        // The driver has as many queues one way as the other.
        let config = Config::default().with_rx(RxMemory::Whole(pool.clone())).with_tx(&setup.tx);
        let mut config = config.rings(setup.ring);
        config.promiscuous = true;
        let open = |number: u32, name: &str| {
            let spec = spec(&format!("net_af_packet{number},iface={name}"));
            let mut device = Registry::new().open(&spec)?;
            let queues = device.start(config.clone())?;
            Ok::<_, Error>((device, queues))
        };
        let (receiver, mut queues) = self.lab.within(End::B, || open(41, "vb"))?;
        let (sender, mut sending) = self.lab.within(End::A, || open(40, "va"))?;
        let (tx, rx) = (sending.tx.remove(0), queues.rx.remove(0));
        Ok(Box::new(Ports { tx, rx, _devices: [sender, receiver] }))
    }

    fn traits(&self) -> WireTraits {
        WireTraits {
            max_frame: 1514,
            min_frame: 14,
            segments: true,
            split: SplitSupport::None,
            interactive: true,
            // Of the driver's ring: it refuses smaller buffers.
            rx_buffer_step: 1568,
            rx_spare: 0,
            overrun: Overrun::HeldBack,
            budget: 10_000,
        }
    }
}

#[test]
fn two_af_packet_ports_over_a_veth_pair_pass() {
    let Some(lab) = Lab::open("two_af_packet_ports_over_a_veth_pair_pass") else { return };
    let ran = conformance::run(&mut Veth { lab: &lab }, &Heap::new(), &Fake::new());
    let ran = ran.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(ran.len() >= 6, "only {ran:?} ran");
}
