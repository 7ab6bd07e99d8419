//! Who sends on one queue: the generator, or a capture. Polled by its worker; knows no driver.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_utils::CachePadded;
use mempool::{Burst, Cache, Cpu, Pool};
use memwire_apps::{
    Stop,
    idle::{Activity, Idle, IdleMode},
    traffic::{Distribution, Pacer, Sent, Source},
};
use pmd::{RxQueue, TxQueue};

/// How long a replay that ends waits for the port to give buffers back. A device that is gone gives none
/// back, and has to be closed soon.
const REAP: Duration = Duration::from_millis(200);

/// Sends what a queue of a capture yields.
pub(crate) struct Replay {
    rx: Box<dyn RxQueue>,
    tx: Box<dyn TxQueue>,
    cache: Cache<Cpu>,
    burst: Burst<Cpu>,
    pacer: Option<Pacer>,
    gaps: Distribution,
    frames_per_burst: usize,
    left: Option<u64>,
    /// Set once the capture has ended.
    has_ended: Stop,
    is_dry: bool,
    sent: Sent,
}

impl Replay {
    pub(crate) fn new(
        rx: Box<dyn RxQueue>,
        tx: Box<dyn TxQueue>,
        pool: &Pool<Cpu>,
        burst: usize,
        has_ended: Stop,
    ) -> Self {
        Self {
            rx,
            tx,
            cache: pool.cache(),
            burst: Burst::with_limit(pool, burst),
            pacer: None,
            gaps: Distribution::default(),
            frames_per_burst: burst,
            left: None,
            has_ended,
            is_dry: false,
            sent: Sent::default(),
        }
    }

    fn poll(&mut self) -> usize {
        let now = self.pacer.is_some().then(Instant::now);
        if self.burst.is_empty() {
            let mut want = self.frames_per_burst;
            if let (Some(pacer), Some(now)) = (&mut self.pacer, now) {
                want = want.min(pacer.due(now));
            }
            if let Some(left) = self.left {
                want = want.min(usize::try_from(left).unwrap_or(usize::MAX));
            }
            self.burst.set_limit(want);
            // Asked before: what came before the end is in this round.
            let has_ended = self.has_ended.is_set();
            let got = if want == 0 { 0 } else { self.rx.recv(&mut self.cache, &mut self.burst) };
            self.is_dry = has_ended && want > 0 && got == 0;
            if let Some(pacer) = &mut self.pacer {
                pacer.pass(got);
            }
            self.left = self.left.map(|left| left - got as u64);
        }
        if self.burst.is_empty() {
            self.tx.reap(&mut self.cache);
            return 0;
        }
        let before: u64 = self.burst.iter().map(|frame| frame.frame_len() as u64).sum();
        let taken = self.tx.send(&mut self.cache, &mut self.burst);
        let after: u64 = self.burst.iter().map(|frame| frame.frame_len() as u64).sum();
        self.sent.frames += taken as u64;
        self.sent.bytes += before - after;
        self.sent.stalls += u64::from(taken == 0);
        if let (Some(pacer), Some(now)) = (&mut self.pacer, now) {
            pacer.sent(now, taken);
        }
        taken
    }

    /// Gives up what the port did not take; returns how many frames that were.
    fn pause(&mut self) -> u64 {
        let refused = self.burst.len() as u64;
        self.burst.recycle(&mut self.cache);
        let deadline = Instant::now() + REAP;
        while self.tx.in_flight() > 0 && Instant::now() < deadline {
            if self.tx.reap(&mut self.cache) == 0 {
                std::thread::yield_now();
            }
        }
        refused
    }
}

/// What is sent.
pub(crate) enum Kind {
    Generated(Box<Source>),
    Replayed(Box<Replay>),
}

/// One sending worker.
pub(crate) struct Sender {
    kind: Kind,
    idle: Idle,
    mode: IdleMode,
    activity: Arc<CachePadded<Activity>>,
    /// Frames of a capture that were read and not sent.
    refused: u64,
    /// When it last had its way: the end of the time that rates are of.
    ended: Instant,
}

/// The queues of a sender, to bring back.
pub(crate) struct SenderEnd {
    pub(crate) tx: Box<dyn TxQueue>,
    /// The capture's queue.
    pub(crate) capture: Option<Box<dyn RxQueue>>,
}

impl Sender {
    pub(crate) fn new(kind: Kind, mode: IdleMode) -> Self {
        Self {
            kind,
            idle: Idle::new(mode),
            mode,
            activity: Arc::default(),
            refused: 0,
            ended: Instant::now(),
        }
    }

    pub(crate) fn activity(&self) -> Arc<CachePadded<Activity>> {
        Arc::clone(&self.activity)
    }

    pub(crate) fn gaps(&self) -> Distribution {
        match &self.kind {
            Kind::Generated(source) => source.gaps(),
            Kind::Replayed(replay) => replay.gaps.clone(),
        }
    }

    /// Sets the rate, and how many frames to send more.
    pub(crate) fn set(&mut self, rate: Option<f64>, count: Option<u64>) {
        match &mut self.kind {
            Kind::Generated(source) => source.set(rate, count),
            Kind::Replayed(replay) => {
                replay.pacer = rate.map(|rate| Pacer::new(rate, replay.gaps.clone()));
                replay.left = count;
            }
        }
    }

    /// Sends until `stop` is set or there is no more, then takes back what the port has not taken.
    pub(crate) fn run(mut self, stop: &Stop) -> Self {
        while !stop.is_set() && !self.is_done() {
            let sent = match &mut self.kind {
                Kind::Generated(source) => source.poll(),
                Kind::Replayed(replay) => replay.poll(),
            };
            self.activity.rounds.add(1);
            // A paced sender that spins waits for its moment, and must not let it pass.
            if sent == 0 && self.mode == IdleMode::Spin && self.is_paced() {
                self.activity.empty.add(1);
                std::hint::spin_loop();
            } else if self.idle.round(sent) {
                self.activity.empty.add(1);
            }
        }
        self.ended = Instant::now();
        match &mut self.kind {
            Kind::Generated(source) => source.pause(),
            Kind::Replayed(replay) => self.refused += replay.pause(),
        }
        self
    }

    fn is_paced(&self) -> bool {
        match &self.kind {
            Kind::Generated(source) => source.is_paced(),
            Kind::Replayed(replay) => replay.pacer.is_some(),
        }
    }

    fn is_done(&self) -> bool {
        match &self.kind {
            Kind::Generated(source) => source.is_done(),
            Kind::Replayed(replay) => {
                replay.burst.is_empty() && (replay.is_dry || replay.left == Some(0))
            }
        }
    }

    /// What the port has taken.
    pub(crate) fn sent(&self) -> Sent {
        match &self.kind {
            Kind::Generated(source) => source.sent(),
            Kind::Replayed(replay) => replay.sent,
        }
    }

    /// When it last ended.
    pub(crate) fn ended(&self) -> Instant {
        self.ended
    }

    /// Frames that were read from a capture and not sent.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// For each flow: its number, and the frames sent of it.
    pub(crate) fn flows(&self) -> Vec<(usize, u64)> {
        match &self.kind {
            Kind::Generated(source) => source.flows().collect(),
            Kind::Replayed(_) => Vec::new(),
        }
    }

    pub(crate) fn end(self) -> SenderEnd {
        match self.kind {
            Kind::Generated(source) => SenderEnd { tx: source.end().tx, capture: None },
            Kind::Replayed(replay) => {
                let Replay { rx, tx, .. } = *replay;
                SenderEnd { tx, capture: Some(rx) }
            }
        }
    }
}
