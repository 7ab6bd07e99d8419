//! The loop: receive, let the sink place and hand over, post. Knows no driver, no provider and no
//! path.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mempool::{SplitBurst, SplitCache};
use memwire_apps::{
    Stop,
    idle::{Activity, Idle, IdleMode},
};
use pmd::SplitRxQueue;

use crate::{
    sink::Sink,
    totals::{Published, Totals},
};

/// Empty polls in a row that show that nothing is on its way any more.
const DRY: u32 = 64;
/// How long a stopped worker goes on taking what had arrived.
const DRAIN: Duration = Duration::from_millis(50);

/// One queue and its sink, run to completion.
pub struct Worker {
    rx: Box<dyn SplitRxQueue>,
    cache: SplitCache,
    burst: SplitBurst,
    sink: Box<dyn Sink>,
    /// Whether the host copies payloads on their way.
    by_host: bool,
    totals: Totals,
    published: Published,
    activity: Arc<Activity>,
    idle: Idle,
    start: Instant,
}

/// What is left of a worker.
pub struct Finished {
    /// Its queue, to bring back to [`pmd::Device::stop`].
    pub rx: Box<dyn SplitRxQueue>,
    /// What it counted.
    pub totals: Totals,
    /// The sink's digest.
    pub digest: Option<u32>,
    /// Why it could not go on, if so.
    pub fault: Option<String>,
}

impl Worker {
    /// Joins a queue and a sink, and fills the queue with buffers. `by_host` says that the host copies
    /// the payloads that this queue yields, which is counted; `idle` what to do between empty polls.
    #[must_use]
    pub fn new(
        rx: Box<dyn SplitRxQueue>,
        cache: SplitCache,
        burst: SplitBurst,
        sink: Box<dyn Sink>,
        by_host: bool,
        idle: IdleMode,
    ) -> Self {
        let mut worker = Self {
            rx,
            cache,
            burst,
            sink,
            by_host,
            totals: Totals::default(),
            published: Published::default(),
            activity: Arc::default(),
            idle: Idle::new(idle),
            start: Instant::now(),
        };
        worker.sink.post(&mut *worker.rx);
        worker
    }

    /// What it counts, for other threads.
    #[must_use]
    pub fn published(&self) -> Published {
        self.published.clone()
    }

    /// How busy it is, for other threads.
    #[must_use]
    pub fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }

    /// Receives one burst; returns its frames.
    #[inline]
    pub fn poll(&mut self) -> usize {
        let Self { rx, cache, burst, sink, by_host, totals, published, start, .. } = self;
        let got = rx.recv(cache, burst);
        let now = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if got > 0 {
            if *by_host {
                let payloads = burst.iter().filter_map(|frame| frame.data);
                totals.touched += payloads.map(|data| data.frame_len() as u64).sum::<u64>();
            }
            sink.burst(burst, cache, now, totals);
        }
        let is_freed = sink.tick(now, totals);
        if got > 0 || is_freed {
            sink.post(&mut **rx);
            published.state(totals);
        }
        got
    }

    /// Runs until `stop` is set or `limit` frames have come, takes what had arrived by then, and
    /// hands over what is open.
    #[must_use]
    pub fn run(mut self, stop: &Stop, limit: Option<u64>) -> Finished {
        let limit = limit.unwrap_or(u64::MAX);
        let mut frames = 0;
        while !stop.is_set() && frames < limit && self.sink.fault().is_none() {
            let got = self.poll();
            frames += got as u64;
            let is_empty = self.idle.round(got);
            self.activity.round(is_empty);
            if self.idle.wants_arming() {
                self.idle.arm([self.rx.arm()]);
            }
            if is_empty && self.idle.has_rested() {
                // Buffers that were all out may be back, and the counts may have changed.
                self.sink.post(&mut *self.rx);
                self.published.state(&self.totals);
                self.cache.tidy();
            }
        }
        let (deadline, mut idle) = (Instant::now() + DRAIN, 0);
        while frames < limit && idle < DRY && Instant::now() < deadline {
            let got = self.poll();
            frames += got as u64;
            idle = if got > 0 { 0 } else { idle + 1 };
        }
        self.finish()
    }

    fn finish(mut self) -> Finished {
        self.sink.finish(&mut self.totals);
        self.published.state(&self.totals);
        Finished {
            rx: self.rx,
            totals: self.totals,
            digest: self.sink.digest(),
            fault: self.sink.fault().map(str::to_owned),
        }
    }
}
