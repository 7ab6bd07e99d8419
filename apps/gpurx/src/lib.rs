//! Receives UDP streams with headers in host memory and payloads in device memory, where they are
//! rows of a tensor as they land.

pub mod flow;
pub mod place;
pub mod seq;
