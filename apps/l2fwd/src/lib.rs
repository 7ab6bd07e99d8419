//! Forwards frames between ports, in pairs or as a learning switch.
//!
//! The loop (module `worker`) knows queues and bursts. It knows no driver and no provider: a new
//! one of either needs no line here.

mod app;
mod args;
mod copy;
mod fdb;
mod mailbox;
mod monitor;
mod outlet;
mod plan;
mod port;
mod rewrite;
mod storm;
mod summary;
mod switch;
mod tally;
mod upkeep;
mod vlan;
mod worker;

pub use app::run;
pub use args::{Args, Mode, OnFault, SwitchArgs};
pub use rewrite::{EthDest, Rewrite};
pub use storm::StormRate;
pub use summary::Summary;
pub use vlan::PortVlan;
