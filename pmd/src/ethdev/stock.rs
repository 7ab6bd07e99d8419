//! The free mbufs of a mirror, as DPDK's drivers take and give them: a pile that is kept small, filled from
//! the pool when it runs dry and emptied into it when it runs over, behind a lock. Queues have [`Lane`]s before
//! it. The operations that DPDK calls for its mempools are here. Knows mbufs as pointers; which slot is whose is
//! the [`Layout`]'s.
#![allow(
    unsafe_code,
    reason = "DPDK calls back with arrays of pointers; adopts slots that were surrendered"
)]

use std::{
    ffi::{CStr, c_int, c_uint, c_void},
    mem::MaybeUninit,
    slice,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use dpdk_sys as sys;
use mempool::{Burst, Cache, Cpu, Pool, Surrendered};

use super::{
    lane::Lane,
    layout::{Layout, Mbuf},
    mbufs::Operations,
    spin::Spin,
};

/// The name DPDK knows the operations by.
const OPERATIONS: &CStr = c"memwire";

/// Most mbufs that lie here while the pool could use their slots.
const MOST: usize = 256;

/// Free mbufs of one mirror.
pub(super) struct Stock {
    /// A driver calls here: no lock that sleeps.
    pile: Spin<Pile>,
    layout: Layout,
    /// Slots that are not ours: with a driver, or on the pile.
    away: Surrendered<Cpu>,
    /// Most mbufs that lie here while the pool could use their slots; as many in a queue's lane.
    keep: usize,
    /// Takes of a driver that found too little.
    starved: AtomicU64,
}

struct Pile {
    /// Mbufs whose slots are surrendered and that no driver has.
    mbufs: Vec<Mbuf>,
    cache: Cache<Cpu>,
    burst: Burst<Cpu>,
}

// SAFETY: pointers to mbufs that nobody has, and a cache that goes where its pile goes.
unsafe impl Send for Pile {}

impl Stock {
    pub(super) fn new(pool: &Pool<Cpu>, layout: Layout) -> Self {
        let slots = pool.capacity();
        let pile = Pile {
            mbufs: Vec::with_capacity(slots),
            cache: pool.cache(),
            burst: Burst::with_limit(pool, Burst::<Cpu>::CAPACITY),
        };
        Self {
            pile: Spin::new(pile),
            layout,
            away: Surrendered::new(pool),
            keep: (slots / 16).clamp(1, MOST),
            starved: AtomicU64::new(0),
        }
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn away(&self) -> &Surrendered<Cpu> {
        &self.away
    }

    pub(super) fn keep(&self) -> usize {
        self.keep
    }

    pub(super) fn starved(&self) -> u64 {
        self.starved.load(Ordering::Relaxed)
    }

    /// Takes as many mbufs as `wanted` has places; all or none.
    pub(super) fn take(&self, wanted: &mut [MaybeUninit<Mbuf>]) -> bool {
        self.pile.with(|pile| {
            if pile.mbufs.len() < wanted.len() && !self.fill(pile, wanted.len()) {
                return false;
            }
            let rest = pile.mbufs.len() - wanted.len();
            wanted.write_copy_of_slice(&pile.mbufs[rest..]);
            pile.mbufs.truncate(rest);
            true
        })
    }

    /// Gives mbufs back.
    pub(super) fn give(&self, mbufs: &[Mbuf]) {
        self.pile.with(|pile| {
            pile.mbufs.extend_from_slice(mbufs);
            if pile.mbufs.len() > self.keep {
                self.spill(pile, self.keep / 2);
            }
        });
    }

    /// Takes what lies here, as far as `places` go; returns how many. The pool is not asked.
    pub(super) fn lift(&self, places: &mut [Mbuf]) -> usize {
        self.pile.with(|pile| {
            let count = pile.mbufs.len().min(places.len());
            let rest = pile.mbufs.len() - count;
            places[..count].copy_from_slice(&pile.mbufs[rest..]);
            pile.mbufs.truncate(rest);
            count
        })
    }

    /// Lays mbufs here if there is room for all of them below what is kept.
    pub(super) fn lay(&self, mbufs: &[Mbuf]) -> bool {
        self.pile.with(|pile| {
            let has_room = pile.mbufs.len() + mbufs.len() <= self.keep;
            if has_room {
                pile.mbufs.extend_from_slice(mbufs);
            }
            has_room
        })
    }

    /// Makes mbufs of slots that a worker's cache has, or fetches; returns how many.
    pub(super) fn lend(
        &self,
        cache: &mut Cache<Cpu>,
        burst: &mut Burst<Cpu>,
        places: &mut [Mbuf],
    ) -> usize {
        let got = cache.take_bare(burst, places.len());
        self.away.gave(got);
        let lent = burst.surrender_front(got, |slots| self.layout.lend_all(slots, places));
        self.away.took(got - lent);
        // Slots of an area that came after the mirror was made stay with the pool.
        burst.drain_front(burst.len()).for_each(drop);
        lent
    }

    /// Gives a worker's cache the slots of mbufs that no driver has.
    pub(super) fn recycle(&self, mbufs: &[Mbuf], burst: &mut Burst<Cpu>, cache: &mut Cache<Cpu>) {
        let home = self.adopt(mbufs, burst);
        self.away.took(home);
        burst.recycle(cache);
    }

    /// Fetches slots from the pool until `wanted` mbufs are here; false if it has too few.
    #[cold]
    fn fill(&self, pile: &mut Pile, wanted: usize) -> bool {
        let mut barren = 0;
        while pile.mbufs.len() < wanted && barren < 4 {
            let missing = wanted - pile.mbufs.len() + self.keep / 2;
            let got = pile.cache.take_bare(&mut pile.burst, missing);
            if got == 0 {
                break;
            }
            let before = pile.mbufs.len();
            self.away.gave(got);
            pile.burst.surrender_front(got, |slots| {
                let known = slots.iter().take_while(|slot| {
                    let mbuf = self.layout.lend(**slot);
                    pile.mbufs.extend(mbuf);
                    mbuf.is_some()
                });
                known.count()
            });
            let lent = pile.mbufs.len() - before;
            self.away.took(got - lent);
            // Slots of an area that came after the mirror was made stay with the pool.
            barren += usize::from(lent < got);
            pile.burst.drain_front(pile.burst.len()).for_each(drop);
        }
        pile.cache.flush();
        let is_enough = pile.mbufs.len() >= wanted;
        if !is_enough {
            self.starved.fetch_add(1, Ordering::Relaxed);
        }
        is_enough
    }

    /// Gives the pool its slots back, down to `keep` mbufs.
    #[cold]
    fn spill(&self, pile: &mut Pile, keep: usize) {
        while pile.mbufs.len() > keep {
            let count = (pile.mbufs.len() - keep).min(Burst::<Cpu>::CAPACITY);
            let from = pile.mbufs.len() - count;
            let home = self.adopt(&pile.mbufs[from..], &mut pile.burst);
            pile.mbufs.truncate(from);
            self.away.took(home);
            pile.burst.recycle(&mut pile.cache);
        }
        pile.cache.flush();
    }

    /// Makes handles of mbufs that no driver has; returns of how many. One that came back twice is lost.
    fn adopt(&self, mbufs: &[Mbuf], burst: &mut Burst<Cpu>) -> usize {
        // SAFETY: `take_back_all` yields slots of the pool that were surrendered, each once; the metadata of
        // each is that of a single segment (a chain's are made so before it is sent).
        unsafe { burst.adopt(false, |free| self.layout.take_back_all(mbufs, free)) }
    }

    /// Gives the pool everything back that lies here.
    pub(super) fn flush(&self) {
        self.pile.with(|pile| self.spill(pile, 0));
    }

    /// Takes every slot back that a driver has: none is left that could use it.
    ///
    /// # Safety
    /// No port of DPDK's holds any mbuf of this mirror.
    pub(super) unsafe fn reclaim(&self) -> usize {
        self.flush();
        self.pile.with(|pile| {
            let mut count = 0;
            for mbuf in self.layout.lent() {
                let home = self.adopt(&[mbuf], &mut pile.burst);
                self.away.took(home);
                count += home;
                pile.burst.recycle(&mut pile.cache);
            }
            pile.cache.flush();
            count
        })
    }
}

/// The operations of a mempool whose owner is a [`Stock`], by name; DPDK is told of them once in a process.
///
/// # Errors
/// It has no place for them.
pub(super) fn operations() -> Result<&'static CStr, String> {
    static REGISTERED: OnceLock<Result<(), String>> = OnceLock::new();
    let operations = || Operations { name: OPERATIONS, enqueue, dequeue, get_count }.register();
    REGISTERED.get_or_init(operations).clone().map(|()| OPERATIONS)
}

/// The stock of a mempool; none while it is being filled with its mbufs.
///
/// # Safety
/// A mempool of these operations.
unsafe fn stock<'a>(mempool: *const sys::rte_mempool) -> Option<&'a Stock> {
    // SAFETY: a mempool (caller).
    let config = unsafe { (*mempool).pool_config };
    // SAFETY: null, or the stock that the mirror put there, which outlives the mempool.
    unsafe { config.cast::<Stock>().as_ref() }
}

unsafe extern "C" fn enqueue(
    mempool: *mut sys::rte_mempool,
    objects: *const *mut c_void,
    count: c_uint,
) -> c_int {
    if count == 1 {
        // SAFETY: one pointer to an mbuf of this mempool.
        let mbuf = unsafe { objects.cast::<Mbuf>().read() };
        if Lane::give_one(mempool, mbuf) {
            return 0;
        }
    }
    // SAFETY: DPDK's own arguments.
    unsafe { give(mempool, objects, count) }
}

/// Gives back several, or what finds no room in a lane, or what is freed outside of any queue's call.
///
/// # Safety
/// As DPDK calls [`enqueue`]; in its own way too, so that there is nothing to unwind.
#[inline(never)]
unsafe extern "C" fn give(
    mempool: *mut sys::rte_mempool,
    objects: *const *mut c_void,
    count: c_uint,
) -> c_int {
    // SAFETY: `count` pointers to mbufs of this mempool, for the time of the call.
    let mbufs = unsafe { slice::from_raw_parts(objects.cast::<Mbuf>(), count as usize) };
    if Lane::give(mempool, mbufs).is_none() {
        // SAFETY: a mempool of these operations.
        if let Some(stock) = unsafe { stock(mempool) } {
            stock.give(mbufs);
        }
    }
    0
}

unsafe extern "C" fn dequeue(
    mempool: *mut sys::rte_mempool,
    objects: *mut *mut c_void,
    count: c_uint,
) -> c_int {
    // SAFETY: room for `count` pointers (DPDK), whatever is there now.
    let wanted =
        unsafe { slice::from_raw_parts_mut(objects.cast::<MaybeUninit<Mbuf>>(), count as usize) };
    let taken = match Lane::take(mempool, wanted) {
        Some(taken) => taken,
        // SAFETY: a mempool of these operations.
        None => unsafe { stock(mempool) }.is_some_and(|stock| stock.take(wanted)),
    };
    if taken { 0 } else { -libc::ENOBUFS }
}

unsafe extern "C" fn get_count(mempool: *const sys::rte_mempool) -> c_uint {
    // SAFETY: DPDK calls with a mempool of these operations.
    let Some(stock) = (unsafe { stock(mempool) }) else { return 0 };
    c_uint::try_from(stock.pile.with(|pile| pile.mbufs.len())).unwrap_or(c_uint::MAX)
}
