//! A queue's own free mbufs, for what its driver takes and frees inside the queue's calls: no lock, no atomic
//! operation. DPDK calls its mempool's operations without saying on whose behalf; the one queue whose driver is
//! being called on this thread is noted here for as long as the call lasts. Everything else that DPDK does, on
//! threads of its own or when a port is closed, finds no lane and goes by the [`super::stock::Stock`].
#![allow(unsafe_code, reason = "is found by a pointer from within DPDK's call")]

use std::{
    cell::{Cell, UnsafeCell},
    mem::MaybeUninit,
    ptr::{from_mut, from_ref, null, null_mut},
    sync::Arc,
};

use dpdk_sys::rte_mempool;
use mempool::{Burst, Cache, Cpu};

use super::{layout::Mbuf, mirror::Mirror};

/// A queue whose driver a thread is calling.
struct Current {
    /// Its mirror's mempool; null while no driver is being called.
    mempool: Cell<*const rte_mempool>,
    /// Where it is: borrowed for as long as `mempool` is not null.
    lane: Cell<*const Lane>,
}

thread_local! {
    static CURRENT: Current =
        const { Current { mempool: Cell::new(null()), lane: Cell::new(null()) } };
}

/// Free mbufs of one queue. Those that are here when it is dropped go to the stock.
pub(super) struct Lane {
    pile: UnsafeCell<Pile>,
    mirror: Arc<Mirror>,
}

struct Pile {
    len: usize,
    mbufs: Box<[Mbuf]>,
    /// What the worker lends during a call; null if it is another pool's.
    cache: *mut Cache<Cpu>,
    burst: Burst<Cpu>,
}

// SAFETY: pointers to mbufs that nobody has, and to a cache during a call only.
unsafe impl Send for Lane {}

impl Lane {
    pub(super) fn new(mirror: &Arc<Mirror>) -> Self {
        let stock = mirror.stock();
        let pile = Pile {
            len: 0,
            mbufs: vec![null_mut(); stock.keep()].into_boxed_slice(),
            cache: null_mut(),
            burst: Burst::with_limit(mirror.pool(), Burst::<Cpu>::CAPACITY),
        };
        Self { pile: UnsafeCell::new(pile), mirror: Arc::clone(mirror) }
    }

    /// Calls a driver: what it takes and frees meanwhile goes by this lane, and by the worker's cache.
    #[inline(always)]
    pub(super) fn during<R>(&mut self, cache: &mut Cache<Cpu>, call: impl FnOnce() -> R) -> R {
        let is_ours = cache.pool().is_same(self.mirror.pool());
        self.pile.get_mut().cache = if is_ours { from_mut(cache) } else { null_mut() };
        CURRENT.with(|current| {
            current.lane.set(from_ref(self));
            current.mempool.set(self.mirror.mempool());
        });
        let result = call();
        CURRENT.with(|current| current.mempool.set(null()));
        result
    }

    /// Takes mbufs for a driver, if one of this thread's queues is being called and has this mempool; else says
    /// that it did not.
    #[inline(always)]
    pub(super) fn take(
        mempool: *const rte_mempool,
        wanted: &mut [MaybeUninit<Mbuf>],
    ) -> Option<bool> {
        Self::current(mempool, |lane, pile| {
            let Some(rest) = pile.len.checked_sub(wanted.len()) else {
                return lane.take_more(pile, wanted);
            };
            wanted.write_copy_of_slice(&pile.mbufs[rest..pile.len]);
            pile.len = rest;
            true
        })
    }

    /// Gives one mbuf back, under the same condition and if there is room: false if not. Most drivers free one
    /// at a time, so this is what each costs.
    #[inline(always)]
    pub(super) fn give_one(mempool: *const rte_mempool, mbuf: Mbuf) -> bool {
        let given = Self::current(mempool, |_, pile| {
            let place = pile.mbufs.get_mut(pile.len)?;
            *place = mbuf;
            pile.len += 1;
            Some(())
        });
        given.flatten().is_some()
    }

    /// Gives mbufs back, under the same condition.
    pub(super) fn give(mempool: *const rte_mempool, mbufs: &[Mbuf]) -> Option<()> {
        Self::current(mempool, |lane, pile| {
            if pile.mbufs.len() - pile.len < mbufs.len() && !lane.make_room(pile, mbufs.len()) {
                return lane.mirror.stock().give(mbufs);
            }
            pile.mbufs[pile.len..pile.len + mbufs.len()].copy_from_slice(mbufs);
            pile.len += mbufs.len();
        })
    }

    #[inline(always)]
    fn current<R>(
        mempool: *const rte_mempool,
        change: impl FnOnce(&Self, &mut Pile) -> R,
    ) -> Option<R> {
        let lane = CURRENT
            .with(|current| (current.mempool.get() == mempool).then(|| current.lane.get()))?;
        // SAFETY: DPDK's mempool is not null, so this is the lane that `during` borrows until the call is over,
        // on this thread.
        let lane = unsafe { &*lane };
        // SAFETY: `during` has the lane for itself, touches nothing of it while the call lasts, and the
        // operations do not call each other.
        Some(change(lane, unsafe { &mut *lane.pile.get() }))
    }

    /// Fetches mbufs until `wanted` and some more are here: those that lie in the stock, then slots of the
    /// worker's cache. False if there are too few, or so many do not fit.
    fn refill(&self, pile: &mut Pile, wanted: usize) -> bool {
        let target = wanted + pile.mbufs.len() / 4;
        if target > pile.mbufs.len() {
            return false;
        }
        let stock = self.mirror.stock();
        pile.len += stock.lift(&mut pile.mbufs[pile.len..target]);
        // SAFETY: null, or the cache that `during` borrows for the time of the call.
        if let Some(cache) = unsafe { pile.cache.as_mut() }
            && pile.len < target
        {
            let (len, missing) = (pile.len, target - pile.len);
            pile.len += stock.lend(cache, &mut pile.burst, &mut pile.mbufs[len..len + missing]);
        }
        pile.len >= wanted
    }

    /// Takes more mbufs than are here: after fetching some, or all of them from the stock.
    #[cold]
    #[inline(never)]
    fn take_more(&self, pile: &mut Pile, wanted: &mut [MaybeUninit<Mbuf>]) -> bool {
        let stock = self.mirror.stock();
        if self.refill(pile, wanted.len()) {
            pile.len -= wanted.len();
            wanted.write_copy_of_slice(&pile.mbufs[pile.len..pile.len + wanted.len()]);
            return true;
        }
        if pile.len > 0 {
            stock.give(&pile.mbufs[..pile.len]);
            pile.len = 0;
        }
        stock.take(wanted)
    }

    /// Moves the older half away: into the stock if that has little, else into the worker's cache. False if
    /// `count` do not fit all the same.
    #[cold]
    fn make_room(&self, pile: &mut Pile, count: usize) -> bool {
        let half = pile.mbufs.len() / 2;
        let gone = pile.len.min(half);
        if count > half || gone == 0 {
            return false;
        }
        let stock = self.mirror.stock();
        if !stock.lay(&pile.mbufs[..gone]) {
            // SAFETY: null, or the cache that `during` borrows for the time of the call.
            match unsafe { pile.cache.as_mut() } {
                Some(cache) => stock.recycle(&pile.mbufs[..gone], &mut pile.burst, cache),
                None => stock.give(&pile.mbufs[..gone]),
            }
        }
        pile.mbufs.copy_within(gone..pile.len, 0);
        pile.len -= gone;
        true
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let pile = self.pile.get_mut();
        self.mirror.stock().give(&pile.mbufs[..pile.len]);
    }
}
