//! `dpdk`: a port of DPDK's ethdev, and so every NIC and virtual device that DPDK has a driver for. Knows
//! DPDK; its drivers it knows by what they say of themselves, and by a short list of those that take no memory
//! but DPDK's.
//!
//! ```text
//! dpdk:net_ring0                              virtual devices, as `--vdev` names them
//! dpdk:net_memif0,role=server,socket=/tmp/m   with their arguments
//! dpdk:0000:01:00.0                           a function that is bound to vfio-pci
//! dpdk:net_null0,eal-no-huge                  on a machine without hugepages
//! ```
//!
//! **Memory.** A pool is mirrored: DPDK gets a mempool with an mbuf for every slot, whose data is the slot.
//! A frame becomes an mbuf, and an mbuf a frame, by arithmetic; nothing is copied or allocated. Buffers that a
//! driver takes and frees go by a lane of the queue that calls it, and by the mirror's stock, which is filled from
//! the pool. For drivers that cannot use
//! such memory, or with `buffers=copy`, frames are copied to and from buffers of DPDK's own;
//! [`crate::Capabilities::copies`] and the log say so. net_virtio_user and a port of hardware that uses a pool's memory
//! do not run beside each other, whichever is started first: give the latter `buffers=copy`.
//!
//! **Split.** Where a driver offers buffer split, heads go to a pool of the host and payloads to any memory that
//! the device reaches, in the order of their posting (ADR 28). A port whose payload buffers the application posts
//! starts when half a ring of them is posted.
//!
//! **What a frame may be.** One of several segments is sent where the driver says it can. One of more than a
//! quarter of the ring's descriptors, or of more than the driver takes, is sent as a copy in fewer. Hardware is set up
//! for frames of up to 9018 bytes, and its drivers hand one over only when the pool has another buffer for its place
//! ([`crate::Capabilities::rx_spare`]). A slot of an area
//! that a pool got after the port was started is not used, and a frame in it not sent
//! ([`crate::DropReason::SendError`]). Shared frames are sent as copies. What DPDK holds of a sender's frames
//! is not told apart from what it holds for receivers: `TxQueue::in_flight` is 0.
//!
//! **Ends.** A port is stopped, closed and removed when it *and all its queues* are gone; starting it again
//! attaches it anew. What a driver has of a pool by then comes home, or, if other ports could have it, is lost
//! and counted. DPDK itself is initialised by the first port, once, on a thread of its own, and cleaned up at
//! the process's end. `eal-mem=MEGABYTES` and `eal-no-huge` say how.
//!
//! **Waits.** Attaching, starting and closing a port may wait for its peer: 10 seconds at most, a minute for
//! hardware. Then it is interrupted, and refused.

mod advice;
mod copying;
mod cut;
mod device;
mod eal;
mod lane;
mod late;
mod layout;
mod limit;
mod log;
mod mbufs;
mod memory;
mod mirror;
mod offload;
mod options;
mod payloads;
mod port;
mod probe;
mod rx;
mod setup;
mod shortage;
mod spin;
mod split;
mod stock;
mod tx;

pub use self::device::Ethdev;
use crate::Capabilities;

/// The driver's entry in the registry.
pub const DRIVER: crate::Driver = crate::Driver {
    name: "dpdk",
    usage: "dpdk:DEVICE[,ARGUMENT=VALUE]*[,buffers=pool|copy][,eal-no-huge][,eal-mem=MB]",
    about: "a port of DPDK's: any of its virtual devices, or a NIC that it has a driver for",
    open: |registry, spec| Ok(Box::new(Ethdev::open(registry, spec)?)),
    capabilities: || Capabilities {
        rx_queues: 1024,
        tx_queues: 1024,
        copies: false,
        rx_offloads: offload::received(u64::MAX),
        tx_offloads: offload::sent(u64::MAX),
        ..Capabilities::default()
    },
    find: Vec::new,
};
