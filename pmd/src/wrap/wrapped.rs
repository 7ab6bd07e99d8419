//! A port with a wrapper around it: forwards the control plane, and lets the wrapper's layer put its
//! queues around the port's.

use std::sync::Arc;

use super::{
    WrapSpec,
    lent::{Home, Lent},
};
use crate::{
    AnyRxQueue, Config, Device, DeviceInfo, Error, Health, Link, QueueStats, Queues, RebindError,
    Rebound, RxConfig, RxMemory, RxQueue, SplitRxQueue, TakeQueue, TxConfig, TxQueue,
};

/// What [`Device::stats`] yields: receive, transmit, and what the port itself counts.
pub type DeviceStats = (QueueStats, QueueStats, Vec<(String, u64)>);

/// What a wrapper does. Everything but the queues has a default that changes nothing.
///
/// A queue that is given out holds the inner one as [`Lent`]; dropping it brings that one home. One
/// that changes what is delivered has counters of its own, such that offered = delivered + Σ drops
/// for what its user sees; one that changes nothing returns the inner queue's.
pub trait Layer: Send {
    /// The options in canonical form, for the port's text.
    fn options(&self) -> String;

    /// Meets the port, once, and may restate what it can do.
    ///
    /// # Errors
    /// It cannot go around this port.
    fn attach(&mut self, info: &mut DeviceInfo) -> Result<(), Error> {
        let _ = info;
        Ok(())
    }

    /// The port is about to start; nothing was touched yet.
    ///
    /// # Errors
    /// The wrapper cannot do what it is to do with this configuration.
    fn starting(&mut self, info: &DeviceInfo, config: &Config) -> Result<(), Error> {
        let _ = (info, config);
        Ok(())
    }

    /// A receive queue is about to be given other memory; nothing was touched yet. The queue around it
    /// will be dropped, and [`Layer::rx`] or [`Layer::split_rx`] called for what takes its place, and for
    /// what is left of it.
    ///
    /// # Errors
    /// The wrapper cannot go on with another queue.
    fn rebinding(&mut self, info: &DeviceInfo, index: usize) -> Result<(), Error> {
        let _ = (info, index);
        Ok(())
    }

    /// Puts a queue around one that receives whole frames.
    fn rx(&mut self, queue: Lent<dyn RxQueue>, config: &RxConfig) -> Box<dyn RxQueue>;

    /// Puts a queue around one that splits.
    fn split_rx(
        &mut self,
        queue: Lent<dyn SplitRxQueue>,
        config: &RxConfig,
    ) -> Box<dyn SplitRxQueue>;

    /// Puts a queue around one that sends.
    fn tx(&mut self, queue: Lent<dyn TxQueue>, config: &TxConfig) -> Box<dyn TxQueue>;

    /// The port has stopped: `outcome` is what it said.
    fn stopped(&mut self, outcome: Result<(), Error>) -> Result<(), Error> {
        outcome
    }

    /// The link, given the port's.
    fn link(&self, inner: Link) -> Link {
        inner
    }

    /// The counts, given the port's.
    fn stats(&self, inner: DeviceStats) -> DeviceStats {
        inner
    }

    /// The health, given the port's.
    fn health(&self, inner: Health) -> Health {
        inner
    }
}

/// A port and the layer around it.
pub struct Wrapped {
    info: DeviceInfo,
    // The layer goes first: it may hold on to nothing of the port's.
    layer: Box<dyn Layer>,
    inner: Box<dyn Device>,
    home: Arc<Home>,
    /// Ring sizes of the receive queues of this start.
    rings: Vec<usize>,
}

impl Wrapped {
    /// Puts `layer`, a wrapper of that name, around a port.
    ///
    /// # Errors
    /// The layer cannot go around this port.
    pub fn new(
        name: &str,
        mut layer: Box<dyn Layer>,
        inner: Box<dyn Device>,
    ) -> Result<Self, Error> {
        let mut info = inner.info().clone();
        info.port = format!("{name}:{}@{}", layer.options(), info.port);
        layer.attach(&mut info)?;
        Ok(Self { info, layer, inner, home: Arc::default(), rings: Vec::new() })
    }

    /// Opens what a spec names, given the port that it goes around.
    pub(crate) fn open(
        spec: &WrapSpec,
        layer: Box<dyn Layer>,
        inner: Box<dyn Device>,
    ) -> Result<Box<dyn Device>, Error> {
        Ok(Box::new(Self::new(&spec.name, layer, inner)?))
    }

    /// Puts the layer's queue around one that was rebound, or is what is left of such a one.
    fn wrap_rx(&mut self, index: usize, queue: AnyRxQueue, memory: &RxMemory) -> AnyRxQueue {
        let Self { layer, home, .. } = self;
        let ring = self.rings.get(index).copied().unwrap_or_default();
        let config = RxConfig { memory: memory.clone(), ring };
        match queue {
            AnyRxQueue::Whole(queue) => {
                AnyRxQueue::Whole(layer.rx(Lent::new(queue, index, home), &config))
            }
            AnyRxQueue::Split(queue) => {
                AnyRxQueue::Split(layer.split_rx(Lent::new(queue, index, home), &config))
            }
        }
    }

    fn wrap(&mut self, queues: Queues, config: &Config) -> Queues {
        let Self { layer, home, .. } = self;
        let rx = queues.rx.into_iter().zip(&config.rx).enumerate();
        let tx = queues.tx.into_iter().zip(&config.tx).enumerate();
        Queues {
            rx: rx
                .map(|(index, (queue, config))| match queue {
                    AnyRxQueue::Whole(queue) => {
                        AnyRxQueue::Whole(layer.rx(Lent::new(queue, index, home), config))
                    }
                    AnyRxQueue::Split(queue) => {
                        AnyRxQueue::Split(layer.split_rx(Lent::new(queue, index, home), config))
                    }
                })
                .collect(),
            tx: tx
                .map(|(index, (queue, config))| layer.tx(Lent::new(queue, index, home), config))
                .collect(),
        }
    }
}

impl Device for Wrapped {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn start(&mut self, config: Config) -> Result<Queues, Error> {
        self.layer.starting(&self.info, &config)?;
        let queues = self.inner.start(config.clone())?;
        self.rings = config.rx.iter().map(|queue| queue.ring).collect();
        Ok(self.wrap(queues, &config))
    }

    fn stop(&mut self, queues: Queues) -> Result<(), Error> {
        let outcome = self.inner.stop(self.home.collect(queues));
        self.layer.stopped(outcome)
    }

    /// As the inner port does it. What the layer's queue was doing ends here: what is left of the queue is the
    /// inner port's own, without the layer.
    fn rebind(
        &mut self,
        index: usize,
        memory: RxMemory,
        queue: TakeQueue<'_>,
    ) -> Result<Rebound, RebindError> {
        if let Err(error) = self.layer.rebinding(&self.info, index) {
            return Err(RebindError::early(error));
        }
        let home = &self.home;
        let mut inner = || {
            let wrapped = Queues { rx: vec![queue()?], tx: Vec::new() };
            home.collect(wrapped).rx.pop()
        };
        let rebound = self.inner.rebind(index, memory.clone(), &mut inner)?;
        Ok(Rebound { queue: self.wrap_rx(index, rebound.queue, &memory), ..rebound })
    }

    fn link(&self) -> Link {
        self.layer.link(self.inner.link())
    }

    fn stats(&self) -> DeviceStats {
        self.layer.stats(self.inner.stats())
    }

    fn health(&self) -> Health {
        self.layer.health(self.inner.health())
    }
}
