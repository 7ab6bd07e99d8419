//! How DPDK comes by a device: found by its name, with a driver; and removed again if nobody wants it any
//! more. Knows names; moves nothing.
#![allow(unsafe_code, reason = "calls DPDK's control functions")]

use std::ffi::{CStr, CString, c_int};

use dpdk_sys as sys;

use super::{
    eal,
    limit::{Call, Peer},
    log,
    port::Refusal,
};

/// A device, for a thread that calls DPDK for us.
pub(super) struct Device(pub(super) *mut sys::rte_device);

// SAFETY: a name to DPDK, whose functions any thread may call.
unsafe impl Send for Device {}

/// A device that was attached. It is removed again unless it is kept: by whoever has it when nobody waits for
/// it any more.
pub(super) struct Probed {
    name: CString,
    failed: c_int,
    is_kept: bool,
}

impl Probed {
    pub(super) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Probed {
    fn drop(&mut self) {
        let Some(id) = find(&self.name).filter(|_| self.failed == 0 && !self.is_kept) else {
            return;
        };
        // SAFETY: a plain structure, which DPDK fills in.
        let mut info: sys::rte_eth_dev_info = unsafe { eal::zeroed() };
        // SAFETY: the port exists.
        let failed = unsafe { sys::rte_eth_dev_info_get(id, &raw mut info) };
        // SAFETY: it was never started, and nobody else knows of it.
        unsafe { sys::rte_eth_dev_close(id) };
        if failed == 0 {
            // SAFETY: the device of that port.
            unsafe { sys::rte_dev_remove(info.device) };
        }
    }
}

/// Has DPDK find a device and its driver.
pub(super) fn probe(peer: &Peer, name: &CStr, devargs: CString) -> Result<Probed, Refusal> {
    log::forget();
    let name = name.to_owned();
    let arguments = devargs.to_string_lossy().into_owned();
    let call = peer.wait("attaching", move || {
        // SAFETY: a string; DPDK is initialised.
        let failed = unsafe { sys::rte_dev_probe(devargs.as_ptr()) };
        Probed { name, failed, is_kept: false }
    });
    let probed = call.and_then(Call::in_time).map_err(Refusal::Overdue)?;
    let silent = format!("its driver refuses '{arguments}', and does not say why");
    let why = || log::why(&silent);
    match -probed.failed {
        0 => Ok(probed),
        libc::EEXIST => Err(Refusal::Exists),
        // A driver's -1 is no error number.
        1 => Err(Refusal::NotThere(why())),
        _ => Err(Refusal::NotThere(format!("{} ({})", why(), eal::strerror(probed.failed)))),
    }
}

/// The port of that name.
pub(super) fn find(name: &CStr) -> Option<u16> {
    let mut id = 0;
    // SAFETY: a string; the answer has its place.
    let failed = unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut id) };
    (failed == 0).then_some(id)
}
