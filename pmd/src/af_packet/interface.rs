//! What the kernel says of one network interface. Asks by number, through one socket, so that the
//! answers are those of the namespace in which the port was opened, and a later interface of the
//! same name is not mistaken for it.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
};

use super::{
    abi::InterfaceRequest,
    sys::{self, carrier, driver_info, link_settings},
};
use crate::{Error, Link, PortSpec};

/// An Ethernet interface of the kernel's.
pub(super) struct Interface {
    control: OwnedFd,
    /// Its number.
    pub(super) index: i32,
    /// Its address when it was opened.
    pub(super) mac: [u8; 6],
    /// The node of its hardware, if it has any and the system says.
    pub(super) numa_node: Option<u32>,
}

/// Why a name is no interface for this driver.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There is none of that name.
    Missing,
    /// It is of another kind; the kernel's number of that.
    NotEthernet(u16),
    /// The kernel does not say.
    System(io::Error),
}

/// What a packet socket takes, and how to get it.
pub(super) const NEEDS: &str = "CAP_NET_RAW: run as root, or `setcap cap_net_raw+ep <binary>`";
const ETHERNET: u16 = libc::ARPHRD_ETHER;
const HEADER: usize = 14;

impl Interface {
    /// Finds an interface by name.
    pub(super) fn open(spec: &PortSpec) -> Result<Self, Error> {
        let (port, name) = (spec.to_string(), spec.addr.as_str());
        let missing = || {
            let mut names = sys::interface_names();
            names.sort();
            let why = format!("no interface '{name}' here; there are: {}", names.join(", "));
            Error::NotThere { port: spec.to_string(), why }
        };
        if name.is_empty() || name.len() > 15 || name.contains(['/', '\0']) {
            return Err(missing());
        }
        // Asked first, because it takes no privilege: a typing error is not a missing capability.
        if !sys::interface_names().iter().any(|known| known == name) {
            return Err(missing());
        }
        let control = sys::socket().map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => Error::NoPermission {
                port: port.clone(),
                what: format!("packet socket on '{name}'"),
                needs: NEEDS.into(),
            },
            _ => Error::System { port: port.clone(), what: "packet socket".into(), source },
        })?;
        Self::named(control, name).map_err(|refusal| match refusal {
            Refusal::Missing => missing(),
            Refusal::System(source) => {
                Error::System { port: port.clone(), what: format!("address of '{name}'"), source }
            }
            Refusal::NotEthernet(hardware) => {
                let why = format!(
                    "'{name}' is not an Ethernet interface (hardware type {hardware}); frames of \
                     others have no Ethernet header to work on"
                );
                Error::BadOption { port: port.clone(), why }
            }
        })
    }

    /// The interface of that name, asked about through `control`.
    pub(super) fn named(control: OwnedFd, name: &str) -> Result<Self, Refusal> {
        let mut request = named(name);
        sys::interface(control.as_fd(), libc::SIOCGIFINDEX, &mut request)
            .map_err(|_| Refusal::Missing)?;
        let index = request.integer();
        let mut request = named(name);
        sys::interface(control.as_fd(), libc::SIOCGIFHWADDR, &mut request)
            .map_err(Refusal::System)?;
        let hardware = request.short();
        if hardware != ETHERNET {
            return Err(Refusal::NotEthernet(hardware));
        }
        let mut mac = [0; 6];
        mac.copy_from_slice(&request.data[2..8]);
        let numa_node = numa_node(&control, &request.name);
        Ok(Self { control, index, mac, numa_node })
    }

    /// The kernel's driver, and the bus address that it states; empty where there is none.
    pub(super) fn driver(&self) -> (String, String) {
        let mut info = driver_info();
        let asked = self.name().map(|name| sys::ethtool(self.control.as_fd(), name, &mut info));
        match asked {
            Some(Ok(())) => (text(&info.bytes()[4..36]), text(&info.bytes()[100..132])),
            _ => Default::default(),
        }
    }

    /// Its name now; it may be renamed. None once it is gone.
    fn name(&self) -> Option<[u8; 16]> {
        let mut request = InterfaceRequest { name: [0; 16], data: [0; 24] };
        request.data[..4].copy_from_slice(&self.index.to_ne_bytes());
        sys::interface(self.control.as_fd(), libc::SIOCGIFNAME, &mut request).ok()?;
        Some(request.name)
    }

    fn ask(&self, what: libc::Ioctl) -> Option<InterfaceRequest> {
        let mut request = InterfaceRequest { name: self.name()?, data: [0; 24] };
        sys::interface(self.control.as_fd(), what, &mut request).ok()?;
        Some(request)
    }

    /// Whether it is still there, in this namespace.
    pub(super) fn exists(&self) -> bool {
        self.name().is_some()
    }

    /// Longest frame, in bytes without FCS and without a VLAN tag; `None` once it is gone.
    pub(super) fn max_frame(&self) -> Option<usize> {
        let mtu = usize::try_from(self.ask(libc::SIOCGIFMTU)?.integer()).ok()?;
        Some(mtu + HEADER)
    }

    /// Whether it is up and has a carrier. The driver is asked for the latter, if it can tell: the
    /// kernel's own flag follows up to a second later.
    pub(super) fn is_up(&self) -> bool {
        const UP: u16 = 1;
        const RUNNING: u16 = 1 << 6;
        let Some(answer) = self.ask(libc::SIOCGIFFLAGS) else {
            return false;
        };
        let mut carrier = carrier();
        let has_carrier = match sys::ethtool(self.control.as_fd(), answer.name, &mut carrier) {
            Ok(()) => carrier.bytes()[4..] != [0; 4],
            Err(_) => answer.short() & RUNNING != 0,
        };
        answer.short() & UP != 0 && has_carrier
    }

    /// The link now.
    pub(super) fn link(&self) -> Link {
        Link { is_up: self.is_up(), speed_mbps: self.speed() }
    }

    fn speed(&self) -> Option<u32> {
        let mut settings = link_settings();
        sys::ethtool(self.control.as_fd(), self.name()?, &mut settings).ok()?;
        let bytes = settings.bytes();
        let low = u32::from(u16::from_ne_bytes([bytes[12], bytes[13]]));
        let high = u32::from(u16::from_ne_bytes([bytes[28], bytes[29]]));
        let speed = high << 16 | low;
        (speed != 0 && speed != u32::MAX && speed != 0xffff).then_some(speed)
    }

    /// Whether the calling thread is in the interface's network namespace.
    pub(super) fn is_reachable(&self) -> bool {
        let Ok(here) = sys::socket() else {
            return false;
        };
        match (sys::namespace(here.as_fd()), sys::namespace(self.control.as_fd())) {
            (Ok(here), Ok(there)) => here == there,
            _ => true, // Before Linux 5.14 nobody can tell.
        }
    }

    /// Another handle on the same interface, for a queue.
    pub(super) fn share(&self) -> io::Result<Self> {
        Ok(Self { control: self.control.try_clone()?, ..*self })
    }
}

fn named(name: &str) -> InterfaceRequest {
    let mut request = InterfaceRequest { name: [0; 16], data: [0; 24] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    request
}

/// By the bus address that the interface's driver states: `/sys/class/net` is that of the namespace
/// that mounted it, which need not be this one.
fn numa_node(control: &OwnedFd, name: &[u8; 16]) -> Option<u32> {
    let mut info = driver_info();
    sys::ethtool(control.as_fd(), *name, &mut info).ok()?;
    let bus = text(&info.bytes()[100..132]);
    if !is_pci(&bus) {
        return None;
    }
    let node = fs::read_to_string(format!("/sys/bus/pci/devices/{bus}/numa_node")).ok()?;
    node.trim().parse().ok()
}

/// The text before the first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn is_pci(bus: &str) -> bool {
    !bus.is_empty() && bus.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'))
}
