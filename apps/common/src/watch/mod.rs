//! Watching an app while it runs, and afterwards: a screen, metrics for Prometheus, charts. Views read
//! counters when somebody looks; nothing is on the packet path.
//!
//! An app's main thread calls [`Watch::tick`] every few milliseconds, with a closure that takes a
//! [`Sample`]; the closure runs only when a view is due.

mod sample;

use std::path::PathBuf;

use clap::Args;

pub use sample::{Count, Latency, Level, PortSample, Sample, Stage};

use crate::{AppError, Stop, args::RunArgs};

/// Which views there are.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Watching")]
pub struct WatchArgs {
    /// Show rates, drops, pools and more on the whole screen; q leaves
    #[arg(long, conflicts_with_all = ["json_stream", "quiet"])]
    pub tui: bool,
    /// Serve metrics for Prometheus, e.g. 127.0.0.1:9464; a port alone means 127.0.0.1
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<String>,
    /// After the run, draw rates and drops over time
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// After the run, write a page with charts and tables, in one file
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
}

/// The views of one run.
pub struct Watch {}

impl Watch {
    /// Opens what `args` name. `app` is the app's name; `q` on the screen sets `stop`.
    ///
    /// # Errors
    /// A file cannot be written, the address cannot be listened on, or there is no terminal.
    pub fn new(
        _app: &'static str,
        _args: &WatchArgs,
        _run: &RunArgs,
        _stop: &Stop,
    ) -> Result<Self, AppError> {
        Ok(Self {})
    }

    /// Serves the views that are due; `sample` runs if there is one. Call it every 20 ms or so.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn tick(&mut self, _sample: impl FnMut() -> Sample) -> Result<(), AppError> {
        Ok(())
    }

    /// Leaves the screen, and writes what is to be written after the run, with its last sample.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn finish(self, _last: Sample) -> Result<(), AppError> {
        Ok(())
    }
}
