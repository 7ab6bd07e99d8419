//! The drivers of the 82574 and the 82576 against models of both chips, and the models by themselves.

#![expect(
    clippy::cast_possible_truncation,
    reason = "bytes and registers of tests are made of numbers that fit"
)]

mod chips;
mod conformance;
mod faults;
mod fuzz;
mod hostile;
mod offload;
mod probe;
mod raw;
mod rig;
mod stream;
mod traffic;
mod watching;
