//! Our regions as DPDK's external memory: known to it by address, and mapped for devices that do DMA.
//! Knows nothing of packets. Addresses of devices are the process's own: DPDK is initialised so.
//!
//! Functions that are bound to vfio-pci share one address space, and DPDK keeps a list of what it mapped there,
//! to map it again when the first device comes back. A region that is mapped for two of them is twice in that
//! list, and stays there when it is unmapped once: so the first device maps it for all, and the last one unmaps
//! it. Drivers that map by themselves (NVIDIA's) are asked for each device.
//!
//! For drivers in software nothing is registered: they use our addresses as they are, and registered memory
//! and net_virtio_user do not go together ([`Sharing`]).
#![allow(unsafe_code, reason = "tells DPDK of memory that a region handle keeps alive")]
#![expect(clippy::disallowed_types, reason = "control plane: regions come and go rarely")]

use std::{
    ffi::{CStr, c_int, c_void},
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
    /// Devices that use its mapping in the address space of vfio-pci.
    sharers: Mutex<usize>,
}

/// What DPDK knows, and who minds.
struct Known {
    regions: Vec<Weak<Registration>>,
    sharing: usize,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { regions: Vec::new(), sharing: 0 });

fn known() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registration {
    /// The registration of a region: the one there is, or a new one.
    fn of(region: &RegionHandle) -> Result<Arc<Self>, MapError> {
        let mut known = known();
        known.regions.retain(|registration| registration.strong_count() > 0);
        let same = |registration: &Arc<Self>| registration.region.base() == region.base();
        if let Some(registration) = known.regions.iter().filter_map(Weak::upgrade).find(same) {
            return Ok(registration);
        }
        if known.sharing > 0 {
            let why = "a port of net_virtio_user runs in this process, whose peer would be told of no memory any \
                       more: no frame would arrive there; add buffers=copy to this port, or use two processes";
            let (backing, mapper) = (region.backing().name(), "DPDK");
            return Err(MapError::Unsupported { backing, mapper, why: why.into() });
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
        let sharers = Mutex::new(0);
        let registration = Arc::new(Self { region: region.clone(), sharers });
        known.regions.push(Arc::downgrade(&registration));
        Ok(registration)
    }
}

impl Registration {
    fn sharers(&self) -> MutexGuard<'_, usize> {
        self.sharers.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Who has a region mapped for a device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mapping {
    /// The process's address space of vfio-pci.
    Shared,
    /// The device's own driver.
    Own,
    /// Nobody: a driver in software.
    None,
}

/// Who looks into memory that a port is given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// Drivers and applications, at its own address.
    Host,
    /// Only the device: payloads.
    Nobody,
}

/// Maps regions for one device of DPDK's.
pub(super) struct EthMapper {
    device: *mut sys::rte_device,
    reader: Reader,
    mapped: Vec<(Arc<Registration>, Mapping)>,
}

// SAFETY: the device is a name to DPDK, which locks its own tables; its port outlives the mapper (`Port`).
unsafe impl Send for EthMapper {}

impl EthMapper {
    pub(super) fn new(device: *mut sys::rte_device, reader: Reader) -> Self {
        Self { device, reader, mapped: Vec::new() }
    }

    /// How this device has memory mapped.
    fn kind(&self) -> Mapping {
        // SAFETY: the device was found by DPDK, which keeps it while its port is there.
        let bus = unsafe { sys::rte_dev_bus(self.device) };
        // SAFETY: a bus that DPDK named.
        let bus = unsafe { sys::rte_bus_name(bus) };
        // SAFETY: a bus's name is a string that lives for good.
        let bus = unsafe { CStr::from_ptr(bus) };
        // SAFETY: as of the bus.
        let driver = unsafe { sys::rte_dev_driver(self.device) };
        if bus == c"vdev" || driver.is_null() {
            return Mapping::None;
        }
        // SAFETY: a driver that DPDK named.
        let driver = unsafe { sys::rte_driver_name(driver) };
        // SAFETY: a driver's name is a string that lives for good.
        let driver = unsafe { CStr::from_ptr(driver) };
        if driver.to_bytes().starts_with(b"mlx5") { Mapping::Own } else { Mapping::Shared }
    }

    /// Has DPDK map a region; false if this device needs no mapping, or DPDK knows none for it.
    fn map_now(&self, region: &RegionHandle) -> Result<bool, MapError> {
        let (base, address) = (base(region), address(region));
        // SAFETY: registered memory, which stays so while the caller keeps it in `mapped`.
        let failed = unsafe { sys::rte_dev_dma_map(self.device, base, address, region.len()) };
        match eal::errno() {
            _ if failed == 0 => Ok(true),
            libc::ENOTSUP => Ok(false),
            error => Err(refused(region, "the device cannot be given the region", error)),
        }
    }

    fn unmap_now(&self, region: &RegionHandle) {
        let (base, address) = (base(region), address(region));
        // SAFETY: mapped by `map_now` with these figures; no device uses it any more.
        let failed = unsafe { sys::rte_dev_dma_unmap(self.device, base, address, region.len()) };
        if failed != 0 {
            let why = eal::strerror(eal::errno());
            tracing::warn!(%why, "DPDK keeps a region mapped for devices");
        }
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
        let kind = self.kind();
        let is_readable = region.window().is_some_and(|window| window.base() == region.base());
        if !is_readable && (self.reader == Reader::Host || kind == Mapping::None) {
            let why = "the memory cannot be read by the host, which DPDK's drivers may do; receive into host \
                       memory and use the bounce path";
            let (backing, mapper) = (region.backing().name(), self.name());
            return Err(MapError::Unsupported { backing, mapper, why: why.into() });
        }
        if kind == Mapping::None {
            return Ok(Iova(address(region)));
        }
        let registration = Registration::of(region)?;
        let mapping = match kind {
            Mapping::Own if self.map_now(region)? => Mapping::Own,
            Mapping::Shared => {
                let mut sharers = registration.sharers();
                if *sharers > 0 || self.map_now(region)? {
                    *sharers += 1;
                    Mapping::Shared
                } else {
                    Mapping::None
                }
            }
            _ => Mapping::None,
        };
        if !is_readable && mapping == Mapping::None {
            let why = "the device's driver maps no memory of others";
            let (backing, mapper) = (region.backing().name(), self.name());
            return Err(MapError::Unsupported { backing, mapper, why: why.into() });
        }
        self.mapped.push((registration, mapping));
        Ok(Iova(address(region)))
    }

    fn unmap(&mut self, region: &RegionHandle) {
        let at = self.mapped.iter().position(|(known, _)| known.region.base() == region.base());
        let Some((registration, mapping)) = at.map(|at| self.mapped.swap_remove(at)) else {
            return;
        };
        match mapping {
            Mapping::None => {}
            Mapping::Own => self.unmap_now(region),
            Mapping::Shared => {
                let mut sharers = registration.sharers();
                *sharers -= 1;
                if *sharers == 0 {
                    self.unmap_now(region);
                }
            }
        }
    }
}

/// Whether a device is hardware, not a driver in software.
pub(super) fn is_hardware(device: *mut sys::rte_device) -> bool {
    EthMapper::new(device, Reader::Host).kind() != Mapping::None
}

/// A port that shares DPDK's own memory with its peer. No region is registered while there is one.
///
/// net_virtio_user tells its peer of every piece of memory that DPDK knows, by file descriptors, and of nothing
/// at all if one has none: no frame arrives then, and no error (22.11.11). It does so whenever DPDK's memory
/// grows.
pub(super) struct Sharing(());

impl Sharing {
    /// The claim of a port with that driver, if it needs one.
    ///
    /// # Errors
    /// DPDK knows memory in this process that is not its own.
    pub(super) fn of(driver: &str) -> Result<Option<Self>, MapError> {
        if driver != "net_virtio_user" {
            return Ok(None);
        }
        // Before DPDK is asked: what is registered meanwhile is refused.
        let sharing = Self::claim();
        // SAFETY: the callback only reads what it is given.
        if unsafe { sys::rte_memseg_list_walk(Some(is_foreign), null_mut()) } != 1 {
            return Ok(Some(sharing));
        }
        let why = "DPDK knows memory in this process that has no file descriptor (a pool's, of a port of \
                   hardware), and would tell this driver's peer of none then: no frame would arrive; add \
                   buffers=copy to the port of hardware, or use two processes";
        let (backing, mapper) = ("DPDK's memory", "net_virtio_user's peer");
        Err(MapError::Unsupported { backing, mapper, why: why.into() })
    }

    fn claim() -> Self {
        known().sharing += 1;
        Self(())
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        known().sharing -= 1;
    }
}

/// Ends the walk, with 1, at the first list of external memory.
unsafe extern "C" fn is_foreign(list: *const sys::rte_memseg_list, _: *mut c_void) -> c_int {
    // SAFETY: DPDK holds its lists still while they are walked.
    c_int::from(unsafe { (*list).external } != 0)
}

fn base(region: &RegionHandle) -> *mut c_void {
    region.base().as_ptr().cast()
}

fn address(region: &RegionHandle) -> u64 {
    region.base().as_ptr().expose_provenance() as u64
}

fn refused(region: &RegionHandle, what: &str, error: i32) -> MapError {
    let limit = match error {
        // VFIO counts what it pins against this limit, which does not hold for root.
        libc::ENOMEM => "raise this user's limit of locked memory (ulimit -l), or ",
        _ => "",
    };
    let why = format!("{what} ({}); {limit}add buffers=copy to the port", eal::strerror(error));
    MapError::Refused { backing: region.backing().name(), mapper: "DPDK", why }
}
