//! What capture tells: a line of an interval, the counts at the end, and whether every frame is
//! accounted for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_utils::CachePadded;
use mempool::{Cpu, Pool};
use memwire_apps::{
    AppError,
    report::{Counter, DropsReport, Output, PoolReport, PortReport, Rates},
    watch::{Count, PortSample, Sample, Stage},
};
use pmd::{Device, DropReason, QueueStats};
use serde::Serialize;

use crate::{Args, Filter, app::fault, record::Broken, worker::Tally};

/// Why the run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ended {
    /// By a signal, or by whoever holds the stop flag.
    Asked,
    /// `-t` was over.
    Duration,
    /// `-c` was reached.
    Count,
    /// The ports ended by themselves, or one failed.
    Ports,
    /// Nothing more could be written.
    Writing,
}

/// What became of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    pub(crate) files: u64,
    /// Bytes of the last file.
    pub(crate) bytes: u64,
    pub(crate) broken: Option<Broken>,
}

/// The sum of what workers counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) filtered: u64,
    pub(crate) passed: u64,
    pub(crate) after_count: u64,
    pub(crate) unwritten: u64,
    pub(crate) writer_full: u64,
    pub(crate) rounds: u64,
    pub(crate) empty: u64,
}

#[derive(Serialize)]
struct IntervalReport {
    schema: &'static str,
    seconds: f64,
    received: u64,
    rates: Rates,
    written: u64,
    filtered: u64,
    dropped: u64,
    idle: f64,
}

/// The file of the summary.
#[derive(Clone, Debug, Serialize)]
struct FileReport {
    path: String,
    format: &'static str,
    snaplen: usize,
    /// Files begun.
    files: u64,
    /// Bytes of the last one.
    bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
struct FilterReport {
    text: String,
    compiler: &'static str,
    instructions: usize,
}

/// The totals of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    schema: &'static str,
    version: &'static str,
    ended: Ended,
    /// What failed, and why.
    fault: Option<String>,
    seconds: f64,
    /// `null` where lines were printed.
    file: Option<FileReport>,
    filter: Option<FilterReport>,
    received: u64,
    bytes: u64,
    rates: Rates,
    written: u64,
    filtered: u64,
    /// Frames received and neither written nor filtered out, by reason.
    drops: DropsReport,
    /// Share of rounds that found nothing.
    idle: f64,
    ports: Vec<PortReport>,
    pool: PoolReport,
    /// Whether received = written + filtered + dropped, and every buffer came home.
    balanced: bool,
    #[serde(skip)]
    broken: Option<Broken>,
    #[serde(skip)]
    losses: [u64; 2],
}

/// Watches counters while workers run.
pub(crate) struct Monitor {
    pool: Pool<Cpu>,
    tallies: Vec<Arc<CachePadded<Tally>>>,
    /// What the thread that writes has written, if it is one of its own.
    scribe: Option<Arc<CachePadded<Counter>>>,
    start: Instant,
    last: Instant,
    seen: QueueStats,
    seen_rounds: (u64, u64),
}

impl Monitor {
    pub(crate) fn new(
        pool: &Pool<Cpu>,
        tallies: Vec<Arc<CachePadded<Tally>>>,
        scribe: Option<Arc<CachePadded<Counter>>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            pool: pool.clone(),
            tallies,
            scribe,
            start: now,
            last: now,
            seen: QueueStats::default(),
            seen_rounds: (0, 0),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        for tally in &self.tallies {
            sum.filtered += tally.filtered.get();
            sum.passed += tally.passed.get();
            sum.after_count += tally.after_count.get();
            sum.unwritten += tally.unwritten.get();
            sum.writer_full += tally.writer_full.get();
            sum.rounds += tally.activity.rounds.get();
            sum.empty += tally.activity.empty.get();
        }
        sum
    }

    /// Frames written, as far as the workers or the writing thread know.
    pub(crate) fn written(&self, totals: &Totals) -> u64 {
        self.scribe.as_ref().map_or(totals.passed, |written| written.get())
    }

    /// Everything now, for the views.
    pub(crate) fn sample(&self, devices: &[Box<dyn Device>]) -> Sample {
        let totals = self.totals();
        let stage = |(at, tally): (usize, &Arc<CachePadded<Tally>>)| Stage {
            name: format!("capture-{at}"),
            rounds: tally.activity.rounds.get(),
            empty: tally.activity.empty.get(),
        };
        let mut drops = DropsReport::default();
        drops.add("writer_full", totals.writer_full);
        drops.add("unwritten", totals.unwritten);
        drops.add("after_count", totals.after_count);
        Sample {
            at: self.start.elapsed(),
            ports: devices.iter().map(|device| PortSample::of(&**device)).collect(),
            drops,
            pools: vec![PoolReport::of(&self.pool)],
            stages: self.tallies.iter().enumerate().map(stage).collect(),
            counts: vec![
                Count {
                    name: "written",
                    help: "Frames given to the file.",
                    value: self.written(&totals),
                },
                Count {
                    name: "filtered",
                    help: "Frames that did not pass the filter.",
                    value: totals.filtered,
                },
            ],
            ..Sample::default()
        }
    }

    /// Prints what happened since the last interval; counts are since the start.
    pub(crate) fn interval(
        &mut self,
        args: &Args,
        devices: &[Box<dyn Device>],
        output: &mut Output,
    ) -> Result<(), AppError> {
        let (now, stats) = (Instant::now(), received(devices));
        let (frames, bytes) =
            (stats.delivered - self.seen.delivered, stats.bytes - self.seen.bytes);
        let rates = Rates::of(frames, bytes, now - self.last);
        let totals = self.totals();
        let rounds = (totals.rounds - self.seen_rounds.0, totals.empty - self.seen_rounds.1);
        (self.last, self.seen, self.seen_rounds) = (now, stats, (totals.rounds, totals.empty));
        let report = IntervalReport {
            schema: "memwire/capture-interval/1",
            seconds: (now - self.start).as_secs_f64(),
            received: stats.delivered,
            rates,
            written: self.written(&totals),
            filtered: totals.filtered,
            dropped: stats.drops.total() + totals.writer_full + totals.unwritten,
            idle: share(rounds.1, rounds.0),
        };
        // Where frames or lines go to stdout, nothing else does.
        if args.write.is_some() && !args.is_capture_on_stdout() {
            output.live(format_args!(
                "{:.1} s  {:.3} Mpps  {:.2} Gb/s  received {}  written {}  filtered out {}  \
                 dropped {}  idle {:.0}%",
                report.seconds,
                rates.mpps,
                rates.gbps,
                report.received,
                report.written,
                report.filtered,
                report.dropped,
                report.idle * 100.0
            ));
        }
        output.interval(&report)
    }

    /// The totals, once devices are stopped.
    pub(crate) fn summary(
        &self,
        args: &Args,
        devices: &[Box<dyn Device>],
        filter: Option<&Filter>,
        file: Written,
        time: Duration,
        ended: Ended,
    ) -> Summary {
        let (stats, totals) = (received(devices), self.totals());
        let Written { files, bytes, broken } = file;
        let lost = broken.as_ref().map_or(0, |broken| broken.lost as u64);
        let written = self.written(&totals) - lost;
        let mut drops = DropsReport::default();
        drops.add("after_count", totals.after_count);
        drops.add("writer_full", totals.writer_full);
        let is_reader_gone = broken.as_ref().is_some_and(|broken| broken.is_reader_gone);
        let unwritten = totals.unwritten + (totals.passed - written);
        drops.add(if is_reader_gone { "reader_gone" } else { "write_error" }, unwritten);
        let pool = PoolReport::of(&self.pool);
        let is_sum = stats.delivered == written + totals.filtered + drops.total();
        let kernel = stats.drops.of(DropReason::Kernel);
        let failed = broken.as_ref().filter(|broken| !broken.is_reader_gone);
        Summary {
            schema: "memwire/capture/1",
            version: env!("CARGO_PKG_VERSION"),
            ended,
            fault: failed.map(|broken| broken.why.clone()).or_else(|| fault(devices)),
            seconds: time.as_secs_f64(),
            file: file_report(args, files, bytes),
            filter: filter.map(|filter| FilterReport {
                text: filter.text.clone(),
                compiler: filter.compiler,
                instructions: filter.program.insns().len(),
            }),
            received: stats.delivered,
            bytes: stats.bytes,
            rates: Rates::of(stats.delivered, stats.bytes, time),
            written,
            filtered: totals.filtered,
            drops,
            idle: share(totals.empty, totals.rounds),
            ports: devices.iter().map(|device| PortReport::of(&**device)).collect(),
            balanced: is_sum && stats.is_balanced() && pool.is_home(),
            pool,
            broken,
            losses: [kernel, stats.drops.total() - kernel],
        }
    }
}

fn file_report(args: &Args, files: u64, bytes: u64) -> Option<FileReport> {
    let options = args.file_options().ok().flatten()?;
    Some(FileReport {
        path: options.path.display().to_string(),
        format: match options.format {
            pmd::pcap::Format::Pcap => "pcap",
            pmd::pcap::Format::Pcapng => "pcapng",
        },
        snaplen: options.snaplen,
        files,
        bytes,
    })
}

impl Summary {
    /// Frames received on all ports.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Frames written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Frames that did not pass the filter.
    #[must_use]
    pub fn filtered(&self) -> u64 {
        self.filtered
    }

    /// Files begun.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.file.as_ref().map_or(0, |file| file.files)
    }

    /// Whether every frame received was written, filtered out or counted as dropped, and every buffer
    /// came home.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.balanced
    }

    /// Tells the counts, on stderr.
    ///
    /// # Errors
    /// They cannot be written, a port or the file failed, or frames or buffers are unaccounted for.
    pub fn conclude(&self, output: &mut Output) -> Result<(), AppError> {
        let what = if self.file.is_some() { "written" } else { "printed" };
        let mut text = format!("{} frames {what}", self.written);
        if let Some(file) = &self.file {
            text += &format!(" to {}", file.path);
            if file.files > 1 {
                text += &format!(" and its followers, {} files", file.files);
            }
        }
        text += &format!("\n{} frames received", self.received);
        if let Some(filter) = &self.filter {
            text += &format!(", {} filtered out ({})", self.filtered, filter.compiler);
        }
        let [kernel, other] = self.losses;
        text += &format!("\n{kernel} frames dropped by kernel, {other} by the port");
        for (reason, count) in &self.drops.0 {
            text += &format!("\n{count} frames {}", in_words(reason));
        }
        eprintln!("{text}");
        output.summary(self)?;
        if let Some(fault) = &self.fault {
            let message = match (&self.broken, &self.file) {
                (Some(_), Some(file)) => {
                    format!("{}: {fault}; {} frames are in it", file.path, self.written)
                }
                _ => fault.clone(),
            };
            return Err(AppError::failed(message));
        }
        if self.balanced {
            return Ok(());
        }
        let message = "not every frame or buffer is accounted for; see the totals";
        Err(AppError::check(message).hint("run with --json for the counters of every queue"))
    }
}

fn in_words(reason: &str) -> &str {
    match reason {
        "after_count" => "came with the last ones wanted (-c), and were not",
        "writer_full" => "had no room on the way to the file",
        "reader_gone" => "came after the reader had gone away",
        "write_error" => "could not be written",
        other => other,
    }
}

fn received(devices: &[Box<dyn Device>]) -> QueueStats {
    let mut sum = QueueStats::default();
    devices.iter().for_each(|device| sum.merge(&device.stats().0));
    sum
}

fn share(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}
