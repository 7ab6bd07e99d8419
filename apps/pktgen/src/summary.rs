//! What pktgen tells at the end: the totals as JSON and for people, whether every frame is accounted
//! for, and whether what was to be checked held.

use std::time::Duration;

use memwire_apps::{
    AppError,
    report::{Output, PoolReport, PortReport, Rates},
    traffic::{AppHeader, FlowKey, HeaderChoice, Template, Traffic, Transport},
    units::format_frames,
    watch::Latency,
};
use serde::Serialize;

use crate::{
    Args, Search,
    monitor::Totals,
    setup::{Mode, Rig},
    track::FlowCounts,
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
    /// All of a capture was sent.
    Sent,
    /// The ports ended by themselves.
    Ports,
    /// The search is done.
    Searched,
    /// A port failed.
    Faulted,
}

/// What was received. `frames == good + corrupt + truncated + foreign`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Received {
    /// Frames that came.
    pub frames: u64,
    /// Their bytes, without FCS.
    pub bytes: u64,
    /// Frames of the flows that were whole; reordered, duplicate and stale ones are among them.
    pub good: u64,
    /// Numbers that did not arrive.
    pub lost: u64,
    /// Frames that came after one with a higher number (RFC 4737).
    pub reordered: u64,
    /// Frames whose number had come before.
    pub duplicate: u64,
    /// Frames with a wrong sum.
    pub corrupt: u64,
    /// Frames that ended too early.
    pub truncated: u64,
    /// Frames too old to tell.
    pub stale: u64,
    /// Frames of no flow that was asked for.
    pub foreign: u64,
}

impl Received {
    /// Whether nothing happened to any frame.
    fn is_clean(&self) -> bool {
        let Self { lost, reordered, duplicate, corrupt, truncated, stale, .. } = *self;
        [lost, reordered, duplicate, corrupt, truncated, stale] == [0; 6]
    }

    fn is_balanced(&self) -> bool {
        self.frames == self.good + self.corrupt + self.truncated + self.foreign
    }
}

/// A flow in a report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FlowLine {
    flow: usize,
    src: String,
    dst: String,
    src_port: u16,
    dst_port: u16,
    /// Frames sent; where nothing is sent here, numbers up to the highest that came.
    sent: u64,
    /// `None` where nobody receives.
    lost: Option<u64>,
    #[serde(flatten)]
    counts: FlowCounts,
}

impl FlowLine {
    pub(crate) fn new(flow: usize, key: FlowKey, sent: u64, counts: FlowCounts, rig: &Rig) -> Self {
        let FlowKey { src, dst, src_port, dst_port } = key;
        let lost = (!rig.receivers.is_empty()).then(|| sent.saturating_sub(counts.arrived));
        Self {
            flow,
            src: src.to_string(),
            dst: dst.to_string(),
            src_port,
            dst_port,
            sent,
            lost,
            counts,
        }
    }

    /// How much went wrong.
    pub(crate) fn trouble(&self) -> u64 {
        let FlowCounts { reordered, duplicate, corrupt, truncated, stale, .. } = self.counts;
        self.lost.unwrap_or(0) + reordered + duplicate + corrupt + truncated + stale
    }
}

/// Quantiles, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Quantiles {
    count: u64,
    min_ns: u64,
    mean_ns: f64,
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    p9999_ns: u64,
    max_ns: u64,
}

impl From<Latency> for Quantiles {
    fn from(of: Latency) -> Self {
        let Latency { count, min_ns, mean_ns, p50_ns, p90_ns, p99_ns, p999_ns, p9999_ns, max_ns } =
            of;
        Self { count, min_ns, mean_ns, p50_ns, p90_ns, p99_ns, p999_ns, p9999_ns, max_ns }
    }
}

/// What the frames were.
#[derive(Clone, Debug, Serialize)]
struct TrafficReport {
    layers: String,
    sizes: String,
    mean_size: f64,
    flows: usize,
    header: &'static str,
    /// Whether UDP or TCP checksums were written.
    l4_checksum: bool,
    fresh_payload: bool,
    seed: u64,
}

impl TrafficReport {
    fn new(traffic: &Traffic, flows: usize) -> Self {
        let template = &traffic.template;
        Self {
            layers: layers(template),
            sizes: traffic.sizes().to_string(),
            mean_size: traffic.sizes().mean(),
            flows,
            header: match template.header {
                HeaderChoice::Auto => "auto",
                HeaderChoice::Long => "long",
                HeaderChoice::Short => "short",
                HeaderChoice::None => "none",
            },
            l4_checksum: template.has_checksum(),
            fresh_payload: traffic.fresh,
            seed: traffic.seed,
        }
    }
}

/// Frames that a port says it made of others on its way; a copy is offered like the frame itself.
fn copies(own: &[(String, u64)], suffix: &str) -> u64 {
    own.iter().filter(|(name, _)| name.ends_with(suffix)).map(|(_, count)| count).sum()
}

/// The headers in order: `ethernet/vlan/ipv4/udp`.
fn layers(template: &Template) -> String {
    let mut names = vec!["ethernet"];
    names.extend(template.outer_vlan.map(|_| "qinq"));
    names.extend(template.vlan.map(|_| "vlan"));
    names.push(if template.src.is_ipv4() { "ipv4" } else { "ipv6" });
    names.push(if template.transport == Transport::Udp { "udp" } else { "tcp" });
    match template.app {
        AppHeader::None => {}
        AppHeader::Rtp { .. } => names.push("rtp"),
        AppHeader::Spead { .. } => names.push("spead"),
    }
    names.join("/")
}

/// What was sent.
#[derive(Clone, Debug, Serialize)]
struct SentReport {
    /// Frames per second that were asked for.
    asked_pps: Option<f64>,
    /// Frames that the port took.
    frames: u64,
    /// Among them, frames of another flow.
    foreign: u64,
    bytes: u64,
    rates: Rates,
    /// Frames of a capture that were read and not sent.
    refused: u64,
    /// Bursts that the port had no room for at first.
    stalls: u64,
    /// How far gaps between frames were from even ones, where a rate was asked.
    gap_error: Option<Quantiles>,
}

#[derive(Clone, Debug, Serialize)]
struct ReceivedReport {
    #[serde(flatten)]
    counts: Received,
    rates: Rates,
    /// Share of the sent frames that were lost.
    loss: f64,
    latency: Option<Quantiles>,
}

/// The totals of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    schema: &'static str,
    version: &'static str,
    mode: Mode,
    ended: Ended,
    /// Which port failed, and why.
    fault: Option<String>,
    seconds: f64,
    traffic: Option<TrafficReport>,
    tx: Option<SentReport>,
    rx: Option<ReceivedReport>,
    /// The flows to which most happened, at most 100.
    flows: Vec<FlowLine>,
    search: Option<Search>,
    ports: Vec<PortReport>,
    pools: Vec<PoolReport>,
    /// Share of rounds that found nothing.
    idle: f64,
    /// Whether every frame is accounted for, and every buffer came home.
    balanced: bool,
    #[serde(skip)]
    max_loss: Option<f64>,
    #[serde(skip)]
    check: bool,
}

impl Summary {
    /// The totals of a rig that has stopped.
    pub(crate) fn new(
        args: &Args,
        rig: &Rig,
        totals: &Totals,
        ended: Ended,
        seconds: f64,
        fault: Option<String>,
        search: Option<Search>,
    ) -> Self {
        let time = Duration::from_secs_f64(seconds);
        let Totals { sent, received, .. } = totals;
        let is_sending = rig.mode != Mode::Receive;
        let offered = match (is_sending, rig.is_numbered()) {
            (true, _) => sent.frames,
            (false, true) => received.lost + totals.flows_arrived(),
            (false, false) => 0,
        };
        let loss = if offered == 0 { 0.0 } else { received.lost as f64 / offered as f64 };
        let tx = is_sending.then(|| SentReport {
            asked_pps: rig.rate(args).ok().flatten(),
            frames: sent.frames + sent.foreign,
            foreign: sent.foreign,
            bytes: sent.bytes,
            rates: Rates::of(sent.frames + sent.foreign, sent.bytes, time),
            refused: totals.refused,
            stalls: sent.stalls,
            gap_error: totals.gaps.map(Into::into),
        });
        let rx = (!rig.receiving.is_empty()).then(|| ReceivedReport {
            counts: *received,
            rates: Rates::of(received.frames, received.bytes, time),
            loss,
            latency: totals.latency.map(Into::into),
        });
        let stats: Vec<_> = rig.devices.iter().map(|device| device.stats()).collect();
        let are_queues = stats.iter().all(|(rx, tx, _)| rx.is_balanced() && tx.is_balanced());
        // What workers gave to the ports is what these say they took, and the other way round.
        let copies = copies(&stats[0].2, "_tx_dup");
        let is_sent = !is_sending || stats[0].1.offered == sent.frames + sent.foreign + copies;
        let taken: u64 = rig.receiving.iter().map(|at| stats[*at].0.delivered).sum();
        let is_replayed = rig
            .capture
            .as_ref()
            .is_none_or(|capture| capture.stats().0.delivered == sent.frames + totals.refused);
        let pools: Vec<_> = rig.pools.iter().map(PoolReport::of).collect();
        let are_home = pools.iter().all(PoolReport::is_home);
        let is_received = taken == received.frames && received.is_balanced();
        Self {
            schema: "memwire/pktgen/1",
            version: env!("CARGO_PKG_VERSION"),
            mode: rig.mode,
            ended,
            fault,
            seconds,
            traffic: rig
                .traffic
                .as_ref()
                .map(|traffic| TrafficReport::new(traffic, rig.keys.len())),
            tx,
            rx,
            flows: totals.flows.clone(),
            search,
            ports: rig.devices.iter().chain(&rig.capture).map(|d| PortReport::of(&**d)).collect(),
            pools,
            idle: totals.idle,
            balanced: are_queues && is_sent && is_received && is_replayed && are_home,
            max_loss: args.receive.max_loss.filter(|_| rig.mode != Mode::Search),
            check: args.receive.check,
        }
    }

    /// Frames that the port took.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.tx.as_ref().map_or(0, |tx| tx.frames)
    }

    /// What was received; all zero where nobody received.
    #[must_use]
    pub fn received(&self) -> Received {
        self.rx.as_ref().map(|rx| rx.counts).unwrap_or_default()
    }

    /// The search, if there was one.
    #[must_use]
    pub fn search(&self) -> Option<&Search> {
        self.search.as_ref()
    }

    /// Whether every frame is accounted for, and every buffer came home.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.balanced
    }

    /// Prints the totals.
    ///
    /// # Errors
    /// They cannot be written, a port failed, frames or buffers are unaccounted for, or what was to
    /// be checked did not hold.
    pub fn conclude(&self, output: &mut Output) -> Result<(), AppError> {
        output.human(self.text());
        output.summary(self)?;
        if let Some(fault) = &self.fault {
            return Err(AppError::failed(fault));
        }
        if !self.balanced {
            let message = "not every frame or buffer is accounted for; see the totals";
            return Err(AppError::check(message).hint("run with --json for every counter"));
        }
        if let Some(search) = self.search.as_ref().filter(|search| search.pps.is_none()) {
            let Some(last) = search.trials.last() else { return Ok(()) };
            let why =
                if last.was_sent { "is lost" } else { "is lost, or the port did not take it" };
            let message = format!(
                "even at {} {:.4} % {why}, at most {} % may be",
                format_frames(last.pps),
                last.loss * 100.0,
                search.max_loss * 100.0
            );
            return Err(AppError::check(message)
                .hint("--max-loss, --linger, or a lower --rate to begin with"));
        }
        let loss = self.rx.as_ref().map_or(0.0, |rx| rx.loss);
        if let Some(most) = self.max_loss.filter(|most| loss > *most) {
            let (loss, most) = (loss * 100.0, most * 100.0);
            return Err(AppError::check(format!(
                "{loss:.4} % of the frames are lost, at most {most} % may be"
            )));
        }
        let received = self.received();
        if self.check && !received.is_clean() {
            let Received { lost, reordered, duplicate, corrupt, truncated, stale, .. } = received;
            return Err(AppError::check(format!(
                "lost {lost}, reordered {reordered}, duplicate {duplicate}, corrupt {corrupt}, \
                 truncated {truncated}, stale {stale}: --check allows none"
            )));
        }
        Ok(())
    }

    fn text(&self) -> String {
        let mut lines = vec![String::new()];
        if let Some(traffic) = &self.traffic {
            let TrafficReport { layers, sizes, flows, .. } = traffic;
            let flow = if *flows == 1 { "1 flow".to_owned() } else { format!("{flows} flows") };
            lines.push(format!("{:.1} s, {layers}, size {sizes}, {flow}", self.seconds));
        } else {
            lines.push(format!("{:.1} s", self.seconds));
        }
        if let Some(tx) = &self.tx {
            let Rates { mpps, gbps } = tx.rates;
            let SentReport { frames, bytes, .. } = tx;
            lines.push(format!(
                "sent      {frames} frames, {bytes} B: {mpps:.3} Mpps, {gbps:.2} Gb/s"
            ));
            if tx.refused > 0 {
                lines.push(format!("refused   {} frames of the capture", tx.refused));
            }
            if let (Some(pps), Some(gaps)) = (tx.asked_pps, &tx.gap_error) {
                let us = |ns: u64| ns as f64 / 1e3;
                let (p50, p99, max) = (us(gaps.p50_ns), us(gaps.p99_ns), us(gaps.max_ns));
                lines.push(format!(
                    "pace      asked {}, gap error p50 {p50:.1} us, p99 {p99:.1} us, max {max:.1} us",
                    format_frames(pps)
                ));
            }
        }
        if let Some(rx) = &self.rx {
            let Rates { mpps, gbps } = rx.rates;
            let c = &rx.counts;
            lines.push(format!(
                "received  {} frames, {} B: {mpps:.3} Mpps, {gbps:.2} Gb/s",
                c.frames, c.bytes
            ));
            lines.push(format!(
                "lost      {} ({:.4} %), reordered {}, duplicate {}, corrupt {}, truncated {}, stale {}, foreign {}",
                c.lost, rx.loss * 100.0, c.reordered, c.duplicate, c.corrupt, c.truncated, c.stale, c.foreign
            ));
            if let Some(q) = &rx.latency {
                let us = |ns: u64| ns as f64 / 1e3;
                lines.push(format!(
                    "latency   min {:.1} us, p50 {:.1}, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, p99.99 {:.1}, max {:.1}, of {}",
                    us(q.min_ns), us(q.p50_ns), us(q.p90_ns), us(q.p99_ns), us(q.p999_ns),
                    us(q.p9999_ns), us(q.max_ns), q.count
                ));
            }
        }
        if let Some(search) = &self.search {
            let mean = self.traffic.as_ref().map_or(0.0, |traffic| traffic.mean_size);
            match search.pps {
                Some(pps) => lines.push(format!(
                    "NDR       {} ({:.3} Gb/s), {} trials, at most {} % lost{}",
                    format_frames(pps),
                    pps * mean * 8.0 / 1e9,
                    search.trials.len(),
                    search.max_loss * 100.0,
                    if search.monotone {
                        ""
                    } else {
                        "; not monotone: a rate passed and then failed"
                    }
                )),
                None => lines.push(format!("NDR       none in {} trials", search.trials.len())),
            }
        }
        for pool in &self.pools {
            let memory = mempool::format_bytes(pool.bytes);
            lines.push(format!(
                "memory    {} {}: {memory}, {} buffers",
                pool.name, pool.provider, pool.capacity
            ));
        }
        lines.join("\n")
    }
}

impl Totals {
    fn flows_arrived(&self) -> u64 {
        self.received.frames - self.received.foreign - self.received.duplicate - self.received.stale
    }
}
