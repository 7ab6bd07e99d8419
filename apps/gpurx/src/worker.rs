//! The loop: receive, let the sink place and hand over, post. Knows no driver, no provider and no
//! path.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use memwire_apps::{
    Stop,
    idle::{Activity, Idle, IdleMode},
};
use pmd::SplitRxQueue;

use crate::{
    cost::{Cost, Gauge},
    exchange::{Binding, Exchange, Fresh, Left},
    receiver::Receiver,
    totals::{Published, Totals},
};

/// Empty polls in a row that show that nothing is on its way any more.
const DRY: u32 = 64;
/// How long a stopped worker goes on taking what had arrived.
const DRAIN: Duration = Duration::from_millis(50);

/// One queue and its sink, run to completion.
pub struct Worker {
    now: Binding,
    totals: Totals,
    /// Of earlier bindings, and their digests.
    before: Totals,
    digests: Vec<u32>,
    exchange: Exchange,
    published: Published,
    activity: Arc<Activity>,
    idle: Idle,
    start: Instant,
    /// Whether to measure, and what measures once it runs.
    is_measured: bool,
    gauge: Option<Gauge>,
    /// Nanoseconds from there to the last burst.
    last: u64,
}

/// What is left of a worker.
pub struct Finished {
    /// Its queue, to bring back to [`pmd::Device::stop`].
    pub rx: Receiver,
    /// What it counted.
    pub totals: Totals,
    /// Digests of sinks that it had before its memory changed.
    pub earlier: Vec<u32>,
    /// The sink's digest.
    pub digest: Option<u32>,
    /// Why it could not go on, if so.
    pub fault: Option<String>,
    /// What it spent, if that was measured.
    pub cost: Option<Cost>,
}

impl Worker {
    /// Fills the queue of what it receives with; `idle` says what to do between empty polls.
    #[must_use]
    pub fn new(now: Binding, idle: IdleMode) -> Self {
        let mut worker = Self {
            now,
            totals: Totals::default(),
            before: Totals::default(),
            digests: Vec::new(),
            exchange: Exchange::default(),
            published: Published::default(),
            activity: Arc::default(),
            idle: Idle::new(idle),
            start: Instant::now(),
            is_measured: false,
            gauge: None,
            last: 0,
        };
        worker.post();
        worker
    }

    /// The same worker, which also measures what it spends.
    #[must_use]
    pub fn measured(self, is_measured: bool) -> Self {
        Self { is_measured, ..self }
    }

    /// Where its queue can be had, to give it other memory.
    #[must_use]
    pub fn exchange(&self) -> Exchange {
        self.exchange.clone()
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
        let mark = self.gauge.as_ref().map(Gauge::mark);
        let Self { now, totals, start, last, .. } = self;
        let Binding { rx, cache, burst, sink, by_host, .. } = now;
        let got = rx.recv(cache, burst);
        let now = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if got > 0 {
            *last = now;
            if *by_host {
                let payloads = burst.iter().filter_map(|frame| frame.data);
                totals.touched += payloads.map(|data| data.frame_len() as u64).sum::<u64>();
            }
            sink.burst(burst, cache, now, totals);
        }
        let is_freed = sink.tick(now, totals);
        if got > 0 || is_freed {
            sink.post(rx);
            self.state();
        }
        if let (Some(gauge), Some(mark)) = (&mut self.gauge, mark) {
            gauge.spent(&mark, got);
        }
        got
    }

    fn post(&mut self) {
        self.now.sink.post(&mut self.now.rx);
    }

    /// All that was counted so far.
    fn sum(&self) -> Totals {
        let mut sum = self.before;
        sum.merge(&self.totals);
        if self.now.is_refuge {
            sum.rows_to_host += self.totals.rows;
        }
        sum
    }

    fn state(&self) {
        self.published.state(&self.sum());
    }

    /// Does what is to be done between two polls; whether the queue is asked for.
    #[cold]
    fn attend(&mut self) -> bool {
        let (errands, wants_queue) = self.exchange.look();
        for errand in errands {
            self.now.sink.attend(errand, &mut self.now.rx);
        }
        self.post();
        wants_queue
    }

    /// Hands the queue over and goes on with what comes back for it. What had arrived is taken first, by
    /// the sink that posted for it, and open blocks are handed over: the memory is there until all of it
    /// was given back.
    #[cold]
    fn change(&mut self) {
        let since = Instant::now();
        let Some(Fresh { binding, mut former }) = self.exchange.hand_over(self.now.rx.take())
        else {
            return;
        };
        let mut old = std::mem::replace(&mut self.now, binding);
        while let Some(queue) = &mut former {
            let got = queue.recv(&mut old.cache, &mut old.burst);
            if got == 0 {
                break;
            }
            let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            if old.by_host {
                let payloads = old.burst.iter().filter_map(|frame| frame.data);
                self.totals.touched += payloads.map(|data| data.frame_len() as u64).sum::<u64>();
            }
            old.sink.burst(&mut old.burst, &mut old.cache, now, &mut self.totals);
        }
        old.sink.leave(&mut self.totals);
        if old.is_refuge {
            self.before.rows_to_host += self.totals.rows;
        }
        self.before.merge(&std::mem::take(&mut self.totals));
        self.digests.extend(old.sink.digest());
        self.post();
        self.exchange.note_away(since.elapsed());
        self.exchange.leave(Left { binding: old, former });
    }

    /// Runs until `stop` is set or `limit` frames have come, takes what had arrived by then, and
    /// hands over what is open.
    #[must_use]
    pub fn run(mut self, stop: &Stop, limit: Option<u64>) -> Finished {
        self.gauge = self.is_measured.then(Gauge::of_this_thread);
        let limit = limit.unwrap_or(u64::MAX);
        let mut frames = 0;
        // When the last burst came before the queue's memory changed, until one comes again.
        let mut gap = None;
        while !stop.is_set() && frames < limit && self.now.sink.fault().is_none() {
            if self.exchange.is_asked() && self.attend() {
                gap = gap.or(Some(self.last));
                self.change();
            }
            let got = self.poll();
            if got > 0
                && let Some(before) = gap.take()
            {
                self.exchange.note_gap(Duration::from_nanos(self.last.saturating_sub(before)));
            }
            frames += got as u64;
            let is_empty = self.idle.round(got);
            self.activity.round(is_empty);
            if self.idle.wants_arming() {
                self.idle.arm([self.now.rx.arm()]);
            }
            if is_empty && self.idle.has_rested() {
                // Buffers that were all out may be back, and the counts may have changed.
                self.post();
                self.state();
                self.now.cache.tidy();
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
        self.now.sink.finish(&mut self.totals);
        self.state();
        Finished {
            totals: self.sum(),
            digest: self.now.sink.digest(),
            fault: self.now.sink.fault().map(str::to_owned),
            cost: self.gauge.map(Gauge::finish),
            rx: self.now.rx,
            earlier: self.digests,
        }
    }
}
