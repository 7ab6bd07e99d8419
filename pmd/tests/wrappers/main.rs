//! Wrappers around ports: the machinery, and each wrapper beyond what the conformance suite asks.

mod machinery;
mod rig;
mod trace;
