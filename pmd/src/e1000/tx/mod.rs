//! Sending: frames as they lie in their buffers, a piece a descriptor. Reports are asked for once in a
//! while and reaped in bulk.

mod fate;
mod marks;
mod plain;
mod queue;
mod tag;
#[cfg(test)]
mod tests;

pub(super) use queue::Tx;
