//! One region of a BAR.
#![allow(unsafe_code, reason = "vouches for a live mapping of a BAR")]

use std::{os::fd::OwnedFd, ptr::NonNull, sync::Arc};

use mempool::{Backing, CpuAccess, Memory, ProviderError, Window};

use super::{PAGE, Shared};
use crate::mapping::Mapping;

/// A part of a BAR, until it is dropped.
pub(super) struct BarMemory {
    /// Address space without rights: a stray access by the CPU faults at once.
    face: Mapping,
    /// The CPU's way in, for mappers and copies.
    door: Option<Door>,
    export: Option<Arc<OwnedFd>>,
    offset: u64,
    shared: Arc<Shared>,
}

/// An address in the BAR's mapping, which `shared` keeps.
struct Door(NonNull<u8>);

// SAFETY: an address; who copies through it keeps to the bytes it owns.
unsafe impl Send for Door {}
// SAFETY: as above.
unsafe impl Sync for Door {}

impl BarMemory {
    /// Takes `len` bytes, whole pages, of the BAR.
    pub(super) fn carve(
        name: &str,
        shared: &Arc<Shared>,
        len: usize,
        align: usize,
    ) -> Result<Self, ProviderError> {
        let face = Mapping::reserved(len, align).map_err(|source| ProviderError::System {
            provider: name.to_owned(),
            what: "finding address space".into(),
            source,
            hint: String::new(),
        })?;
        let mut carver = shared.carver();
        let offset = carver.take(len as u64, align.max(PAGE) as u64);
        let offset = offset.ok_or_else(|| ProviderError::Exhausted {
            provider: name.to_owned(),
            needed: len as u64,
            available: carver.largest(),
            fix: "ask for fewer or smaller buffers, or take a larger BAR".into(),
        })?;
        drop(carver);
        let source = &shared.source;
        let door = source.window(offset, len as u64).map(Door);
        let export = source.export(shared.index, offset, len as u64).map(Arc::new);
        Ok(Self { face, door, export, offset, shared: Arc::clone(shared) })
    }
}

impl Drop for BarMemory {
    fn drop(&mut self) {
        self.shared.carver().give(self.offset);
    }
}

// SAFETY: 1. `face` reserves the span until drop; nothing is promised about touching it; 2. the door is an
// address of as many bytes in the BAR's mapping, which `shared` keeps, and which stays memory when the device
// goes.
unsafe impl Memory for BarMemory {
    fn base(&self) -> NonNull<u8> {
        self.face.base()
    }
    fn len(&self) -> usize {
        self.face.len()
    }
    fn page_size(&self) -> usize {
        PAGE
    }
    fn cpu_access(&self) -> CpuAccess {
        CpuAccess::None
    }
    fn backing(&self) -> Backing {
        Backing::Bar {
            address: self.shared.address.to_string(),
            index: self.shared.index,
            offset: self.offset,
            bus_address: self.shared.bus_address + self.offset,
            export: self.export.clone(),
        }
    }
    fn numa_node(&self) -> Option<u32> {
        self.shared.numa_node
    }
    fn window(&self) -> Option<Window> {
        self.door.as_ref().map(|door| Window::new(door.0, self.face.len()))
    }
}
