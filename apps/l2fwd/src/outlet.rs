//! Where a worker's frames leave: its transmit queue of one port, and frames that wait for it until
//! the burst is done. What the queue does not take is dropped and counted at once.

use mempool::{Buf, Burst, Cache, Cpu, Pool, Shared};
use pmd::TxQueue;

use crate::tally::{PortTally, Unsent};

/// A frame: the worker's own, or one that others read too.
pub(crate) enum Parcel {
    Own(Buf<Cpu>),
    Shared(Buf<Shared>),
}

impl Parcel {
    /// Gives it back.
    pub(crate) fn free(self, cache: &mut Cache<Cpu>) {
        let own = match self {
            Self::Own(buf) => Some(buf),
            Self::Shared(buf) => buf.unshare().ok(),
        };
        let mut next = own;
        while let Some(mut buf) = next {
            next = buf.unchain();
            cache.give(buf);
        }
    }
}

/// The queue, or why there is none.
struct Way {
    tx: Option<Box<dyn TxQueue>>,
    why_none: Unsent,
}

impl Way {
    /// Sends what the queue takes, drops and counts the rest.
    #[inline]
    fn send(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>, tally: &PortTally) {
        if let Some(tx) = &mut self.tx {
            tx.send(cache, burst);
        }
        if !burst.is_empty() {
            self.refuse(burst.len(), tally);
            burst.recycle(cache);
        }
    }

    #[inline]
    fn send_shared(
        &mut self,
        cache: &mut Cache<Cpu>,
        burst: &mut Burst<Shared>,
        tally: &PortTally,
    ) {
        if let Some(tx) = &mut self.tx {
            tx.send_shared(cache, burst);
        }
        if !burst.is_empty() {
            self.refuse(burst.len(), tally);
            burst.release(cache);
        }
    }

    fn refuse(&self, frames: usize, tally: &PortTally) {
        let why = if self.tx.is_some() { Unsent::NoRoom } else { self.why_none };
        tally.unsent(why, frames);
    }
}

/// A worker's transmit queue of one port.
pub(crate) struct Outlet {
    way: Way,
    frames: Burst<Cpu>,
    shared: Burst<Shared>,
    /// Whether frames were sent in this round that were appended, or noted.
    was_used: bool,
}

impl Outlet {
    pub(crate) fn new(pool: &Pool<Cpu>, burst: usize) -> Self {
        let shared = Burst::with_limit(Burst::of_shared(pool).pool(), burst);
        let frames = Burst::with_limit(pool, burst);
        let way = Way { tx: None, why_none: Unsent::ReceiveOnly };
        Self { way, frames, shared, was_used: false }
    }

    /// Gives it a queue; from now on, having none means that the port is out of service.
    pub(crate) fn attach(&mut self, tx: Box<dyn TxQueue>) {
        self.way = Way { tx: Some(tx), why_none: Unsent::LinkDown };
    }

    /// Takes its queue.
    pub(crate) fn detach(&mut self) -> Option<Box<dyn TxQueue>> {
        self.way.tx.take()
    }

    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.way.tx.is_some()
    }

    pub(crate) fn queue_mut(&mut self) -> Option<&mut Box<dyn TxQueue>> {
        self.way.tx.as_mut()
    }

    /// Sends a whole burst, which is empty then.
    #[inline]
    pub(crate) fn send(
        &mut self,
        cache: &mut Cache<Cpu>,
        burst: &mut Burst<Cpu>,
        tally: &PortTally,
    ) {
        tally.handed.add(burst.len());
        self.way.send(cache, burst, tally);
    }

    /// As [`Outlet::send`], for shared frames.
    pub(crate) fn send_shared(
        &mut self,
        cache: &mut Cache<Cpu>,
        burst: &mut Burst<Shared>,
        tally: &PortTally,
    ) {
        tally.handed.add(burst.len());
        self.way.send_shared(cache, burst, tally);
    }

    /// Appends a frame; it leaves behind all that came before.
    #[inline]
    pub(crate) fn push(&mut self, cache: &mut Cache<Cpu>, parcel: Parcel, tally: &PortTally) {
        match parcel {
            Parcel::Own(buf) => {
                if !self.shared.is_empty() || self.frames.room() == 0 {
                    self.flush(cache, tally);
                }
                self.frames.push(buf);
            }
            Parcel::Shared(buf) => {
                if !self.frames.is_empty() || self.shared.room() == 0 {
                    self.flush(cache, tally);
                }
                self.shared.push(buf);
            }
        }
    }

    /// Sends what was appended.
    #[inline]
    pub(crate) fn flush(&mut self, cache: &mut Cache<Cpu>, tally: &PortTally) {
        // One of them is empty, always: frames keep their order.
        let count = self.frames.len() + self.shared.len();
        if count == 0 {
            return;
        }
        tally.handed.add(count);
        self.was_used = true;
        if self.shared.is_empty() {
            self.way.send(cache, &mut self.frames, tally);
        } else {
            self.way.send_shared(cache, &mut self.shared, tally);
        }
    }

    /// Notes that frames were sent in this round: they took home what was done with.
    pub(crate) fn note_used(&mut self) {
        self.was_used = true;
    }

    /// Ends a round: brings home what the device is done with, where no frame was sent on the way.
    #[inline]
    pub(crate) fn end_round(&mut self, cache: &mut Cache<Cpu>) {
        if !std::mem::take(&mut self.was_used) {
            self.reap(cache);
        }
    }

    /// Brings home what the device is done with.
    #[inline]
    pub(crate) fn reap(&mut self, cache: &mut Cache<Cpu>) {
        if let Some(tx) = &mut self.way.tx {
            tx.reap(cache);
        }
    }
}
