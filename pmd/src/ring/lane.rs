//! One direction of one queue pair: the channel of slot numbers, and whose slots they are. A slot on
//! the lane belongs to the lane; what is left on it when both ends are gone goes home.
#![allow(unsafe_code, reason = "takes over slots that the sending end surrendered")]
#![expect(clippy::disallowed_types, reason = "control plane: ends come and go rarely")]

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use crossbeam_utils::CachePadded;
use mempool::{
    Burst, Cpu, Pool,
    ring::{Consumer, Producer, channel},
};

/// Both directions of all queue pairs of a wire.
pub(crate) struct Wire {
    lanes: [Vec<Arc<Lane>>; 2],
}

impl Wire {
    pub(super) fn new(queues: usize, size: usize) -> Self {
        let lanes = || (0..queues).map(|_| Arc::new(Lane::new(size))).collect();
        Self { lanes: [lanes(), lanes()] }
    }

    /// The lane that `end` sends into with its `queue`-th transmit queue.
    pub(super) fn lane(&self, end: usize, queue: usize) -> Arc<Lane> {
        Arc::clone(&self.lanes[end][queue])
    }
}

#[derive(Default)]
struct Parked {
    producer: Option<Producer>,
    consumer: Option<Consumer>,
    /// Whose slots are on the lane.
    source: Option<Pool<Cpu>>,
}

pub(super) struct Lane {
    parked: Mutex<Parked>,
    /// Changes when another pool sends into the lane.
    pub(super) generation: AtomicU32,
    /// Whether a sender was here, and is gone.
    closed: AtomicBool,
    /// How many slots the last sender had sent when it left.
    sent: AtomicU32,
    /// How many slots the receiver has taken: its own line, stored once per burst.
    received: CachePadded<AtomicU32>,
    /// Whether a frame of several segments was ever sent.
    pub(super) chained: AtomicBool,
}

impl Lane {
    fn new(size: usize) -> Self {
        let (producer, consumer) = channel(size);
        Self {
            parked: Mutex::new(Parked {
                producer: Some(producer),
                consumer: Some(consumer),
                source: None,
            }),
            generation: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            sent: AtomicU32::new(0),
            received: CachePadded::default(),
            chained: AtomicBool::new(false),
        }
    }

    fn parked(&self) -> MutexGuard<'_, Parked> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sending end arrives. `None` if it is taken, or if slots of another pool are still on the
    /// lane.
    pub(super) fn attach_tx(&self, pool: &Pool<Cpu>) -> Option<Producer> {
        let mut parked = self.parked();
        let same = parked.source.as_ref().is_some_and(|source| source.is_same(pool));
        if !same {
            if let (Some(source), Some(consumer)) = (parked.source.take(), &mut parked.consumer) {
                drain(&source, consumer, self.chained.load(Ordering::Relaxed));
                self.note_received(consumer);
            }
            parked.source = Some(pool.clone());
            // Release: pairs with the receiver's acquire in `source`.
            self.generation.fetch_add(1, Ordering::Release);
        }
        self.closed.store(false, Ordering::Release);
        parked.producer.take()
    }

    pub(super) fn detach_tx(&self, producer: Producer) {
        self.sent.store(producer.sent(), Ordering::Relaxed);
        self.parked().producer = Some(producer);
        // Release: `sent` first.
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn attach_rx(&self) -> Option<Consumer> {
        self.parked().consumer.take()
    }

    pub(super) fn detach_rx(&self, consumer: Consumer) {
        self.parked().consumer = Some(consumer);
    }

    /// Whose slots are on the lane, and in which generation.
    pub(super) fn source(&self) -> (u32, Option<Pool<Cpu>>) {
        let parked = self.parked();
        (self.generation.load(Ordering::Acquire), parked.source.clone())
    }

    #[inline(always)]
    pub(super) fn note_received(&self, consumer: &Consumer) {
        self.received.store(consumer.received(), Ordering::Relaxed);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.closed.load(Ordering::Acquire)
            && self.sent.load(Ordering::Relaxed) == self.received.load(Ordering::Relaxed)
    }
}

/// Takes up to `most` slots off the lane into `burst`, which is of the lane's source pool.
#[inline]
pub(super) fn take(consumer: &mut Consumer, chained: bool, burst: &mut Burst<Cpu>) -> usize {
    // SAFETY: slots on the lane were surrendered by the sending end, are of the source pool (the
    // caller's burst is of it), and leave the lane with this one call.
    unsafe { burst.adopt(chained, |free| consumer.recv(free)) }
}

/// Takes everything off the lane and frees it.
fn drain(source: &Pool<Cpu>, consumer: &mut Consumer, chained: bool) {
    let mut burst = Burst::with_limit(source, Burst::<Cpu>::CAPACITY);
    while take(consumer, chained, &mut burst) > 0 {
        let count = burst.len();
        burst.drain_front(count).for_each(drop);
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let chained = self.chained.load(Ordering::Acquire);
        let parked = self.parked.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let (Some(source), Some(consumer)) = (&parked.source, &mut parked.consumer) {
            drain(source, consumer, chained);
        }
    }
}
