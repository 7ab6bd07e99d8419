//! Mapping memory into a device's address space. A mapping is a fact about a (pool, device) pair.

use std::fmt;

use mempool::{Access, AreaId, Pool, RegionHandle};

/// An address as a device sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Iova(pub u64);

impl fmt::LowerHex for Iova {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// Maps regions into one device's address space.
pub trait DmaMapper: Send + 'static {
    /// The name in errors and reports.
    fn name(&self) -> &'static str;

    /// Makes the region reachable for the device and returns where it starts there.
    ///
    /// # Errors
    /// The pair cannot work, or the system refused; the text names the next best way.
    fn map(&mut self, region: &RegionHandle) -> Result<Iova, MapError>;

    /// Takes the region out of the device's address space. The device must be quiesced, or hold no buffer of
    /// it any more.
    fn unmap(&mut self, region: &RegionHandle);
}

/// A region cannot be mapped for a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// This kind of memory and this kind of mapper do not go together.
    #[error("{mapper} cannot reach {backing}: {why}")]
    Unsupported {
        /// What the memory is.
        backing: &'static str,
        /// Who should map it.
        mapper: &'static str,
        /// The reason, and what works instead.
        why: String,
    },
    /// The system did not map it.
    #[error("{mapper} did not map {backing}: {why}")]
    Refused {
        /// What the memory is.
        backing: &'static str,
        /// Who should map it.
        mapper: &'static str,
        /// The system's reason, and what to do.
        why: String,
    },
    /// The provider took the memory back.
    #[error("the memory was revoked by its provider")]
    Revoked,
}

/// The mapper of software NICs: a region's window is their way in. Their addresses are the
/// process's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct SoftwareMapper;

impl DmaMapper for SoftwareMapper {
    fn name(&self) -> &'static str {
        "a software NIC"
    }

    fn map(&mut self, region: &RegionHandle) -> Result<Iova, MapError> {
        if region.is_revoked() {
            return Err(MapError::Revoked);
        }
        let window = region.window().ok_or_else(|| MapError::Unsupported {
            backing: region.backing().name(),
            mapper: self.name(),
            why: "the memory has no window for the host; use the bounce path, which copies by the \
                  provider's own engine"
                .into(),
        })?;
        Ok(Iova(window.base().as_ptr().expose_provenance() as u64))
    }

    fn unmap(&mut self, _region: &RegionHandle) {}
}

/// One pool as one device sees it: an address per area, filled in when an area is first met.
pub struct MappedPool<A: Access, M: DmaMapper> {
    pool: Pool<A>,
    mapper: M,
    areas: Vec<Option<(Iova, RegionHandle)>>,
    /// Where areas start, by area; [`NOWHERE`] for those that are not mapped.
    bases: Vec<u64>,
}

/// No area starts here: there is no room behind it.
const NOWHERE: u64 = u64::MAX;

impl<A: Access, M: DmaMapper> MappedPool<A, M> {
    /// Maps every area the pool has now.
    ///
    /// # Errors
    /// One cannot be mapped; none stays mapped then.
    pub fn new(pool: &Pool<A>, mapper: M) -> Result<Self, MapError> {
        let mut mapped = Self { pool: pool.clone(), mapper, areas: Vec::new(), bases: Vec::new() };
        mapped.refresh()?;
        Ok(mapped)
    }

    /// The pool.
    #[must_use]
    pub fn pool(&self) -> &Pool<A> {
        &self.pool
    }

    /// Maps areas that came since, unmaps those that went.
    ///
    /// # Errors
    /// One cannot be mapped.
    pub fn refresh(&mut self) -> Result<(), MapError> {
        let known = self.pool.areas();
        for area in &known {
            let at = area.id.index();
            if self.areas.len() <= at {
                self.areas.resize_with(at + 1, || None);
            }
            if self.areas[at].as_ref().is_some_and(|(_, old)| old.base() != area.region.base()) {
                self.forget(at);
            }
            if self.areas[at].is_none() {
                let iova = self.mapper.map(&area.region)?;
                self.areas[at] = Some((iova, area.region.clone()));
                self.bases.resize(self.areas.len(), NOWHERE);
                self.bases[at] = iova.0;
            }
        }
        self.bases.resize(self.areas.len(), NOWHERE);
        for at in 0..self.areas.len() {
            if !known.iter().any(|area| area.id.index() == at) {
                self.forget(at);
            }
        }
        Ok(())
    }

    fn forget(&mut self, at: usize) {
        if let Some((_, region)) = self.areas[at].take() {
            self.bases[at] = NOWHERE;
            self.mapper.unmap(&region);
        }
    }

    /// Device address of a place in the pool ([`mempool::Frame::place`]); maps the area if it is
    /// new. `None` if that fails.
    #[inline]
    pub fn iova(&mut self, (area, offset): (AreaId, usize)) -> Option<Iova> {
        match self.bases.get(area.index()) {
            Some(base) if *base != NOWHERE => Some(Iova(base + offset as u64)),
            _ => self.iova_of_new(area, offset),
        }
    }

    /// Device address of a place in an area that is mapped already: [`MappedPool::iova`] without a look
    /// for new ones.
    #[inline(always)]
    pub fn known(&self) -> Known<'_> {
        Known { bases: &self.bases, area: usize::MAX, base: NOWHERE }
    }

    #[cold]
    fn iova_of_new(&mut self, area: AreaId, offset: usize) -> Option<Iova> {
        self.refresh().ok()?;
        let (base, _) = self.areas.get(area.index())?.as_ref()?;
        Some(Iova(base.0 + offset as u64))
    }
}

/// The areas that are mapped, for a pass over many places, most of which are in one area.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    bases: &'a [u64],
    /// The area of the last place, and where it starts.
    area: usize,
    base: u64,
}

impl Known<'_> {
    /// Device address of a place, if its area is mapped.
    #[inline(always)]
    #[must_use]
    pub fn iova(&mut self, (area, offset): (AreaId, usize)) -> Option<Iova> {
        if area.index() != self.area {
            self.base = *self.bases.get(area.index()).filter(|base| **base != NOWHERE)?;
            self.area = area.index();
        }
        Some(Iova(self.base + offset as u64))
    }
}

impl<A: Access, M: DmaMapper> Drop for MappedPool<A, M> {
    fn drop(&mut self) {
        (0..self.areas.len()).for_each(|at| self.forget(at));
    }
}
