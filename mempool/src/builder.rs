//! How a pool is described and built: every argument checked, with an error that says what would do.

use std::marker::PhantomData;

use crate::{
    Access, Error, Pool, Provider, ProviderError, Region, RegionRequest,
    core::Core,
    meta::Meta,
    registry,
    table::{MAX_AREAS, Table},
};

/// Slots a cache keeps unless the pool says otherwise; DPDK's customary figure.
pub const DEFAULT_CACHE: usize = 256;
/// Bytes left free before a frame for encapsulation headers.
pub const DEFAULT_HEADROOM: usize = 128;
/// A slot's bytes are a multiple of a cache line, so that no two buffers share one.
const LINE: usize = 64;
const MAX_CACHE: usize = 4096;
const DEFAULT_AREAS: usize = 4;

/// Describes a pool; [`PoolBuilder::build`] checks it and takes the memory.
pub struct PoolBuilder<'m, A: Access> {
    name: String,
    slots: usize,
    stride: usize,
    headroom: Option<usize>,
    cache: usize,
    max_areas: usize,
    area_slots: usize,
    shareable: bool,
    memory: Option<&'m dyn Provider>,
    access: PhantomData<A>,
}

impl<'m, A: Access> PoolBuilder<'m, A> {
    pub(crate) fn new() -> Self {
        Self {
            name: "pool".into(),
            slots: 0,
            stride: 2048,
            headroom: None,
            cache: DEFAULT_CACHE,
            max_areas: DEFAULT_AREAS,
            area_slots: 0,
            shareable: false,
            memory: None,
            access: PhantomData,
        }
    }

    /// Name in reports and errors.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Buffers of the first area.
    #[must_use]
    pub fn slots(mut self, slots: usize) -> Self {
        self.slots = slots;
        self
    }

    /// Bytes of a buffer, headroom included; a multiple of 64. Default 2048.
    #[must_use]
    pub fn stride(mut self, bytes: usize) -> Self {
        self.stride = bytes;
        self
    }

    /// Bytes left free before the payload. Default: 128 where the CPU writes headers, 0 in device
    /// memory.
    #[must_use]
    pub fn headroom(mut self, bytes: usize) -> Self {
        self.headroom = Some(bytes);
        self
    }

    /// Slots that each worker's cache keeps, 0..=4096. Default 256.
    #[must_use]
    pub fn cache_size(mut self, slots: usize) -> Self {
        self.cache = slots;
        self
    }

    /// How many areas the pool may have at a time, 1..=64. Default 4.
    #[must_use]
    pub fn max_areas(mut self, areas: usize) -> Self {
        self.max_areas = areas;
        self
    }

    /// Most slots of an area added later, if more than the first one has.
    #[must_use]
    pub fn area_slots(mut self, slots: usize) -> Self {
        self.area_slots = slots;
        self
    }

    /// Allows [`crate::Buf::share`]: one reference count per slot.
    #[must_use]
    pub fn shareable(mut self) -> Self {
        self.shareable = true;
        self
    }

    /// Where the memory comes from.
    #[must_use]
    pub fn memory(mut self, provider: &'m dyn Provider) -> Self {
        self.memory = Some(provider);
        self
    }

    /// Builds the pool.
    ///
    /// # Errors
    /// An argument is zero, too large or not a multiple, or there is not enough memory; the message
    /// says how much is needed and how much there is. Nothing is held afterwards.
    pub fn build(self) -> Result<Pool<A>, Error> {
        let pool = || self.name.clone();
        for (what, value) in [("slots", self.slots), ("stride", self.stride)] {
            if value == 0 {
                return Err(Error::Zero { pool: pool(), what });
            }
        }
        if !self.stride.is_multiple_of(LINE) {
            let nearest = self.stride.checked_next_multiple_of(LINE).unwrap_or(usize::MAX / LINE);
            let (what, value) = ("stride", self.stride);
            return Err(Error::NotMultiple { pool: pool(), what, value, of: LINE, nearest });
        }
        let headroom = self.headroom.unwrap_or(if A::accepts(crate::CpuAccess::None) {
            0
        } else {
            DEFAULT_HEADROOM.min(self.stride / 2)
        });
        for (what, value, limit) in [
            ("cache size", self.cache, MAX_CACHE),
            ("headroom", headroom, self.stride.min(usize::from(u16::MAX))),
            ("number of areas", self.max_areas, MAX_AREAS),
            ("stride", self.stride, 1 << 30),
        ] {
            if value > limit {
                return Err(Error::TooLarge { pool: pool(), what, value, limit });
            }
        }
        if self.max_areas == 0 {
            return Err(Error::Zero { pool: pool(), what: "number of areas" });
        }
        let memory = self.memory.ok_or_else(|| Error::NoMemory { pool: pool() })?;
        let span = self.slots.max(self.area_slots);
        let too_many = || Error::TooLarge {
            pool: pool(),
            what: "slots",
            value: span,
            limit: (1usize << 31) / self.max_areas.next_power_of_two(),
        };
        let span = span.checked_next_power_of_two().ok_or_else(too_many)?;
        if span.checked_mul(self.max_areas).is_none_or(|count| count > 1 << 31) {
            return Err(too_many());
        }
        let region = allocate::<A>(&self.name, memory, self.slots, self.stride)?;
        let table =
            Table::new(self.max_areas, span.trailing_zeros(), self.stride).ok_or_else(too_many)?;
        let fresh = Meta::fresh(u16::try_from(headroom).unwrap_or(u16::MAX));
        let core = Core::new(self.name, table, fresh, self.cache, self.shareable);
        let pool = Pool::of(core);
        let provider = memory.info().name;
        pool.install(&mut pool.core().control().areas, 0, region, self.slots, provider);
        registry::enrol(&pool);
        Ok(pool)
    }
}

/// Asks a provider for the memory of so many slots, and checks what it gives.
pub(crate) fn allocate<A: Access>(
    name: &str,
    memory: &dyn Provider,
    slots: usize,
    stride: usize,
) -> Result<Region, Error> {
    let pool = || name.to_owned();
    let len = slots
        .checked_mul(stride)
        .filter(|len| isize::try_from(*len).is_ok())
        .ok_or_else(|| Error::Overflow { pool: pool(), slots, stride })?;
    let info = memory.info();
    let wrong_access = |found: crate::CpuAccess| Error::WrongAccess {
        pool: pool(),
        access: A::NAME,
        provider: info.name.clone(),
        found: found.name(),
    };
    if !A::accepts(info.cpu_access) {
        return Err(wrong_access(info.cpu_access));
    }
    let short = |available: u64| Error::NotEnoughMemory {
        pool: pool(),
        provider: info.name.clone(),
        slots,
        stride,
        needed: len as u64,
        available,
    };
    let request = RegionRequest { name: name.into(), len, align: LINE };
    let region = memory.alloc(&request).map_err(|error| match error {
        // The provider's text carries the fix; keep it where it has one.
        ProviderError::Exhausted { available, ref fix, .. } if fix.is_empty() => short(available),
        source => Error::Provider { pool: pool(), source },
    })?;
    if region.len() < len {
        return Err(short(region.len() as u64));
    }
    // A provider's word is safe code's; slices are made on the memory's, which vouches for it.
    if !A::accepts(region.cpu_access()) {
        return Err(wrong_access(region.cpu_access()));
    }
    Ok(region)
}
