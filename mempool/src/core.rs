//! What all handles of one pool share: the table, the shared free list, areas, counters, and the rule
//! for when it may be freed.
#![allow(unsafe_code, reason = "moves slots between raw arrays; frees itself")]
#![expect(clippy::disallowed_types, reason = "control plane: areas and gauges change rarely")]

use std::{
    mem::MaybeUninit,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64},
    },
};

use crossbeam_utils::CachePadded;

use crate::{
    Region, Slot,
    meta::Meta,
    ring::Mpmc,
    sync::{ModelU32, ModelU64, Ordering},
    table::Table,
};

/// A count that its owner publishes with plain relaxed stores and `audit` reads.
pub(crate) type Gauge = CachePadded<AtomicU32>;

/// What a cache publishes: one writer, so plain stores.
#[derive(Default)]
pub(crate) struct CacheGauge {
    pub(crate) len: AtomicU32,
    pub(crate) refills: AtomicU64,
    pub(crate) spills: AtomicU64,
    pub(crate) exhausted: AtomicU64,
}

/// Adds to a counter that has one writer.
#[inline(always)]
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Relaxed);
}

pub(crate) struct Area {
    pub(crate) region: Region,
    pub(crate) slots: u32,
    pub(crate) provider: String,
    /// Keeps the region's revocation watcher alive.
    pub(crate) _watch: Arc<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
pub(crate) struct Control {
    pub(crate) areas: Vec<Option<Area>>,
    pub(crate) caches: Vec<Weak<CachePadded<CacheGauge>>>,
    pub(crate) in_flight: Vec<Weak<Gauge>>,
}

/// Events of the slow paths, those of caches that are gone included.
#[derive(Default)]
pub(crate) struct Events {
    pub(crate) refills: AtomicU64,
    pub(crate) spills: AtomicU64,
    /// Strays that went to the shared list: written by whoever publishes there.
    pub(crate) strays: ModelU64,
    /// Strays that were parked: nothing orders those who park.
    pub(crate) strays_parked: AtomicU64,
    pub(crate) exhausted: AtomicU64,
    pub(crate) leaked: AtomicU64,
}

pub(crate) fn bump(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

pub(crate) struct Core {
    pub(crate) table: Table,
    /// What a fresh buffer's metadata looks like.
    pub(crate) fresh: Meta,
    /// Bit per area that hands out no more slots: draining, or revoked.
    draining: AtomicU64,
    pub(crate) name: String,
    pub(crate) cache_size: usize,
    pub(crate) free: Mpmc,
    pub(crate) events: CachePadded<Events>,
    /// Slots of draining areas that came home.
    parked: Box<[ModelU32]>,
    /// Reference counts of shared buffers; empty unless the pool was built shareable.
    pub(crate) references: Box<[ModelU32]>,
    control: Mutex<Control>,
    #[cfg(debug_assertions)]
    out: Box<[std::sync::atomic::AtomicBool]>,
}

impl Core {
    pub(crate) fn new(
        name: String,
        table: Table,
        fresh: Meta,
        cache_size: usize,
        shareable: bool,
    ) -> Self {
        let count = table.count();
        Self {
            draining: AtomicU64::new(0),
            free: Mpmc::new(count),
            events: CachePadded::default(),
            parked: (0..table.areas()).map(|_| ModelU32::new(0)).collect(),
            references: (0..if shareable { count } else { 0 }).map(|_| ModelU32::new(0)).collect(),
            control: Mutex::new(Control {
                areas: (0..table.areas()).map(|_| None).collect(),
                ..Control::default()
            }),
            #[cfg(debug_assertions)]
            out: (0..count).map(|_| false.into()).collect(),
            name,
            table,
            fresh,
            cache_size,
        }
    }

    pub(crate) fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Debug builds only: notes that slots left home; a slot that is out already is our bug.
    #[inline(always)]
    pub(crate) fn note_taken(&self, slots: &[u32]) {
        #[cfg(debug_assertions)]
        for &slot in slots {
            let was = self.out[slot as usize].swap(true, Ordering::Relaxed);
            assert!(!was, "pool '{}': slot {slot} handed out twice", self.name);
        }
        #[cfg(not(debug_assertions))]
        let _ = slots;
    }

    /// Debug builds only: notes that slots came home; a slot that is home already is our bug.
    #[inline(always)]
    pub(crate) fn note_given(&self, slots: &[u32]) {
        #[cfg(debug_assertions)]
        for &slot in slots {
            let was = self.out[slot as usize].swap(false, Ordering::Relaxed);
            assert!(was, "pool '{}': slot {slot} freed twice", self.name);
        }
        #[cfg(not(debug_assertions))]
        let _ = slots;
    }

    /// Whether some area hands out no more slots, so that the slow path must look at each.
    #[inline(always)]
    pub(crate) fn is_draining(&self) -> bool {
        // Relaxed: drains are eventual; the sweep in `remove_area` catches who looked too early.
        self.draining.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn is_area_draining(&self, area: usize) -> bool {
        self.draining.load(Ordering::Relaxed) >> area & 1 == 1
    }

    pub(crate) fn set_draining(&self, area: usize) {
        self.draining.fetch_or(1 << area, Ordering::AcqRel);
    }

    pub(crate) fn clear_draining(&self, area: usize) {
        self.parked[area].store(0, Ordering::Relaxed);
        self.draining.fetch_and(!(1 << area), Ordering::AcqRel);
    }

    pub(crate) fn parked(&self, area: usize) -> usize {
        self.parked[area].load(Ordering::Acquire) as usize
    }

    /// Keeps the slots that may be handed out again at the front, parks the others; returns how many
    /// were kept.
    #[cold]
    pub(crate) fn park(&self, slots: &mut [u32]) -> usize {
        let draining = self.draining.load(Ordering::Acquire);
        let mut kept = 0;
        for at in 0..slots.len() {
            let area = self.table.area_of(slots[at]);
            if draining >> area & 1 == 1 {
                // Release: whoever sees all of an area home also sees that its users are done.
                self.parked[area].fetch_add(1, Ordering::Release);
            } else {
                slots[kept] = slots[at];
                kept += 1;
            }
        }
        kept
    }

    /// Takes up to `most` slots off the shared list into `to`.
    ///
    /// # Safety
    /// `to` is valid for writes of `most` values.
    pub(crate) unsafe fn take_shared(&self, to: *mut MaybeUninit<u32>, most: usize) -> usize {
        // SAFETY: the caller's.
        let mut got = unsafe { self.free.take_raw(to, most) };
        while got > 0 && self.is_draining() {
            // SAFETY: the ring wrote `got` values there.
            let slots = unsafe { std::slice::from_raw_parts_mut(to.cast::<u32>(), got) };
            let kept = self.park(slots);
            if kept > 0 {
                return kept;
            }
            // SAFETY: the caller's.
            got = unsafe { self.free.take_raw(to, most) };
        }
        got
    }

    /// Puts slots on the shared list. There is room for every slot that exists, so it is refused only
    /// for as long as a consumer is between claim and publish.
    pub(crate) fn put_shared(&self, slots: &mut [u32]) {
        let slots = if self.is_draining() {
            let kept = self.park(slots);
            &slots[..kept]
        } else {
            slots
        };
        self.publish(slots, || ());
    }

    /// As [`Core::put_shared`], and counts the slots as strays. The count is made while nobody else
    /// publishes, before the store that is our last touch of the pool.
    pub(crate) fn put_strays(&self, slots: &mut [u32]) {
        let mut strays = slots.len();
        let slots = if self.is_draining() {
            // Counted before they are parked: the last one parked may be the pool's end. Some may
            // stay on the shared list, but none is counted twice.
            bump(&self.events.strays_parked, strays);
            strays = 0;
            let kept = self.park(slots);
            &slots[..kept]
        } else {
            slots
        };
        self.publish(slots, || self.note_strays(strays));
    }

    /// Counts strays; only while nobody else publishes.
    #[inline(always)]
    fn note_strays(&self, strays: usize) {
        let counter = &self.events.strays;
        counter.store(counter.load(Ordering::Relaxed) + strays as u64, Ordering::Relaxed);
    }

    fn publish(&self, slots: &[u32], count: impl Fn()) {
        let mut patience = crate::sync::Patience::new();
        while !self.free.put_noting(slots, &count) {
            patience.wait();
        }
    }

    /// One buffer home without a cache: any thread, any time. A slot in a chain brings the others.
    ///
    /// # Safety
    /// The caller owns the slot (and its chain) and gives it up.
    pub(crate) unsafe fn put_stray(&self, slot: u32) {
        // SAFETY: the caller owns the slot, hence its metadata.
        let next = unsafe { (*self.table.meta(slot)).next };
        if next != Slot::NONE {
            // SAFETY: the caller owns the chain.
            return unsafe { self.put_chain(slot) };
        }
        self.note_given(&[slot]);
        if self.is_draining() || !self.free.put_noting(&[slot], || self.note_strays(1)) {
            self.put_strays(&mut [slot]);
        }
    }

    /// # Safety
    /// As [`Core::put_stray`].
    #[cold]
    unsafe fn put_chain(&self, first: u32) {
        let mut slot = first;
        while slot != Slot::NONE {
            // SAFETY: the caller owns every slot of the chain.
            let next = unsafe { self.unlink(slot) };
            self.note_given(&[slot]);
            self.put_strays(&mut [slot]);
            slot = next;
        }
    }

    /// Takes a slot out of its chain and returns the one that followed.
    ///
    /// # Safety
    /// The caller owns the slot.
    pub(crate) unsafe fn unlink(&self, slot: u32) -> u32 {
        // SAFETY: the caller owns the slot, hence its metadata.
        let meta = unsafe { &mut *self.table.meta(slot) };
        meta.segments = 1;
        std::mem::replace(&mut meta.next, Slot::NONE)
    }

    /// Drops one reference of a shared buffer; true if it was the last, so that the caller now owns
    /// the slot.
    pub(crate) fn drop_reference(&self, slot: u32) -> bool {
        // AcqRel: the last one sees everything the others did with the bytes.
        self.references[slot as usize].fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Slots of all areas there are.
    pub(crate) fn capacity(&self, control: &Control) -> usize {
        control.areas.iter().flatten().map(|area| area.slots as usize).sum()
    }

    /// Whether every slot is on the shared list or parked: nobody can touch the pool any more.
    pub(crate) fn is_all_home(&self) -> bool {
        let capacity = self.capacity(&self.control());
        let parked: usize = (0..self.table.areas()).map(|at| self.parked(at)).sum();
        self.free.len() + parked == capacity
    }
}
