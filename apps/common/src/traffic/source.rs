//! Sends the test traffic on one transmit queue, as fast as asked.

use std::time::{Duration, Instant};

use mempool::{Burst, Cache, Cpu, Pool};
use pmd::TxQueue;

use super::{Clock, Distribution, Flows, Generator, Made, Pacer, Template, TemplateError, Traffic};
use crate::Stop;

/// What to send.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// The frame.
    pub template: Template,
    /// Frames per second; `None` is as fast as the port takes them.
    pub rate: Option<f64>,
    /// Test frames to send, foreign ones not counted; `None` is until stopped.
    pub count: Option<u64>,
    /// Flows, told apart by UDP source port, each with sequence numbers of its own; taken in turn.
    pub flows: u16,
    /// Share of frames of no concern to the receiver (the next UDP port, no sequence number), 0..1.
    pub foreign: f64,
    /// Frames per burst.
    pub burst: usize,
    /// Seed of payloads, and of which frames are foreign: the same seed, the same traffic.
    pub seed: u64,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            template: Template::default(),
            rate: None,
            count: None,
            flows: 1,
            foreign: 0.0,
            burst: 32,
            seed: 1,
        }
    }
}

/// What a source has sent: what the port took over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames with a test header that counts.
    pub frames: u64,
    /// Foreign frames in between.
    pub foreign: u64,
    /// Bytes of both, without FCS.
    pub bytes: u64,
    /// Bursts that the port had no room for at first.
    pub stalls: u64,
}

/// What is left of a source that has ended.
pub struct SourceEnd {
    /// What it has sent.
    pub sent: Sent,
    /// For each of its flows: its number, and the frames sent.
    pub flows: Vec<(usize, u64)>,
    /// Its queue, to bring back to [`pmd::Device::stop`].
    pub tx: Box<dyn TxQueue>,
}

/// A load generator on one transmit queue.
pub struct Source {
    tx: Box<dyn TxQueue>,
    cache: Cache<Cpu>,
    burst: Burst<Cpu>,
    generator: Generator,
    clock: Clock,
    pacer: Option<Pacer>,
    gaps: Distribution,
    /// Frames to have made in the end, foreign ones not counted.
    until: Option<u64>,
    frames_per_burst: usize,
    stalls: u64,
    /// The port did not give buffers back in time: it is not waited for again.
    is_stuck: bool,
}

/// How long an ending source waits for the port to give buffers back.
/// A device that is gone gives none back, and has to be closed soon.
const REAP: Duration = Duration::from_millis(200);

impl Source {
    /// A source on `tx` of all the traffic. Nobody else may draw on `pool`, nor write what is in its
    /// buffers: a frame that was sent is found there again.
    ///
    /// # Errors
    /// The template makes no frame, or one that does not fit a buffer.
    pub fn new(
        tx: Box<dyn TxQueue>,
        pool: &Pool<Cpu>,
        options: SourceOptions,
    ) -> Result<Self, TemplateError> {
        let SourceOptions { template, rate, count, flows, foreign, burst, seed } = options;
        let flows = Flows { count: usize::from(flows), ..Flows::default() };
        let traffic = Traffic { template, flows, foreign, seed, ..Traffic::default() };
        let generator = Generator::new(pool, &traffic, 0, 1)?;
        let mut source = Self::of(tx, pool, generator, burst, Clock::start());
        source.set(rate, count);
        Ok(source)
    }

    /// A source of what `generator` makes, with up to `burst` frames at a time; without a rate.
    #[must_use]
    pub fn of(
        tx: Box<dyn TxQueue>,
        pool: &Pool<Cpu>,
        generator: Generator,
        burst: usize,
        clock: Clock,
    ) -> Self {
        Self {
            tx,
            cache: pool.cache(),
            burst: Burst::with_limit(pool, burst),
            generator,
            clock,
            pacer: None,
            gaps: Distribution::default(),
            until: None,
            frames_per_burst: burst,
            stalls: 0,
            is_stuck: false,
        }
    }

    /// Sets the rate in frames per second, from the next frame on, and how many frames to send more.
    pub fn set(&mut self, rate: Option<f64>, count: Option<u64>) {
        self.is_stuck = false;
        self.gaps.clear();
        self.pacer = rate.map(|rate| Pacer::new(rate, self.gaps.clone()));
        let made = self.generator.made().frames;
        self.until = count.map(|count| made.saturating_add(count));
    }

    /// How far the gaps between frames are from even ones, where a rate is set.
    #[must_use]
    pub fn gaps(&self) -> Distribution {
        self.gaps.clone()
    }

    /// The sending queue's counters.
    #[must_use]
    pub fn counters(&self) -> &pmd::QueueCounters {
        self.tx.counters()
    }

    /// Sends until the count is reached or `stop` is set, then waits a little for the port to give
    /// its buffers back.
    #[must_use]
    pub fn run(mut self, stop: &Stop) -> SourceEnd {
        while !stop.is_set() && !self.is_done() {
            if self.poll() == 0 {
                std::thread::yield_now();
            }
        }
        self.end()
    }

    /// Whether the count is reached and the port has taken all of it.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let is_made = |until| self.generator.made().frames >= until;
        self.burst.is_empty() && self.until.is_some_and(is_made)
    }

    /// Sends one burst, or what the port left of the last; returns how many frames it took.
    #[inline]
    pub fn poll(&mut self) -> usize {
        let now = (self.pacer.is_some() || self.generator.is_stamped()).then(Instant::now);
        if self.burst.is_empty() {
            self.fill(now);
        }
        if self.burst.is_empty() {
            self.tx.reap(&mut self.cache);
            return 0;
        }
        let taken = self.tx.send(&mut self.cache, &mut self.burst);
        self.stalls += u64::from(taken == 0);
        if let (Some(pacer), Some(now)) = (&mut self.pacer, now) {
            pacer.sent(now, taken);
        }
        taken
    }

    /// Whether frames are sent at a rate, so that an empty round is no sign of idleness.
    #[must_use]
    pub fn is_paced(&self) -> bool {
        self.pacer.is_some()
    }

    /// What the port has taken so far.
    #[must_use]
    pub fn sent(&self) -> Sent {
        let Made { frames, foreign, bytes } = self.generator.made();
        let (mut own, mut other, mut left) = (0, 0, 0);
        for frame in self.burst.iter() {
            let counter = if self.generator.is_foreign(frame) { &mut other } else { &mut own };
            *counter += 1;
            left += frame.len() as u64;
        }
        Sent {
            frames: frames - own,
            foreign: foreign - other,
            bytes: bytes - left,
            stalls: self.stalls,
        }
    }

    /// Takes back what the port did not take, and waits a little for it to give buffers back.
    pub fn pause(&mut self) {
        self.generator.unmake(&self.burst);
        self.burst.recycle(&mut self.cache);
        let deadline = Instant::now() + REAP;
        while self.tx.in_flight() > 0 && !self.is_stuck {
            if self.tx.reap(&mut self.cache) == 0 {
                std::thread::yield_now();
            }
            self.is_stuck = Instant::now() >= deadline;
        }
    }

    /// For each flow: its number, and the frames sent; after [`Source::pause`].
    pub fn flows(&self) -> impl Iterator<Item = (usize, u64)> {
        self.generator.flows()
    }

    /// Ends: frames that the port did not take are taken back, uncounted.
    #[must_use]
    pub fn end(mut self) -> SourceEnd {
        self.pause();
        let (sent, flows) = (self.sent(), self.flows().collect());
        SourceEnd { sent, flows, tx: self.tx }
    }

    /// Makes as many frames as the burst holds, the rate allows and the count leaves.
    #[inline]
    fn fill(&mut self, now: Option<Instant>) {
        let mut want = self.frames_per_burst;
        if let (Some(pacer), Some(now)) = (&mut self.pacer, now) {
            want = want.min(pacer.due(now));
        }
        if let Some(until) = self.until {
            let left = until.saturating_sub(self.generator.made().frames);
            want = want.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        let now_ns = now.map_or(0, |now| self.clock.ns_at(now));
        let got = self.generator.fill(&mut self.cache, &mut self.burst, want, now_ns);
        if let Some(pacer) = &mut self.pacer {
            pacer.pass(got);
        }
    }
}

#[cfg(test)]
mod tests;
