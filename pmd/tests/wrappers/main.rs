//! Wrappers around ports: the machinery, and each wrapper beyond what the conformance suite asks.

mod arm;
mod chaos;
mod episodes;
mod machinery;
mod observer;
mod rig;
mod trace;
