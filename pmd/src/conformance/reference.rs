//! The reference port: a `VecDeque`. Obviously right, and slow; the suite must pass on it before it
//! is believed about a driver.
#![expect(clippy::disallowed_types, reason = "a model for tests: clarity before speed")]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use mempool::{Burst, Cache, Cpu, Readable, Shared};

use super::{Joined, Overrun, Setup, Wire, WireTraits};
use crate::{
    AnyRxQueue, Error, QueueCounters, RxMemory, RxQueue, SplitSupport, TxQueue, copy::copy_frame,
};

type Queue = Arc<Mutex<VecDeque<Vec<u8>>>>;

/// A wire that is a `VecDeque`.
#[derive(Default)]
pub struct ReferenceWire;

impl Wire for ReferenceWire {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn connect(&mut self, setup: &Setup) -> Result<Box<dyn Joined>, Error> {
        if !matches!(setup.rx, RxMemory::Whole(_)) {
            return Err(Error::NoSplit { port: "reference".into(), driver: "reference" });
        }
        let queue = Queue::default();
        let most = setup.ring;
        let tx = ReferenceTx { queue: Arc::clone(&queue), most, counters: Default::default() };
        let rx = ReferenceRx { queue, counters: Default::default() };
        Ok(Box::new(Pair { tx: Box::new(tx), rx: AnyRxQueue::Whole(Box::new(rx)) }))
    }

    fn traits(&self) -> WireTraits {
        WireTraits {
            max_frame: 65535,
            min_frame: 1,
            segments: true,
            split: SplitSupport::None,
            interactive: true,
            rx_buffer_step: 1,
            rx_spare: 0,
            overrun: Overrun::HeldBack,
            budget: 1_000_000,
        }
    }
}

/// Two queues and nothing else.
pub(super) struct Pair {
    pub(super) tx: Box<dyn TxQueue>,
    pub(super) rx: AnyRxQueue,
}

impl Joined for Pair {
    fn tx(&mut self) -> &mut dyn TxQueue {
        &mut *self.tx
    }

    fn rx(&mut self) -> &mut AnyRxQueue {
        &mut self.rx
    }
}

struct ReferenceTx {
    queue: Queue,
    most: usize,
    counters: QueueCounters,
}

impl ReferenceTx {
    fn take<A: Readable>(&mut self, burst: &mut Burst<A>) -> usize {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let count = burst.len().min(self.most.saturating_sub(queue.len()));
        let mut bytes = 0;
        for frame in burst.drain_front(count) {
            let mut copy = vec![0; frame.frame().frame_len()];
            frame.frame().copy_to(&mut copy);
            bytes += copy.len();
            queue.push_back(copy);
        }
        self.counters.delivered(count, bytes);
        count
    }
}

impl TxQueue for ReferenceTx {
    fn send(&mut self, _cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        self.take(burst)
    }

    fn send_shared(&mut self, _cache: &mut Cache<Cpu>, burst: &mut Burst<Shared>) -> usize {
        self.take(burst)
    }

    fn reap(&mut self, _cache: &mut Cache<Cpu>) -> usize {
        0
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn counters(&self) -> &QueueCounters {
        &self.counters
    }
}

struct ReferenceRx {
    queue: Queue,
    counters: QueueCounters,
}

impl RxQueue for ReferenceRx {
    fn recv(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut count, mut bytes) = (0, 0);
        while burst.room() > 0 {
            let Some(frame) = queue.pop_front() else {
                break;
            };
            let parts = std::iter::once(frame.as_slice());
            match copy_frame(cache, frame.len(), parts, &Default::default()) {
                Ok(copy) => {
                    burst.push(copy);
                    count += 1;
                    bytes += frame.len();
                }
                Err(reason) => self.counters.dropped(reason, 1),
            }
        }
        self.counters.delivered(count, bytes);
        count
    }

    fn counters(&self) -> &QueueCounters {
        &self.counters
    }
}
