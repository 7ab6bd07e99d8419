//! NUMA: binding memory to a node before its first touch, and asking where it is. Knows the three
//! system calls and nothing of providers.
#![allow(unsafe_code, reason = "system calls that libc does not wrap")]

use std::{ffi::c_ulong, io, ptr, ptr::NonNull};

use mempool::ProviderError;

use crate::{Sysfs, mapping::Mapping};

/// Nodes that a mask names; the kernel's own limit is 1024.
const NODES: usize = 1024;
const BITS: usize = c_ulong::BITS as usize;
/// Bind strictly: pages come from the named nodes or not at all (`linux/mempolicy.h`).
const MPOL_BIND: i32 = 2;

/// Checks that a node exists and has memory, before anything is mapped.
///
/// # Errors
/// It does not; the message lists those that do.
pub(crate) fn check(provider: &str, sysfs: &Sysfs, node: u32) -> Result<(), ProviderError> {
    let nodes = sysfs.nodes();
    if nodes.contains(&node) && (node as usize) < NODES {
        return Ok(());
    }
    let known: Vec<_> = nodes.iter().map(u32::to_string).collect();
    Err(ProviderError::BadRequest {
        provider: provider.into(),
        why: format!("there is no NUMA node {node} with memory; there is {}", known.join(", ")),
    })
}

/// Binds all pages of a mapping to `node`; takes effect on pages that are not there yet.
pub(crate) fn bind(mapping: &Mapping, node: u32) -> io::Result<()> {
    let mut mask: [c_ulong; NODES / BITS] = [0; NODES / BITS];
    let word = mask.get_mut(node as usize / BITS).ok_or(io::ErrorKind::InvalidInput)?;
    *word = 1 << (node as usize % BITS);
    // The kernel reads one bit less than it is told: hence the 1.
    let bits: c_ulong = NODES as c_ulong + 1;
    let flags: c_ulong = 0;
    // SAFETY: the range is a mapping of ours and `mask` has `NODES` bits; a policy changes where
    // pages come from, not what they hold.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            mapping.base().as_ptr(),
            mapping.len(),
            MPOL_BIND,
            mask.as_ptr(),
            bits,
            flags,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The node that the page at `address` is on.
///
/// # Errors
/// There is no page there (yet), or the kernel has no NUMA.
pub fn node_of(address: NonNull<u8>) -> io::Result<u32> {
    let pages = [address.as_ptr()];
    let mut status = [0i32];
    let (this_process, flags) = (0i32, 0i32);
    // SAFETY: one page is asked for, and both arrays have one entry; without target nodes the call
    // moves nothing, and any address may be asked about.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            this_process,
            pages.len(),
            pages.as_ptr(),
            ptr::null::<i32>(),
            status.as_mut_ptr(),
            flags,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    u32::try_from(status[0]).map_err(|_| io::Error::from_raw_os_error(-status[0]))
}

/// The node of a mapping whose pages are present: known if its first and its last page agree.
pub(crate) fn home(mapping: &Mapping) -> Option<u32> {
    let first = node_of(mapping.base()).ok()?;
    let last = node_of(mapping.last()).ok()?;
    (first == last).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysfs::fixture::tree;

    #[test]
    fn a_node_that_is_not_there_is_refused_with_those_that_are() {
        let (_root, sysfs) = tree(&[("sys/devices/system/node/has_memory", "0,2\n")]);
        assert!(check("host", &sysfs, 2).is_ok());
        let error = check("host", &sysfs, 1).unwrap_err();
        assert_eq!(error.to_string(), "host: there is no NUMA node 1 with memory; there is 0, 2");
    }

    #[test]
    fn a_bound_mapping_lands_on_its_node() {
        let Some(&node) = Sysfs::system().nodes().last() else {
            return;
        };
        let mapping = Mapping::anonymous(1 << 20, 1).unwrap();
        if let Err(error) = bind(&mapping, node) {
            eprintln!("SKIP a_bound_mapping_lands_on_its_node: mbind: {error}");
            return;
        }
        assert!(node_of(mapping.base()).is_err(), "no page before the first touch");
        mapping.populate().unwrap();
        assert_eq!(home(&mapping), Some(node));
    }
}
