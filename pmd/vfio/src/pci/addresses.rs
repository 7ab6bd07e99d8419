//! The IP addresses of an interface, as the C library lists them.
#![allow(unsafe_code, reason = "a list of the C library's")]

use std::{
    ffi::CStr,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ptr,
};

/// Addresses of the interface that somebody gave it: those that it gave itself (link-local) do not
/// count. None if the system does not say.
pub(super) fn of(interface: &str) -> Vec<String> {
    let mut list = ptr::null_mut();
    // SAFETY: writes the address of a list, which is ours to free.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    // SAFETY: null or an entry of the list, which is not freed yet.
    let mut at = unsafe { list.as_ref() };
    while let Some(entry) = at {
        // SAFETY: every entry has a name.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) };
        if name.to_bytes() == interface.as_bytes() {
            found.extend(address(entry).filter(is_given).map(|address| address.to_string()));
        }
        // SAFETY: as above.
        at = unsafe { entry.ifa_next.as_ref() };
    }
    // SAFETY: the list that was made above, of which nothing is kept.
    unsafe { libc::freeifaddrs(list) };
    found
}

fn address(entry: &libc::ifaddrs) -> Option<IpAddr> {
    // SAFETY: null, or an address that starts with its family.
    let family = unsafe { entry.ifa_addr.as_ref() }?.sa_family;
    match i32::from(family) {
        libc::AF_INET => {
            // SAFETY: the family says what it is; it may not be aligned.
            let four = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(four.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let six = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(six.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

fn is_given(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_its_address_and_an_unknown_interface_none() {
        let is_up = std::fs::read_to_string("/proc/net/fib_trie")
            .is_ok_and(|routes| routes.contains("127.0.0.1"));
        if is_up {
            assert!(of("lo").contains(&"127.0.0.1".to_owned()), "{:?}", of("lo"));
        } else {
            println!("SKIP the_loopback_has_its_address: the loopback is down here");
        }
        assert_eq!(of("no-such-interface"), Vec::<String>::new());
    }

    #[test]
    fn an_address_that_the_interface_gave_itself_does_not_count() {
        for (text, is) in [("fe80::1", false), ("2001:db8::1", true), ("169.254.0.1", true)] {
            assert_eq!(is_given(&text.parse().expect("an address")), is, "{text}");
        }
    }
}
