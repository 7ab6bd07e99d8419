//! A pool as DPDK sees it: a mempool of mbufs, one for each slot, whose data is the slot (pinned external
//! buffers). One for each pool in a process, shared by all ports that use it, so that a frame that one port
//! received another can send. It ends when no port uses it; what a driver did not give back by then comes
//! home if no port is left that could have it, else it is lost, with the memory.
#![allow(unsafe_code, reason = "builds a mempool of DPDK's around memory of ours")]
#![expect(clippy::disallowed_types, reason = "control plane: mirrors come and go with ports")]

use std::{
    ffi::{CString, c_int, c_uint, c_void},
    mem::ManuallyDrop,
    ptr::{NonNull, from_mut, from_ref, null_mut},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use dpdk_sys as sys;
use mempool::{Cpu, Pool};

use super::{
    eal,
    layout::{DISTANCE, Layout, Mbuf},
    log,
    stock::{OPERATIONS, Stock, register},
};

/// Bytes of an mbuf with its private part: what the header that DPDK puts before each object leaves.
#[expect(clippy::cast_possible_truncation, reason = "less than 512")]
const OBJECT: u32 = DISTANCE as u32 - sys::MEMWIRE_CACHE_LINE;
#[expect(clippy::cast_possible_truncation, reason = "less than 512")]
const PRIVATE: u16 = (OBJECT - sys::MEMWIRE_MBUF_SIZE) as u16;
const _: () = assert!(PRIVATE as usize >= size_of::<sys::rte_mbuf_ext_shared_info>());

/// A pool's mbufs.
pub(super) struct Mirror {
    pool: Pool<Cpu>,
    mempool: NonNull<sys::rte_mempool>,
    /// Boxed: the mempool has its address.
    stock: ManuallyDrop<Box<Stock>>,
}

// SAFETY: DPDK's mempools may be used by any thread; the rest is as it is made.
unsafe impl Send for Mirror {}
// SAFETY: as above.
unsafe impl Sync for Mirror {}

static MIRRORS: Mutex<Vec<Weak<Mirror>>> = Mutex::new(Vec::new());
static NAMES: AtomicU32 = AtomicU32::new(0);

impl Mirror {
    /// The mirror of a pool: the one that is in use, or a new one.
    ///
    /// # Errors
    /// DPDK has no memory for its mbufs.
    pub(super) fn of(pool: &Pool<Cpu>) -> Result<Arc<Self>, String> {
        let mut mirrors = MIRRORS.lock().unwrap_or_else(PoisonError::into_inner);
        mirrors.retain(|mirror| mirror.strong_count() > 0);
        let mut live = mirrors.iter().filter_map(Weak::upgrade);
        let same = |mirror: &Arc<Self>| {
            mirror.pool.is_same(pool) && mirror.stock.layout().is_of(&pool.areas())
        };
        if let Some(mirror) = live.find(same) {
            return Ok(mirror);
        }
        let mirror = Arc::new(Self::new(pool)?);
        mirrors.push(Arc::downgrade(&mirror));
        Ok(mirror)
    }

    fn new(pool: &Pool<Cpu>) -> Result<Self, String> {
        static REGISTERED: OnceLock<Result<(), c_int>> = OnceLock::new();
        log::forget();
        let no_memory = |what: &str| {
            let error = eal::strerror(eal::errno());
            let why = log::why(&error);
            format!("{what}: {why}; give DPDK more memory, or make the pool smaller")
        };
        let register = REGISTERED.get_or_init(register);
        register.map_err(|error| {
            format!("DPDK takes no mempool operations: {}", eal::strerror(error))
        })?;
        let count = c_uint::try_from(pool.capacity()).unwrap_or(c_uint::MAX);
        let name = format!("memwire_{}", NAMES.fetch_add(1, Ordering::Relaxed));
        let name = CString::new(name).unwrap_or_default();
        let flags = sys::MEMWIRE_POOL_NO_SPREAD | sys::MEMWIRE_POOL_NO_IOVA_CONTIG;
        let shared = c_uint::try_from(size_of::<sys::rte_pktmbuf_pool_private>()).unwrap_or(0);
        // SAFETY: the name is a string; the rest are numbers, -1 is any NUMA node.
        let mempool = unsafe {
            sys::rte_mempool_create_empty(name.as_ptr(), count, OBJECT, 0, shared, -1, flags)
        };
        let mempool = NonNull::new(mempool).ok_or_else(|| no_memory("no mempool"))?;
        let distance = distance(mempool);
        if distance != DISTANCE {
            free(mempool);
            return Err(format!("DPDK's mbufs are {distance} bytes apart, not {DISTANCE}"));
        }
        let layout = Layout::new(pool.stride(), pool.slot_bound());
        let stock = Box::new(Stock::new(pool, layout));
        let mut mirror = Self { pool: pool.clone(), mempool, stock: ManuallyDrop::new(stock) };
        mirror.fill().map_err(|()| no_memory("no memory for mbufs"))?;
        Ok(mirror)
    }

    /// Gives the mempool its mbufs, area by area, and then its stock.
    fn fill(&mut self) -> Result<(), ()> {
        let (mempool, null) = (self.mempool.as_ptr(), null_mut());
        // SAFETY: a mempool without mbufs; the operations are registered.
        let failed = unsafe { sys::rte_mempool_set_ops_byname(mempool, OPERATIONS.as_ptr(), null) };
        if failed != 0 {
            return Err(());
        }
        let mut shape = sys::rte_pktmbuf_pool_private {
            mbuf_data_room_size: self.stock.layout().buffer(),
            mbuf_priv_size: PRIVATE,
            flags: sys::MEMWIRE_POOL_PINNED,
        };
        // SAFETY: the mempool has a private part of that size, made for it.
        unsafe { sys::rte_pktmbuf_pool_init(mempool, from_mut(&mut shape).cast()) };
        for area in self.pool.areas() {
            let first = self.mbufs(area.slots).ok_or(())?;
            self.stock.layout_mut().add(&area, first);
        }
        // SAFETY: the mbufs were allocated a line ago, each with `PRIVATE` bytes behind it; devices are given
        // the areas at their own addresses before they are given an mbuf (`Port::start`).
        unsafe { self.stock.layout().prepare(mempool, PRIVATE) };
        let stock = from_ref::<Stock>(&self.stock).cast_mut().cast::<c_void>();
        // SAFETY: nobody else knows the mempool yet.
        unsafe { (*mempool).pool_config = stock };
        Ok(())
    }

    /// Memory for `count` mbufs, which the mempool owns from here on; where the first is.
    fn mbufs(&self, count: usize) -> Option<Mbuf> {
        let len = count * DISTANCE;
        // SAFETY: numbers, and a string.
        let memory = unsafe {
            sys::rte_zmalloc_socket(c"memwire".as_ptr(), len, sys::MEMWIRE_CACHE_LINE, -1)
        };
        let memory = NonNull::new(memory)?.as_ptr();
        let mempool = self.mempool.as_ptr();
        // SAFETY: `len` bytes of DPDK's memory, which nothing else uses; freed by `free_chunk`. Devices never
        // look at mbufs, so their address for devices is none.
        let added = unsafe {
            sys::rte_mempool_populate_iova(
                mempool,
                memory.cast(),
                sys::MEMWIRE_BAD_IOVA,
                len,
                Some(free_chunk),
                memory,
            )
        };
        if usize::try_from(added) != Ok(count) {
            if added <= 0 {
                // SAFETY: the mempool did not take it.
                unsafe { sys::rte_free(memory) };
            }
            return None;
        }
        // SAFETY: a mempool.
        let header = unsafe { (*mempool).header_size };
        Some(memory.cast::<u8>().wrapping_add(header as usize).cast())
    }

    /// The pool.
    pub(super) fn pool(&self) -> &Pool<Cpu> {
        &self.pool
    }

    /// What a receive queue of DPDK's is set up with.
    pub(super) fn mempool(&self) -> *mut sys::rte_mempool {
        self.mempool.as_ptr()
    }

    /// The mbufs that drivers may take.
    #[inline(always)]
    pub(super) fn stock(&self) -> &Stock {
        &self.stock
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.stock.flush();
        if self.stock.away().count() > 0 && eal::ports() == 0 {
            // SAFETY: there is no port, so no driver that could have an mbuf: its queues are freed.
            let count = unsafe { self.stock.reclaim() };
            tracing::debug!(pool = self.pool.name(), count, "buffers came home from closed ports");
        }
        let away = self.stock.away().count();
        if away > 0 {
            // A driver may still have them: the mempool, the mbufs and the pool stay for good.
            tracing::warn!(
                pool = self.pool.name(),
                buffers = away,
                "DPDK keeps buffers of a port that is closed: they are lost"
            );
            std::mem::forget(self.pool.clone());
            return;
        }
        free(self.mempool);
        // SAFETY: once, here; the mempool, which had its address, is gone.
        unsafe { ManuallyDrop::drop(&mut self.stock) };
    }
}

/// Bytes between neighbouring mbufs.
fn distance(mempool: NonNull<sys::rte_mempool>) -> usize {
    let mempool = mempool.as_ptr();
    // SAFETY: a mempool; its sizes do not change.
    let header = unsafe { (*mempool).header_size };
    // SAFETY: as above.
    let object = unsafe { (*mempool).elt_size };
    // SAFETY: as above.
    let trailer = unsafe { (*mempool).trailer_size };
    (header + object + trailer) as usize
}

fn free(mempool: NonNull<sys::rte_mempool>) {
    // DPDK takes every mbuf out first: without a stock there are none to take, and no slot is touched.
    // SAFETY: a mempool that nobody uses any more (callers).
    unsafe { (*mempool.as_ptr()).pool_config = null_mut() };
    // SAFETY: a mempool that nobody uses any more (callers).
    unsafe { sys::rte_mempool_free(mempool.as_ptr()) };
}

unsafe extern "C" fn free_chunk(_: *mut sys::rte_mempool_memhdr, memory: *mut c_void) {
    // SAFETY: allocated in `Mirror::mbufs`, freed once, with its mempool.
    unsafe { sys::rte_free(memory) };
}
