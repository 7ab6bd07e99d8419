//! Watching an app while it runs, and afterwards: a screen, metrics for Prometheus, charts. Views read
//! counters when somebody looks; nothing is on the packet path.
//!
//! An app's main thread calls [`Watch::tick`] every few milliseconds, with a closure that takes a
//! [`Sample`]; the closure runs only when a view is due.

mod curves;
mod file;
mod history;
mod metrics;
mod page;
mod sample;
mod screen;

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use signal_hook::consts::SIGINT;

pub use sample::{Count, Latency, Level, PortSample, Sample, Stage};

use crate::{AppError, Stop, args::RunArgs};

use file::Target;
use history::History;
use metrics::Server;
use page::Run;
use screen::{Screen, Stream, Wish};
pub(crate) use screen::{Stderr, is_up as is_screen_up};

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

/// Time between two samples of a short run; of a long one they are further apart.
const STEP: Duration = Duration::from_millis(100);

/// The views of one run.
pub struct Watch {
    stop: Stop,
    start: Instant,
    metrics: Option<Server>,
    screen: Option<Screen>,
    after: Option<After>,
}

/// What is written after the run.
struct After {
    run: Run,
    history: History,
    plot: Option<Target>,
    report: Option<Target>,
}

impl Watch {
    /// Opens what `args` name. `app` is the app's name; `q` on the screen sets `stop`.
    ///
    /// # Errors
    /// A file cannot be written, the address cannot be listened on, or there is no terminal.
    pub fn new(
        app: &'static str,
        args: &WatchArgs,
        run: &RunArgs,
        stop: &Stop,
    ) -> Result<Self, AppError> {
        if args.plot.is_some() && args.plot == args.report {
            return Err(AppError::usage("--plot and --report name the same file"));
        }
        let target = |flag, path: &Option<PathBuf>| {
            path.as_deref().map(|path| Target::check(flag, path)).transpose()
        };
        let (plot, report) = (target("--plot", &args.plot)?, target("--report", &args.report)?);
        let after = (plot.is_some() || report.is_some()).then(|| After {
            run: Run::now(app),
            history: History::new(STEP.min(run.interval)),
            plot,
            report,
        });
        let metrics = args.metrics.as_deref().map(|addr| Server::listen(app, addr)).transpose()?;
        if let Some(server) = metrics.as_ref().filter(|_| !run.quiet) {
            eprintln!("metrics http://{}/metrics", server.addr());
        }
        let screen = args.tui.then(|| Screen::new(app)).transpose()?;
        Ok(Self { stop: stop.clone(), start: Instant::now(), metrics, screen, after })
    }

    /// Where metrics are served, if they are.
    #[must_use]
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(Server::addr)
    }

    /// Serves the views that are due; `sample` runs if there is one. Call it every 20 ms or so.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn tick(&mut self, mut sample: impl FnMut() -> Sample) -> Result<(), AppError> {
        let now = Instant::now();
        let mut look = Look::new(&mut sample);
        if let Some(server) = &mut self.metrics {
            server.serve(now, &mut look);
        }
        let elapsed = now.saturating_duration_since(self.start);
        if let Some(after) = self.after.as_mut().filter(|after| after.history.is_due(elapsed)) {
            after.history.push(elapsed, look.get().clone());
        }
        let Some(screen) = &mut self.screen else { return Ok(()) };
        if self.stop.is_set() {
            screen.leave();
            return Ok(());
        }
        match screen.tick(now, &mut look)? {
            Wish::GoOn => {}
            Wish::Stop => self.stop.set(),
            Wish::Interrupt => {
                // The terminal is as it was: from here on ^C is a signal again, and the second one
                // ends the process. This is the first.
                signal_hook::low_level::raise(SIGINT).map_err(AppError::from)?;
                self.stop.set();
            }
        }
        Ok(())
    }

    /// Leaves the screen, and writes what is to be written after the run, with its last sample. Call it
    /// before the summary is printed, and return its error after.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn finish(mut self, last: Sample) -> Result<(), AppError> {
        drop(self.screen.take());
        let mut last = || last.clone();
        let mut look = Look::new(&mut last);
        if let Some(server) = &mut self.metrics {
            server.serve(Instant::now(), &mut look);
        }
        let Some(After { run, mut history, plot, report }) = self.after else { return Ok(()) };
        history.end(look.get().clone());
        let samples = history.samples();
        let plotted = plot.map_or(Ok(()), |file| file.write(&page::plot(&run, samples)));
        let reported = report.map_or(Ok(()), |file| file.write(&page::report(&run, samples)));
        plotted.and(reported)
    }
}

/// A sample that is taken when the first view wants it, once.
struct Look<'a> {
    take: &'a mut dyn FnMut() -> Sample,
    taken: Option<Sample>,
}

impl<'a> Look<'a> {
    fn new(take: &'a mut dyn FnMut() -> Sample) -> Self {
        Self { take, taken: None }
    }

    fn get(&mut self) -> &Sample {
        self.taken.get_or_insert_with(|| {
            let mut sample = (self.take)();
            sample.tell_apart();
            sample
        })
    }
}

/// Keeps a line for stdout while the screen is up; returns whether it did.
pub(crate) fn hold_line(text: &str) -> bool {
    screen::hold(Stream::Out, text)
}
