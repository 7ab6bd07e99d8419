//! What an app looks like at one moment: plain numbers, taken on the main thread. Every view (screen,
//! scrape, chart) is made of these and knows no app.

use std::{collections::HashMap, time::Duration};

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

impl Latency {
    /// Quantiles, with what they are of 1.
    #[must_use]
    pub fn quantiles(&self) -> [(f64, u64); 5] {
        let Self { p50_ns, p90_ns, p99_ns, p999_ns, p9999_ns, .. } = *self;
        [(0.5, p50_ns), (0.9, p90_ns), (0.99, p99_ns), (0.999, p999_ns), (0.9999, p9999_ns)]
    }
}

impl Sample {
    /// Gives whatever shares its name with one before it a number: views tell them by their names.
    pub(super) fn tell_apart(&mut self) {
        fn number<'a>(names: impl Iterator<Item = &'a mut String>) {
            let mut seen = HashMap::<String, u32>::new();
            for name in names {
                let count = seen.entry(name.clone()).or_default();
                *count += 1;
                if *count > 1 {
                    *name += &format!(" #{count}");
                }
            }
        }
        number(self.ports.iter_mut().map(|port| &mut port.name));
        number(self.pools.iter_mut().map(|pool| &mut pool.name));
        number(self.stages.iter_mut().map(|stage| &mut stage.name));
        number(self.levels.iter_mut().map(|level| &mut level.name));
    }

    /// Frames dropped so far by anybody, by reason.
    pub(super) fn all_drops(&self) -> DropsReport {
        let mut all = self.drops.clone();
        for port in &self.ports {
            for stats in [&port.rx, &port.tx] {
                stats.drops.iter().for_each(|(reason, frames)| all.add(reason.name(), frames));
            }
        }
        all
    }
}

#[cfg(test)]
pub(super) mod tests {
    use pmd::{DropReason, Drops};

    use super::*;

    /// A sample with everything in it, after two seconds.
    pub(in crate::watch) fn full() -> Sample {
        let mut drops = Drops::default();
        drops.add(DropReason::NoBuffer, 7);
        let rx = QueueStats { offered: 1007, delivered: 1000, bytes: 64_000, drops };
        let tx = QueueStats { offered: 20, delivered: 20, bytes: 1280, drops: Drops::default() };
        let port = PortSample {
            name: "ring:a".into(),
            driver: "ring".into(),
            health: "good".into(),
            rx,
            tx,
        };
        let pool = PoolReport {
            name: "heads".into(),
            access: "cpu",
            provider: "host".into(),
            bytes: 25_600,
            capacity: 100,
            free: 30,
            cached: 16,
            in_flight: 30,
            held: 24,
            leaked: 0,
            drained: 0,
        };
        Sample {
            at: Duration::from_secs(2),
            facts: vec![("path".into(), "direct".into()), ("memory".into(), "fake".into())],
            ports: vec![port],
            drops: DropsReport([("foreign".to_owned(), 5)].into()),
            pools: vec![pool],
            stages: vec![Stage { name: "worker 0".into(), rounds: 100, empty: 25 }],
            levels: vec![Level { name: "block fill".into(), value: 128.0, of: 512.0 }],
            counts: vec![Count { name: "rows_missing", help: "Rows that never came.", value: 3 }],
            latency: Some(Latency {
                count: 10,
                min_ns: 1000,
                mean_ns: 2500.0,
                p50_ns: 2000,
                p90_ns: 5000,
                p99_ns: 9000,
                p999_ns: 20_000,
                p9999_ns: 1_000_000,
                max_ns: 1_200_000,
            }),
        }
    }

    #[test]
    fn names_that_come_again_get_a_number() {
        let mut sample = full();
        sample.pools = [&sample.pools[..], &sample.pools, &sample.pools].concat();
        sample.tell_apart();
        let names: Vec<_> = sample.pools.iter().map(|pool| &*pool.name).collect();
        assert_eq!(names, ["heads", "heads #2", "heads #3"]);
    }

    #[test]
    fn drops_of_ports_and_app_add_up() {
        let mut sample = full();
        sample.drops.add("no_buffer", 1);
        assert_eq!(sample.all_drops().0, [("foreign".into(), 5), ("no_buffer".into(), 8)].into());
    }
}
