//! A pool's handle: what it tells, how it grows and drains, and when it ends. Control plane: nothing here runs per
//! packet.
#![allow(unsafe_code, reason = "decides when the shared core may be freed")]

use std::{fmt, marker::PhantomData, ptr::NonNull, sync::Arc};

use crate::{
    Access, Audit, Cache, Counters, Error, PoolBuilder, Provider, Region, RegionHandle,
    builder::allocate,
    core::{Area, Core},
    registry,
};

/// Number of an area of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AreaId(pub(crate) usize);

impl AreaId {
    /// The number.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}

/// Whether an area serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaState {
    /// Hands out slots.
    Active,
    /// Hands out none; waits for those that are out.
    Draining {
        /// Slots not home yet, as far as the shared list knows.
        outstanding: usize,
    },
}

/// One area, for mappers and reports.
#[derive(Clone, Debug)]
pub struct AreaInfo {
    /// Its number in the pool.
    pub id: AreaId,
    /// Its slots.
    pub slots: usize,
    /// Number of its first slot; the others follow.
    pub first_slot: u32,
    /// Who gave the memory.
    pub provider: String,
    /// The memory: holding this keeps it alive.
    pub region: RegionHandle,
    /// Whether it serves.
    pub state: AreaState,
}

/// Owns the core; the last one to go frees it, or leaves it to the orphans.
pub(crate) struct Shell {
    core: NonNull<Core>,
}

// SAFETY: a shared pointer to a `Core`, which is `Send + Sync`.
unsafe impl Send for Shell {}
// SAFETY: as above.
unsafe impl Sync for Shell {}

impl Shell {
    pub(crate) fn core(&self) -> &Core {
        // SAFETY: freed only in `drop`.
        unsafe { self.core.as_ref() }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if self.core().is_all_home() {
            // SAFETY: no pool handle, cache, burst or queue is left (each holds a shell), and every
            // slot is home, so no `Buf` exists that could reach the core. A buffer that came home a
            // moment ago made its last access with the store that we have just acquired.
            drop(unsafe { Box::from_raw(self.core.as_ptr()) });
        } else {
            registry::adopt_orphan(self.core);
        }
    }
}

/// Equal slots carved out of one or more regions, typed by who may look inside.
///
/// Cloning gives another handle to the same pool. The pool lives until the last handle, cache,
/// burst and queue is gone *and* the last buffer is home.
pub struct Pool<A: Access> {
    shell: Arc<Shell>,
    access: PhantomData<A>,
}

impl<A: Access> Clone for Pool<A> {
    fn clone(&self) -> Self {
        Self { shell: Arc::clone(&self.shell), access: PhantomData }
    }
}

impl<A: Access> fmt::Debug for Pool<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name())
            .field("access", &A::NAME)
            .field("capacity", &self.capacity())
            .field("stride", &self.stride())
            .finish()
    }
}

impl<A: Access> Pool<A> {
    /// Starts to describe a pool.
    #[must_use]
    pub fn builder<'m>() -> PoolBuilder<'m, A> {
        PoolBuilder::new()
    }

    /// The first handle of a core, which it owns from here on.
    pub(crate) fn of(core: Core) -> Self {
        let core = NonNull::from(Box::leak(Box::new(core)));
        Self { shell: Arc::new(Shell { core }), access: PhantomData }
    }

    pub(crate) fn core(&self) -> &Core {
        self.shell.core()
    }

    pub(crate) fn core_ptr(&self) -> NonNull<Core> {
        self.shell.core
    }

    /// The same pool under another access type. Only for types that promise no more.
    pub(crate) fn cast<B: Access>(&self) -> Pool<B> {
        Pool { shell: Arc::clone(&self.shell), access: PhantomData }
    }

    /// Whether both handles are of one pool.
    #[must_use]
    pub fn is_same<B: Access>(&self, other: &Pool<B>) -> bool {
        self.shell.core == other.shell.core
    }

    /// The pool's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core().name
    }

    /// Bytes of a slot.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.core().table.stride()
    }

    /// Bytes left free before a fresh buffer's payload.
    #[must_use]
    pub fn headroom(&self) -> usize {
        self.core().fresh.offset()
    }

    /// Bytes of payload that fit a fresh buffer.
    #[must_use]
    pub fn room(&self) -> usize {
        self.stride() - self.headroom()
    }

    /// Slots of all areas there are now.
    #[must_use]
    pub fn capacity(&self) -> usize {
        let core = self.core();
        core.capacity(&core.control())
    }

    /// Slots that a cache of this pool keeps.
    #[must_use]
    pub fn cache_size(&self) -> usize {
        self.core().cache_size
    }

    /// Bound of every slot number this pool can ever have: the length of a table kept beside it.
    #[must_use]
    pub fn slot_bound(&self) -> usize {
        self.core().table.count()
    }

    /// Whether buffers may be shared ([`PoolBuilder::shareable`]).
    #[must_use]
    pub fn is_shareable(&self) -> bool {
        !self.core().references.is_empty()
    }

    /// A worker's own stack of free slots. One per worker, not per queue.
    #[must_use]
    pub fn cache(&self) -> Cache<A> {
        Cache::new(self)
    }

    /// Where every slot is now.
    #[must_use]
    pub fn audit(&self) -> Audit {
        Audit::of(self.core())
    }

    /// What happened on the slow paths so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters::of(self.core())
    }

    /// The areas there are, for mappers and reports.
    #[must_use]
    pub fn areas(&self) -> Vec<AreaInfo> {
        let core = self.core();
        let info = |(at, area): (usize, &Option<Area>)| {
            let area = area.as_ref()?;
            Some(AreaInfo {
                id: AreaId(at),
                slots: area.slots as usize,
                first_slot: u32::try_from(at << core.table.shift()).unwrap_or(u32::MAX),
                provider: area.provider.clone(),
                region: area.region.handle(),
                state: if core.is_area_draining(at) {
                    AreaState::Draining { outstanding: area.slots as usize - core.parked(at) }
                } else {
                    AreaState::Active
                },
            })
        };
        core.control().areas.iter().enumerate().filter_map(info).collect()
    }

    /// Grows the pool by `slots` slots of `memory`, while traffic runs. Devices map the new area the
    /// first time they meet one of its slots.
    ///
    /// # Errors
    /// The pool has no area number left, `slots` is more than an area holds, or the provider
    /// refused; the pool is as before.
    pub fn add_area(&self, memory: &dyn Provider, slots: usize) -> Result<AreaId, Error> {
        let core = self.core();
        let pool = || core.name.clone();
        if slots == 0 {
            return Err(Error::Zero { pool: pool(), what: "slots of the new area" });
        }
        let limit = 1 << core.table.shift();
        if slots > limit {
            let what = "slots of the new area";
            return Err(Error::TooLarge { pool: pool(), what, value: slots, limit });
        }
        let none_left = || Error::NoAreaLeft { pool: pool(), limit: core.table.areas() };
        let free = |areas: &[Option<Area>]| areas.iter().position(Option::is_none);
        // Asked twice: memory is not taken in vain, nor the lock held while it is.
        free(&core.control().areas).ok_or_else(none_left)?;
        let region = allocate::<A>(&core.name, memory, slots, core.table.stride())?;
        let provider = memory.info().name;
        let mut control = core.control();
        let at = free(&control.areas).ok_or_else(none_left)?;
        self.install(&mut control.areas, at, region, slots, provider);
        Ok(AreaId(at))
    }

    /// Makes a region the `at`-th area and puts its slots on the list.
    pub(crate) fn install(
        &self,
        areas: &mut [Option<Area>],
        at: usize,
        region: Region,
        slots: usize,
        provider: String,
    ) {
        let core = self.core();
        let first = u32::try_from(at << core.table.shift()).unwrap_or(u32::MAX);
        let count = u32::try_from(slots).unwrap_or(u32::MAX);
        core.table.set_base(at, region.base().as_ptr());
        for slot in first..first + count {
            // SAFETY: the slot is not on the list yet: it is ours.
            unsafe { core.table.meta(slot).write(core.fresh) };
        }
        // A revocation is a drain that nobody asked the pool for. It may come late, when another
        // area has the number: the region that is there now decides.
        let shell = Arc::downgrade(&self.shell);
        let watch: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
            if let Some(shell) = shell.upgrade() {
                let core = shell.core();
                let control = core.control();
                if control.areas[at].as_ref().is_some_and(|area| area.region.is_revoked()) {
                    core.set_draining(at);
                }
            }
        });
        region.watch(Arc::downgrade(&watch));
        // Or have come already: between the provider's grant and the line above.
        if region.is_revoked() {
            core.set_draining(at);
        }
        areas[at] = Some(Area { region, slots: count, provider, _watch: watch });
        let mut numbers: Vec<u32> = (first..first + count).collect();
        core.put_shared(&mut numbers);
    }

    /// Stops handing out slots of an area. They are collected as they come home; see
    /// [`Pool::remove_area`].
    ///
    /// # Errors
    /// There is no such area.
    pub fn drain_area(&self, area: AreaId) -> Result<(), Error> {
        let core = self.core();
        let control = core.control();
        if !matches!(control.areas.get(area.0), Some(Some(_))) {
            return Err(Error::NoSuchArea { pool: core.name.clone(), area: area.0 });
        }
        core.set_draining(area.0);
        drop(control);
        self.sweep();
        Ok(())
    }

    /// Takes a drained area away and returns its memory; drains it first if nobody did. Call again
    /// while it answers [`Error::Draining`]: workers bring the rest home as they run (an idle
    /// worker by [`Cache::tidy`]).
    ///
    /// # Errors
    /// There is no such area, or buffers of it are still out.
    pub fn remove_area(&self, area: AreaId) -> Result<Region, Error> {
        self.drain_area(area)?;
        let core = self.core();
        let mut control = core.control();
        let no_such = || Error::NoSuchArea { pool: core.name.clone(), area: area.0 };
        let known = control.areas.get_mut(area.0).ok_or_else(no_such)?;
        let slots = known.as_ref().ok_or_else(no_such)?.slots as usize;
        let outstanding = slots - core.parked(area.0);
        if outstanding > 0 {
            let pool = core.name.clone();
            return Err(Error::Draining { pool, area: area.0, outstanding, slots });
        }
        let removed = known.take().ok_or_else(no_such)?;
        core.table.set_base(area.0, std::ptr::null_mut());
        core.clear_draining(area.0);
        Ok(removed.region)
    }

    /// Passes the shared list once, so that what lies there of draining areas is parked.
    fn sweep(&self) {
        let core = self.core();
        let mut slots = [0u32; 256];
        let mut left = core.free.len();
        while left > 0 {
            let most = left.min(slots.len());
            let got = core.free.take(&mut slots[..most]);
            if got == 0 {
                break;
            }
            core.put_shared(&mut slots[..got]);
            left -= got;
        }
    }

    pub(crate) fn shell(&self) -> &Arc<Shell> {
        &self.shell
    }
}
