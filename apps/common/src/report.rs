//! What apps tell: rates from counter snapshots, the parts of JSON that all apps have in common, and
//! where each goes. Results to stdout, everything else to stderr.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use mempool::{Access, Pool};
use pmd::{Device, Drops, QueueStats};
use serde::Serialize;

use crate::{AppError, args::RunArgs, watch};

/// Frames and bits per second over some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Millions of frames per second.
    pub mpps: f64,
    /// 10⁹ bits per second: Ethernet header to payload, without FCS, preamble and gap.
    pub gbps: f64,
}

impl Rates {
    /// Of that many frames and bytes in that time; zero if there was none.
    #[must_use]
    pub fn of(frames: u64, bytes: u64, time: Duration) -> Self {
        let seconds = time.as_secs_f64();
        if seconds <= 0.0 {
            return Self::default();
        }
        let (frames, bits) = (frames as f64, bytes as f64 * 8.0);
        Self { mpps: frames / seconds / 1e6, gbps: bits / seconds / 1e9 }
    }
}

/// A count with one writer, readable from any thread: a plain add, no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `more`. The one writer's alone to call.
    #[inline]
    pub fn add(&self, more: usize) {
        // Relaxed: one writer, so load and store are a whole add; nothing is ordered by it.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more as u64), Ordering::Relaxed);
    }

    /// The count now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Turns snapshots of counters into rates, interval by interval.
#[derive(Clone, Debug)]
pub struct Meter {
    start: Instant,
    last: Instant,
    seen: QueueStats,
}

/// One interval, as a [`Meter`] saw it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interval {
    /// Since the meter was started.
    pub at: Duration,
    /// Rates of delivered frames.
    pub rates: Rates,
    /// Frames delivered in the interval.
    pub delivered: u64,
    /// Frames dropped in the interval.
    pub dropped: u64,
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

impl Meter {
    /// Starts at zero, now.
    #[must_use]
    pub fn new() -> Self {
        let now = Instant::now();
        Self { start: now, last: now, seen: QueueStats::default() }
    }

    /// Ends an interval with these counters, and starts the next.
    pub fn tick(&mut self, stats: QueueStats) -> Interval {
        self.tick_at(Instant::now(), stats)
    }

    fn tick_at(&mut self, now: Instant, stats: QueueStats) -> Interval {
        let delivered = stats.delivered.saturating_sub(self.seen.delivered);
        let bytes = stats.bytes.saturating_sub(self.seen.bytes);
        let dropped = stats.drops.total().saturating_sub(self.seen.drops.total());
        let rates = Rates::of(delivered, bytes, now.saturating_duration_since(self.last));
        (self.last, self.seen) = (now, stats);
        Interval { at: now.saturating_duration_since(self.start), rates, delivered, dropped }
    }

    /// Rates since the start, with these counters at the end.
    #[must_use]
    pub fn total(&self, stats: &QueueStats) -> Rates {
        Rates::of(stats.delivered, stats.bytes, self.start.elapsed())
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Frames dropped, by reason; reasons that did not occur are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct DropsReport(pub BTreeMap<String, u64>);

impl From<&Drops> for DropsReport {
    fn from(drops: &Drops) -> Self {
        Self(drops.iter().map(|(reason, count)| (reason.name().to_owned(), count)).collect())
    }
}

impl DropsReport {
    /// Counts `frames` more under a reason, an app's own or a queue's.
    pub fn add(&mut self, reason: &str, frames: u64) {
        if frames > 0 {
            *self.0.entry(reason.to_owned()).or_default() += frames;
        }
    }

    /// All frames dropped.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// One direction of a port. `offered == delivered + Σ drops`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DirectionReport {
    /// Frames that came to the queues.
    pub offered: u64,
    /// Frames that the queues passed on.
    pub delivered: u64,
    /// Bytes of those, without FCS.
    pub bytes: u64,
    /// The others, by reason.
    pub drops: DropsReport,
}

impl From<&QueueStats> for DirectionReport {
    fn from(stats: &QueueStats) -> Self {
        let QueueStats { offered, delivered, bytes, ref drops } = *stats;
        Self { offered, delivered, bytes, drops: drops.into() }
    }
}

/// One port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortReport {
    /// Its spec, in canonical form.
    pub port: String,
    /// Its driver.
    pub driver: String,
    /// Station address.
    pub mac: String,
    /// Speed of the link in Mb/s, if known.
    pub link_mbps: Option<u32>,
    /// `good`, `ended`, or why it no longer works.
    pub health: String,
    /// Received.
    pub rx: DirectionReport,
    /// Sent.
    pub tx: DirectionReport,
    /// What the device itself counts.
    pub device: BTreeMap<String, u64>,
}

impl PortReport {
    /// The port now.
    #[must_use]
    pub fn of(device: &dyn Device) -> Self {
        let info = device.info();
        let (rx, tx, own) = device.stats();
        Self {
            port: info.port.clone(),
            driver: info.driver.to_owned(),
            mac: format_mac(info.mac),
            link_mbps: device.link().speed_mbps,
            health: device.health().to_string(),
            rx: (&rx).into(),
            tx: (&tx).into(),
            device: own.into_iter().collect(),
        }
    }
}

/// `02:00:00:00:00:01`.
#[must_use]
pub fn format_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A pool: what it is made of, and where its buffers are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolReport {
    /// Its name.
    pub name: String,
    /// Who may look inside: `cpu`, `device`, `peer`, `shared`.
    pub access: &'static str,
    /// Who gave the memory.
    pub provider: String,
    /// Bytes of all its buffers.
    pub bytes: u64,
    /// Buffers.
    pub capacity: usize,
    /// Free, on the shared list.
    pub free: usize,
    /// Free, in workers' caches.
    pub cached: usize,
    /// Posted to devices.
    pub in_flight: usize,
    /// With the application.
    pub held: usize,
    /// Lost to devices that were never proved to have stopped.
    pub leaked: usize,
    /// Home, in areas that are being drained.
    pub drained: usize,
}

impl PoolReport {
    /// The pool now.
    #[must_use]
    pub fn of<A: Access>(pool: &Pool<A>) -> Self {
        let audit = pool.audit();
        let mut providers: Vec<_> = pool.areas().into_iter().map(|area| area.provider).collect();
        providers.dedup();
        Self {
            name: pool.name().to_owned(),
            access: A::NAME,
            provider: providers.join("+"),
            bytes: audit.capacity as u64 * pool.stride() as u64,
            capacity: audit.capacity,
            free: audit.free,
            cached: audit.cached,
            in_flight: audit.in_flight,
            held: audit.held,
            leaked: audit.leaked,
            drained: audit.drained,
        }
    }

    /// Whether every buffer is home.
    #[must_use]
    pub fn is_home(&self) -> bool {
        self.free + self.cached + self.drained == self.capacity
    }
}

/// Where an app's results go, as `--json`, `--json-stream` and `--quiet` say.
pub struct Output {
    summary: Option<Box<dyn Write>>,
    is_stream: bool,
    is_human: bool,
    is_live: bool,
}

impl Output {
    /// Opens what `args` name, so that a file that cannot be written is known before the run.
    ///
    /// # Errors
    /// The file of `--json=FILE` cannot be created.
    pub fn new(args: &RunArgs) -> Result<Self, AppError> {
        let summary: Option<Box<dyn Write>> = match &args.json {
            Some(path) if path.as_os_str() == "-" => Some(Box::new(io::stdout())),
            Some(path) => {
                let why = |error| AppError::missing(format!("--json={}: {error}", path.display()));
                Some(Box::new(File::create(path).map_err(why)?))
            }
            None => None,
        };
        let is_human = !args.is_json_on_stdout();
        let is_live = is_human && !args.quiet;
        Ok(Self { summary, is_stream: args.json_stream, is_human, is_live })
    }

    /// Prints a text for people, unless stdout is for JSON.
    pub fn human(&mut self, text: impl std::fmt::Display) {
        if self.is_human {
            print_line(&text.to_string());
        }
    }

    /// Prints a line of the live report; `--quiet` leaves it out too.
    pub fn live(&mut self, line: impl std::fmt::Display) {
        if self.is_live && !watch::is_screen_up() {
            print_line(&line.to_string());
        }
    }

    /// Prints one interval as a line of JSON, with `--json-stream`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn interval(&mut self, interval: &impl Serialize) -> Result<(), AppError> {
        if self.is_stream { write_json(&mut io::stdout(), interval) } else { Ok(()) }
    }

    /// Writes the summary, with `--json` or `--json-stream`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn summary(&mut self, summary: &impl Serialize) -> Result<(), AppError> {
        match &mut self.summary {
            Some(to) => write_json(to, summary),
            None => self.interval(summary),
        }
    }
}

/// A reader that has had enough (`| head`) is no error. While the screen is up, the line waits.
fn print_line(text: &str) {
    if watch::hold_line(text) {
        return;
    }
    let _ = writeln!(io::stdout(), "{}", text.trim_end_matches('\n'));
}

fn write_json(to: &mut impl Write, value: &impl Serialize) -> Result<(), AppError> {
    let failed = |error: io::Error| AppError::failed(format!("cannot write JSON: {error}"));
    serde_json::to_writer(&mut *to, value).map_err(|error| failed(error.into()))?;
    to.write_all(b"\n").and_then(|()| to.flush()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use mempool::{Cpu, heap::Heap};

    use super::*;

    fn stats(delivered: u64, bytes: u64, dropped: u64) -> QueueStats {
        let mut drops = Drops::default();
        drops.add(pmd::DropReason::NoBuffer, dropped);
        QueueStats { offered: delivered + dropped, delivered, bytes, drops }
    }

    #[test]
    fn rates_are_frames_and_layer_two_bits() {
        let rates = Rates::of(2_000_000, 2_000_000 * 125, Duration::from_secs(2));
        assert_eq!(rates, Rates { mpps: 1.0, gbps: 1.0 });
        assert_eq!(Rates::of(1, 1, Duration::ZERO), Rates::default());
    }

    #[test]
    fn a_meter_reports_each_interval_by_itself() {
        let mut meter = Meter::new();
        let start = meter.start;
        meter.tick_at(start + Duration::from_secs(1), stats(1_000_000, 64_000_000, 0));
        let second =
            meter.tick_at(start + Duration::from_secs(2), stats(4_000_000, 256_000_000, 7));
        assert_eq!(second.rates.mpps, 3.0);
        assert_eq!((second.delivered, second.dropped), (3_000_000, 7));
        assert_eq!(second.at, Duration::from_secs(2));
    }

    #[test]
    fn drops_are_a_map_of_the_reasons_there_were() {
        let mut report = DropsReport::from(&stats(0, 0, 3).drops);
        report.add("foreign", 2);
        report.add("never", 0);
        assert_eq!(serde_json::to_string(&report).unwrap(), r#"{"foreign":2,"no_buffer":3}"#);
        assert_eq!(report.total(), 5);
    }

    #[test]
    fn a_pool_report_accounts_for_every_buffer() {
        let pool = Pool::<Cpu>::builder().name("p").slots(64).memory(&Heap::new()).build().unwrap();
        let mut cache = pool.cache();
        let held = cache.take_one();
        let report = PoolReport::of(&pool);
        assert_eq!((report.provider.as_str(), report.access, report.held), ("heap", "cpu", 1));
        assert_eq!(report.bytes, 64 * 2048);
        assert!(!report.is_home());
        drop(held);
        assert!(PoolReport::of(&pool).is_home());
    }

    #[test]
    fn a_port_report_names_the_port() {
        let device = pmd::Registry::new().open("null:a").unwrap();
        let report = PortReport::of(&*device);
        assert_eq!((report.port.as_str(), report.driver.as_str()), ("null:a", "null"));
        assert_eq!((report.mac.as_str(), report.health.as_str()), ("00:00:00:00:00:00", "good"));
    }
}
