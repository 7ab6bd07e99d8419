//! What an app looks like at one moment: plain numbers, taken on the main thread. Every view (screen,
//! scrape, chart) is made of these and knows no app.

use std::time::Duration;

use pmd::{Device, QueueStats};

use crate::report::{DropsReport, PoolReport};

/// An app at one moment. Counts are since the start.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Since the start.
    pub at: Duration,
    /// Facts for people that do not change, such as `("path", "direct")`.
    pub facts: Vec<(String, String)>,
    /// Ports, in the order of the command line.
    pub ports: Vec<PortSample>,
    /// Frames dropped by the app itself, by reason; what queues dropped is with the ports.
    pub drops: DropsReport,
    /// Pools.
    pub pools: Vec<PoolReport>,
    /// Workers, or stages of one.
    pub stages: Vec<Stage>,
    /// Levels that are full at some value: block fill, a forwarding table.
    pub levels: Vec<Level>,
    /// Counts of the app's own.
    pub counts: Vec<Count>,
    /// Latency, if it is measured.
    pub latency: Option<Latency>,
}

/// A port at one moment.
#[derive(Clone, Debug, Default)]
pub struct PortSample {
    /// Its spec.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// `good`, `ended`, or why it no longer works.
    pub health: String,
    /// Received.
    pub rx: QueueStats,
    /// Sent.
    pub tx: QueueStats,
}

impl PortSample {
    /// The port now.
    #[must_use]
    pub fn of(device: &dyn Device) -> Self {
        let info = device.info();
        let (rx, tx, _) = device.stats();
        Self {
            name: info.port.clone(),
            driver: info.driver.to_owned(),
            health: device.health().to_string(),
            rx,
            tx,
        }
    }
}

/// A worker, or a stage of one: how busy it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Rounds.
    pub rounds: u64,
    /// Rounds that found nothing.
    pub empty: u64,
}

/// Something that fills.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Level {
    /// Its name, in words.
    pub name: String,
    /// How full it is.
    pub value: f64,
    /// What full is.
    pub of: f64,
}

/// A count of the app's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Its name: lower case, words joined by `_`, as in metrics.
    pub name: &'static str,
    /// What it counts, a sentence.
    pub help: &'static str,
    /// The count.
    pub value: u64,
}

/// Latency since the start, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    /// Frames measured.
    pub count: u64,
    /// Shortest.
    pub min_ns: u64,
    /// Mean.
    pub mean_ns: f64,
    /// Half are below.
    pub p50_ns: u64,
    /// 90 % are below.
    pub p90_ns: u64,
    /// 99 % are below.
    pub p99_ns: u64,
    /// 99.9 % are below.
    pub p999_ns: u64,
    /// 99.99 % are below.
    pub p9999_ns: u64,
    /// Longest.
    pub max_ns: u64,
}
