//! A pool as DPDK sees it: a mempool of mbufs, one for each slot. One for each pool in a process, shared by all
//! ports that use it, so that a frame that one port received another can send. It ends when no port uses it;
//! what a driver did not give back by then comes home if no port is left that could have it, else it is lost,
//! with the memory.
#![allow(unsafe_code, reason = "builds a mempool of DPDK's around memory of ours")]
#![expect(clippy::disallowed_types, reason = "control plane: mirrors come and go with ports")]

use std::{
    mem::ManuallyDrop,
    ptr::from_ref,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use dpdk_sys as sys;
use mempool::{Cpu, Pool};

use super::{
    eal,
    mbufs::Mempool,
    stock::{self, Stock},
};

/// A pool's mbufs.
pub(super) struct Mirror {
    pool: Pool<Cpu>,
    mempool: ManuallyDrop<Mempool>,
    /// Boxed: the mempool has its address.
    stock: ManuallyDrop<Box<Stock>>,
}

static MIRRORS: Mutex<Vec<Weak<Mirror>>> = Mutex::new(Vec::new());

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
        let (mempool, layout) = Mempool::of(pool, stock::operations()?)?;
        let stock = Box::new(Stock::new(pool, layout));
        // SAFETY: no port knows the mempool; these are the stock's operations, and it is freed after the mempool.
        unsafe { mempool.set_owner(from_ref::<Stock>(&stock).cast()) };
        let (mempool, stock) = (ManuallyDrop::new(mempool), ManuallyDrop::new(stock));
        Ok(Self { pool: pool.clone(), mempool, stock })
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
        // SAFETY: once, here; no driver has an mbuf of it.
        unsafe { ManuallyDrop::drop(&mut self.mempool) };
        // SAFETY: once, here; the mempool, which had its address, is gone.
        unsafe { ManuallyDrop::drop(&mut self.stock) };
    }
}
