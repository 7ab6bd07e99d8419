//! `dgram`: a port over a Unix datagram socket, one datagram a frame without FCS, as QEMU's
//! `-netdev dgram` speaks: the host's end of a guest's NIC. Knows paths and sockets; knows no QEMU.
//!
//! ```text
//! dgram:/tmp/nic.host,peer=/tmp/nic.guest
//! -netdev dgram,id=n0,local.type=unix,local.path=/tmp/nic.guest,remote.type=unix,remote.path=/tmp/nic.host
//! ```
//!
//! The port's own path is bound while it is started, and removed when it stops; what a dead process
//! left there is removed too. The peer may come and go: as long as nobody is there frames are dropped
//! ([`crate::DropReason::LinkDown`]) and the link is down. A peer that is slow has its frames wait with
//! their sender. When the pool is empty frames wait in the socket.
//!
//! Frames shorter than an Ethernet header are [`crate::DropReason::Malformed`] both ways (an empty
//! datagram would tell QEMU that the wire has ended), longer ones than 65535 bytes are
//! [`crate::DropReason::TooLong`]. A frame longer than a buffer comes as a chain. Anyone who may write to
//! the socket's path can send to the port: its folder's permissions are its protection.

mod batch;
mod path;
mod rx;
mod socket;
mod tx;

use std::{io, sync::Arc};

use self::{path::SocketPath, rx::Rx, socket::Socket, tx::Tx};
use crate::{
    AnyRxQueue, Capabilities, Config, Device, DeviceInfo, Error, Health, Link, PortSpec,
    QueueCounters, QueueStats, Queues, Registry, RxMemory, RxQueue, TxQueue, registry::Claim,
};

/// The driver's entry in the registry.
pub const DRIVER: crate::Driver = crate::Driver {
    name: "dgram",
    usage: "dgram:PATH,peer=PATH",
    about: "a Unix datagram socket, one datagram a frame: the other end of QEMU's -netdev dgram",
    open: |registry, spec| Ok(Box::new(Dgram::open(registry, spec)?)),
    capabilities: Capabilities::default,
    find: Vec::new,
};

/// An Ethernet header.
const SHORTEST: usize = 14;
const LONGEST: usize = 65535;

/// A port over a Unix datagram socket.
pub struct Dgram {
    info: DeviceInfo,
    local: SocketPath,
    peer: SocketPath,
    rx: Vec<QueueCounters>,
    tx: Vec<QueueCounters>,
    running: bool,
    _claim: Claim,
}

impl Dgram {
    /// Opens `dgram:PATH,peer=PATH`. The peer need not be there yet.
    ///
    /// # Errors
    /// A path is missing, too long or equal to the other; the port's own is somebody else's, or its
    /// folder does not exist.
    pub fn open(registry: &mut Registry, spec: &PortSpec) -> Result<Self, Error> {
        spec.only(&["peer"])?;
        let port = spec.to_string();
        let bad = |why: String| Error::BadOption { port: port.clone(), why };
        let peer = spec.options.get("peer").filter(|peer| !peer.is_empty());
        let (false, Some(peer)) = (spec.addr.is_empty(), peer) else {
            let why = "a socket has a path of its own and one to send to: \
                       dgram:/tmp/nic.host,peer=/tmp/nic.guest";
            return Err(bad(why.into()));
        };
        let (local, peer) = (SocketPath::new(&spec.addr), SocketPath::new(peer));
        let (local, peer) = (local.map_err(bad)?, peer.map_err(bad)?);
        if local == peer {
            return Err(bad("the port's own path and its peer's are the same".into()));
        }
        let claim = registry.claim(spec, format!("dgram:{}", spec.addr), 1)?;
        socket::check(&local).map_err(|refusal| refusal.into_error(&port, &local))?;
        let info = DeviceInfo {
            driver: DRIVER.name,
            port,
            mac: [0; 6],
            numa_node: None,
            capabilities: Capabilities::default(),
        };
        let (rx, tx) = (Vec::new(), Vec::new());
        Ok(Self { info, local, peer, rx, tx, running: false, _claim: claim })
    }
}

impl Device for Dgram {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn start(&mut self, config: Config) -> Result<Queues, Error> {
        self.info.check_start(self.running, &config)?;
        if config.rx.iter().any(|queue| matches!(queue.memory, RxMemory::Split(_))) {
            return Err(self.info.no_split());
        }
        let socket = Socket::bind(&self.local)
            .map_err(|refusal| refusal.into_error(&self.info.port, &self.local))?;
        let socket = Arc::new(socket);
        let mut queues = Queues::default();
        for queue in &config.rx {
            let RxMemory::Whole(pool) = &queue.memory else { continue };
            let rx = Rx::new(Arc::clone(&socket), pool);
            self.rx.push(rx.counters().clone());
            queues.rx.push(AnyRxQueue::Whole(Box::new(rx)));
        }
        for _ in &config.tx {
            let tx = Tx::new(Arc::clone(&socket), &self.peer);
            self.tx.push(tx.counters().clone());
            queues.tx.push(Box::new(tx));
        }
        self.running = true;
        Ok(queues)
    }

    fn stop(&mut self, queues: Queues) -> Result<(), Error> {
        drop(queues);
        self.running = false;
        Ok(())
    }

    fn link(&self) -> Link {
        Link { is_up: self.running && socket::is_there(&self.peer), speed_mbps: None }
    }

    fn stats(&self) -> (QueueStats, QueueStats, Vec<(String, u64)>) {
        (QueueStats::sum(&self.rx), QueueStats::sum(&self.tx), Vec::new())
    }

    fn health(&self) -> Health {
        Health::Good
    }
}

impl socket::Refusal {
    /// The error of a port whose path is `local`.
    fn into_error(self, port: &str, local: &SocketPath) -> Error {
        let (port, path) = (port.to_owned(), local.as_str());
        match self {
            Self::Live => Error::NotThere {
                port,
                why: format!(
                    "a living process has its socket at '{path}'; end that one, or name another path"
                ),
            },
            Self::NoSocket => Error::NotThere {
                port,
                why: format!("'{path}' is there and is no socket; name another path"),
            },
            Self::System(source) => match source.kind() {
                io::ErrorKind::PermissionDenied => Error::NoPermission {
                    port,
                    what: "socket".into(),
                    needs: format!("write access to '{path}' and its folder"),
                },
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::NotThere {
                    port,
                    why: format!("the folder of '{path}' does not exist; create it first"),
                },
                _ => Error::System { port, what: "socket".into(), source },
            },
        }
    }
}
