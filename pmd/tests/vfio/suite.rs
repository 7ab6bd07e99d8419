//! The suite that every driver passes, between two functions, in every address space and form.
#![expect(clippy::disallowed_types, reason = "a wire and what it joined share the ports")]

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use mempool::{Burst, Cache, Cpu};
use pmd::{
    AnyRxQueue, Config, Device, Error, HardwareSplit, QueueCounters, Queues, Registry, RxQueue,
    SplitSupport, TxQueue,
    conformance::{self, Joined, Overrun, Setup, Wire, WireTraits},
};
use providers::Fake;

use super::rig::{self, Pair};

/// A sender and a receiver.
type Ports = Arc<Mutex<[Box<dyn Device>; 2]>>;

struct BackToBack {
    ports: Ports,
    split: bool,
    max_frame: usize,
    overrun: Overrun,
}

struct Started {
    ports: Ports,
    tx: Option<Box<dyn TxQueue>>,
    rx: Option<AnyRxQueue>,
}

impl Joined for Started {
    fn tx(&mut self) -> &mut dyn TxQueue {
        &mut **self.tx.as_mut().expect("a queue until the end")
    }

    fn rx(&mut self) -> &mut AnyRxQueue {
        self.rx.as_mut().expect("a queue until the end")
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

impl Drop for Started {
    fn drop(&mut self) {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = Queues { tx: self.tx.take().into_iter().collect(), ..Queues::default() };
        let received = Queues { rx: self.rx.take().into_iter().collect(), ..Queues::default() };
        for (port, queues) in ports.iter_mut().zip([sent, received]) {
            port.stop(queues).expect("a port that stops");
        }
    }
}

impl Wire for BackToBack {
    fn name(&self) -> &'static str {
        "e1000 on VFIO"
    }

    fn connect(&mut self, setup: &Setup) -> Result<Box<dyn Joined>, Error> {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sender = ports[0].start(Config::default().with_tx(&setup.tx).rings(setup.ring))?;
        let mut config = Config::default().with_rx(setup.rx.clone()).rings(setup.ring);
        config.promiscuous = true;
        let mut receiver = ports[1].start(config)?;
        rig::await_links(&[&*ports[0], &*ports[1]]);
        let rx = match receiver.rx.remove(0) {
            AnyRxQueue::Whole(queue) => AnyRxQueue::Whole(Box::new(Patient(queue))),
            split @ AnyRxQueue::Split(_) => split,
        };
        let (ports, tx) = (Arc::clone(&self.ports), Some(sender.tx.remove(0)));
        Ok(Box::new(Started { ports, tx, rx: Some(rx) }))
    }

    fn traits(&self) -> WireTraits {
        let hardware = SplitSupport::Hardware(HardwareSplit {
            longest_head: 960,
            protocol: true,
            ..HardwareSplit::default()
        });
        WireTraits {
            max_frame: self.max_frame,
            min_frame: 60,
            segments: true,
            split: if self.split { hardware } else { SplitSupport::None },
            interactive: true,
            rx_buffer_step: 1024,
            overrun: self.overrun,
            budget: 6_000,
        }
    }
}

fn run(pair: &Pair, space: &str, split: bool) {
    let mut registry = Registry::new();
    let ports = [0, 1].map(|end: usize| rig::open(&mut registry, &pair[end], space, ""));
    let driver = ports[0].info().driver;
    // With split frames the 82574L lets long ones in only where a payload buffer holds them whole.
    let max_frame = if split && driver == "e1000e" { 1514 } else { 9018 };
    let ports = Arc::new(Mutex::new(ports));
    // QEMU holds frames back for a chip without descriptors, and hands over all of them when it gets some:
    // its 82574L takes what fits; its 82576 takes the rest as well, and loses it (`igb_core.c`).
    let overrun = if driver == "igb" { Overrun::Silent } else { Overrun::HeldBack };
    let mut wire = BackToBack { ports, split, max_frame, overrun };
    let start = Instant::now();
    let ran = conformance::run(&mut wire, &*rig::host(), &Fake::new());
    let ran = ran.unwrap_or_else(|failure| panic!("{driver}, {space}: {failure}"));
    assert_eq!(split, ran.contains(&"split by protocol"));
    eprintln!(
        "{driver}, {space}, up to {max_frame} B: {} checks, {:?}",
        ran.len(),
        start.elapsed()
    );
}

#[test]
fn the_suite_passes_between_two_functions_in_every_address_space() {
    let name = "the_suite_passes_between_two_functions_in_every_address_space";
    let Some((pairs, _turn)) = rig::pairs(name) else { return };
    for pair in &pairs {
        rig::spaces().iter().for_each(|space| run(pair, space, true));
    }
}

#[test]
fn the_suite_passes_with_long_frames_where_split_ones_are_not_let_in() {
    let name = "the_suite_passes_with_long_frames_where_split_ones_are_not_let_in";
    let Some((pairs, _turn)) = rig::pairs(name) else { return };
    for pair in &pairs {
        if rig::driver(&pair[0]) == "e1000e" {
            run(pair, "type1", false);
        }
    }
}
