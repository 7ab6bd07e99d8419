//! The suite that every driver passes, between two functions, in every address space and form.
#![expect(clippy::disallowed_types, reason = "a wire and what it joined share the ports")]

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use pmd::{
    AnyRxQueue, Config, Device, Error, Queues, Registry, SplitSupport, TxQueue,
    conformance::{self, Joined, Setup, Wire, WireTraits},
};
use providers::Fake;

use super::rig::{self, Pair};

/// A sender and a receiver.
type Ports = Arc<Mutex<[Box<dyn Device>; 2]>>;

struct BackToBack {
    ports: Ports,
    split: bool,
    max_frame: usize,
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

    /// The suite counts polls without a frame; an emulated wire takes its time.
    fn rx(&mut self) -> &mut AnyRxQueue {
        let end = Instant::now() + Duration::from_micros(20);
        while Instant::now() < end {
            std::thread::yield_now();
        }
        self.rx.as_mut().expect("a queue until the end")
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
        let (tx, rx) = (Some(sender.tx.remove(0)), Some(receiver.rx.remove(0)));
        Ok(Box::new(Started { ports: Arc::clone(&self.ports), tx, rx }))
    }

    fn traits(&self) -> WireTraits {
        let hardware = SplitSupport::Hardware { longest_head: 960, length_step: None };
        WireTraits {
            max_frame: self.max_frame,
            min_frame: 60,
            segments: true,
            split: if self.split { hardware } else { SplitSupport::None },
            interactive: true,
            budget: 6_000,
        }
    }
}

fn run(pair: &Pair, space: &str, split: bool, max_frame: usize) {
    let mut registry = Registry::new();
    let ports = [0, 1].map(|end: usize| rig::open(&mut registry, &pair[end], space, ""));
    let driver = ports[0].info().driver;
    let ports = Arc::new(Mutex::new(ports));
    let mut wire = BackToBack { ports, split, max_frame };
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
fn the_suite_passes_with_whole_frames_up_to_the_longest() {
    let Some((pairs, _turn)) = rig::pairs("the_suite_passes_with_whole_frames_up_to_the_longest")
    else {
        return;
    };
    for pair in &pairs {
        rig::spaces().iter().for_each(|space| run(pair, space, false, 9018));
    }
}

#[test]
fn the_suite_passes_with_split_frames() {
    let Some((pairs, _turn)) = rig::pairs("the_suite_passes_with_split_frames") else { return };
    for pair in &pairs {
        // Longer ones than a payload buffer are let in by the 82576 only (`max_frame` of the port).
        rig::spaces().iter().for_each(|space| run(pair, space, true, 1514));
    }
}
