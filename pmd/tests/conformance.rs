//! The conformance suite on the reference, on `ring`, on `ring` behind the bounce path, on `dgram`, and on
//! `pcap`.

use mempool::{Burst, Cache, Cpu, Shared, heap::Heap};
use pmd::{
    AnyRxQueue, Bounce, Config, Device, Error, Queues, Registry, RxMemory, SplitSupport, TxQueue,
    conformance::{self, Joined, Overrun, ReferenceWire, Setup, Wire, WireTraits},
};
use providers::Fake;

const QUICK: usize = if cfg!(debug_assertions) { 60_000 } else { 1_000_000 };

/// A wire between two ports of one registry.
struct PortWire<'s> {
    name: &'static str,
    spec: &'s str,
    /// Spec of the receiving end, if it is another.
    other: Option<&'s str>,
    bounce: bool,
    traits: WireTraits,
}

impl<'s> PortWire<'s> {
    fn ring(name: &'static str, spec: &'s str, bounce: bool) -> Self {
        Self { name, spec, other: None, bounce, traits: RING }
    }
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

impl Wire for PortWire<'_> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn connect(&mut self, setup: &Setup) -> Result<Box<dyn Joined>, Error> {
        let mut registry = Registry::new();
        let [sender, receiver] = [self.spec, self.other.unwrap_or(self.spec)];
        let mut sender = registry.open(sender)?;
        let mut receiver = registry.open(receiver)?;
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
    split: SplitSupport::ProtocolAndLength,
    interactive: true,
    rx_buffer_step: 1,
    rx_spare: 0,
    overrun: Overrun::HeldBack,
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
    passes(PortWire::ring("ring", "ring:conformance", false), 9);
}

#[test]
fn a_traced_ring_passes() {
    let spec = "trace:/dev/null,every=7@ring:traced";
    passes(PortWire::ring("trace", spec, false), 9);
    let spec = "trace:/dev/null,count=100@trace:/dev/null,every=1000,hex@ring:traced";
    passes(PortWire::ring("trace in trace", spec, true), 9);
}

/// Chaos that has everything to do and does nothing: every frame goes through its machine.
const NEUTRAL: &str = "drop#1000000000,dup=0%,flip#1000000000..2000000000";

#[test]
fn a_tapped_ring_passes() {
    let spec = "capture:/dev/null,payloads@ring:tapped";
    passes(PortWire::ring("capture", spec, false), 9);
    passes(PortWire::ring("capture", spec, true), 9);
}

#[test]
fn a_ring_in_neutral_chaos_passes() {
    for (inner, bounce) in
        [("ring:chaotic", false), ("ring:chaotic", true), ("ring:t,size=2", false)]
    {
        for plan in [NEUTRAL, &format!("rx.{NEUTRAL}"), &format!("tx.{NEUTRAL}"), ""] {
            let spec = format!("chaos:{plan}@{inner}");
            passes(PortWire::ring("chaos", &spec, bounce), 9);
        }
    }
    let spec =
        format!("trace:/dev/null,every=100@chaos:{NEUTRAL}@chaos:seed=2,{NEUTRAL}@ring:deep");
    passes(PortWire::ring("trace in chaos in chaos", &spec, false), 9);
}

#[test]
fn a_small_ring_passes() {
    passes(PortWire::ring("ring 2", "ring:tiny,size=2", false), 9);
}

#[test]
fn the_bounce_path_passes_as_a_split_queue() {
    passes(PortWire::ring("bounce", "ring:bounce", true), 9);
}

#[test]
fn dgram_passes_whole_and_by_the_bounce_path() {
    let dir = tempfile::tempdir().expect("a place for sockets");
    let [a, b] = ["a", "b"].map(|name| dir.path().join(name).display().to_string());
    // Every frame is a system call's work: fewer of them.
    let traits = WireTraits { budget: QUICK / 4, ..RING };
    for around in ["", "trace:/dev/null,every=100@"] {
        let specs = [format!("{around}dgram:{a},peer={b}"), format!("{around}dgram:{b},peer={a}")];
        let (spec, other) = (specs[0].as_str(), Some(specs[1].as_str()));
        let whole = WireTraits { split: SplitSupport::None, ..traits };
        passes(PortWire { name: "dgram", spec, other, bounce: false, traits: whole }, 7);
        passes(PortWire { name: "dgram", spec, other, bounce: true, traits }, 9);
    }
}

/// A file between two ports: written first, then read.
struct PcapWire {
    dir: tempfile::TempDir,
    extension: &'static str,
    /// Wrappers around both ports, each with its '@'.
    around: &'static str,
    files: usize,
}

struct PcapJoined {
    registry: Registry,
    around: &'static str,
    file: String,
    setup: Setup,
    tx: Option<(Box<dyn Device>, Box<dyn TxQueue>)>,
    /// Stands in for the sender's counters once its queue is gone.
    sent: Option<Counted>,
    rx: Option<(Box<dyn Device>, AnyRxQueue)>,
}

/// A closed transmit queue: takes nothing, remembers its counts.
struct Counted(pmd::QueueCounters);

impl TxQueue for Counted {
    fn send(&mut self, _: &mut Cache<Cpu>, _: &mut Burst<Cpu>) -> usize {
        0
    }
    fn send_shared(&mut self, _: &mut Cache<Cpu>, _: &mut Burst<Shared>) -> usize {
        0
    }
    fn reap(&mut self, _: &mut Cache<Cpu>) -> usize {
        0
    }
    fn in_flight(&self) -> usize {
        0
    }
    fn counters(&self) -> &pmd::QueueCounters {
        &self.0
    }
}

impl Joined for PcapJoined {
    fn tx(&mut self) -> &mut dyn TxQueue {
        match (&mut self.tx, &mut self.sent) {
            (Some((_, tx)), _) => &mut **tx,
            (None, Some(sent)) => sent,
            (None, None) => unreachable!("one of the two is there"),
        }
    }

    fn rx(&mut self) -> &mut AnyRxQueue {
        if let Some((mut device, tx)) = self.tx.take() {
            self.sent = Some(Counted(tx.counters().clone()));
            device.stop(Queues { rx: vec![], tx: vec![tx] }).expect("the file is complete");
        }
        let (_, rx) = self.rx.get_or_insert_with(|| {
            let spec = format!("{}pcap:{}", self.around, self.file);
            let mut device = self.registry.open(&spec).expect("the file is a capture");
            let config = Config::default().with_rx(self.setup.rx.clone()).rings(self.setup.ring);
            let rx = device.start(config).expect("starts").rx.remove(0);
            (device, rx)
        });
        rx
    }
}

impl Wire for PcapWire {
    fn name(&self) -> &'static str {
        "pcap"
    }

    fn connect(&mut self, setup: &Setup) -> Result<Box<dyn Joined>, Error> {
        self.files += 1;
        let file = self.dir.path().join(format!("{}.{}", self.files, self.extension));
        let file = file.to_str().expect("a plain path").to_owned();
        let mut registry = Registry::new();
        let mut device = registry.open(&format!("{}pcap:,tx={file}", self.around))?;
        let config = Config::default().with_tx(&setup.tx).rings(setup.ring);
        let tx = device.start(config)?.tx.remove(0);
        let (tx, setup) = (Some((device, tx)), setup.clone());
        let around = self.around;
        Ok(Box::new(PcapJoined { registry, around, file, setup, tx, sent: None, rx: None }))
    }

    fn traits(&self) -> WireTraits {
        WireTraits { split: SplitSupport::None, interactive: false, budget: 60_000, ..RING }
    }
}

#[test]
fn pcap_passes_by_way_of_files() {
    for extension in ["pcap", "pcapng"] {
        let dir = tempfile::tempdir().expect("a place for files");
        passes(PcapWire { dir, extension, around: "", files: 0 }, 5);
    }
}

#[test]
fn wrapped_pcap_passes_by_way_of_files() {
    for around in ["trace:/dev/null@", "chaos:flip#1000000000,dup=0%@"] {
        let dir = tempfile::tempdir().expect("a place for files");
        passes(PcapWire { dir, extension: "pcapng", around, files: 0 }, 5);
    }
}
