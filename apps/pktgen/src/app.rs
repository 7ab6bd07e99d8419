//! A run: workers start, the main thread watches, workers come back. Once, or once per trial.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crossbeam_utils::CachePadded;
use memwire_apps::{
    AppError, Stop, idle::Activity, report::Output, watch::Watch, workers::Workers,
};
use pmd::{Health, Registry};

use crate::{
    Args,
    monitor::Monitor,
    receiver::Receiver,
    search::{Limits, Outcome, Search, search},
    sender::Sender,
    setup::{Mode, Rig},
    summary::{Ended, Summary},
};

/// How often the ports are asked, and views served.
const LOOK: Duration = Duration::from_millis(10);
/// How long the demo runs unless told.
const DEMO: Duration = Duration::from_secs(3);
/// A run that was asked to end waits no longer for late frames.
const HASTE: Duration = Duration::from_millis(1200);

/// How long links may take to come up before frames are sent (the two ends of a copper cable negotiate for 2 to 4
/// seconds), how long receivers may take to begin, and how often they are asked.
const NEGOTIATION: Duration = Duration::from_secs(5);
const MEETING: Duration = Duration::from_millis(500);
const MOMENT: Duration = Duration::from_millis(1);

/// One run of the workers.
#[derive(Clone, Copy, Debug, Default)]
struct Leg {
    /// Frames per second of all senders together.
    rate: Option<f64>,
    /// Frames to send.
    count: Option<u64>,
    duration: Option<Duration>,
}

/// What a run came to.
struct LegEnd {
    ended: Ended,
    seconds: f64,
}

/// Runs pktgen on ports of `registry` until something ends it, with live lines to `output`.
///
/// # Errors
/// The command line asks for what cannot be, something is missing, or a worker or port failed.
pub fn run(
    args: &Args,
    registry: &mut Registry,
    stop: &Stop,
    output: &mut Output,
) -> Result<Summary, AppError> {
    let mut rig = Rig::new(args, registry)?;
    // A port drops what it is to send without a link, and does not know its speed.
    wait_for_links(&rig, stop);
    let rate = rig.rate(args)?;
    let watch = Watch::new("pktgen", &args.watch, &args.run, stop)?;
    let mut monitor = Monitor::new(args, &rig, rate, watch);
    let (end, found) = match rig.mode {
        Mode::Search => {
            let (end, found) = search_ndr(args, &mut rig, rate, stop, &mut monitor, output)?;
            (end, Some(found))
        }
        _ => {
            let is_demo = args.ports.ports.is_empty();
            let unlimited = args.run.duration.is_none() && args.run.count.is_none();
            let demo = (is_demo && unlimited && rig.mode == Mode::Generate).then_some(DEMO);
            let leg = Leg {
                rate,
                count: args.run.count.or(rig.count),
                duration: args.run.duration.or(demo),
            };
            (drive(args, &mut rig, leg, stop, &mut monitor, output)?, None)
        }
    };
    let fault = rig.fault();
    let totals = monitor.totals(&rig);
    rig.stop()?;
    // The other end of a wire may still be reading what was sent.
    let deadline = Instant::now() + args.receive.linger.min(HASTE);
    while !rig.pools.iter().all(|pool| pool.audit().is_home()) && Instant::now() < deadline {
        thread::park_timeout(Duration::from_millis(1));
    }
    let summary = Summary::new(args, &rig, &totals, end.ended, end.seconds, fault, found);
    monitor.finish(&rig)?;
    Ok(summary)
}

/// Searches the highest rate, trial by trial.
fn search_ndr(
    args: &Args,
    rig: &mut Rig,
    rate: Option<f64>,
    stop: &Stop,
    monitor: &mut Monitor,
    output: &mut Output,
) -> Result<(LegEnd, Search), AppError> {
    let start = Instant::now();
    let is_over = |stop: &Stop| {
        stop.is_set() || args.run.duration.is_some_and(|duration| start.elapsed() >= duration)
    };
    let trial = args.search.trial;
    let link = rig.devices[0].link().speed_mbps;
    let mean = rig.traffic.as_ref().map_or(64.0, |traffic| traffic.sizes().mean());
    let full = memwire_apps::units::Rate::Share(1.0).mean_frames_per_second(mean, link);
    let highest = match rate.or(full) {
        Some(rate) => rate,
        None => {
            // Nobody knows what the port can do: ask it.
            let leg = Leg { duration: Some(trial), ..Leg::default() };
            let end = drive(args, rig, leg, stop, monitor, output)?;
            let (sent, _) = monitor.leg(rig);
            let rate = sent as f64 / end.seconds.max(1e-9);
            let rate_text = memwire_apps::units::format_frames(rate);
            output.live(format_args!("as fast as the port takes them: {rate_text}"));
            if sent == 0 {
                return Err(AppError::failed("the port took no frame"));
            }
            rate
        }
    };
    let max_loss = args.receive.max_loss.unwrap_or(0.0);
    let limits = Limits { highest, resolution: args.search.resolution, max_loss };
    let found = search(limits, |rate| {
        if is_over(stop) {
            return Ok(None);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let asked = (rate * trial.as_secs_f64()).round() as u64;
        let leg = Leg { rate: Some(rate), count: Some(asked), duration: Some(trial) };
        let end = drive(args, rig, leg, stop, monitor, output)?;
        if stop.is_set() {
            return Ok(None);
        }
        let (sent, lost) = monitor.leg(rig);
        // Whoever was to end the trial may have been late, and what was sent by then is too much.
        let in_time = end.seconds <= (trial + grace(trial)).as_secs_f64();
        let outcome = Outcome { asked, sent, arrived: sent - lost, lost, in_time };
        output.live(format_args!(
            "trial  {:>12}  sent {sent}  lost {}  ({:.4} %)",
            memwire_apps::units::format_frames(rate),
            outcome.lost,
            outcome.loss() * 100.0
        ));
        Ok::<_, AppError>(Some(outcome))
    })?;
    let ended = if stop.is_set() { Ended::Asked } else { Ended::Searched };
    Ok((LegEnd { ended, seconds: start.elapsed().as_secs_f64() }, found))
}

/// Starts the workers, watches them until the leg ends, and takes them back.
fn drive(
    args: &Args,
    rig: &mut Rig,
    leg: Leg,
    stop: &Stop,
    monitor: &mut Monitor,
    output: &mut Output,
) -> Result<LegEnd, AppError> {
    // A rate and a time make a number of frames: the last of them is due just before the end.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let timed = leg.rate.zip(leg.duration).map(|(rate, t)| (rate * t.as_secs_f64()).round() as u64);
    let count = leg.count.into_iter().chain(timed).min();
    let by_time = leg.count.is_none_or(|count| timed.is_some_and(|timed| timed <= count));
    monitor.restart(rig);
    let (tx_stop, rx_stop) = (Stop::new(), Stop::new());
    let (mut senders, mut receivers) = (Workers::new(&tx_stop), Workers::new(&rx_stop));
    let (of, mut cores) = (rig.senders.len(), rig.cores.iter().copied());
    let first: Vec<_> = rig.senders.iter().flat_map(Sender::flows).collect();
    let polls: Vec<_> = rig.receivers.iter().map(Receiver::activity).collect();
    let before: Vec<u64> = polls.iter().map(|activity| activity.rounds.get()).collect();
    for (index, mut receiver) in rig.receivers.drain(..).enumerate() {
        let mut next = vec![0; rig.keys.len()];
        first.iter().for_each(|(flow, number)| next[*flow] = *number);
        receiver.analyser.restart(|flow| next[flow]);
        // Senders come first on the command line's list of cores.
        let core = rig.cores.get(of + index).copied();
        receivers.spawn(format!("receive {index}"), core, move |stop| receiver.run(stop))?;
    }
    if of > 0 {
        // Some ports have no buffer for what comes back before they have been polled with a link.
        let has_polled = |(activity, before): (&Arc<CachePadded<Activity>>, &u64)| {
            activity.rounds.get() > *before
        };
        wait_until(stop, MEETING, || polls.iter().zip(&before).all(has_polled));
    }
    let start = Instant::now();
    for (index, mut sender) in rig.senders.drain(..).enumerate() {
        let share = |count: u64| {
            let (each, rest) = (count / of as u64, count % of as u64);
            each + u64::from((index as u64) < rest)
        };
        sender.set(leg.rate.map(|rate| rate / of as f64), count.map(share));
        senders.spawn(format!("send {index}"), cores.next(), move |stop| sender.run(stop))?;
    }
    let mut view = View { args, rig, monitor, output, stop };
    let ended = view.sending(&leg, start, &senders, &receivers);
    let sent = senders.join();
    let ended_at = Instant::now();
    let lingered = match &ended {
        Ok(Ended::Faulted) | Err(_) => Ok(()),
        Ok(_) => view.linger(&receivers, of > 0),
    };
    let received = receivers.join();
    rig.senders = sent?;
    let ended_at = rig.senders.iter().map(Sender::ended).max().unwrap_or(ended_at);
    let seconds = ended_at.saturating_duration_since(start).as_secs_f64();
    rig.receivers = received?;
    lingered?;
    let ended = match ended? {
        Ended::Sent if by_time && leg.duration.is_some() && count.is_some() => Ended::Duration,
        Ended::Sent if count.is_some() => Ended::Count,
        ended => ended,
    };
    Ok(LegEnd { ended, seconds })
}

/// Waits until the ports that send and receive have a link.
fn wait_for_links(rig: &Rig, stop: &Stop) {
    if rig.mode == Mode::Receive {
        return;
    }
    // The first sends, and may receive, too.
    let others = || rig.receiving.iter().filter(|at| **at > 0);
    let ports = || std::iter::once(&0).chain(others()).map(|at| &rig.devices[*at]);
    let are_up = || ports().all(|device| device.link().is_up);
    wait_until(stop, NEGOTIATION, || are_up() || rig.fault().is_some());
    if stop.is_set() || rig.fault().is_some() {
        return;
    }
    for device in ports().filter(|device| !device.link().is_up) {
        let (port, waited) = (&device.info().port, NEGOTIATION.as_secs());
        tracing::warn!("port '{port}' has no link after {waited} s: frames may be lost there");
    }
}

/// Waits until ports are ready: not for longer than `most`, and not once asked to stop.
fn wait_until(stop: &Stop, most: Duration, are_ready: impl Fn() -> bool) {
    let deadline = Instant::now() + most;
    while !are_ready() && !stop.is_set() && Instant::now() < deadline {
        thread::park_timeout(MOMENT);
    }
}

/// How much longer than its time a trial may take.
fn grace(trial: Duration) -> Duration {
    trial / 100 + Duration::from_millis(10)
}

/// What the main thread looks after while workers run.
struct View<'a> {
    args: &'a Args,
    rig: &'a Rig,
    monitor: &'a mut Monitor,
    output: &'a mut Output,
    stop: &'a Stop,
}

impl View<'_> {
    /// Watches until sending ends, or receiving where nothing is sent; returns why.
    fn sending(
        &mut self,
        leg: &Leg,
        start: Instant,
        senders: &Workers<Sender>,
        receivers: &Workers<Receiver>,
    ) -> Result<Ended, AppError> {
        // With a rate, the senders end by themselves; this is for a port that does not keep up. A
        // trial has to be over in its time.
        let grace = match (leg.rate, self.rig.mode) {
            (None, _) => Duration::ZERO,
            (Some(_), Mode::Search) => grace(self.args.search.trial),
            (Some(_), _) => Duration::from_millis(250),
        };
        let deadline = leg.duration.map(|duration| start + duration + grace);
        let is_sending = self.rig.mode != Mode::Receive;
        loop {
            let now = Instant::now();
            let nap = deadline.map_or(LOOK, |deadline| deadline.saturating_duration_since(now));
            let watched = if is_sending {
                senders.wait(nap.min(LOOK))
            } else {
                receivers.wait(nap.min(LOOK))
            };
            self.monitor.look(self.rig, self.output)?;
            if self.stop.is_set() {
                return Ok(Ended::Asked);
            }
            if !watched {
                return Ok(Ended::Sent);
            }
            if self.rig.fault().is_some() {
                return Ok(Ended::Faulted);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(Ended::Duration);
            }
            if let Some(capture) = &self.rig.capture
                && capture.health() == Health::Ended
            {
                self.rig.capture_ended.set();
            }
            if !is_sending {
                let (frames, _) = self.monitor.received();
                if leg.count.is_some_and(|count| frames >= count) {
                    return Ok(Ended::Count);
                }
                if self.have_all_ended() {
                    return Ok(Ended::Ports);
                }
            }
        }
    }

    fn have_all_ended(&self) -> bool {
        let mut receiving = self.rig.receiving.iter().map(|at| &self.rig.devices[*at]);
        receiving.all(|device| device.health() == Health::Ended)
    }

    /// Waits for late frames.
    fn linger(&mut self, receivers: &Workers<Receiver>, has_sent: bool) -> Result<(), AppError> {
        if receivers.are_done() || !has_sent {
            return Ok(());
        }
        let linger = self.args.receive.linger;
        let linger = if self.stop.is_set() { linger.min(HASTE) } else { linger };
        let deadline = Instant::now() + linger;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !receivers.wait(left.min(LOOK)) {
                return Ok(());
            }
            self.monitor.look(self.rig, self.output)?;
        }
    }
}
