//! Pools of packet buffers over *any* memory.
//!
//! A [`Pool`] carves equal slots out of one or more [`Region`]s that a [`Provider`] handed out. It
//! never reads that memory to manage it: a slot's [`Meta`] stands in a host side table, a slot's
//! handle is a small number, and the type parameter ([`Cpu`], [`Device`], [`Peer`], [`Shared`]) says
//! whether the CPU may look inside.
//!
//! This crate refuses to know devices, IOVAs, file systems and GPUs. It moves indices.
//!
//! ```
//! use mempool::{Burst, Cpu, Pool, heap::Heap};
//!
//! let memory = Heap::new();
//! let pool: Pool<Cpu> = Pool::builder().name("rx").slots(1024).stride(2048).memory(&memory).build()?;
//! let mut cache = pool.cache();
//! let mut burst = Burst::new(&pool);
//! assert_eq!(cache.take(&mut burst, 32), 32);
//! burst.recycle(&mut cache);
//! assert_eq!(pool.audit().held, 0);
//! # Ok::<(), mempool::Error>(())
//! ```

mod access;
mod audit;
mod backing;
mod buf;
mod builder;
mod burst;
mod cache;
mod chain;
mod core;
mod error;
mod frame;
pub mod heap;
mod inflight;
mod meta;
mod pool;
mod prefetch;
mod provider;
mod region;
mod registry;
pub mod ring;
mod shared;
mod sizing;
mod slot;
mod split;
mod surrendered;
mod sweep;
mod sync;
mod table;
mod template;
mod view;

pub use access::{Access, Cpu, Device, Peer, Readable, Shared, Writable};
pub use audit::{Audit, Counters};
pub use backing::{Backing, CpuAccess};
pub use buf::Buf;
pub use builder::{DEFAULT_CACHE, DEFAULT_HEADROOM, PoolBuilder};
pub use burst::Burst;
pub use cache::Cache;
pub use error::Error;
pub use frame::{Frame, FrameMut};
pub use inflight::{InFlight, Quiesced};
pub use meta::{Meta, Offload, RxMeta, TxMeta};
pub use pool::{AreaId, AreaInfo, AreaState, Pool};
pub use provider::{Provider, ProviderError, ProviderInfo, RegionRequest};
pub use region::{CopyError, Memory, Region, RegionHandle, Revoker, Window, Witness};
pub use registry::{PoolInfo, pools, reap_orphans};
pub use shared::SharedBuf;
pub use sizing::{QueuePlan, Sizing, SizingError, format_bytes};
pub use slot::Slot;
pub use split::{Split, SplitBurst, SplitCache, SplitFrame};
pub use surrendered::{Surrendered, Tally};
pub use sweep::OneArea;
pub use view::DeviceView;
