//! What l2fwd tells: the table of an interval, the summary, and whether every frame is accounted
//! for.

use memwire_apps::{
    AppError,
    report::{DropsReport, Output, PoolReport, PortReport, Rates},
    table::Table,
};
use serde::Serialize;

use crate::{
    Mode, Rewrite,
    monitor::{Line, Lines},
    port::State,
};

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
}

/// A port of the summary.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PortSummary {
    #[serde(flatten)]
    pub(crate) port: PortReport,
    pub(crate) state: State,
    pub(crate) outages: u64,
    /// Frames received here that left by one port, and those that left by all others.
    pub(crate) forwarded: u64,
    pub(crate) flooded: u64,
    /// Frames received here that went no further, by reason.
    pub(crate) dropped: DropsReport,
    /// Frames that were to leave here and did not reach the port's queues, by reason.
    pub(crate) unsent: DropsReport,
    #[serde(skip)]
    pub(crate) line: Line,
}

/// The switch of the summary.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SwitchSummary {
    /// Stations in the table at the end, and how many fit.
    pub(crate) stations: usize,
    pub(crate) capacity: usize,
    /// Stations that were put in, that changed their port, that there was no room for.
    pub(crate) learnt: u64,
    pub(crate) moved: u64,
    pub(crate) full: u64,
    /// Stations left to their next frame, because two workers learnt at once.
    pub(crate) deferred: u64,
    /// Stations forgotten: silent too long, and with their port.
    pub(crate) aged: u64,
    pub(crate) flushed: u64,
    /// Frames copied, to be flooded with a tag and without.
    pub(crate) copied: u64,
}

/// The totals of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub(crate) schema: &'static str,
    pub(crate) version: &'static str,
    pub(crate) mode: Mode,
    pub(crate) rewrite: Rewrite,
    pub(crate) ended: Ended,
    /// Which port failed, and why.
    pub(crate) fault: Option<String>,
    pub(crate) seconds: f64,
    pub(crate) workers: usize,
    pub(crate) rx_packets: u64,
    pub(crate) rx_bytes: u64,
    pub(crate) rates: Rates,
    /// Share of rounds that found nothing.
    pub(crate) idle: f64,
    pub(crate) ports: Vec<PortSummary>,
    pub(crate) mirror: Option<PortSummary>,
    pub(crate) switch: Option<SwitchSummary>,
    pub(crate) pool: PoolReport,
    /// Whether every frame received was sent or counted as dropped, and every buffer came home.
    pub(crate) balanced: bool,
}

impl Summary {
    /// Frames received on all ports.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.rx_packets
    }

    /// Frames that `port` (the mirror is behind the last) took over to send, and those that did not
    /// reach it.
    #[must_use]
    pub fn sent(&self, port: usize) -> (u64, u64) {
        let port = self.ports.get(port).or(self.mirror.as_ref());
        port.map_or((0, 0), |port| (port.port.tx.offered, port.unsent.total()))
    }

    /// Whether every frame received was sent or counted as dropped, and every buffer came home.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.balanced
    }

    fn headline(&self) -> &'static str {
        match (self.mode, self.rewrite) {
            (Mode::Switch, _) => "switched",
            (Mode::Pairs, Rewrite::None) => "frames unchanged",
            (Mode::Pairs, Rewrite::MacSwap) => "addresses swapped",
            (Mode::Pairs, Rewrite::MacUpdate) => "addresses replaced",
        }
    }

    fn drops_line(&self) -> Option<String> {
        let mut sum = DropsReport::default();
        let ports = || self.ports.iter().chain(&self.mirror);
        for (reason, count) in ports().flat_map(|port| &port.dropped.0) {
            sum.add(reason, *count);
        }
        for (reason, count) in ports().flat_map(|port| &port.unsent.0) {
            sum.add(&format!("unsent {reason}"), *count);
        }
        let counts: Vec<_> = sum.0.iter().map(|(why, count)| format!("{why} {count}")).collect();
        (!counts.is_empty()).then(|| format!("dropped {}\n", counts.join(", ")))
    }

    /// Prints the totals.
    ///
    /// # Errors
    /// They cannot be written, a port or the mirror failed, or frames or buffers are unaccounted
    /// for.
    pub fn conclude(&self, output: &mut Output) -> Result<(), AppError> {
        let ports = self.ports.iter().chain(&self.mirror);
        let lines = Lines(ports.map(|port| port.line.clone()).collect());
        let Rates { mpps, gbps } = self.rates;
        let PoolReport { provider, capacity, bytes, .. } = &self.pool;
        let memory = mempool::format_bytes(*bytes);
        let switch = self.switch.as_ref().map(|switch| {
            let SwitchSummary { stations, capacity, learnt, moved, aged, flushed, .. } = switch;
            format!(
                "stations {stations} of {capacity}: {learnt} learnt, {moved} moved, {aged} aged, \
                 {flushed} flushed\n"
            )
        });
        output.human(format_args!(
            "\n{:.1} s, {}\n{}{}{}memory {provider}: {memory}, {capacity} buffers\nreceived {} \
             frames, {} B: {mpps:.3} Mpps, {gbps:.2} Gb/s",
            self.seconds,
            self.headline(),
            lines.table(self.idle),
            self.drops_line().unwrap_or_default(),
            switch.unwrap_or_default(),
            self.rx_packets,
            self.rx_bytes,
        ));
        output.summary(self)?;
        if let Some(fault) = &self.fault {
            return Err(AppError::failed(fault));
        }
        if let Some(mirror) = self.mirror.as_ref().filter(|mirror| mirror.state == State::Failed) {
            let PortReport { port, health, tx, .. } = &mirror.port;
            let message = format!(
                "mirror '{port}' stopped after {} frames: {health}; forwarding went on",
                tx.delivered
            );
            return Err(AppError::failed(message));
        }
        if self.balanced {
            return Ok(());
        }
        let message = "not every frame or buffer is accounted for; see the totals";
        Err(AppError::check(message).hint("run with --json for the counters of every queue"))
    }
}

impl Lines {
    /// The table of all ports.
    pub(crate) fn table(&self, idle: f64) -> Table {
        let mut table = Table::new(&[
            "port",
            "rx Mpps",
            "tx Mpps",
            "rx Gb/s",
            "tx Gb/s",
            "rx-missed",
            "dropped",
            "tx-drop",
            "nombuf",
            "flooded",
            "state",
        ]);
        let mut sums = ([0.0; 4], [0; 5]);
        let mut add = |name: &str, rates: [f64; 4], counts: [u64; 5], note: String| {
            let decimals = [3, 3, 2, 2].into_iter().zip(rates);
            let rates = decimals.map(|(digits, rate)| format!("{rate:.digits$}"));
            let counts = counts.map(|count| count.to_string());
            table.row([name.to_owned()].into_iter().chain(rates).chain(counts).chain([note]));
        };
        for line in &self.0 {
            let rates = [line.rx.mpps, line.tx.mpps, line.rx.gbps, line.tx.gbps];
            let counts = [line.rx_missed, line.dropped, line.tx_drop, line.nombuf, line.flooded];
            sums.0.iter_mut().zip(rates).for_each(|(sum, rate)| *sum += rate);
            sums.1.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            let outages = match line.outages {
                0 => String::new(),
                1 => " (1 outage)".to_owned(),
                count => format!(" ({count} outages)"),
            };
            add(&line.port, rates, counts, format!("{}{outages}", line.state.name()));
        }
        add("total", sums.0, sums.1, format!("idle {:.0}%", idle * 100.0));
        table
    }
}
