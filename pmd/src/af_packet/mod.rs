//! `af_packet`: a real NIC through the kernel's packet sockets. No eBPF and no driver binding: the
//! interface stays the kernel's, and this driver sees a copy of what it receives.
//!
//! Receiving is a `TPACKET_V3` ring per queue (blocks that the kernel fills and hands over when full
//! or after `timeout` ms), spread by `PACKET_FANOUT`; sending a `PACKET_TX_RING` per queue. Both
//! copy between the ring and the pool's buffers. A receive ring has `blocks` blocks of `block` bytes,
//! whatever [`crate::RxConfig::ring`] says: frames of any length share a block.
//!
//! What arrives is made what it was, or would have been, on a wire:
//! * a VLAN tag that the kernel took out is put back into the frame, so that who forwards the frame
//!   forwards the tag;
//! * a checksum that a local sender (over veth, tap) left to hardware is completed;
//! * a super-frame that a local sender left to hardware to cut (TSO, USO), or that the kernel merged
//!   (GRO), is cut into the frames it stands for. Kinds that cannot be cut come whole, as chains,
//!   marked [`mempool::Offload::RX_CSUM_PARTIAL`]; what the kernel cannot describe it drops.
//!
//! Each is counted by name in [`Device::stats`]. A frame longer than a buffer comes as a chain.
//!
//! Frames that we sent are not received. Unless the port is promiscuous, a filter refuses frames for
//! other stations, also where the interface itself (veth) does not. Frames that found the ring full
//! are [`crate::DropReason::Kernel`] drops, and so are those left in the ring when a queue ends: then
//! sent = delivered + drops, exactly. When the pool is empty frames wait in the ring.
//!
//! Without a link frames to be sent are dropped ([`crate::DropReason::LinkDown`]); a busy interface
//! makes them wait. If the interface is deleted or leaves the namespace, the port is faulted for good.

mod abi;
mod block;
mod checksum;
mod counters;
mod find;
mod gso;
mod interface;
mod mapping;
mod options;
mod rx;
mod sys;
mod tx;

use std::{
    io,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use self::{
    abi::Membership,
    counters::Events,
    interface::Interface,
    options::{Fanout, Options},
    rx::Rx,
    sys::Filter,
    tx::Tx,
};
use crate::{
    AnyRxQueue, Capabilities, Config, Device, DeviceInfo, Error, Health, Link, PortSpec,
    QueueCounters, QueueStats, Queues, Registry, RxMemory, RxQueue, TxQueue, registry::Claim,
};

/// The driver's entry in the registry.
pub const DRIVER: crate::Driver = crate::Driver {
    name: "af_packet",
    usage: "[af_packet:]IFACE[,blocks=64][,block=256K][,timeout=1][,fanout=hash|cpu|lb|qm\
            [+rollover][+defrag]][,qdisc_bypass=1]",
    about: "a network interface of the kernel's, through packet sockets: any NIC, no binding",
    open: |registry, spec| Ok(Box::new(AfPacket::open(registry, spec)?)),
    capabilities: || capabilities(LONGEST),
    find: find::interfaces,
};

const QUEUES: usize = 64;
/// The longest frame of any interface: the kernel gives Ethernet an MTU of 65535 at most.
const LONGEST: usize = 65535 + 14;
/// What a block holds besides a frame: its header, the frame's, and alignment.
const BLOCK_OVERHEAD: usize = 256;

/// What a port with frames of that length can do.
fn capabilities(max_frame: usize) -> Capabilities {
    Capabilities {
        rx_queues: QUEUES,
        tx_queues: QUEUES,
        max_frame,
        rx_timestamp: true,
        ..Capabilities::default()
    }
}

/// A network interface of the kernel's.
pub struct AfPacket {
    info: DeviceInfo,
    options: Options,
    interface: Interface,
    gone: Arc<AtomicBool>,
    rx: Vec<QueueCounters>,
    tx: Vec<QueueCounters>,
    events: Vec<Events>,
    running: bool,
    _claim: Claim,
}

impl AfPacket {
    /// Opens `[af_packet:]IFACE[,option]*`. The interface may be down.
    ///
    /// # Errors
    /// There is no such interface, it is not Ethernet, packet sockets are not permitted, or an option
    /// is unknown or out of range.
    pub fn open(registry: &mut Registry, spec: &PortSpec) -> Result<Self, Error> {
        let spec = PortSpec { driver: DRIVER.name.to_owned(), ..spec.clone() };
        let port = spec.to_string();
        let options = Options::of(&spec)?;
        let interface = Interface::open(&spec)?;
        let max_frame = interface.max_frame().ok_or_else(|| gone(&port))?;
        if options.block < max_frame + BLOCK_OVERHEAD {
            let least = (max_frame + BLOCK_OVERHEAD).next_power_of_two();
            let why = format!(
                "option block={}: frames of {max_frame} B do not fit; should be {least} or more",
                options.block
            );
            return Err(Error::BadOption { port, why });
        }
        let claim = registry.claim(&spec, format!("af_packet:{}", spec.addr), 1)?;
        let capabilities = capabilities(max_frame);
        let (mac, numa_node) = (interface.mac, interface.numa_node);
        let info = DeviceInfo { driver: DRIVER.name, port, mac, numa_node, capabilities };
        Ok(Self {
            info,
            options,
            interface,
            gone: Arc::default(),
            rx: Vec::new(),
            tx: Vec::new(),
            events: Vec::new(),
            running: false,
            _claim: claim,
        })
    }

    fn failed<'a>(&'a self, what: &'a str) -> impl Fn(io::Error) -> Error + 'a {
        move |source| match source.kind() {
            io::ErrorKind::PermissionDenied => Error::NoPermission {
                port: self.info.port.clone(),
                what: what.to_owned(),
                needs: "CAP_NET_RAW: run as root, or `setcap cap_net_raw+ep <binary>`".into(),
            },
            _ => Error::System { port: self.info.port.clone(), what: what.to_owned(), source },
        }
    }

    /// Opens the receive queues and joins them. None receives anything before all are joined: a
    /// socket on its own would see every frame, and so would each of its siblings.
    fn open_rx(&self, config: &Config) -> Result<Vec<Rx>, Error> {
        let several = config.rx.len() > 1;
        let mut queues = Vec::new();
        let mut group = None;
        for _ in &config.rx {
            let queue = Rx::new(&self.options, several, Arc::clone(&self.gone))
                .map_err(self.failed("receive ring"))?;
            let socket = queue.socket().as_fd();
            sys::set_filter(socket, Filter::None).map_err(self.failed("filter"))?;
            let every = u16::try_from(libc::ETH_P_ALL).unwrap_or(3);
            sys::bind(socket, self.interface.index, every).map_err(self.failed("bind"))?;
            if several {
                let joined = join(socket, self.options.fanout, group);
                group = Some(joined.map_err(self.failed(
                    "fanout (on Linux before 6.13 the interface \
                                                        has to be up to start several queues)",
                ))?);
            }
            queues.push(queue);
        }
        for queue in &queues {
            let filter = if config.promiscuous { Filter::All } else { Filter::Ours };
            sys::set_filter(queue.socket().as_fd(), filter).map_err(self.failed("filter"))?;
        }
        if let Some(first) = queues.first().filter(|_| config.promiscuous) {
            let kind = u16::try_from(libc::PACKET_MR_PROMISC).unwrap_or(1);
            let member = Membership { index: self.interface.index, kind, ..Membership::default() };
            // It ends with the socket.
            sys::set_option(first.socket().as_fd(), libc::PACKET_ADD_MEMBERSHIP, &member)
                .map_err(self.failed("promiscuous mode"))?;
        }
        Ok(queues)
    }

    fn open_tx(&self, config: &Config) -> Result<Vec<Tx>, Error> {
        let max_frame = self.interface.max_frame().ok_or_else(|| gone(&self.info.port))?;
        let open = |slots| {
            let (interface, gone) = (self.interface.share()?, Arc::clone(&self.gone));
            Tx::new(interface, &self.options, slots, max_frame, gone)
        };
        let queues = config.tx.iter().map(|queue| open(queue.ring));
        queues.collect::<io::Result<_>>().map_err(self.failed("transmit ring"))
    }

    fn is_gone(&self) -> bool {
        if !self.gone.load(Ordering::Relaxed) && !self.interface.exists() {
            self.gone.store(true, Ordering::Relaxed);
        }
        self.gone.load(Ordering::Relaxed)
    }
}

fn gone(port: &str) -> Error {
    Error::NotThere { port: port.to_owned(), why: "interface is gone".into() }
}

/// Makes a socket the first of a fanout group, or joins it to one; returns the group's number.
fn join(
    socket: std::os::fd::BorrowedFd<'_>,
    fanout: Fanout,
    group: Option<u16>,
) -> io::Result<u16> {
    let value = group.map_or_else(|| fanout.new_group(), |id| fanout.join(id));
    sys::set_option(socket, libc::PACKET_FANOUT, &value)?;
    let [a, b, ..] = sys::option::<u32>(socket, libc::PACKET_FANOUT)?.to_le_bytes();
    Ok(u16::from_le_bytes([a, b]))
}

impl Device for AfPacket {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn start(&mut self, config: Config) -> Result<Queues, Error> {
        self.info.check_start(self.running, &config)?;
        if config.rx.iter().any(|queue| matches!(queue.memory, RxMemory::Split(_))) {
            return Err(self.info.no_split());
        }
        if self.is_gone() {
            return Err(gone(&self.info.port));
        }
        if !self.interface.is_reachable() {
            let why = "to be started from a thread in the network namespace it was opened in";
            return Err(Error::State { port: self.info.port.clone(), why });
        }
        let tx = self.open_tx(&config)?;
        let rx = self.open_rx(&config)?;
        let mut queues = Queues::default();
        for queue in rx {
            self.rx.push(queue.counters().clone());
            self.events.push(queue.events().clone());
            queues.rx.push(AnyRxQueue::Whole(Box::new(queue)));
        }
        for queue in tx {
            self.tx.push(queue.counters().clone());
            self.events.push(queue.events().clone());
            queues.tx.push(Box::new(queue));
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
        self.interface.link()
    }

    fn stats(&self) -> (QueueStats, QueueStats, Vec<(String, u64)>) {
        let events = Events::sum(self.events.iter());
        (QueueStats::sum(&self.rx), QueueStats::sum(&self.tx), events)
    }

    fn health(&self) -> Health {
        if self.is_gone() {
            return Health::Faulted("interface is gone".into());
        }
        Health::Good
    }
}
