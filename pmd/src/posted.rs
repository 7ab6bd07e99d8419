//! Payload buffers of a split queue: posted in order, filled in order. What a NIC's data descriptors
//! are to hardware, for the queues that split in software (`ring`, the bounce path).
#![allow(unsafe_code, reason = "a software NIC writes posted buffers through their window")]

use mempool::{AreaId, Buf, Burst, Cache, Device, InFlight, Pool, Quiesced, RegionHandle};

use crate::{DropReason, Iova, MapError, MappedPool, PostOrder, SoftwareMapper};

/// How bytes get into the payload pool.
enum Door {
    /// Straight through the areas' windows.
    Window(MappedPool<Device, SoftwareMapper>),
    /// By the provider's copy engine; regions by area.
    Engine(Pool<Device>, Vec<Option<RegionHandle>>),
}

/// The posted payload buffers of one queue.
pub(crate) struct PostedData {
    door: Door,
    ledger: Option<InFlight<Device>>,
    /// Free-running: buffers posted so far, and filled so far.
    posted: usize,
    filled: usize,
    order: PostOrder,
    stock: Burst<Device>,
}

impl PostedData {
    /// For a software NIC, which needs windows.
    pub(crate) fn by_window(
        pool: &Pool<Device>,
        ring: usize,
        order: PostOrder,
    ) -> Result<Self, MapError> {
        Ok(Self::new(Door::Window(MappedPool::new(pool, SoftwareMapper)?), pool, ring, order))
    }

    /// For the bounce path, which takes the provider's engine where there is no window.
    pub(crate) fn by_any_door(pool: &Pool<Device>, ring: usize, order: PostOrder) -> Self {
        let door = MappedPool::new(pool, SoftwareMapper)
            .map_or_else(|_| Door::Engine(pool.clone(), Vec::new()), Door::Window);
        Self::new(door, pool, ring, order)
    }

    fn new(door: Door, pool: &Pool<Device>, ring: usize, order: PostOrder) -> Self {
        Self {
            door,
            ledger: Some(InFlight::new(pool, ring)),
            posted: 0,
            filled: 0,
            order,
            stock: Burst::with_limit(pool, Burst::<Device>::CAPACITY),
        }
    }

    /// The same for another pool, with nothing posted.
    pub(crate) fn moved_to(&self, pool: &Pool<Device>, order: PostOrder) -> Self {
        let ring = self.ledger.as_ref().map_or(0, InFlight::capacity);
        Self::by_any_door(pool, ring, order)
    }

    fn ledger(&mut self) -> Option<&mut InFlight<Device>> {
        self.ledger.as_mut()
    }

    /// Posts from the front of `data`, in order; returns how many the ring took.
    pub(crate) fn post(&mut self, data: &mut Burst<Device>) -> usize {
        if self.order == PostOrder::Cache {
            return 0;
        }
        let (at, count) = (self.posted, data.len());
        let Some(ledger) = self.ledger() else {
            return 0;
        };
        let posted = ledger.post_front(at, data, count);
        self.posted += posted;
        posted
    }

    /// Makes a way into areas that have come, and lets go of those that have gone.
    pub(crate) fn meet_areas(&mut self) -> Result<(), MapError> {
        match &mut self.door {
            Door::Window(mapped) => mapped.refresh(),
            Door::Engine(pool, regions) => {
                refresh(pool, regions);
                Ok(())
            }
        }
    }

    /// Fills the ring up from the worker's cache, if the queue is the one to post.
    pub(crate) fn refill(&mut self, cache: &mut Cache<Device>) {
        if self.order == PostOrder::App {
            return;
        }
        let Some(ledger) = self.ledger.as_mut() else {
            return;
        };
        let mut missing = ledger.capacity() - ledger.len();
        // Half a burst at least, so that the ring is not topped up one by one.
        while missing >= (ledger.capacity() / 2).min(Burst::<Device>::DEFAULT) {
            if cache.take(&mut self.stock, missing) == 0 {
                break;
            }
            let count = self.stock.len();
            self.posted += ledger.post_front(self.posted, &mut self.stock, count);
            missing = ledger.capacity() - ledger.len();
        }
    }

    /// Fills the next posted buffers with `parts`, `len` bytes in all: one buffer, or a chain where
    /// the queue posts by itself.
    #[inline]
    pub(crate) fn fill<'p>(
        &mut self,
        len: usize,
        parts: impl Iterator<Item = &'p [u8]>,
    ) -> Result<Buf<Device>, DropReason> {
        let ledger = self.ledger.as_mut().ok_or(DropReason::NoDataBuffer)?;
        let room = ledger.pool().room();
        let need = len.div_ceil(room).max(1);
        if need > 1 && self.order == PostOrder::App {
            return Err(DropReason::TooLong);
        }
        if ledger.len() < need {
            return Err(DropReason::NoDataBuffer);
        }
        let ring = ledger.capacity();
        let mut next = || {
            let buf = ledger.complete(self.filled % ring);
            self.filled += 1;
            buf.ok_or(DropReason::NoDataBuffer)
        };
        let mut chain = next()?;
        if need == 1 {
            // One segment: the common case, without bookkeeping.
            chain.frame_mut().reset(0);
            let (area, offset) = chain.frame().place();
            let mut at = 0;
            for part in parts {
                if part.len() > room - at {
                    return Err(DropReason::TooLong);
                }
                write(&mut self.door, area, offset + at, part)?;
                at += part.len();
            }
            chain.frame_mut().set_len(at);
            return Ok(chain);
        }
        // A chain: each segment is filled, then hung behind the others. Nothing is allocated.
        chain.frame_mut().reset(0);
        let (mut tail, mut at) = (None, 0);
        for mut part in parts {
            while !part.is_empty() {
                if at == room {
                    hang(&mut chain, tail.take())?;
                    let mut fresh = next()?;
                    fresh.frame_mut().reset(0);
                    (tail, at) = (Some(fresh), 0);
                }
                let segment = tail.as_mut().unwrap_or(&mut chain);
                let (now, rest) = part.split_at(part.len().min(room - at));
                let (area, offset) = segment.frame().place();
                write(&mut self.door, area, offset + at, now)?;
                at += now.len();
                segment.frame_mut().set_len(at);
                part = rest;
            }
        }
        hang(&mut chain, tail)?;
        Ok(chain)
    }
}

/// Makes `tail`, if there is one, the last segment of `chain`.
fn hang(chain: &mut Buf<Device>, tail: Option<Buf<Device>>) -> Result<(), DropReason> {
    tail.map_or(Ok(()), |tail| chain.chain(tail).map_err(|_| DropReason::TooLong))
}

/// Copies `bytes` to a place in the payload pool.
#[inline]
fn write(door: &mut Door, area: AreaId, offset: usize, bytes: &[u8]) -> Result<(), DropReason> {
    match door {
        Door::Window(mapped) => {
            let Some(Iova(at)) = mapped.iova((area, offset)) else {
                return Err(DropReason::NoDataBuffer);
            };
            #[expect(clippy::cast_possible_truncation, reason = "an address of this process")]
            let to = std::ptr::with_exposed_provenance_mut::<u8>(at as usize);
            // SAFETY: the place is in a buffer that the caller completed and holds, and whose slot
            // has room for `bytes` (checked there); the window spans the area, is writable, and is
            // kept alive by `mapped`. No reference to device memory exists.
            unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            Ok(())
        }
        Door::Engine(pool, regions) => {
            if regions.get(area.index()).is_none_or(Option::is_none) {
                refresh(pool, regions);
            }
            let region = regions.get(area.index()).and_then(Option::as_ref);
            let region = region.ok_or(DropReason::NoDataBuffer)?;
            // SAFETY: the place is in a buffer that the caller completed and holds; device buffers
            // lend no slices.
            unsafe { region.write(offset, bytes) }.map_err(|_| DropReason::NoDataBuffer)
        }
    }
}

#[cold]
fn refresh(pool: &Pool<Device>, regions: &mut Vec<Option<RegionHandle>>) {
    regions.clear();
    for area in pool.areas() {
        regions.resize_with(regions.len().max(area.id.index() + 1), || None);
        regions[area.id.index()] = Some(area.region);
    }
}

impl Drop for PostedData {
    fn drop(&mut self) {
        if let Some(ledger) = self.ledger.take() {
            // SAFETY: the "device" that writes these buffers is this very object, driven by whoever
            // owns it; it is being dropped, so nothing writes any more.
            ledger.reclaim(unsafe { Quiesced::new() });
        }
    }
}
