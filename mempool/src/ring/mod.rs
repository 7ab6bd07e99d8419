//! Rings of small integers, in bulk: the MPMC ring behind a pool's shared free list and the SPSC
//! ring that joins two cores. They move numbers and know nothing of buffers.

mod cells;
mod mpmc;
mod spsc;

pub use mpmc::Mpmc;
pub use spsc::{Consumer, Producer, channel, channel_starting_at};
