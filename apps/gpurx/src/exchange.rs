//! Between a worker and whoever changes the memory of its queue: the worker hands its queue over when it is
//! asked to, waits, and gets it back with all that goes with the new memory. While nobody asks it costs a
//! load per poll. Knows no memory and no driver.
#![expect(
    clippy::disallowed_types,
    reason = "control plane: an exchange happens when memory comes or goes"
)]

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mempool::{SplitBurst, SplitCache};
use pmd::SplitRxQueue;

use crate::{errand::Errand, receiver::Receiver, sink::Sink};

/// How long each side waits for the other.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What a worker receives with: all that depends on where payloads go.
pub struct Binding {
    /// The queue.
    pub rx: Receiver,
    /// For heads and payloads.
    pub cache: SplitCache,
    /// Of both pools.
    pub burst: SplitBurst,
    /// What becomes of frames.
    pub sink: Box<dyn Sink>,
    /// Whether the host copies payloads on their way.
    pub by_host: bool,
    /// Whether payloads go to host memory because their own was revoked.
    pub is_refuge: bool,
}

/// What a worker gets for its queue.
pub struct Fresh {
    /// What it goes on with.
    pub binding: Binding,
    /// The queue as it was, with what had arrived.
    pub former: Option<Box<dyn SplitRxQueue>>,
}

/// What is left of the former binding; to be dropped where time does not matter.
pub struct Left {
    /// As it was, without its queue.
    pub binding: Binding,
    /// The queue as it was, empty.
    pub former: Option<Box<dyn SplitRxQueue>>,
}

#[derive(Default)]
enum Tray {
    #[default]
    Empty,
    Queue(Receiver),
    Fresh(Box<Fresh>),
    /// There will be none: the worker goes on without a queue.
    Nothing,
    Left(Box<Left>),
}

#[derive(Default)]
struct Shared {
    /// Whether there is something to look at.
    is_asked: AtomicBool,
    wants_queue: AtomicBool,
    errands: Mutex<Vec<Errand>>,
    tray: Mutex<Tray>,
    changed: Condvar,
    away_ns: AtomicU64,
    longest_gap_ns: AtomicU64,
}

/// One worker's place of exchange. Clones share it.
#[derive(Clone, Default)]
pub struct Exchange(Arc<Shared>);

impl Exchange {
    fn tray(&self) -> MutexGuard<'_, Tray> {
        self.0.tray.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, what: Tray) {
        *self.tray() = what;
        self.0.changed.notify_all();
    }

    /// Waits until `take` finds what it wants on the tray.
    fn wait<T>(&self, mut take: impl FnMut(&mut Tray) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut tray = self.tray();
        loop {
            if let Some(found) = take(&mut tray) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            let woken = self.0.changed.wait_timeout(tray, left);
            tray = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Asks the worker for its queue, and waits for it; `None` if it does not come: the worker has ended.
    #[must_use]
    pub fn ask(&self) -> Option<Receiver> {
        self.0.wants_queue.store(true, Ordering::Release);
        self.0.is_asked.store(true, Ordering::Release);
        let queue = self.wait(|tray| match std::mem::take(tray) {
            Tray::Queue(queue) => Some(queue),
            other => {
                *tray = other;
                None
            }
        });
        self.0.wants_queue.store(false, Ordering::Release);
        queue
    }

    /// Has the worker do something between two polls.
    pub(crate) fn send(&self, errand: Errand) {
        self.0.errands.lock().unwrap_or_else(PoisonError::into_inner).push(errand);
        self.0.is_asked.store(true, Ordering::Release);
    }

    /// What the worker is to do, and whether its queue is asked for.
    pub(crate) fn look(&self) -> (Vec<Errand>, bool) {
        // In this order: what comes later sets the flag again. Acquire: pairs with who asks.
        self.0.is_asked.swap(false, Ordering::AcqRel);
        let errands =
            std::mem::take(&mut *self.0.errands.lock().unwrap_or_else(PoisonError::into_inner));
        (errands, self.0.wants_queue.swap(false, Ordering::AcqRel))
    }

    /// Gives the worker nothing: it goes on without a queue.
    pub fn refuse(&self) {
        self.put(Tray::Nothing);
    }

    /// Gives the worker what it goes on with, and waits for what is left of before.
    #[must_use]
    pub fn give(&self, fresh: Fresh) -> Option<Left> {
        self.put(Tray::Fresh(Box::new(fresh)));
        self.wait(|tray| match std::mem::take(tray) {
            Tray::Left(left) => Some(*left),
            other => {
                *tray = other;
                None
            }
        })
    }

    /// Whether the queue is asked for, or something is to be done. The worker's, once per poll.
    #[inline(always)]
    #[must_use]
    pub fn is_asked(&self) -> bool {
        // Relaxed: what is handed over goes by the tray's lock.
        self.0.is_asked.load(Ordering::Relaxed)
    }

    /// Hands the queue over and waits for what comes back.
    pub(crate) fn hand_over(&self, rx: Receiver) -> Option<Fresh> {
        self.put(Tray::Queue(rx));
        self.wait(|tray| match std::mem::take(tray) {
            Tray::Fresh(fresh) => Some(Some(*fresh)),
            Tray::Nothing => Some(None),
            other => {
                *tray = other;
                None
            }
        })?
    }

    /// Gives back what is left.
    pub(crate) fn leave(&self, left: Left) {
        self.put(Tray::Left(Box::new(left)));
    }

    /// The worker polled nothing for so long.
    pub(crate) fn note_away(&self, away: Duration) {
        self.0.away_ns.fetch_add(nanos(away), Ordering::Relaxed);
    }

    /// So long lay between the last burst before an exchange and the first one after it.
    pub(crate) fn note_gap(&self, gap: Duration) {
        self.0.longest_gap_ns.fetch_max(nanos(gap), Ordering::Relaxed);
    }

    /// Time that the worker had no queue to poll, in all.
    #[must_use]
    pub fn away(&self) -> Duration {
        Duration::from_nanos(self.0.away_ns.load(Ordering::Relaxed))
    }

    /// The longest time between two bursts with an exchange in between. Says something of the exchange only
    /// while traffic runs.
    #[must_use]
    pub fn longest_gap(&self) -> Duration {
        Duration::from_nanos(self.0.longest_gap_ns.load(Ordering::Relaxed))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
