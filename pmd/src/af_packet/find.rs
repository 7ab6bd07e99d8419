//! Looks around for interfaces that this driver could open. Asks through a socket that anyone may
//! have, so that an ordinary user sees what root would; opens nothing.

use std::{io, os::fd::OwnedFd};

use super::{
    DRIVER, capabilities,
    interface::{Interface, Refusal},
    sys,
};
use crate::{Found, Link};

/// Every interface of this namespace, in the order of the kernel's numbers.
pub(super) fn interfaces() -> Vec<Found> {
    let Ok(asking) = sys::asking_socket() else {
        return Vec::new();
    };
    let denied = denied(&sys::socket());
    let names = sys::interface_names();
    names.iter().filter_map(|name| interface(&asking, name, denied.as_deref())).collect()
}

/// Why no packet socket can be had, if none can.
fn denied(socket: &io::Result<OwnedFd>) -> Option<String> {
    match socket {
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Some(format!("needs {}", super::interface::NEEDS))
        }
        Err(error) => Some(format!("this kernel gives no packet sockets: {error}")),
    }
}

/// One interface; none if it went away meanwhile.
fn interface(asking: &OwnedFd, name: &str, denied: Option<&str>) -> Option<Found> {
    let port = format!("{}:{name}", DRIVER.name);
    match Interface::named(asking.try_clone().ok()?, name) {
        Ok(interface) => {
            let (below, bus) = interface.driver();
            Some(Found {
                port,
                mac: interface.mac,
                below,
                bus,
                numa_node: interface.numa_node,
                link: interface.link(),
                capabilities: capabilities(interface.max_frame()?),
                trouble: denied.map(str::to_owned),
            })
        }
        Err(Refusal::NotEthernet(hardware)) => Some(Found {
            port,
            mac: [0; 6],
            below: String::new(),
            bus: String::new(),
            numa_node: None,
            link: Link::default(),
            capabilities: capabilities(0),
            trouble: Some(match hardware {
                libc::ARPHRD_LOOPBACK => "a loopback has no frames to receive".into(),
                _ => format!("not Ethernet (hardware type {hardware})"),
            }),
        }),
        Err(Refusal::Missing | Refusal::System(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_found_and_refused_with_a_reason() {
        let found = interfaces();
        let Some(lo) = found.iter().find(|found| found.port == "af_packet:lo") else {
            eprintln!("SKIP the_loopback_is_found_and_refused_with_a_reason: no interface lo");
            return;
        };
        assert_eq!(lo.trouble.as_deref(), Some("a loopback has no frames to receive"));
    }

    #[test]
    fn a_missing_permission_is_the_reason_and_names_the_capability() {
        let no = denied(&Err(io::ErrorKind::PermissionDenied.into())).expect("a reason");
        assert!(no.starts_with("needs CAP_NET_RAW"), "{no}");
        let no = denied(&Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT))).expect("a reason");
        assert!(no.contains("no packet sockets"), "{no}");
    }

    #[test]
    fn an_interface_that_went_away_meanwhile_is_left_out() {
        let asking = sys::asking_socket().expect("a socket");
        assert_eq!(interface(&asking, "gone0", None), None);
    }
}
