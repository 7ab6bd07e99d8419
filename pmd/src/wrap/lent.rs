//! A queue of the inner port, lent to the wrapper's queue around it. Knows who gets it back.
#![expect(clippy::disallowed_types, reason = "control plane: queues come home when a port stops")]

use std::{
    ops::{Deref, DerefMut},
    os::fd::BorrowedFd,
    sync::{Arc, Mutex, PoisonError},
};

use mempool::{Burst, Cache, Cpu, Device, Shared, SplitBurst, SplitCache};

use crate::{AnyRxQueue, MapError, QueueCounters, Queues, RxQueue, SplitRxQueue, TxQueue};

/// Where lent queues come back to while the port is being stopped. At other times nobody waits for
/// them: a queue whose wrapper is dropped ends, as it would without the wrapper.
#[derive(Default)]
pub(super) struct Home(Mutex<Option<Returned>>);

/// Queues that came back, with their numbers.
#[derive(Default)]
pub(super) struct Returned {
    rx: Vec<(usize, AnyRxQueue)>,
    tx: Vec<(usize, Box<dyn TxQueue>)>,
}

impl Home {
    /// Drops the wrapper's queues and returns the inner ones that come back by that, in order.
    pub(super) fn collect(&self, wrapped: Queues) -> Queues {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Returned::default());
        drop(wrapped);
        let returned = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Returned { mut rx, mut tx } = returned.unwrap_or_default();
        rx.sort_by_key(|(index, _)| *index);
        tx.sort_by_key(|(index, _)| *index);
        Queues {
            rx: rx.into_iter().map(|(_, queue)| queue).collect(),
            tx: tx.into_iter().map(|(_, queue)| queue).collect(),
        }
    }
}

/// The inner port's queue, for as long as the wrapper's queue lives. Dropping it brings the queue home.
pub struct Lent<Q: Lendable + ?Sized> {
    /// Always there, until this is dropped.
    queue: Option<Box<Q>>,
    index: usize,
    home: Arc<Home>,
}

impl<Q: Lendable + ?Sized> Lent<Q> {
    pub(super) fn new(queue: Box<Q>, index: usize, home: &Arc<Home>) -> Self {
        Self { queue: Some(queue), index, home: Arc::clone(home) }
    }

    /// The queue's number: among the receive queues, or among the transmit queues.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }
}

impl<Q: Lendable + ?Sized> Deref for Lent<Q> {
    type Target = Q;

    #[inline(always)]
    fn deref(&self) -> &Q {
        self.queue.as_deref().expect("a lent queue is there until it is dropped")
    }
}

impl<Q: Lendable + ?Sized> DerefMut for Lent<Q> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Q {
        self.queue.as_deref_mut().expect("a lent queue is there until it is dropped")
    }
}

impl<Q: Lendable + ?Sized> Drop for Lent<Q> {
    fn drop(&mut self) {
        let Some(queue) = self.queue.take() else { return };
        let mut returned = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unwanted = match &mut *returned {
            Some(returned) => {
                Q::come_home(queue, self.index, returned);
                None
            }
            None => Some(queue),
        };
        // A queue that ends may do a lot: not under the lock.
        drop(returned);
        drop(unwanted);
    }
}

mod sealed {
    /// Brings a queue of this kind home.
    pub trait ComeHome: Send {
        #[expect(private_interfaces, reason = "sealed: nobody else calls it")]
        fn come_home(queue: Box<Self>, index: usize, to: &mut super::Returned);
    }
}
use sealed::ComeHome;

/// The kinds of queue there are: `dyn RxQueue`, `dyn SplitRxQueue` and `dyn TxQueue`.
pub trait Lendable: ComeHome {}

impl<Q: ComeHome + ?Sized> Lendable for Q {}

impl ComeHome for dyn RxQueue {
    #[expect(private_interfaces, reason = "sealed: nobody else calls it")]
    fn come_home(queue: Box<Self>, index: usize, to: &mut Returned) {
        to.rx.push((index, AnyRxQueue::Whole(queue)));
    }
}

impl ComeHome for dyn SplitRxQueue {
    #[expect(private_interfaces, reason = "sealed: nobody else calls it")]
    fn come_home(queue: Box<Self>, index: usize, to: &mut Returned) {
        to.rx.push((index, AnyRxQueue::Split(queue)));
    }
}

impl ComeHome for dyn TxQueue {
    #[expect(private_interfaces, reason = "sealed: nobody else calls it")]
    fn come_home(queue: Box<Self>, index: usize, to: &mut Returned) {
        to.tx.push((index, queue));
    }
}

/// For layers that leave a queue as it is.
impl RxQueue for Lent<dyn RxQueue> {
    fn recv(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        (**self).recv(cache, burst)
    }

    fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        (**self).arm()
    }

    fn counters(&self) -> &QueueCounters {
        (**self).counters()
    }
}

/// For layers that leave a queue as it is.
impl SplitRxQueue for Lent<dyn SplitRxQueue> {
    fn recv(&mut self, cache: &mut SplitCache, burst: &mut SplitBurst) -> usize {
        (**self).recv(cache, burst)
    }

    fn post(&mut self, data: &mut Burst<Device>) -> usize {
        (**self).post(data)
    }

    fn meet_areas(&mut self) -> Result<(), MapError> {
        (**self).meet_areas()
    }

    fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        (**self).arm()
    }

    fn counters(&self) -> &QueueCounters {
        (**self).counters()
    }
}

/// For layers that leave a queue as it is.
impl TxQueue for Lent<dyn TxQueue> {
    fn send(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        (**self).send(cache, burst)
    }

    fn send_shared(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Shared>) -> usize {
        (**self).send_shared(cache, burst)
    }

    fn reap(&mut self, cache: &mut Cache<Cpu>) -> usize {
        (**self).reap(cache)
    }

    fn in_flight(&self) -> usize {
        (**self).in_flight()
    }

    fn counters(&self) -> &QueueCounters {
        (**self).counters()
    }
}
