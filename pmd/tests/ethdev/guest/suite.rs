//! The suite that every driver passes, between two functions that DPDK drives. What a port can do it says itself;
//! how a chip treats frames that find no descriptor is the emulator's, by its PCI id.

use std::{
    fs,
    time::{Duration, Instant},
};

use mempool::{Burst, Cache, Cpu, Pool, heap::Heap};
use pmd::{
    AnyRxQueue, Capabilities, Config, Device, Error, QueueCounters, Queues, Registry, RxMemory,
    RxQueue, TxQueue,
    conformance::{self, Joined, Overrun, Setup, Wire, WireTraits},
};
use providers::{Hugepages, PageSize};

use super::rig::{self, Pair};

/// One sends to the other. Both are started anew for each check.
struct Wired {
    pair: Pair,
    capabilities: Capabilities,
    overrun: Overrun,
    /// What the sender receives into; nobody looks.
    spare: Pool<Cpu>,
}

struct Started {
    sender: Box<dyn Device>,
    receiver: Box<dyn Device>,
    tx: Option<Box<dyn TxQueue>>,
    rx: Option<AnyRxQueue>,
    /// Queues that nobody uses.
    idle: [Queues; 2],
}

impl Joined for Started {
    fn tx(&mut self) -> &mut dyn TxQueue {
        &mut **self.tx.as_mut().expect("a queue until the end")
    }

    fn rx(&mut self) -> &mut AnyRxQueue {
        self.rx.as_mut().expect("a queue until the end")
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let [mut sending, mut receiving] = std::mem::take(&mut self.idle);
        sending.tx.extend(self.tx.take());
        receiving.rx.extend(self.rx.take());
        self.sender.stop(sending).expect("a port that stops");
        self.receiver.stop(receiving).expect("a port that stops");
    }
}

/// A queue that gives an emulated wire its time: the suite counts polls without a frame.
struct Patient(Box<dyn RxQueue>);

impl RxQueue for Patient {
    fn recv(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        let end = Instant::now() + Duration::from_millis(3);
        loop {
            let got = self.0.recv(cache, burst);
            if got > 0 || Instant::now() > end {
                return got;
            }
            std::thread::yield_now();
        }
    }

    fn counters(&self) -> &QueueCounters {
        self.0.counters()
    }
}

impl Wire for Wired {
    fn name(&self) -> &'static str {
        "DPDK on VFIO"
    }

    fn connect(&mut self, setup: &Setup) -> Result<Box<dyn Joined>, Error> {
        let open = |spec: &str| Registry::new().open(&format!("{spec},buffers=pool"));
        let (mut sender, mut receiver) = (open(&self.pair[0])?, open(&self.pair[1])?);
        let config = |rx: RxMemory| Config::default().with_rx(rx).with_tx(&setup.tx);
        let there = Config { promiscuous: true, ..config(setup.rx.clone()).rings(setup.ring) };
        let here = config(RxMemory::Whole(self.spare.clone())).rings(setup.ring);
        let (mut receiving, mut sending) = (receiver.start(there)?, sender.start(here)?);
        rig::await_links(&[&*sender, &*receiver]);
        let rx = match receiving.rx.remove(0) {
            AnyRxQueue::Whole(queue) => AnyRxQueue::Whole(Box::new(Patient(queue))),
            split @ AnyRxQueue::Split(_) => split,
        };
        let tx = Some(sending.tx.remove(0));
        let idle = [sending, receiving];
        Ok(Box::new(Started { sender, receiver, tx, rx: Some(rx), idle }))
    }

    fn traits(&self) -> WireTraits {
        let can = &self.capabilities;
        WireTraits {
            max_frame: can.max_frame,
            min_frame: 60,
            segments: can.tx_segments,
            split: can.split,
            interactive: !can.finite,
            rx_buffer_step: can.rx_buffer_step,
            rx_spare: can.rx_spare,
            overrun: self.overrun,
            budget: 1_000,
        }
    }
}

/// What QEMU does with frames for a chip without descriptors: it holds them back, and hands over all of them when
/// there are some. Its 82574L takes what fits; its 82576 takes the rest as well, and loses it (`igb_core.c`).
fn overrun(spec: &str) -> Overrun {
    let address = spec.trim_start_matches("dpdk:");
    let id = fs::read_to_string(format!("/sys/bus/pci/devices/{address}/device"));
    if id.expect("a PCI function").trim() == "0x10c9" { Overrun::Silent } else { Overrun::HeldBack }
}

fn passes(pair: &Pair, hugepages: &Hugepages) {
    let start = Instant::now();
    let opened = Registry::new().open(&format!("{},buffers=pool", pair[1]));
    let opened = opened.unwrap_or_else(|error| panic!("{error}"));
    let capabilities = opened.info().capabilities.clone();
    drop(opened);
    assert!(!capabilities.copies, "{pair:?} copy frames");
    let (most, overrun) = (capabilities.max_frame, overrun(&pair[1]));
    let spare = rig::pool(hugepages, 1024, 2176);
    let mut wire = Wired { pair: pair.clone(), capabilities, overrun, spare };
    let ran = conformance::run(&mut wire, hugepages, &Heap::new());
    let ran = ran.unwrap_or_else(|failure| panic!("{pair:?}: {failure}"));
    assert!(wire.spare.audit().is_home(), "{}", wire.spare.audit());
    eprintln!("{pair:?}, up to {most} B: {} checks, {:?}: {ran:?}", ran.len(), start.elapsed());
    assert!(ran.contains(&"frames of several segments"), "{ran:?}");
    assert!(ran.contains(&"exhaustion and recovery"), "{ran:?}");
}

#[test]
fn the_suite_passes_over_dpdks_drivers_for_nics() {
    let name = "the_suite_passes_over_dpdks_drivers_for_nics";
    let Some(pairs) = rig::pairs(name) else { return };
    let hugepages = Hugepages::new(PageSize::TwoMiB).expect("hugepages");
    for pair in &pairs {
        passes(pair, &hugepages);
    }
}
