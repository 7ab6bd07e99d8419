//! Makes traffic, sends it at an even pace, and measures what comes back.
//!
//! Frames are made by [`memwire_apps::traffic::Generator`], which other apps use as well; this crate
//! is what stands around it: templates from text, captures, the analyser, the search for the highest
//! rate. The loops (`sender`, `receiver`) know queues, and no driver and no provider.

mod analyse;
mod app;
mod args;
mod headers;
mod monitor;
mod receiver;
mod search;
mod sender;
mod setup;
mod summary;
mod track;

pub use app::run;
pub use args::{Args, ReceiveArgs, SearchArgs, SendArgs};
pub use headers::{Form, HeaderArgs, Mac, Shuffled, TcpFlags};
pub use search::{Outcome, Search, Trial};
pub use summary::{Received, Summary};
pub use track::FlowCounts;
