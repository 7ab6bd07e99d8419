//! Who receives: polls one queue of each receiving port and has every frame looked at. Knows no
//! driver.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_utils::CachePadded;
use mempool::{Burst, Cache, Cpu, Pool};
use memwire_apps::{
    Stop,
    idle::{Activity, Idle, IdleMode},
    traffic::Clock,
};
use pmd::RxQueue;

use crate::analyse::Analyser;

/// How long a receiver that was asked to leave takes what is still there.
const DRAIN: Duration = Duration::from_millis(200);

/// One receiving worker.
pub(crate) struct Receiver {
    /// With the number of its port.
    queues: Vec<(usize, Box<dyn RxQueue>)>,
    cache: Cache<Cpu>,
    burst: Burst<Cpu>,
    pub(crate) analyser: Analyser,
    clock: Clock,
    idle: Idle,
    activity: Arc<CachePadded<Activity>>,
}

impl Receiver {
    pub(crate) fn new(
        queues: Vec<(usize, Box<dyn RxQueue>)>,
        pool: &Pool<Cpu>,
        burst: usize,
        analyser: Analyser,
        clock: Clock,
        mode: IdleMode,
    ) -> Self {
        Self {
            queues,
            cache: pool.cache(),
            burst: Burst::with_limit(pool, burst),
            analyser,
            clock,
            idle: Idle::new(mode),
            activity: Arc::default(),
        }
    }

    pub(crate) fn activity(&self) -> Arc<CachePadded<Activity>> {
        Arc::clone(&self.activity)
    }

    /// Receives until `stop` is set, and then what is still there.
    pub(crate) fn run(mut self, stop: &Stop) -> Self {
        let mut deadline = None;
        loop {
            let is_leaving = stop.is_set();
            let got = self.round();
            self.activity.rounds.add(1);
            if self.idle.round(got) {
                self.activity.empty.add(1);
                self.cache.tidy();
                if self.idle.wants_arming() {
                    self.idle.arm(self.queues.iter_mut().map(|(_, queue)| queue.arm()));
                }
            }
            if is_leaving {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + DRAIN);
                if got == 0 || Instant::now() > deadline {
                    return self;
                }
            }
        }
    }

    fn round(&mut self) -> usize {
        let mut all = 0;
        for (_, queue) in &mut self.queues {
            let got = queue.recv(&mut self.cache, &mut self.burst);
            if got > 0 {
                let now_ns = self.clock.now_ns();
                self.analyser.look(&self.burst, now_ns);
                self.burst.recycle(&mut self.cache);
                all += got;
            }
        }
        all
    }

    /// The queues, with the numbers of their ports.
    pub(crate) fn into_queues(self) -> Vec<(usize, Box<dyn RxQueue>)> {
        self.queues
    }
}
