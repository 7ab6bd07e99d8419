//! Ports on models, joined by a cable.

use mempool::{Cpu, Device as DeviceMemory, Pool, heap::Heap};
use pmd::{
    AnyRxQueue, Config, Device, Error, Health, Queues, TxQueue,
    conformance::Joined,
    e1000::{
        Chip, E1000, Options as PortOptions,
        model::{self, Model, ModelBus, Options},
    },
};
use providers::Fake;

/// A port on a model.
pub(crate) type Port = E1000<ModelBus>;

/// The driver's name for a model's chip.
pub(crate) fn chip(model: model::Chip) -> Chip {
    match model {
        model::Chip::I82574 => Chip::E82574,
        model::Chip::I82576 => Chip::E82576,
    }
}

/// Both.
pub(crate) const CHIPS: [model::Chip; 2] = [model::Chip::I82574, model::Chip::I82576];

/// A port that lets jumbo frames in.
pub(crate) fn port(model: &Model, kind: model::Chip) -> Result<Port, Error> {
    let options = PortOptions { max_frame: Some(9018), ..PortOptions::default() };
    E1000::open("pci:0000:01:00.0".into(), chip(kind), model.bus(), options)
}

pub(crate) fn pool(slots: usize, stride: usize) -> Pool<Cpu> {
    let builder = Pool::builder().name("test").slots(slots).stride(stride).shareable();
    builder.memory(&Heap::new()).build().expect("heap memory is there")
}

pub(crate) fn data_pool(slots: usize, stride: usize) -> Pool<DeviceMemory> {
    let builder = Pool::builder().name("test data").slots(slots).stride(stride);
    builder.memory(&Fake::new()).build().expect("fake memory is there")
}

/// Two models on one cable, each with a port that was started.
pub(crate) struct Pair {
    pub(crate) models: [Model; 2],
    pub(crate) ports: [Port; 2],
    pub(crate) queues: [Queues; 2],
}

impl Pair {
    /// Opens and starts both ends and waits for the link.
    pub(crate) fn new(
        options: [Options; 2],
        config: impl Fn(usize) -> Config,
    ) -> Result<Self, Error> {
        let kinds = options.each_ref().map(|options| options.chip);
        let models = options.map(Model::new);
        models[0].join(&models[1]);
        let mut ports = [port(&models[0], kinds[0])?, port(&models[1], kinds[1])?];
        let queues = [ports[0].start(config(0))?, ports[1].start(config(1))?];
        let pair = Self { models, ports, queues };
        pair.wait_for_link();
        Ok(pair)
    }

    /// Ticks until both ends have a link.
    pub(crate) fn wait_for_link(&self) {
        for _ in 0..1000 {
            if self.ports.iter().all(|port| port.link().is_up) {
                return;
            }
            self.tick();
        }
        let gone = |port: &Port| matches!(port.health(), Health::Removed(_));
        assert!(self.ports.iter().any(gone), "no link");
    }

    pub(crate) fn tick(&self) {
        self.models.iter().for_each(Model::tick);
    }

    pub(crate) fn tx(&mut self, end: usize) -> &mut dyn TxQueue {
        &mut *self.queues[end].tx[0]
    }

    pub(crate) fn rx(&mut self, end: usize) -> &mut AnyRxQueue {
        &mut self.queues[end].rx[0]
    }

    /// Stops both ends.
    pub(crate) fn stop(&mut self) {
        for (port, queues) in self.ports.iter_mut().zip(&mut self.queues) {
            port.stop(std::mem::take(queues)).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Fails if a driver did what a datasheet forbids.
    pub(crate) fn check(&self) {
        for model in &self.models {
            let violations = model.violations();
            assert!(violations.is_empty(), "{:#?}", &violations[..violations.len().min(10)]);
        }
    }
}

impl Joined for Pair {
    fn tx(&mut self) -> &mut dyn TxQueue {
        self.tick();
        Pair::tx(self, 0)
    }

    fn rx(&mut self) -> &mut AnyRxQueue {
        self.tick();
        Pair::rx(self, 1)
    }
}

/// A pair that is stopped and checked when the suite is done with it.
pub(crate) struct Checked(pub(crate) Pair);

impl Joined for Checked {
    fn tx(&mut self) -> &mut dyn TxQueue {
        Joined::tx(&mut self.0)
    }

    fn rx(&mut self) -> &mut AnyRxQueue {
        Joined::rx(&mut self.0)
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        self.0.stop();
        if !std::thread::panicking() {
            self.0.check();
        }
    }
}
