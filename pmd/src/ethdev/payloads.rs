//! The payload buffers of a queue that splits, as its driver takes and gives them: posted in order, taken in
//! order. One mempool of mbufs for each queue, because an order is a queue's own; the memory is the pool's. Not
//! a byte of it is looked at.
#![allow(
    unsafe_code,
    reason = "DPDK calls back with arrays of pointers; adopts slots that were surrendered"
)]

use std::{
    collections::VecDeque,
    ffi::{CStr, c_int, c_uint, c_void},
    mem::{ManuallyDrop, MaybeUninit},
    ptr::{from_ref, null_mut},
    slice,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use dpdk_sys as sys;
use mempool::{Access, Buf, Burst, Device, Pool, RxMeta, Surrendered, Tally};

use super::{
    layout::{Layout, Mbuf},
    mbufs::{Mempool, Operations},
    spin::Spin,
};

/// The name DPDK knows the operations by.
const OPERATIONS: &CStr = c"memwire_payloads";

/// Slots at a time.
const BATCH: usize = 64;

/// Payload buffers of one queue.
pub(super) struct Payloads {
    pool: Pool<Device>,
    mempool: ManuallyDrop<Mempool>,
    /// Boxed: the mempool has its address.
    posted: ManuallyDrop<Box<Posted>>,
    layout: Layout,
    /// Buffers at most that are posted and not filled.
    limit: usize,
    away: Surrendered<Device>,
}

/// What is posted and not with the driver.
struct Posted {
    /// In this order; never grows.
    mbufs: Spin<VecDeque<Mbuf>>,
    /// Takes of a driver that found too little.
    starved: AtomicU64,
}

// SAFETY: pointers to mbufs, behind a lock.
unsafe impl Send for Posted {}
// SAFETY: as above.
unsafe impl Sync for Posted {}

impl Payloads {
    /// # Errors
    /// DPDK has no memory for the mbufs.
    pub(super) fn new(pool: &Pool<Device>, limit: usize) -> Result<Self, String> {
        static REGISTERED: OnceLock<Result<(), String>> = OnceLock::new();
        let operations = || Operations { name: OPERATIONS, enqueue, dequeue, get_count }.register();
        REGISTERED.get_or_init(operations).clone()?;
        let (mempool, layout) = Mempool::of(pool, OPERATIONS)?;
        let mbufs = Spin::new(VecDeque::with_capacity(pool.capacity()));
        let posted = Box::new(Posted { mbufs, starved: AtomicU64::new(0) });
        // SAFETY: no port knows the mempool; `posted` is what its operations expect, and is freed after it.
        unsafe { mempool.set_owner(from_ref::<Posted>(&posted).cast()) };
        Ok(Self {
            pool: pool.clone(),
            mempool: ManuallyDrop::new(mempool),
            posted: ManuallyDrop::new(posted),
            layout,
            limit,
            away: Surrendered::new(pool),
        })
    }

    pub(super) fn pool(&self) -> &Pool<Device> {
        &self.pool
    }

    /// For the second segment of a receive queue.
    pub(super) fn mempool(&self) -> *mut sys::rte_mempool {
        self.mempool.as_ptr()
    }

    /// Buffers at most that are posted and not filled.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn starved(&self) -> u64 {
        self.posted.starved.load(Ordering::Relaxed)
    }

    /// Whether all areas of the pool have mbufs.
    pub(super) fn knows_all_areas(&self) -> bool {
        self.layout.is_of(&self.pool.areas())
    }

    /// The part of the count of slots that are away which the queue's worker keeps.
    pub(super) fn tally(&self) -> Tally<Device> {
        self.away.tally()
    }

    /// Posts up to `most` from the front of a burst, of areas that have mbufs; returns how many.
    pub(super) fn post(
        &self,
        burst: &mut Burst<Device>,
        most: usize,
        away: &mut Tally<Device>,
    ) -> usize {
        let most = most.min(burst.len());
        away.gave(most);
        let posted = burst.surrender_front(most, |slots| {
            self.posted.mbufs.with(|mbufs| {
                let (mut posted, mut places) = (0, [null_mut(); BATCH]);
                while posted < slots.len() {
                    let some = &slots[posted..slots.len().min(posted + BATCH)];
                    let known = self.layout.lend_all(some, &mut places);
                    mbufs.extend(&places[..known]);
                    posted += known;
                    if known < some.len() {
                        break;
                    }
                }
                posted
            })
        });
        away.took(most - posted);
        posted
    }

    /// Posts as many as may be: drivers take them when they are started.
    pub(super) fn fill(&self) {
        let mut cache = self.pool.cache();
        let mut burst = Burst::with_limit(&self.pool, Burst::<Device>::CAPACITY);
        let (mut missing, mut tally) = (self.limit, self.tally());
        while missing > 0 && cache.take(&mut burst, missing) > 0 {
            missing -= self.post(&mut burst, missing, &mut tally);
            if !burst.is_empty() {
                break;
            }
        }
    }

    /// Buffers that are posted and not filled; of a queue that is at rest.
    pub(super) fn count(&self) -> usize {
        self.layout.lent().len()
    }

    /// Which mbuf is which slot.
    #[inline(always)]
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }
}

impl Drop for Payloads {
    fn drop(&mut self) {
        // The port is closed: whatever its driver had is nobody's now, whether it gave it back or not.
        let mut cache = self.pool.cache();
        let mut burst = Burst::with_limit(&self.pool, 1);
        for mbuf in self.layout.lent() {
            let slot = self.layout.take_back(mbuf);
            // SAFETY: `take_back` yields a slot of the pool that was surrendered, once.
            let home = slot.and_then(|slot| unsafe { adopt_one(&mut burst, slot) });
            self.away.took(usize::from(home.is_some()));
            home.into_iter().for_each(|home| cache.give(home));
        }
        // SAFETY: once, here; the port, which used it, is closed.
        unsafe { ManuallyDrop::drop(&mut self.mempool) };
        // SAFETY: once, here; the mempool, which had its address, is gone.
        unsafe { ManuallyDrop::drop(&mut self.posted) };
    }
}

/// The buffer of a slot that was surrendered, by way of a burst that is empty.
///
/// # Safety
/// As for [`Burst::adopt`].
pub(super) unsafe fn adopt_one<A: Access>(burst: &mut Burst<A>, slot: u32) -> Option<Buf<A>> {
    let number = |slots: &[u32], places: &mut [MaybeUninit<u32>]| {
        places.write_copy_of_slice(slots);
        slots.len()
    };
    // SAFETY: the caller's.
    unsafe { burst.adopt_received(&[slot], &RxMeta::default(), number, |_, _| Some(0)) };
    burst.pop()
}

/// What is posted to the queue of a mempool; none while that is filled or freed.
///
/// # Safety
/// A mempool of these operations.
unsafe fn posted<'a>(mempool: *const sys::rte_mempool) -> Option<&'a Posted> {
    // SAFETY: a mempool (caller).
    let owner = unsafe { (*mempool).pool_config };
    // SAFETY: null, or the posted buffers that `Payloads::new` put there, which outlive the mempool.
    unsafe { owner.cast::<Posted>().as_ref() }
}

/// Buffers that a driver gives back unfilled are posted again, behind the others.
unsafe extern "C" fn enqueue(
    mempool: *mut sys::rte_mempool,
    objects: *const *mut c_void,
    count: c_uint,
) -> c_int {
    // SAFETY: DPDK calls with a mempool of these operations.
    let Some(posted) = (unsafe { posted(mempool) }) else { return 0 };
    // SAFETY: `count` pointers to mbufs of this mempool, for the time of the call.
    let given = unsafe { slice::from_raw_parts(objects.cast::<Mbuf>(), count as usize) };
    posted.mbufs.with(|mbufs| {
        // One given twice would not fit: its place is another's.
        let room = mbufs.capacity() - mbufs.len();
        mbufs.extend(given.iter().take(room));
    });
    0
}

unsafe extern "C" fn dequeue(
    mempool: *mut sys::rte_mempool,
    objects: *mut *mut c_void,
    count: c_uint,
) -> c_int {
    // SAFETY: DPDK calls with a mempool of these operations.
    let Some(posted) = (unsafe { posted(mempool) }) else { return -libc::ENOBUFS };
    let taken = posted.mbufs.with(|mbufs| {
        if mbufs.len() < count as usize {
            return false;
        }
        for (index, mbuf) in mbufs.drain(..count as usize).enumerate() {
            let place = objects.wrapping_add(index);
            // SAFETY: room for `count` pointers (DPDK).
            unsafe { place.write(mbuf.cast()) };
        }
        true
    });
    if taken {
        return 0;
    }
    posted.starved.fetch_add(1, Ordering::Relaxed);
    -libc::ENOBUFS
}

unsafe extern "C" fn get_count(mempool: *const sys::rte_mempool) -> c_uint {
    // SAFETY: DPDK calls with a mempool of these operations.
    let Some(posted) = (unsafe { posted(mempool) }) else { return 0 };
    c_uint::try_from(posted.mbufs.with(|mbufs| mbufs.len())).unwrap_or(c_uint::MAX)
}
