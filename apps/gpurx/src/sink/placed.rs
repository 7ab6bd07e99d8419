//! Rows into their places, blocks to their consumer: the sinks `verify` and `tensor`.

use mempool::{CopyError, Device, DeviceView, Frame, Pool, SplitBurst, SplitCache};
use pmd::SplitRxQueue;

use super::Sink;
use crate::{
    consumer::{BlockView, Consumer, Shown},
    errand::{Errand, Extent, Task, Ticket},
    head::{Head, HeadReader},
    place::{Block, Geometry, PlaceError, Placer, RowInfo, Step, Store},
    shortage::Shortage,
    totals::Totals,
};

/// Places rows and hands blocks over.
pub struct Placed {
    heads: HeadReader,
    placer: Placer,
    store: Store,
    view: DeviceView,
    mover: Mover,
    /// What the frames of a burst mean to the placer, in order of arrival.
    arrivals: Vec<Arrival>,
    consumer: Box<dyn Consumer>,
    /// Whether the consumer keeps blocks: they stay shown until it returns them.
    keeps: bool,
    /// Blocks that may wait for it.
    backlog: usize,
    /// Whether the next block fits nowhere until another is returned.
    is_stuck: bool,
    geometry: Geometry,
    shortage: Shortage,
    /// Areas that are posted no more, and who waits for them.
    leaving: Vec<(Extent, Ticket)>,
    /// Those of host memory.
    host: Vec<Extent>,
    now: u64,
    fault: Option<String>,
}

/// One slot that came with a frame.
enum Arrival {
    Row { slot: u32, seq: u64, info: RowInfo },
    Foreign { slot: u32 },
}

impl Placed {
    /// Takes all buffers of `data`, which nobody else draws on, for a queue with a ring of so many descriptors.
    ///
    /// # Errors
    /// The pool is too small for the geometry.
    pub fn new(
        heads: HeadReader,
        data: &Pool<Device>,
        (geometry, ring): (&Geometry, usize),
        consumer: Box<dyn Consumer>,
    ) -> Result<Self, PlaceError> {
        let store = Store::take_all(data);
        let placer = Placer::new(&store.slots(), geometry)?;
        let view = DeviceView::new(data);
        let mover = Mover { row: vec![0; data.stride()], side: vec![0; data.stride()] };
        Ok(Self {
            heads,
            placer,
            store,
            view,
            mover,
            arrivals: Vec::new(),
            keeps: consumer.keeps(),
            consumer,
            backlog: usize::from(geometry.kept),
            is_stuck: false,
            geometry: *geometry,
            shortage: Shortage::new(ring),
            leaving: Vec::new(),
            host: Vec::new(),
            now: 0,
            fault: None,
        })
    }

    /// Notes what a frame is.
    #[inline]
    fn note(&mut self, head: Head, data: Option<Frame<'_, Device>>, totals: &mut Totals) {
        let Some(data) = data else {
            *match head {
                Head::Row { .. } => &mut totals.unsplit,
                Head::Foreign => &mut totals.foreign,
                Head::Invalid => &mut totals.invalid,
            } += 1;
            return;
        };
        let slot = data.slot().index();
        match head {
            Head::Row { seq, crc } if data.next().is_none() => {
                #[expect(clippy::cast_possible_truncation, reason = "at most the stride, 2^30")]
                let len = data.len() as u32;
                self.arrivals.push(Arrival::Row { slot, seq, info: RowInfo { len, crc } });
            }
            _ => {
                *(if head == Head::Foreign { &mut totals.foreign } else { &mut totals.invalid }) +=
                    1;
                let slots = data.segments().map(|segment| segment.slot().index());
                self.arrivals.extend(slots.map(|slot| Arrival::Foreign { slot }));
            }
        }
    }

    /// Places what was noted. The buffers are in the store by now, so that a block that becomes
    /// complete can be read.
    #[inline]
    fn place(&mut self, now: u64, totals: &mut Totals) {
        for at in 0..self.arrivals.len() {
            match self.arrivals[at] {
                Arrival::Row { slot, seq, info } => {
                    self.placer.arrived(slot, seq, info, now);
                    self.hand_over(totals);
                }
                Arrival::Foreign { slot } => self.placer.foreign(slot),
            }
        }
        self.arrivals.clear();
    }

    #[inline]
    fn hand_over(&mut self, totals: &mut Totals) {
        while self.placer.waiting() > 0 {
            if !self.consumer.has_room() || self.is_stuck {
                if self.placer.waiting() <= self.backlog {
                    return;
                }
                self.shed();
                continue;
            }
            let Some(id) = self.placer.take_ready() else { return };
            let (mut tensor, mut moved) = (None, Ok(0));
            if self.geometry.contiguous {
                let (plan, block) = self.placer.make_contiguous(id);
                tensor = plan.base();
                let len = |row| block.info(row).len as usize;
                moved = self.mover.follow(plan.steps(), len, &mut self.store, &self.view);
            }
            match moved {
                Ok(bytes) => totals.touched += bytes,
                Err(error) => self.fault = Some(format!("a row could not be moved: {error}")),
            }
            if self.keeps && self.geometry.contiguous && tensor.is_none() {
                // The spare run is shown: nothing was moved, and it comes back.
                self.placer.put_back(id);
                self.is_stuck = true;
                continue;
            }
            let block = self.placer.block(id);
            if !self.host.is_empty() {
                totals.spilled += rows_in(&self.host, block);
            }
            let view = BlockView::new(block, tensor, &self.store, &self.view);
            if let Shown::Done(verdict) = self.consumer.block(id, &view, self.now) {
                totals.ok += verdict.ok;
                totals.bad += verdict.bad;
                self.placer.release(id);
            }
        }
    }

    /// Drops the block that has waited longest.
    #[cold]
    fn skip(&mut self) {
        if let Some(id) = self.placer.take_ready() {
            self.consumer.skipped();
            self.placer.release(id);
        }
    }

    /// The same, for want of memory.
    #[cold]
    fn shed(&mut self) {
        if let Some(id) = self.placer.next_ready() {
            self.shortage.shed(self.placer.block(id).present());
        }
        self.skip();
    }

    /// Drops blocks that wait for a consumer that is there, as long as there is almost nothing to post;
    /// whether it has.
    #[cold]
    fn relieve(&mut self) -> bool {
        let mut is_freed = false;
        while self.consumer.is_there()
            && self.placer.waiting() > 0
            && self.shortage.sheds(self.placer.posted() + self.placer.empty())
        {
            self.shed();
            is_freed = true;
        }
        is_freed
    }

    /// Little is posted: sees whether memory is short, and posts what lies about.
    #[cold]
    fn run_short(&mut self, rx: &mut dyn SplitRxQueue) {
        let Self { store, placer, shortage, now, .. } = self;
        if !shortage.look(placer.posted(), placer.is_dry(), *now) {
            placer.rest();
        } else if placer.is_dry() {
            placer.coalesce();
            store.post(|| placer.next_slot(), |burst| rx.post(burst));
            shortage.look(placer.posted(), placer.is_dry(), *now);
        }
    }

    /// Gives areas back of which all slots are home.
    #[cold]
    fn see_off(&mut self) {
        let Self { leaving, host, placer, store, .. } = self;
        leaving.retain(|(area, ticket)| {
            let has_left = placer.has_left(*area);
            if has_left {
                store.give_area(*area);
                host.retain(|known| known != area);
                ticket.close(true);
            }
            !has_left
        });
    }

    /// Rows that an area makes room for.
    fn rows_of(&self, area: Extent) -> i64 {
        let span = i64::from(self.geometry.rows) + 2 * i64::from(self.geometry.guard);
        (i64::from(area.count) - 2) / span * i64::from(self.geometry.rows)
    }

    /// Takes back what the consumer has returned; whether that was anything.
    fn take_back(&mut self) -> bool {
        let mut is_freed = false;
        while let Some(id) = self.consumer.returned() {
            self.placer.release(id);
            is_freed = true;
        }
        self.is_stuck &= !is_freed;
        is_freed
    }
}

impl Sink for Placed {
    fn burst(
        &mut self,
        burst: &mut SplitBurst,
        cache: &mut SplitCache,
        now: u64,
        totals: &mut Totals,
    ) {
        for index in 0..burst.len() {
            let frame = burst.frame(index);
            let head = self.heads.read(frame.head);
            self.note(head, frame.data, totals);
        }
        self.now = now;
        let (heads, data) = burst.parts_mut();
        self.store.put(data);
        heads.recycle(&mut cache.heads);
        self.place(now, totals);
    }

    fn tick(&mut self, now: u64, totals: &mut Totals) -> bool {
        self.now = now;
        let mut is_freed = false;
        if self.keeps {
            self.consumer.tick(now);
            is_freed = self.take_back();
        }
        self.placer.expire(now);
        self.hand_over(totals);
        if self.shortage.is_on() {
            is_freed |= self.relieve();
            self.shortage.count(self.placer.coalesced(), now, totals);
        }
        if !self.leaving.is_empty() {
            self.see_off();
        }
        totals.placed(&self.placer.counters());
        if self.keeps {
            self.consumer.count(totals);
        }
        is_freed
    }

    fn post(&mut self, rx: &mut dyn SplitRxQueue) {
        let Self { store, placer, .. } = self;
        store.post(|| placer.next_slot(), |burst| rx.post(burst));
        if self.shortage.may_be(self.placer.posted()) {
            self.run_short(rx);
        }
    }

    fn finish(&mut self, totals: &mut Totals) {
        self.placer.flush();
        self.hand_over(totals);
        while self.consumer.lingers() {
            self.take_back();
            self.hand_over(totals);
        }
        self.take_back();
        while self.placer.waiting() > 0 {
            self.skip();
        }
        self.consumer.count(totals);
        self.shortage.count(self.placer.coalesced(), self.now, totals);
        totals.placed(&self.placer.counters());
    }

    fn attend(&mut self, errand: Errand, rx: &mut dyn SplitRxQueue) {
        match errand.task {
            Task::Take { area, is_host } => {
                if rx.meet_areas().is_err() {
                    errand.ticket.close(false);
                    return;
                }
                self.store.take_area(area);
                self.view = DeviceView::new(self.store.pool());
                self.placer.add(area);
                self.consumer.may_keep(self.rows_of(area));
                self.host.extend(is_host.then_some(area));
                errand.ticket.close(true);
            }
            Task::Leave(area) => {
                self.placer.retire(area);
                self.consumer.may_keep(-self.rows_of(area));
                self.leaving.push((area, errand.ticket));
            }
            Task::Forget => {
                self.view = DeviceView::new(self.store.pool());
                errand.ticket.close(rx.meet_areas().is_ok());
            }
        }
    }

    fn leave(&mut self, totals: &mut Totals) {
        // What has been returned already first, then what has not.
        self.take_back();
        self.consumer.let_go();
        self.take_back();
        self.finish(totals);
    }

    fn digest(&self) -> Option<u32> {
        self.consumer.digest()
    }

    fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }
}

/// Rows of a block that lie in these areas.
#[cold]
fn rows_in(areas: &[Extent], block: &Block) -> u64 {
    let in_host = |slot: u32| areas.iter().any(|area| area.holds(slot));
    // A stretch lies in one area.
    let runs = block.map().iter().filter(|run| in_host(run.first_slot));
    runs.map(|run| u64::from(run.len)).sum()
}

/// Copies rows from slot to slot, by way of the host.
struct Mover {
    row: Vec<u8>,
    side: Vec<u8>,
}

impl Mover {
    /// Does what a plan says; returns the bytes copied.
    fn follow(
        &mut self,
        steps: &[Step],
        len: impl Fn(u32) -> usize,
        store: &mut Store,
        view: &DeviceView,
    ) -> Result<u64, CopyError> {
        const POSTED: CopyError = CopyError::NoWay { what: "moved: its slot is posted" };
        let mut copied = 0;
        for step in steps {
            match *step {
                Step::Copy { row, from, to } => {
                    let bytes = &mut self.row[..len(row)];
                    view.read(store.frame(from).ok_or(POSTED)?, bytes)?;
                    view.write(&mut store.frame_mut(to).ok_or(POSTED)?, bytes)?;
                    copied += bytes.len() as u64;
                }
                Step::Save { row, from } => {
                    let bytes = &mut self.side[..len(row)];
                    view.read(store.frame(from).ok_or(POSTED)?, bytes)?;
                }
                Step::Restore { row, to } => {
                    let bytes = &self.side[..len(row)];
                    view.write(&mut store.frame_mut(to).ok_or(POSTED)?, bytes)?;
                    copied += bytes.len() as u64;
                }
            }
        }
        Ok(copied)
    }
}
