//! The conformance suite between two ports on models, for each chip, working at once and late.

use mempool::heap::Heap;
use pmd::{
    Config, Error, HardwareSplit, SplitSupport,
    conformance::{self, Joined, Overrun, Setup, Wire, WireTraits},
    e1000::model::{Chip, Options, Work},
};
use providers::Fake;

use super::rig::{Checked, Pair};

/// A cable between two models of one chip.
struct ModelWire {
    name: &'static str,
    chip: Chip,
    work: Work,
    seed: u64,
    budget: usize,
}

impl Wire for ModelWire {
    fn name(&self) -> &'static str {
        self.name
    }

    fn connect(&mut self, setup: &Setup) -> Result<Box<dyn Joined>, Error> {
        self.seed += 1;
        let options = |seed: u64| Options::new(self.chip).work(self.work).seed(seed).flow_control();
        let pair = Pair::new([options(self.seed), options(!self.seed)], |end| {
            let config = Config { promiscuous: true, ..Config::default() };
            let config = match end {
                0 => config.with_tx(&setup.tx),
                _ => config.with_rx(setup.rx.clone()),
            };
            config.rings(setup.ring)
        })?;
        Ok(Box::new(Checked(pair)))
    }

    fn traits(&self) -> WireTraits {
        WireTraits {
            max_frame: 9018,
            min_frame: 60,
            segments: true,
            split: SplitSupport::Hardware(HardwareSplit {
                longest_head: 960,
                protocol: true,
                ..HardwareSplit::default()
            }),
            interactive: true,
            rx_buffer_step: if self.chip == Chip::I82574 { 1 } else { 1024 },
            overrun: Overrun::HeldBack,
            budget: self.budget,
        }
    }
}

fn passes(name: &'static str, chip: Chip, work: Work) {
    let budget = if cfg!(debug_assertions) { 20_000 } else { 200_000 };
    let mut wire = ModelWire { name, chip, work, seed: 1, budget };
    let ran = conformance::run(&mut wire, &Heap::new(), &Fake::new());
    let ran = ran.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(ran.len() >= 8, "only {ran:?} ran");
}

#[test]
fn the_82574_passes() {
    passes("82574", Chip::I82574, Work::Prompt);
}

#[test]
fn the_82576_passes() {
    passes("82576", Chip::I82576, Work::Prompt);
}

#[test]
fn the_82574_passes_where_it_reports_late() {
    passes("82574, late", Chip::I82574, Work::Late);
}

#[test]
fn the_82576_passes_where_it_reports_late() {
    passes("82576, late", Chip::I82576, Work::Late);
}
