//! The device's own view of the payloads: how a consumer reads rows that no `&[u8]` may name.

use mempool::{CopyError, Device, Pool, RegionHandle};

struct Area {
    first_slot: u32,
    slots: u32,
    region: RegionHandle,
}

/// Reads and moves payloads through the regions of the data pool: by their window where there is
/// one, by the provider's copy engine otherwise. For fake memory this is the back door, and whoever
/// reads through it plays the GPU.
pub struct PayloadReader {
    areas: Vec<Area>,
    stride: usize,
    /// Where a payload starts in its slot.
    offset: usize,
}

impl PayloadReader {
    /// Over the areas that the pool has now.
    #[must_use]
    pub fn new(pool: &Pool<Device>) -> Self {
        let area = |area: mempool::AreaInfo| Area {
            first_slot: area.first_slot,
            slots: u32::try_from(area.slots).unwrap_or(u32::MAX),
            region: area.region,
        };
        let areas = pool.areas().into_iter().map(area).collect();
        Self { areas, stride: pool.stride(), offset: pool.headroom() }
    }

    /// Bytes from one slot to the next: from one row of a tensor to the next.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.stride
    }

    fn place(&self, slot: u32) -> Result<(&RegionHandle, usize), CopyError> {
        let area = self.areas.iter().find(|area| slot.wrapping_sub(area.first_slot) < area.slots);
        let area = area.ok_or(CopyError::NoWay { what: "read" })?;
        let at = (slot - area.first_slot) as usize * self.stride + self.offset;
        Ok((&area.region, at))
    }

    /// Reads the first bytes of a slot's payload.
    ///
    /// # Errors
    /// There is no such slot, or no way to read it.
    #[inline]
    pub fn read(&self, slot: u32, into: &mut [u8]) -> Result<(), CopyError> {
        let (region, at) = self.place(slot)?;
        region.read(at, into)
    }

    /// Writes the first bytes of a slot's payload. Only for a slot that is empty.
    ///
    /// # Errors
    /// There is no such slot, or no way to write it.
    pub fn write(&self, slot: u32, bytes: &[u8]) -> Result<(), CopyError> {
        let (region, at) = self.place(slot)?;
        region.write(at, bytes)
    }
}
