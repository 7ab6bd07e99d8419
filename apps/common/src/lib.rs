//! What the applications share, so that an app's own file holds its own idea and little else:
//! arguments, units, exit codes, clean stop, pinned workers, memory and ports by name, reports, and
//! the built-in test traffic.
//!
//! Knows no single app. The data path that is here ([`traffic::Source`]) is a load generator; every
//! other module runs before, beside or after the packets.

pub mod args;
pub mod exit;
pub mod idle;
pub mod instructions;
pub mod lcore;
pub mod logs;
pub mod mailbox;
pub mod memory;
pub mod ports;
pub mod report;
pub mod schedule;
pub mod schema;
pub mod stop;
pub mod table;
pub mod traffic;
pub mod units;
mod wake;
pub mod watch;
pub mod workers;

pub use exit::{AppError, Exit};
pub use stop::Stop;
