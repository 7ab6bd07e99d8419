//! The device's own view of a pool's bytes: copies by the provider's engine, of buffers that one owns.
//! How a consumer on the host reads payloads that no slice may name, and how rows are moved.
#![allow(unsafe_code, reason = "calls the provider's copy engine on owned slots")]

use crate::{AreaId, CopyError, Device, Frame, FrameMut, Pool, RegionHandle};

/// Copies to and from buffers of one pool. Bounds are those of the slot, from the payload's start on.
pub struct DeviceView {
    pool: Pool<Device>,
    /// By area; checked against the pool, since areas come and go.
    regions: Vec<Option<RegionHandle>>,
}

impl DeviceView {
    /// A view of the areas that the pool has now; of later ones it learns when it meets them.
    #[must_use]
    pub fn new(pool: &Pool<Device>) -> Self {
        let mut regions = Vec::new();
        for area in pool.areas() {
            regions.resize_with(regions.len().max(area.id.0 + 1), || None);
            regions[area.id.0] = Some(area.region);
        }
        Self { pool: pool.clone(), regions }
    }

    /// Bytes from one slot to the next.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.pool.stride()
    }

    /// Copies the first bytes of the payload out.
    ///
    /// # Errors
    /// `into` is longer than the slot, or the memory has no way out.
    ///
    /// # Panics
    /// If the frame is of another pool.
    #[inline]
    pub fn read(&self, frame: Frame<'_, Device>, into: &mut [u8]) -> Result<(), CopyError> {
        self.with(frame, into.len(), |region, offset| {
            // SAFETY: within the slot (checked in `with`), whose owner is borrowed: a device has it
            // not, nobody writes it, and device buffers lend no slices.
            unsafe { region.read(offset, into) }
        })
    }

    /// Copies bytes to the start of the payload.
    ///
    /// # Errors
    /// `bytes` are more than the slot holds, or the memory has no way in.
    ///
    /// # Panics
    /// If the frame is of another pool.
    #[inline]
    pub fn write(&self, frame: &mut FrameMut<'_, Device>, bytes: &[u8]) -> Result<(), CopyError> {
        self.with(frame.view(), bytes.len(), |region, offset| {
            // SAFETY: within the slot (checked in `with`), whose owner is borrowed exclusively.
            unsafe { region.write(offset, bytes) }
        })
    }

    #[inline]
    fn with(
        &self,
        frame: Frame<'_, Device>,
        len: usize,
        copy: impl FnOnce(&RegionHandle, usize) -> Result<(), CopyError>,
    ) -> Result<(), CopyError> {
        assert!(frame.is_of(self.pool.core()), "view and frame are of two pools");
        let (area, offset) = frame.place();
        let room = self.pool.stride() - frame.meta().offset();
        if len > room {
            return Err(CopyError::OutOfBounds { offset, len, region: room });
        }
        let base = self.pool.core().table.base(area.0);
        match self.regions.get(area.0) {
            Some(Some(region)) if region.base().as_ptr() == base => copy(region, offset),
            _ => copy(&self.find(area)?, offset),
        }
    }

    /// The region of an area that came after this view was made.
    #[cold]
    fn find(&self, area: AreaId) -> Result<RegionHandle, CopyError> {
        let known = self.pool.areas().into_iter().find(|known| known.id == area);
        known.map(|area| area.region).ok_or(CopyError::NoWay { what: "reached" })
    }
}
