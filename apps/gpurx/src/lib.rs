//! Receives UDP streams with headers in host memory and payloads in device memory, where they are
//! rows of a tensor as they land.

pub mod consumer;
pub mod flow;
pub mod head;
pub mod payload;
pub mod place;
pub mod seq;
pub mod sink;
pub mod totals;
pub mod worker;
