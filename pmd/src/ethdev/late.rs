//! Queues of a port that is started late, when payload buffers are posted: they move nothing until then.

use std::sync::Arc;

use mempool::{Burst, Cache, Cpu, Shared};

use super::port::Port;
use crate::{QueueCounters, RxQueue, TxQueue};

/// A queue, and whether it may be called.
pub(super) struct Late<Q> {
    port: Arc<Port>,
    queue: Q,
}

impl<Q> Late<Q> {
    pub(super) fn new(port: &Arc<Port>, queue: Q) -> Self {
        Self { port: Arc::clone(port), queue }
    }

    #[inline(always)]
    fn started(&mut self) -> Option<&mut Q> {
        self.port.is_started().then_some(&mut self.queue)
    }
}

impl RxQueue for Late<Box<dyn RxQueue>> {
    fn recv(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        self.started().map_or(0, |queue| queue.recv(cache, burst))
    }

    fn counters(&self) -> &QueueCounters {
        self.queue.counters()
    }
}

impl TxQueue for Late<Box<dyn TxQueue>> {
    fn send(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        self.started().map_or(0, |queue| queue.send(cache, burst))
    }

    fn send_shared(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Shared>) -> usize {
        self.started().map_or(0, |queue| queue.send_shared(cache, burst))
    }

    fn reap(&mut self, cache: &mut Cache<Cpu>) -> usize {
        self.started().map_or(0, |queue| queue.reap(cache))
    }

    fn in_flight(&self) -> usize {
        self.queue.in_flight()
    }

    fn counters(&self) -> &QueueCounters {
        self.queue.counters()
    }
}
