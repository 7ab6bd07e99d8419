//! The loop: takes bursts from one port, gives them to the other. Knows queues; knows no driver, no
//! provider, no clock.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_utils::CachePadded;
use mempool::{Burst, Cache, Cpu, Pool, Shared};
use memwire_apps::{Stop, report::Counter};
use pmd::{RxQueue, TxQueue};

use crate::Mode;

/// What a worker counts besides its queues. One writer; readable while it runs.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Frames that the port with this number had no room for.
    pub(crate) refused: [Counter; 2],
    /// Copies that the mirror had no room for.
    pub(crate) mirror_refused: Counter,
    /// Rounds over both ports.
    pub(crate) rounds: Counter,
    /// Rounds that found nothing.
    pub(crate) idle: Counter,
}

/// One queue pair of one port.
pub(crate) struct Pair {
    /// `None` where the port only sends.
    pub(crate) rx: Option<Box<dyn RxQueue>>,
    /// `None` where the port only receives: what should go there is dropped and counted.
    pub(crate) tx: Option<Box<dyn TxQueue>>,
    /// Whether the worker waits for this port when traffic ends.
    pub(crate) ends: bool,
}

/// When a worker leaves its loop, besides the common stop flag.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leave {
    /// Set when ports have ended: leave once nothing more comes from them.
    pub(crate) drain: Stop,
    /// Frames received by all workers, and how many are enough.
    pub(crate) enough: Option<(Arc<AtomicU64>, u64)>,
}

impl Leave {
    /// Whether there were enough.
    pub(crate) fn is_reached(&self) -> bool {
        let reached =
            |(seen, enough): &(Arc<AtomicU64>, u64)| seen.load(Ordering::Relaxed) >= *enough;
        self.enough.as_ref().is_some_and(reached)
    }

    /// Whether `frames` more are enough.
    fn is_enough(&self, frames: usize) -> bool {
        self.enough.as_ref().is_some_and(|(seen, enough)| {
            // Relaxed: a count, ordered by nothing; once per round, and only with `-c`.
            seen.fetch_add(frames as u64, Ordering::Relaxed) + frames as u64 >= *enough
        })
    }
}

/// The mirror's queue, and what its shared frames travel in.
struct Mirror {
    tx: Box<dyn TxQueue>,
    frames: Burst<Shared>,
    copies: Burst<Shared>,
}

/// Queue i of both ports, and what one worker needs to serve them.
pub(crate) struct Worker {
    pairs: [Pair; 2],
    mirror: Option<Mirror>,
    cache: Cache<Cpu>,
    burst: Burst<Cpu>,
    mode: Mode,
    tally: Arc<CachePadded<Tally>>,
}

/// How long a worker that leaves waits for ports to give buffers back.
const SETTLE: Duration = Duration::from_millis(500);

impl Worker {
    pub(crate) fn new(
        pairs: [Pair; 2],
        mirror: Option<Box<dyn TxQueue>>,
        pool: &Pool<Cpu>,
        burst: usize,
        mode: Mode,
    ) -> Self {
        let shared = || Burst::with_limit(Burst::of_shared(pool).pool(), burst);
        let mirror = mirror.map(|tx| Mirror { tx, frames: shared(), copies: shared() });
        let (cache, burst) = (pool.cache(), Burst::with_limit(pool, burst));
        Self { pairs, mirror, cache, burst, mode, tally: Arc::default() }
    }

    pub(crate) fn tally(&self) -> Arc<CachePadded<Tally>> {
        Arc::clone(&self.tally)
    }

    /// Forwards until asked to leave, then waits a little for the ports to give buffers back.
    pub(crate) fn run(mut self, stop: &Stop, leave: &Leave) -> Self {
        while !stop.is_set() {
            // Asked before the round: what came before the ports ended is in it.
            let is_draining = leave.drain.is_set();
            let got = [self.forward(0), self.forward(1)];
            let all = got[0] + got[1];
            self.tally.rounds.add(1);
            if all == 0 {
                self.tally.idle.add(1);
                self.cache.tidy();
            }
            if leave.is_enough(all) {
                stop.set();
            }
            if is_draining && (0..2).all(|at| got[at] == 0 || !self.pairs[at].ends) {
                break;
            }
        }
        self.settle();
        self
    }

    /// Takes one burst from a port and gives it to the other; returns how many frames came.
    fn forward(&mut self, from: usize) -> usize {
        let to = 1 - from;
        let Some(rx) = &mut self.pairs[from].rx else {
            return 0;
        };
        let got = rx.recv(&mut self.cache, &mut self.burst);
        let mut tx = self.pairs[to].tx.as_mut();
        if got == 0 {
            if let Some(tx) = tx {
                tx.reap(&mut self.cache);
            }
            return 0;
        }
        if self.mode == Mode::MacSwap {
            swap_addresses(&mut self.burst);
        }
        if let Some(mirror) = &mut self.mirror {
            let refused = mirror.send_both(tx, &mut self.cache, &mut self.burst);
            self.tally.refused[to].add(refused[0]);
            self.tally.mirror_refused.add(refused[1]);
            return got;
        }
        if let Some(tx) = &mut tx {
            tx.send(&mut self.cache, &mut self.burst);
        }
        let refused = self.burst.len();
        if refused > 0 {
            self.burst.recycle(&mut self.cache);
            self.tally.refused[to].add(refused);
        }
        got
    }

    fn settle(&mut self) {
        let deadline = Instant::now() + SETTLE;
        let mirror = self.mirror.iter_mut().map(|mirror| &mut mirror.tx);
        let pairs = self.pairs.iter_mut().filter_map(|pair| pair.tx.as_mut());
        for tx in pairs.chain(mirror) {
            while tx.in_flight() > 0 && Instant::now() < deadline {
                if tx.reap(&mut self.cache) == 0 {
                    std::thread::yield_now();
                }
            }
        }
    }

    /// The queues, to bring back to their devices.
    pub(crate) fn into_queues(self) -> ([Pair; 2], Option<Box<dyn TxQueue>>) {
        (self.pairs, self.mirror.map(|mirror| mirror.tx))
    }
}

impl Mirror {
    /// Sends every frame twice, by reference: on its way, and to the mirror. Returns how many each
    /// had no room for; those are dropped. The burst is empty then.
    fn send_both(
        &mut self,
        tx: Option<&mut Box<dyn TxQueue>>,
        cache: &mut Cache<Cpu>,
        burst: &mut Burst<Cpu>,
    ) -> [usize; 2] {
        self.frames.share_from(burst).expect("the pool is shareable wherever there is a mirror");
        self.frames.clone_into(&mut self.copies);
        [
            send_or_drop(tx, cache, &mut self.frames),
            send_or_drop(Some(&mut self.tx), cache, &mut self.copies),
        ]
    }
}

/// Sends what the queue takes, drops the rest; returns how many that were.
fn send_or_drop(
    tx: Option<&mut Box<dyn TxQueue>>,
    cache: &mut Cache<Cpu>,
    frames: &mut Burst<Shared>,
) -> usize {
    if let Some(tx) = tx {
        tx.send_shared(cache, frames);
    }
    let refused = frames.len();
    frames.release(cache);
    refused
}

/// Source and destination address change places; a runt keeps its bytes.
fn swap_addresses(burst: &mut Burst<Cpu>) {
    burst.for_each_mut(0, |mut frame| {
        if let Some((dst, rest)) = frame.bytes_mut().split_first_chunk_mut::<6>()
            && let Some(src) = rest.first_chunk_mut::<6>()
        {
            mem::swap(dst, src);
        }
    });
}
