//! A mempool of mbufs, one for each slot of a pool, whose data is the slot (pinned external buffers). Builds it
//! and frees it; who has which mbuf, others keep.
#![allow(unsafe_code, reason = "builds a mempool of DPDK's around memory of ours")]

use std::{
    ffi::{CStr, CString, c_int, c_uint, c_void},
    ptr::{NonNull, from_mut, null_mut},
    sync::atomic::{AtomicU32, Ordering},
};

use dpdk_sys as sys;
use mempool::{Access, Pool};

use super::{
    eal,
    layout::{DISTANCE, Layout, Mbuf},
    log,
};

/// Bytes of an mbuf with its private part: what the header that DPDK puts before each object leaves.
#[expect(clippy::cast_possible_truncation, reason = "less than 512")]
const OBJECT: u32 = DISTANCE as u32 - sys::MEMWIRE_CACHE_LINE;
#[expect(clippy::cast_possible_truncation, reason = "less than 512")]
const PRIVATE: u16 = (OBJECT - sys::MEMWIRE_MBUF_SIZE) as u16;
const _: () = assert!(PRIVATE as usize >= size_of::<sys::rte_mbuf_ext_shared_info>());

static NAMES: AtomicU32 = AtomicU32::new(0);

/// A mempool of DPDK's, freed when dropped: no port may use it by then.
pub(super) struct Mempool(NonNull<sys::rte_mempool>);

// SAFETY: DPDK's mempools may be used by any thread.
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

impl Mempool {
    /// Mbufs for all slots that a pool has now, and which is whose. Who takes and gives them is for `operations`
    /// to say, as soon as they have an owner ([`Mempool::set_owner`]).
    ///
    /// # Errors
    /// DPDK has no memory for them.
    pub(super) fn of<A: Access>(
        pool: &Pool<A>,
        operations: &CStr,
    ) -> Result<(Self, Layout), String> {
        log::forget();
        let no_memory = |what: &str| {
            let error = eal::strerror(eal::errno());
            let why = log::why(&error);
            format!("{what}: {why}; give DPDK more memory, or make the pool smaller")
        };
        let count = c_uint::try_from(pool.capacity()).unwrap_or(c_uint::MAX);
        let name = format!("memwire_{}", NAMES.fetch_add(1, Ordering::Relaxed));
        let name = CString::new(name).unwrap_or_default();
        let flags = sys::MEMWIRE_POOL_NO_SPREAD | sys::MEMWIRE_POOL_NO_IOVA_CONTIG;
        let shared = c_uint::try_from(size_of::<sys::rte_pktmbuf_pool_private>()).unwrap_or(0);
        // SAFETY: the name is a string; the rest are numbers, -1 is any NUMA node.
        let mempool = unsafe {
            sys::rte_mempool_create_empty(name.as_ptr(), count, OBJECT, 0, shared, -1, flags)
        };
        let mempool = Self(NonNull::new(mempool).ok_or_else(|| no_memory("no mempool"))?);
        let distance = mempool.distance();
        if distance != DISTANCE {
            return Err(format!("DPDK's mbufs are {distance} bytes apart, not {DISTANCE}"));
        }
        let mut layout = Layout::new(pool.stride(), pool.slot_bound());
        mempool
            .fill(pool, operations, &mut layout)
            .map_err(|()| no_memory("no memory for mbufs"))?;
        Ok((mempool, layout))
    }

    /// Gives the mempool its mbufs, area by area.
    fn fill<A: Access>(
        &self,
        pool: &Pool<A>,
        operations: &CStr,
        layout: &mut Layout,
    ) -> Result<(), ()> {
        let (mempool, null) = (self.as_ptr(), null_mut());
        // SAFETY: a mempool without mbufs; the operations are registered.
        let failed = unsafe { sys::rte_mempool_set_ops_byname(mempool, operations.as_ptr(), null) };
        if failed != 0 {
            return Err(());
        }
        let mut shape = sys::rte_pktmbuf_pool_private {
            mbuf_data_room_size: layout.buffer(),
            mbuf_priv_size: PRIVATE,
            flags: sys::MEMWIRE_POOL_PINNED,
        };
        // SAFETY: the mempool has a private part of that size, made for it.
        unsafe { sys::rte_pktmbuf_pool_init(mempool, from_mut(&mut shape).cast()) };
        for area in pool.areas() {
            let first = self.mbufs(area.slots).ok_or(())?;
            layout.add(&area, first);
        }
        // SAFETY: the mbufs were allocated a line ago, each with `PRIVATE` bytes behind it; devices are given
        // the areas at their own addresses before they are given an mbuf (`Port::mirror`, `Port::payloads`).
        unsafe { layout.prepare(mempool, PRIVATE) };
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
        let mempool = self.as_ptr();
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

    /// What its operations are called with from here on.
    ///
    /// # Safety
    /// Nobody uses the mempool yet; the operations know what `owner` is, and it stays for as long as the
    /// mempool.
    pub(super) unsafe fn set_owner(&self, owner: *const c_void) {
        // SAFETY: nobody else knows the mempool yet (caller).
        unsafe { (*self.as_ptr()).pool_config = owner.cast_mut() };
    }

    /// What a receive queue of DPDK's is set up with.
    pub(super) fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.0.as_ptr()
    }

    /// Bytes between neighbouring mbufs.
    fn distance(&self) -> usize {
        let mempool = self.as_ptr();
        // SAFETY: a mempool; its sizes do not change.
        let header = unsafe { (*mempool).header_size };
        // SAFETY: as above.
        let object = unsafe { (*mempool).elt_size };
        // SAFETY: as above.
        let trailer = unsafe { (*mempool).trailer_size };
        (header + object + trailer) as usize
    }
}

/// What DPDK calls to take and give mbufs of a mempool. Each is called with a mempool whose `pool_config` is
/// null, while it is filled and freed, or its owner.
pub(super) struct Operations {
    pub(super) name: &'static CStr,
    pub(super) enqueue: Enqueue,
    pub(super) dequeue: Dequeue,
    pub(super) get_count: GetCount,
}

type Enqueue = unsafe extern "C" fn(*mut sys::rte_mempool, *const *mut c_void, c_uint) -> c_int;
type Dequeue = unsafe extern "C" fn(*mut sys::rte_mempool, *mut *mut c_void, c_uint) -> c_int;
type GetCount = unsafe extern "C" fn(*const sys::rte_mempool) -> c_uint;

impl Operations {
    /// Tells DPDK of them.
    pub(super) fn register(self) -> Result<(), String> {
        // SAFETY: a plain structure, all zeroes of which is a value: no operation, no name.
        let mut operations: sys::rte_mempool_ops = unsafe { eal::zeroed() };
        for (to, from) in operations.name.iter_mut().zip(self.name.to_bytes()) {
            *to = from.cast_signed();
        }
        operations.alloc = Some(alloc);
        operations.enqueue = Some(self.enqueue);
        operations.dequeue = Some(self.dequeue);
        operations.get_count = Some(self.get_count);
        // SAFETY: DPDK copies the structure.
        let index = unsafe { sys::rte_mempool_register_ops(&raw const operations) };
        if index < 0 {
            let error = eal::strerror(index);
            return Err(format!("DPDK takes no mempool operations: {error}"));
        }
        Ok(())
    }
}

unsafe extern "C" fn alloc(_: *mut sys::rte_mempool) -> c_int {
    0
}

impl Drop for Mempool {
    fn drop(&mut self) {
        // DPDK takes every mbuf out first: without an owner there are none to take, and no slot is touched.
        // SAFETY: a mempool that nobody uses any more (the type's contract).
        unsafe { (*self.as_ptr()).pool_config = null_mut() };
        // SAFETY: as above.
        unsafe { sys::rte_mempool_free(self.as_ptr()) };
    }
}

unsafe extern "C" fn free_chunk(_: *mut sys::rte_mempool_memhdr, memory: *mut c_void) {
    // SAFETY: allocated in `Mempool::mbufs`, freed once, with its mempool.
    unsafe { sys::rte_free(memory) };
}
