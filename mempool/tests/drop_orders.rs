//! Whatever goes first: memory stays for as long as a buffer can reach it, and goes when none can.
#![allow(unsafe_code, reason = "a memory that remembers its end; states that no device exists")]

use std::{
    alloc::{Layout, alloc_zeroed},
    ptr::NonNull,
    slice,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use mempool::{
    Backing, Buf, Burst, Cache, Cpu, CpuAccess, InFlight, Memory, Pool, Provider, ProviderError,
    ProviderInfo, Quiesced, Region, RegionHandle, RegionRequest, SharedBuf, reap_orphans,
};

const POISON: u8 = 0xdd;

/// A provider of one piece of memory. On release it is poisoned, not freed: who reads it then reads
/// poison, and the test says so instead of crashing.
#[derive(Clone)]
struct Tracking {
    base: NonNull<u8>,
    layout: Layout,
    released: Arc<AtomicBool>,
    /// What the memory keeps alive, as one carved out of something else would.
    keeps: Option<Pool<Cpu>>,
}

// SAFETY: an address and flags.
unsafe impl Send for Tracking {}
// SAFETY: as above.
unsafe impl Sync for Tracking {}

impl Tracking {
    fn new() -> Self {
        let layout = Layout::from_size_align(4096, 4096).unwrap();
        // SAFETY: the layout is not empty.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
        Self { base, layout, released: Arc::default(), keeps: None }
    }

    fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    /// Reaps until the memory is gone: a reaper of another test may be about to do it.
    fn is_released_soon(&self) -> bool {
        let limit = Instant::now() + Duration::from_secs(10);
        while !self.is_released() && Instant::now() < limit {
            reap_orphans();
            std::thread::yield_now();
        }
        self.is_released()
    }

    fn pool(&self) -> Pool<Cpu> {
        let builder = Pool::<Cpu>::builder().name("tracked").slots(8).stride(64).headroom(0);
        builder.cache_size(2).max_areas(1).shareable().memory(self).build().unwrap()
    }

    /// Gives the bytes back to the allocator, once nobody can reach them.
    fn end(self) {
        assert!(self.is_released());
        // SAFETY: allocated in `new` with this layout; released, so nobody looks any more.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), self.layout) };
    }
}

impl Provider for Tracking {
    fn info(&self) -> ProviderInfo {
        ProviderInfo {
            name: "tracking".into(),
            cpu_access: CpuAccess::ReadWrite,
            page_size: 4096,
            available: None,
            numa_node: None,
        }
    }

    fn alloc(&self, request: &RegionRequest) -> Result<Region, ProviderError> {
        assert!(request.len <= self.layout.size() && !self.is_released());
        Ok(Region::new(TrackingMemory(self.clone())))
    }
}

struct TrackingMemory(Tracking);

// SAFETY: each test makes one region of its tracker, whose bytes outlive it.
unsafe impl Memory for TrackingMemory {
    fn base(&self) -> NonNull<u8> {
        self.0.base
    }
    fn len(&self) -> usize {
        self.0.layout.size()
    }
    fn page_size(&self) -> usize {
        4096
    }
    fn cpu_access(&self) -> CpuAccess {
        CpuAccess::ReadWrite
    }
    fn backing(&self) -> Backing {
        Backing::Anonymous
    }
}

impl Drop for TrackingMemory {
    fn drop(&mut self) {
        // SAFETY: the allocation is as long; whoever still had a slice of it would be the bug.
        unsafe { self.0.base.write_bytes(POISON, self.0.layout.size()) };
        self.0.released.store(true, Ordering::Release);
    }
}

/// One of everything that can hold a pool's memory.
struct Everything {
    provider: Option<Tracking>,
    region: Option<RegionHandle>,
    pool: Option<Pool<Cpu>>,
    second: Option<Pool<Cpu>>,
    cache: Option<Cache<Cpu>>,
    burst: Option<Burst<Cpu>>,
    ledger: Option<InFlight<Cpu>>,
    buf: Option<Buf<Cpu>>,
    shared: Option<SharedBuf>,
}

const THINGS: usize = 9;

impl Everything {
    fn new(tracking: &Tracking) -> Self {
        let pool = tracking.pool();
        let mut cache = pool.cache();
        let mut burst = Burst::with_limit(&pool, 2);
        assert_eq!(cache.take(&mut burst, 2), 2);
        let mut ledger = InFlight::new(&pool, 4);
        ledger.post(1, cache.take_one().unwrap()).unwrap();
        let mut buf = cache.take_one().unwrap();
        assert!(buf.frame_mut().append(b"held"));
        let mut other = cache.take_one().unwrap();
        assert!(other.frame_mut().append(b"shared"));
        Self {
            provider: Some(tracking.clone()),
            region: Some(pool.areas().remove(0).region),
            second: Some(pool.clone()),
            pool: Some(pool),
            cache: Some(cache),
            burst: Some(burst),
            ledger: Some(ledger),
            buf: Some(buf),
            shared: Some(other.share().unwrap()),
        }
    }

    /// Lets go of one; `proof` says whether the device is known to have stopped.
    fn drop_one(&mut self, which: usize, proof: bool) {
        match which {
            0 => drop(self.provider.take()),
            1 => drop(self.region.take()),
            2 => drop(self.pool.take()),
            3 => drop(self.second.take()),
            4 => drop(self.cache.take()),
            5 => drop(self.burst.take()),
            6 => {
                let ledger = self.ledger.take().unwrap();
                if proof {
                    // SAFETY: there is no device.
                    ledger.reclaim(unsafe { Quiesced::new() });
                }
            }
            7 => drop(self.buf.take()),
            _ => drop(self.shared.take()),
        }
    }

    /// Bytes through the buffers that are left: readable, and writable where that is allowed.
    fn check(&mut self, tracking: &Tracking, order: &[usize]) {
        if let Some(buf) = &mut self.buf {
            assert!(!tracking.is_released(), "released under a buffer: {order:?}");
            assert_eq!(buf.bytes(), b"held", "{order:?}");
            buf.bytes_mut().copy_from_slice(b"HELD");
            assert_eq!(buf.frame().bytes(), b"HELD", "{order:?}");
            buf.bytes_mut().copy_from_slice(b"held");
        }
        if let Some(shared) = &self.shared {
            assert!(!tracking.is_released(), "released under a shared buffer: {order:?}");
            assert_eq!(shared.clone().bytes(), b"shared", "{order:?}");
        }
    }
}

/// Heap's algorithm, calling `visit` with every order of `0..count`.
fn permute(order: &mut [usize], count: usize, visit: &mut impl FnMut(&[usize])) {
    if count <= 1 {
        return visit(order);
    }
    for at in 0..count {
        permute(order, count - 1, visit);
        order.swap(if count.is_multiple_of(2) { at } else { 0 }, count - 1);
    }
}

/// All orders with the provider going at one fixed place, which moves from order to order; with
/// `MEMWIRE_FULL=1` all orders of all.
fn every_order(mut visit: impl FnMut(&[usize])) -> usize {
    let mut orders = 0;
    if std::env::var_os("MEMWIRE_FULL").is_some() {
        let mut all: Vec<_> = (0..THINGS).collect();
        permute(&mut all, THINGS, &mut |order| {
            orders += 1;
            visit(order);
        });
        return orders;
    }
    let mut others: Vec<_> = (1..THINGS).collect();
    permute(&mut others, THINGS - 1, &mut |order| {
        let mut order = order.to_vec();
        order.insert(orders % THINGS, 0);
        orders += 1;
        visit(&order);
    });
    orders
}

#[test]
fn memory_goes_after_the_last_buffer_in_every_drop_order() {
    let orders = every_order(|order| {
        let tracking = Tracking::new();
        let mut everything = Everything::new(&tracking);
        for (at, which) in order.iter().enumerate() {
            // Everything holds the memory but its provider, which may be left alone at the end.
            let is_held = order[at..] != [0];
            assert!(!is_held || !tracking.is_released(), "released early: {order:?}");
            everything.drop_one(*which, true);
            everything.check(&tracking, order);
        }
        assert!(tracking.is_released_soon(), "never released: {order:?}");
        tracking.end();
    });
    assert!(orders >= 40_320, "{orders}");
}

#[test]
fn memory_a_device_may_still_write_stays_in_every_drop_order() {
    let seen = (0..6).map(|_| Tracking::new()).collect::<Vec<_>>();
    for (which, tracking) in seen.iter().enumerate() {
        let mut everything = Everything::new(tracking);
        let slot = everything.ledger.as_ref().unwrap().posted_at(1).unwrap();
        // The ledger goes first, last, and in between.
        let mut order: Vec<_> = (0..THINGS).filter(|thing| *thing != 6).collect();
        order.insert(which * (THINGS - 1) / 5, 6);
        for thing in &order {
            everything.drop_one(*thing, false);
            everything.check(tracking, &order);
        }
        for _ in 0..10 {
            reap_orphans();
        }
        assert!(!tracking.is_released(), "released under a device: {order:?}");
        // SAFETY: inside the allocation, which nobody else uses any more.
        let at = unsafe { tracking.base.add(slot.index() as usize * 64) };
        // SAFETY: as above; the device that could write does not exist.
        let bytes = unsafe { slice::from_raw_parts(at.as_ptr(), 64) };
        assert!(bytes.iter().all(|byte| *byte != POISON));
    }
}

#[test]
fn a_forgotten_buffer_keeps_its_memory() {
    let tracking = Tracking::new();
    let pool = tracking.pool();
    std::mem::forget(pool.cache().take_one());
    drop(pool);
    assert!(reap_orphans() > 0);
    assert!(!tracking.is_released());
}

#[test]
fn the_last_buffer_may_end_on_another_thread_while_the_handle_goes() {
    for _ in 0..2000 {
        let tracking = Tracking::new();
        let pool = tracking.pool();
        let mut cache = pool.cache();
        let bufs: Vec<_> = (0..3).map(|_| cache.take_one().unwrap()).collect();
        std::thread::scope(|scope| {
            for buf in bufs {
                scope.spawn(move || drop(buf));
            }
            drop((cache, pool));
        });
        assert!(tracking.is_released_soon());
        tracking.end();
    }
}

#[test]
fn memory_that_holds_a_handle_of_another_pool_is_reaped() {
    let outer = Tracking::new();
    let mut inner = Tracking::new();
    inner.keeps = Some(outer.pool());
    let outer_buf = inner.keeps.as_ref().unwrap().cache().take_one();
    let pool = inner.pool();
    // The tracker's own handle of the outer pool goes; the memory's stays.
    inner.keeps = None;
    let buf = pool.cache().take_one();
    drop(pool);
    assert!(!inner.is_released());
    drop(buf);
    // The outer pool becomes an orphan while the inner one is being reaped.
    assert!(inner.is_released_soon());
    assert!(!outer.is_released());
    drop(outer_buf);
    assert!(outer.is_released_soon());
    inner.end();
    outer.end();
}
