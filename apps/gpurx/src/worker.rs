//! The loop: receive, let the sink place and hand over, post. Knows no driver, no provider and no
//! path.

use std::time::{Duration, Instant};

use memwire_apps::Stop;
use mempool::{SplitBurst, SplitCache};
use pmd::SplitRxQueue;

use crate::{
    sink::Sink,
    totals::{Published, Totals},
};

/// Empty polls after which an idle worker lets others run.
const PATIENCE: u32 = 64;
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
    totals: Totals,
    published: Published,
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
    /// Joins a queue and a sink, and fills the queue with buffers.
    #[must_use]
    pub fn new(
        rx: Box<dyn SplitRxQueue>,
        cache: SplitCache,
        burst: SplitBurst,
        sink: Box<dyn Sink>,
    ) -> Self {
        let (totals, published) = (Totals::default(), Published::default());
        let start = Instant::now();
        let mut worker = Self { rx, cache, burst, sink, totals, published, start };
        worker.sink.post(&mut *worker.rx);
        worker
    }

    /// What it counts, for other threads.
    #[must_use]
    pub fn published(&self) -> Published {
        self.published.clone()
    }

    /// Receives one burst; returns its frames.
    #[inline]
    pub fn poll(&mut self) -> usize {
        let Self { rx, cache, burst, sink, totals, published, start } = self;
        let got = rx.recv(cache, burst);
        let now = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if got > 0 {
            sink.burst(burst, cache, now, totals);
        }
        sink.tick(now, totals);
        if got > 0 {
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
        let (mut frames, mut idle) = (0, 0);
        while !stop.is_set() && frames < limit && self.sink.fault().is_none() {
            let got = self.poll();
            frames += got as u64;
            idle = if got > 0 { 0 } else { idle + 1 };
            if idle >= PATIENCE {
                // Buffers that were all out may be back, and the counts may have changed.
                self.sink.post(&mut *self.rx);
                self.published.state(&self.totals);
                self.cache.tidy();
                std::thread::yield_now();
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
