//! Writes what ports receive to capture files, or prints a line for each frame.
//!
//! The loop (module `worker`) knows queues, bursts and a filter's program. It knows no driver and no
//! provider: a new one of either needs no line here.

mod app;
mod args;
mod filter;
mod line;
mod record;
mod scribe;
mod summary;
mod worker;

pub use app::run;
pub use args::Args;
pub use filter::{Compiler, Filter};
pub use line::print_line;
pub use summary::Summary;
