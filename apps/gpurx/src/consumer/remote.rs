//! A consumer in another process, as a worker sees it: one that may be there, keeps blocks, and returns
//! them or dies. Knows the ring and no socket.

use std::time::{Duration, Instant};

use super::{BlockView, Consumer, Shown, Verdict};
use crate::{
    handover::{Mailbox, Order, Ring, books::Refusals},
    place::BlockId,
    totals::Totals,
};

/// How long the end waits for blocks that are out.
const GRACE: Duration = Duration::from_secs(1);

/// What becomes of blocks while no consumer is there, and when one that is there counts as late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manners {
    /// Blocks wait for a consumer.
    pub(crate) waits: bool,
    /// Nanoseconds that a block may be out.
    pub(crate) limit: u64,
    /// Slots it may have, so that blocks wait with us when it is slow: those that wait can be dropped whole.
    pub(crate) most: u64,
}

/// Blocks, by what became of them.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    shown: u64,
    returned: u64,
    scrubbed: u64,
    unreturned: u64,
    unconsumed: u64,
    overdue: u64,
    refusals: Refusals,
}

/// `--consumer`.
pub(crate) struct Remote {
    orders: Mailbox,
    manners: Manners,
    ring: Option<Ring>,
    /// A ring whose consumer is gone: what it was shown is taken back first.
    left: Option<Ring>,
    /// Whether one is to be here soon: it is being offered this memory.
    expects: bool,
    /// Whether what is taken back now is so because the run ends.
    is_over: bool,
    deadline: Option<Instant>,
    counts: Counts,
}

impl Remote {
    /// `expects`: a consumer is there, and is about to be offered this memory.
    pub(crate) fn new(orders: Mailbox, manners: Manners, expects: bool) -> Self {
        let (ring, left, counts) = (None, None, Counts::default());
        Self { orders, manners, ring, left, expects, is_over: false, deadline: None, counts }
    }

    #[cold]
    fn follow(&mut self, order: Order) {
        // Whoever had the last ring is gone.
        self.left = self.ring.take();
        self.expects = false;
        if let Order::Attach(words, layout) = order {
            self.ring = Some(Ring::new(words, layout));
        }
    }

    /// Takes back what a consumer that is gone was shown. No DMA has gone there, and none will before the
    /// slots are posted again; nobody reads them any more.
    #[cold]
    fn scrub(&mut self) -> Option<BlockId> {
        let id = self.left.as_mut()?.books_mut().scrub();
        if id.is_none() {
            self.left = None;
        } else if self.is_over {
            self.counts.unreturned += 1;
        } else {
            self.counts.scrubbed += 1;
        }
        id
    }
}

impl Consumer for Remote {
    fn has_room(&self) -> bool {
        match &self.ring {
            Some(ring) => ring.books().has_room() && ring.books().slots() < self.manners.most,
            None => !self.manners.waits && !self.expects,
        }
    }

    fn is_there(&self) -> bool {
        self.ring.is_some() || self.expects
    }

    fn block(&mut self, id: BlockId, block: &BlockView<'_>, now: u64) -> Shown {
        if let Some(ring) = &mut self.ring
            && ring.show(id, block, now)
        {
            self.counts.shown += 1;
            return Shown::Kept;
        }
        self.counts.unconsumed += 1;
        Shown::Done(Verdict::default())
    }

    fn returned(&mut self) -> Option<BlockId> {
        if self.left.is_some()
            && let Some(id) = self.scrub()
        {
            return Some(id);
        }
        let id = self.ring.as_mut()?.take_back(&mut self.counts.refusals)?;
        self.counts.returned += 1;
        Some(id)
    }

    fn skipped(&mut self) {
        self.counts.unconsumed += 1;
    }

    fn keeps(&self) -> bool {
        true
    }

    fn tick(&mut self, now: u64) {
        // One order at a time: what the last one left is taken back before the next.
        if self.left.is_none()
            && let Some(order) = self.orders.order()
        {
            self.follow(order);
        }
        if let Some(ring) = &mut self.ring {
            self.counts.overdue += ring.books_mut().overdue(now, self.manners.limit);
        }
    }

    fn may_keep(&mut self, more: i64) {
        self.manners.most = self.manners.most.saturating_add_signed(more);
    }

    fn let_go(&mut self) {
        self.left = self.ring.take();
        (self.expects, self.manners.waits) = (false, false);
        self.deadline = Some(Instant::now());
    }

    fn lingers(&mut self) -> bool {
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + GRACE);
        self.tick(0);
        let is_out = self.ring.as_ref().is_some_and(|ring| ring.books().blocks() > 0);
        if self.left.is_none() && (!is_out || Instant::now() >= deadline) {
            (self.left, self.is_over) = (self.ring.take(), true);
            return false;
        }
        std::thread::park_timeout(Duration::from_micros(100));
        true
    }

    fn count(&self, totals: &mut Totals) {
        let Counts { shown, returned, scrubbed, unreturned, unconsumed, overdue, refusals } =
            self.counts;
        (totals.shown, totals.returned, totals.scrubbed) = (shown, returned, scrubbed);
        (totals.unreturned, totals.unconsumed, totals.overdue) = (unreturned, unconsumed, overdue);
        let Refusals { out_of_range, wrong_generation, forged, never_shown, repeated } = refusals;
        (totals.out_of_range, totals.wrong_generation) = (out_of_range, wrong_generation);
        (totals.forged, totals.never_shown, totals.repeated) = (forged, never_shown, repeated);
        let rings = [&self.ring, &self.left].into_iter().flatten();
        totals.shown_slots = rings.map(|ring| ring.books().slots()).sum();
    }
}
