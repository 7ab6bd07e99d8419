//! Forwards frames between two ports, in both directions: the smallest useful user of the traits.
//!
//! The loop (module `worker`) knows queues and bursts. It knows no driver and no provider: a new
//! one of either needs no line here.

mod app;
mod args;
mod summary;
mod worker;

pub use app::run;
pub use args::{Args, Mode};
pub use summary::Summary;
