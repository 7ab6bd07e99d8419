//! What descriptors say: how to write what a device reads, and how to read, once, what it wrote.
//! Decides nothing.

pub(super) mod receive;
pub(super) mod transmit;
