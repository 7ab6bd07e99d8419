//! `chaos`: does to frames what bad wires, bad hardware and bad luck do: by a plan of one line, from a
//! seed, so that it can be done again. What was done is counted, by kind, exactly.
//!
//! `chaos:PLAN@SPEC`, where a plan is items with `,` or `;` between them:
//!
//! | item | meaning |
//! |---|---|
//! | `seed=42` | what is drawn (default 1) |
//! | `rx.drop=1%` | that share of received frames: `1%`, `1/1000` or `0.01`; `tx.` of sent ones, neither: of both |
//! | `rx.drop#5000` | the 5000th frame of each receive queue, counted from 1; `#5000..5999`: a thousand |
//! | `flip.skip=14` | a setting |
//!
//! | fault | what happens | settings |
//! |---|---|---|
//! | `drop` | the frame is lost | `drop.for=N`: and the N-1 behind it |
//! | `dup` | it comes twice, the copy in a buffer of its own | |
//! | `reorder` | it comes after the next sound frame | `reorder.wait=10ms`: or after that time |
//! | `flip` | one bit changes, behind the headers and the first 24 bytes of a UDP or TCP payload (the memwire test header), before padding | `flip.skip=BYTES`: anywhere behind the first BYTES, of any frame |
//! | `truncate` | the end is cut off, as far as `flip` would change bits | `truncate.skip=BYTES`; `truncate.len=BYTES`: that is what is left |
//! | `stall` | behind the frame the queue yields, or takes, nothing for a while | `stall.for=64` calls of the queue, or a time such as `100us` |
//! | `exhaust` | a received frame is lost as if the pool were empty (`no_buffer`); no buffer is held | `exhaust.for=N`: and the N-1 behind it |
//! | `down` | at frames only (`down#100..199`): the link is down and they are lost (`link_down`), until the frame behind them | |
//! | `fault` | at a frame only (`fault#100000`): the queue fails there, and says so in `health` | |
//! | `remove` | likewise: `health` says that the port is being removed | |
//!
//! Each frame has at most one fate, drawn when it reaches the wrapper, from seed, direction, queue and
//! its number alone: the same plan on the same traffic does the same. (Time enters with `stall.for` and
//! `reorder.wait` only.) Queues that are started anew begin anew.
//!
//! **What is counted.** [`crate::Device::stats`] names every fault (`chaos_rx_drop`, `chaos_tx_flip`
//! …), as often as it really happened: a copy for which there was no buffer, a flip for which the frame
//! was too short, a frame that nobody overtook in time are frames that passed. Frames lost to `drop` are
//! [`crate::DropReason::Injected`]. What the wrapper still holds when a queue ends is `undelivered`, and
//! injected too, whatever else it was counted as; a sending queue tries for 20 ms to be rid of it, and
//! none is left by an app that reaps until nothing is in flight. The queues' counters are the
//! inner ones and these: offered = delivered + Σ drops, where a copy is offered like the frame itself.
//!
//! **Sending.** Frames are taken over before the inner queue takes them, up to 64 of them; then they
//! count as sent, and those that the inner queue has no room for keep back the others. They count in
//! [`crate::TxQueue::in_flight`], and `reap` moves them on.
//!
//! **Split queues.** Payloads are changed and copied by their provider's engine. Where the app posts
//! payload buffers ([`crate::PostOrder::App`]) there is none for a copy: `rx.dup` is refused at start;
//! the buffer of a lost frame is posted again.
//!
//! A port that is opened without `chaos:` has no chaos on its path: its queues are other types.

mod books;
mod engine;
mod fate;
mod harm;
mod kind;
mod plan;
mod rx;
mod split;
mod tx;

use std::sync::{
    Arc,
    atomic::{Ordering, fence},
};

use super::{DeviceStats, Layer, Lent, WrapSpec, Wrapper};
use crate::{
    Config, DeviceInfo, Error, Health, Link, PostOrder, QueueStats, RxConfig, RxMemory, RxQueue,
    SplitRxQueue, TxConfig, TxQueue,
};
use books::Books;
use engine::Engine;
use harm::Spare;
use kind::Kind;
use plan::{Plan, Side};
use rx::ChaosRx;
use split::ChaosSplitRx;
use tx::ChaosTx;

/// The wrapper's entry in the registry.
pub const WRAPPER: Wrapper = Wrapper {
    name: "chaos",
    usage: "chaos:[seed=N][,[rx.|tx.]FAULT=SHARE|#FRAME]*@SPEC",
    about: "a bad wire from a seed: drop, dup, reorder, flip, truncate, stall, exhaust, down, fault, \
            remove; such as chaos:seed=7,rx.drop=1%,tx.flip#5000@eth0",
    layer: |spec| Ok(Box::new(Chaos::new(spec)?)),
};

struct Chaos {
    spec: WrapSpec,
    plan: Plan,
    /// Of the queues since the last start; none in a direction where nothing is planned.
    rx: Vec<Books>,
    tx: Vec<Books>,
}

impl Chaos {
    fn new(spec: &WrapSpec) -> Result<Self, Error> {
        let plan = Plan::read(&spec.options).map_err(|why| spec.bad(why))?;
        Ok(Self { spec: spec.clone(), plan, rx: Vec::new(), tx: Vec::new() })
    }

    fn engine<F>(&mut self, is_rx: bool, queue: usize, books: &Books) -> Engine<F> {
        let list = if is_rx { &mut self.rx } else { &mut self.tx };
        list.push(books.clone());
        Engine::new(&self.plan, is_rx, queue, Arc::clone(&books.tally))
    }

    /// Every queue's books.
    fn books(&self) -> impl Iterator<Item = &Books> {
        self.rx.iter().chain(&self.tx)
    }

    /// The first queue that failed: how, and in words its direction, its number, and at which frame it
    /// was to.
    fn failed(&self) -> Option<(Kind, String)> {
        for kind in [Kind::Remove, Kind::Fault] {
            for (direction, side, books) in self.sides() {
                let failed = books.iter().position(|books| books.tally.of(kind) > 0);
                if let Some(queue) = failed {
                    let at = side.placed.iter().filter(|at| at.kind == kind).map(|at| at.first);
                    let frame = at.min().unwrap_or(0);
                    return Some((kind, format!("{direction} queue {queue} at frame {frame}")));
                }
            }
        }
        None
    }

    fn sides(&self) -> [(&'static str, &Side, &[Books]); 2] {
        [("rx", &self.plan.rx, &self.rx), ("tx", &self.plan.tx, &self.tx)]
    }
}

impl Layer for Chaos {
    fn options(&self) -> String {
        self.plan.to_string()
    }

    fn starting(&mut self, info: &DeviceInfo, config: &Config) -> Result<(), Error> {
        let app_posts = |queue: &RxConfig| match &queue.memory {
            RxMemory::Split(split) => split.post == PostOrder::App,
            RxMemory::Whole(_) => false,
        };
        if self.plan.rx.has(Kind::Dup) && config.rx.iter().any(app_posts) {
            let why = "rx.dup: the app posts the payload buffers (PostOrder::App), so there is none for \
                       a copy; put tx.dup at the sending end, or receive whole frames";
            return Err(self.spec.bad(why));
        }
        self.rx.clear();
        self.tx.clear();
        tracing::info!(port = %info.port, "REPRO: chaos '{}'", self.plan);
        Ok(())
    }

    fn rebinding(&mut self, info: &DeviceInfo, index: usize) -> Result<(), Error> {
        if self.plan.rx.is_idle() {
            return Ok(());
        }
        let why = format!(
            "receive queue {index} is under chaos, whose plan counts its frames from the start on: stop the \
             port and start it again"
        );
        Err(Error::BadOption { port: info.port.clone(), why })
    }

    fn rx(&mut self, queue: Lent<dyn RxQueue>, config: &RxConfig) -> Box<dyn RxQueue> {
        let RxMemory::Whole(pool) = &config.memory else { return Box::new(queue) };
        if self.plan.rx.is_idle() {
            return Box::new(queue);
        }
        let books = Books::new(queue.counters(), true);
        let engine = self.engine(true, queue.index(), &books);
        Box::new(ChaosRx::new(engine, Spare::of(&self.plan.rx), pool, books, queue))
    }

    fn split_rx(
        &mut self,
        queue: Lent<dyn SplitRxQueue>,
        config: &RxConfig,
    ) -> Box<dyn SplitRxQueue> {
        let RxMemory::Split(split) = &config.memory else { return Box::new(queue) };
        if self.plan.rx.is_idle() {
            return Box::new(queue);
        }
        let books = Books::new(queue.counters(), true);
        let engine = self.engine(true, queue.index(), &books);
        Box::new(ChaosSplitRx::new(engine, Spare::of(&self.plan.rx), split, books, queue))
    }

    fn tx(&mut self, queue: Lent<dyn TxQueue>, config: &TxConfig) -> Box<dyn TxQueue> {
        if self.plan.tx.is_idle() {
            return Box::new(queue);
        }
        let books = Books::new(queue.counters(), false);
        let engine = self.engine(false, queue.index(), &books);
        Box::new(ChaosTx::new(engine, Spare::of(&self.plan.tx), &config.pool, books, queue))
    }

    fn stopped(&mut self, outcome: Result<(), Error>) -> Result<(), Error> {
        // The inner queues counted their last when they ended.
        self.books().for_each(Books::restate);
        outcome
    }

    fn link(&self, inner: Link) -> Link {
        let is_down = self.books().any(|books| books.tally.is_down.load(Ordering::Relaxed));
        Link { is_up: inner.is_up && !is_down, ..inner }
    }

    fn stats(&self, inner: DeviceStats) -> DeviceStats {
        let (mut rx, mut tx, mut counts) = inner;
        for ((direction, side, books), sum) in self.sides().into_iter().zip([&mut rx, &mut tx]) {
            if side.is_idle() {
                continue;
            }
            *sum = QueueStats::default();
            books.iter().for_each(|books| sum.merge(&books.stats()));
            for kind in Kind::ALL.into_iter().filter(|kind| side.counts(*kind)) {
                let injected = books.iter().map(|books| books.tally.of(kind)).sum();
                counts.push((format!("chaos_{direction}_{}", kind.name()), injected));
            }
        }
        (rx, tx, counts)
    }

    fn health(&self, inner: Health) -> Health {
        match self.failed() {
            Some((Kind::Remove, which)) => {
                return Health::Removed(format!("injected: {which} (chaos '{}')", self.plan));
            }
            Some((_, which)) => {
                return Health::Faulted(format!("injected fault: {which} (chaos '{}')", self.plan));
            }
            None => {}
        }
        // Acquire: pairs with the release fence of a queue that is about to take frames over, so that
        // a port that has ended is not taken for one that has nothing left to yield.
        fence(Ordering::Acquire);
        let holds = self.rx.iter().any(|books| books.tally.holds.load(Ordering::Acquire));
        if inner == Health::Ended && holds { Health::Good } else { inner }
    }
}
