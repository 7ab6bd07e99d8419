//! Poll-mode drivers under one set of traits.
//!
//! A [`Device`] is the control plane: info, start, stop, link, stats, health. Starting it yields
//! queues, the data plane: `&mut self`, `Send`, one call per burst, counts instead of `Result`s.
//! [`Registry::open`] turns a port spec (`driver:addr[,key=val]*`) into a device, and puts wrappers
//! around it that need no change in an app ([`wrap`]): `trace:@eth0`.
//!
//! Drivers know pools and addresses; where a pool's memory comes from is not their business.

pub mod af_packet;
mod bounce;
pub mod bpf;
mod config;
pub mod conformance;
mod copy;
mod device;
pub mod dgram;
pub mod e1000;
mod error;
#[cfg(feature = "dpdk")]
pub mod ethdev;
mod found;
pub mod headers;
mod mapper;
pub mod null;
pub mod pcap;
pub mod pci;
mod posted;
mod probe;
mod queue;
mod rebind;
mod registry;
pub mod ring;
mod spec;
mod split;
mod stats;
pub mod wrap;

pub use bounce::Bounce;
pub use config::{Config, PostOrder, Queues, Rss, RxConfig, RxMemory, SplitConfig, TxConfig};
pub use device::{Capabilities, Device, DeviceInfo, HardwareSplit, Health, Link, SplitSupport};
pub use error::Error;
pub use found::Found;
pub use mapper::{DmaMapper, Iova, Known, MapError, MappedPool, SoftwareMapper};
pub use probe::{Probe, ProbeError, Probed};
pub use queue::{AnyRxQueue, RxQueue, SplitRxQueue, TxQueue};
pub use rebind::{RebindError, Rebound, TakeQueue};
pub use registry::{Driver, Open, Registry};
pub use spec::{PortSpec, SpecError};
pub use split::SplitAt;
pub use stats::{DropReason, Drops, QueueCounters, QueueStats};
