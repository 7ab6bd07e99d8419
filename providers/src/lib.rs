//! Where packet memory comes from: the [`mempool::Provider`]s for this machine's own memory, for that of
//! other devices, and one that pretends to be a device.
//!
//! | provider | pages | named to others as | when |
//! |---|---|---|---|
//! | [`Hugepages`] | 2 MiB or 1 GiB | a sealed memfd | the default: any driver, any peer |
//! | [`Private`] | the default hugepage size | its address only | nobody else may ever map it |
//! | [`Host`] | ordinary, transparent hugepages where possible | its address only, or a sealed memfd ([`Host::shareable`]) | no hugepages at hand |
//! | [`P2pDma`] | a PCI BAR's | its place in the BAR, and a dma-buf | another device's memory, by peer-to-peer DMA |
//! | [`P2pMem`] | a kernel driver's p2pmem | the function that has it | an NVMe drive's memory, for the CPU and direct I/O |
//! | [`DmaBuf`] | ordinary or huge, or a BAR's | a dma-buf, and a sealed memfd where it is made of one | memory that another process or device shares |
//! | [`Fake`] | ordinary or huge | a sealed memfd | device memory for tests and demos |
//!
//! What they share: memory is contiguous, zeroed (but for a BAR's, which is the device's), present before it is
//! handed out (a shortage is an error at setup, never a signal under load), kept out of children and core dumps,
//! bound to a NUMA node before the first touch where one was named, and revocable. [`conformance`] checks it, for
//! these and for any other provider.
//!
//! This crate refuses to know NICs, IOVAs and rings.
//!
//! ```
//! use mempool::{Cpu, Pool};
//!
//! let (memory, notice) = providers::default_host(64 * 2048);
//! if let Some(notice) = notice {
//!     eprintln!("{notice}");
//! }
//! let pool: Pool<Cpu> = Pool::builder().slots(64).stride(2048).memory(&*memory).build()?;
//! assert_eq!(pool.audit().free, 64);
//! # Ok::<(), mempool::Error>(())
//! ```

mod carve;
mod cgroup;
pub mod conformance;
mod default_host;
pub mod dmabuf;
mod fake;
mod host;
mod hugepages;
mod mapped;
mod mapping;
mod memfd;
pub mod numa;
pub mod p2pdma;
mod page_size;
mod private;
mod request;
mod revocations;
pub mod shared;
mod shortage;
pub mod socket;
mod sysfs;

pub use default_host::{Notice, default_host};
pub use dmabuf::DmaBuf;
pub use fake::Fake;
pub use host::Host;
pub use hugepages::Hugepages;
pub use p2pdma::{P2pDma, P2pMem};
pub use page_size::{PageSize, ParsePageSizeError};
pub use private::Private;
pub use revocations::{Revocable, Revocations};
pub use shared::{SharedError, SharedView, SharedWords};
pub use sysfs::{HugepageCounts, Sysfs};
