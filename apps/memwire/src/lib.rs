#![doc = include_str!("../../../README.md")]

pub use mempool::{
    Access, Buf, Burst, Cache, Cpu, Device, Frame, FrameMut, Peer, Pool, Provider, Region, Shared,
    SharedBuf, Split, SplitBurst, SplitCache,
};
pub use pmd::{Config, Health, Registry, RxQueue, SplitAt, SplitRxQueue, TxQueue};
pub use {mempool, pmd, providers};
