//! Our regions as DPDK's external memory: known to it by address, and mapped for devices that do DMA.
//! Knows nothing of packets. Addresses of devices are the process's own: DPDK is initialised so.
#![allow(unsafe_code, reason = "tells DPDK of memory that a region handle keeps alive")]
#![expect(clippy::disallowed_types, reason = "control plane: regions come and go rarely")]

use std::{
    ffi::c_void,
    ptr::null_mut,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use dpdk_sys as sys;
use mempool::RegionHandle;

use super::eal;
use crate::{DmaMapper, Iova, MapError};

/// One region that DPDK knows of; several ports share it.
struct Registration {
    region: RegionHandle,
}

static KNOWN: Mutex<Vec<Weak<Registration>>> = Mutex::new(Vec::new());

fn known() -> MutexGuard<'static, Vec<Weak<Registration>>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registration {
    /// The registration of a region: the one there is, or a new one.
    fn of(region: &RegionHandle) -> Result<Arc<Self>, MapError> {
        let mut known = known();
        known.retain(|registration| registration.strong_count() > 0);
        let same = |registration: &Arc<Self>| registration.region.base() == region.base();
        if let Some(registration) = known.iter().filter_map(Weak::upgrade).find(same) {
            return Ok(registration);
        }
        let (base, len, page) = (region.base().as_ptr(), region.len(), region.page_size());
        let pages = u32::try_from(len / page).unwrap_or(u32::MAX);
        // SAFETY: the region spans `len` bytes at `base` in pages of `page`, and stays mapped for as long as
        // this object, which holds a handle, is registered.
        let failed = unsafe { sys::rte_extmem_register(base.cast(), len, null_mut(), pages, page) };
        if failed != 0 {
            let what = "DPDK does not take the region as external memory";
            return Err(refused(region, what, eal::errno()));
        }
        let registration = Arc::new(Self { region: region.clone() });
        known.push(Arc::downgrade(&registration));
        Ok(registration)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let (base, len) = (self.region.base().as_ptr(), self.region.len());
        // SAFETY: registered in `of` with these figures; nobody maps it any more.
        let failed = unsafe { sys::rte_extmem_unregister(base.cast(), len) };
        if failed != 0 {
            let why = eal::strerror(eal::errno());
            tracing::warn!(%why, "DPDK keeps a region of external memory for good");
            // It may look at it later.
            std::mem::forget(self.region.clone());
        }
    }
}

/// Maps regions for one device of DPDK's.
pub(super) struct EthMapper {
    device: *mut sys::rte_device,
    mapped: Vec<Arc<Registration>>,
}

// SAFETY: the device is a name to DPDK, which locks its own tables; its port outlives the mapper (`Port`).
unsafe impl Send for EthMapper {}

impl EthMapper {
    pub(super) fn new(device: *mut sys::rte_device) -> Self {
        Self { device, mapped: Vec::new() }
    }
}

impl DmaMapper for EthMapper {
    fn name(&self) -> &'static str {
        "DPDK"
    }

    fn map(&mut self, region: &RegionHandle) -> Result<Iova, MapError> {
        if region.is_revoked() {
            return Err(MapError::Revoked);
        }
        if region.window().is_none_or(|window| window.base() != region.base()) {
            let why = "the memory cannot be read by the host, which DPDK's drivers may do; receive into host \
                       memory and use the bounce path";
            let (backing, mapper) = (region.backing().name(), self.name());
            return Err(MapError::Unsupported { backing, mapper, why: why.into() });
        }
        let registration = Registration::of(region)?;
        let address = address(region);
        // SAFETY: registered memory, which stays so while it is in `mapped`.
        let failed =
            unsafe { sys::rte_dev_dma_map(self.device, base(region), address, region.len()) };
        let error = eal::errno();
        // A driver in software needs no mapping, and its bus has none; another port may have mapped it.
        if failed != 0 && !matches!(error, libc::ENOTSUP | libc::EEXIST) {
            return Err(refused(region, "the device cannot be given the region", error));
        }
        self.mapped.push(registration);
        Ok(Iova(address))
    }

    fn unmap(&mut self, region: &RegionHandle) {
        let at = self.mapped.iter().position(|known| known.region.base() == region.base());
        let Some(registration) = at.map(|at| self.mapped.swap_remove(at)) else { return };
        // The last one to use it; devices of one container share a mapping.
        if Arc::strong_count(&registration) == 1 {
            // SAFETY: mapped in `map` with these figures, or never, which DPDK tells apart.
            unsafe {
                sys::rte_dev_dma_unmap(self.device, base(region), address(region), region.len())
            };
        }
    }
}

fn base(region: &RegionHandle) -> *mut c_void {
    region.base().as_ptr().cast()
}

fn address(region: &RegionHandle) -> u64 {
    region.base().as_ptr().expose_provenance() as u64
}

fn refused(region: &RegionHandle, what: &str, error: i32) -> MapError {
    let why = format!("{what} ({}); add buffers=copy to the port", eal::strerror(error));
    MapError::Refused { backing: region.backing().name(), mapper: "DPDK", why }
}
