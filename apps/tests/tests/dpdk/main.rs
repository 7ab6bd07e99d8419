//! The apps over ports of DPDK's: with each other, with DPDK's testpmd, and with interfaces in namespaces of
//! the tests' own. DPDK is an app's guest here as it is a user's: a feature, and a port by name.
//!
//! Needs apps that were built with the feature: `cargo xtask test --only dpdk` does that, and names their
//! folder by `MEMWIRE_BIN_DIR`. Says SKIP without.

mod apps;
mod bad_input;
mod chain;
#[path = "../netns/lab.rs"]
#[allow(dead_code, reason = "shared with other tests, which use other parts of it")]
mod lab;
#[path = "../../../../pmd/tests/ethdev/model/mod.rs"]
mod model;
mod peers;
mod place;
#[path = "../netns/process.rs"]
#[allow(dead_code, reason = "shared with other tests, which use other parts of it")]
mod process;
mod veth;
