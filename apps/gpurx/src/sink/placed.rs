//! Rows into their places, blocks to their consumer: the sinks `verify` and `tensor`.

use mempool::{CopyError, Device, Frame, Pool, SplitBurst, SplitCache};
use pmd::SplitRxQueue;

use super::Sink;
use crate::{
    consumer::{BlockView, Consumer},
    head::{Head, HeadReader},
    payload::PayloadReader,
    place::{Geometry, PlaceError, Placer, RowInfo, Step, Store},
    totals::Totals,
};

/// Places rows and hands blocks over.
pub struct Placed {
    heads: HeadReader,
    placer: Placer,
    store: Store,
    mover: Mover,
    consumer: Box<dyn Consumer>,
    contiguous: bool,
    fault: Option<String>,
}

impl Placed {
    /// Takes all buffers of `data`, which nobody else draws on.
    ///
    /// # Errors
    /// The pool is too small for the geometry.
    pub fn new(
        heads: HeadReader,
        data: &Pool<Device>,
        geometry: &Geometry,
        consumer: Box<dyn Consumer>,
    ) -> Result<Self, PlaceError> {
        let store = Store::take_all(data);
        let placer = Placer::new(&store.slots(), geometry)?;
        let payload = PayloadReader::new(data);
        let mover = Mover { row: vec![0; data.stride()], side: vec![0; data.stride()], payload };
        let contiguous = geometry.contiguous;
        Ok(Self { heads, placer, store, mover, consumer, contiguous, fault: None })
    }

    #[inline]
    fn frame(&mut self, head: Head, data: Option<Frame<'_, Device>>, now: u64, totals: &mut Totals) {
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
                self.placer.arrived(slot, seq, RowInfo { len, crc }, now);
                self.hand_over(totals);
            }
            _ => {
                *(if head == Head::Foreign { &mut totals.foreign } else { &mut totals.invalid }) += 1;
                data.segments().for_each(|segment| self.placer.foreign(segment.slot().index()));
            }
        }
    }

    #[inline]
    fn hand_over(&mut self, totals: &mut Totals) {
        while let Some(id) = self.placer.take_ready() {
            let (mut tensor, mut moved) = (None, Ok(0));
            if self.contiguous {
                let (plan, block) = self.placer.make_contiguous(id);
                tensor = plan.base();
                moved = self.mover.follow(plan.steps(), |row| block.info(row).len as usize);
            }
            match moved {
                Ok(bytes) => totals.touched += bytes,
                Err(error) => self.fault = Some(format!("a row could not be moved: {error}")),
            }
            let view = BlockView::new(self.placer.block(id), tensor, &self.mover.payload);
            let verdict = self.consumer.block(&view);
            totals.ok += verdict.ok;
            totals.bad += verdict.bad;
            self.placer.release(id);
        }
    }
}

impl Sink for Placed {
    fn burst(&mut self, burst: &mut SplitBurst, cache: &mut SplitCache, now: u64, totals: &mut Totals) {
        for index in 0..burst.len() {
            let frame = burst.frame(index);
            let head = self.heads.read(frame.head);
            self.frame(head, frame.data, now, totals);
        }
        let (heads, data) = burst.parts_mut();
        self.store.put(data);
        heads.recycle(&mut cache.heads);
    }

    fn tick(&mut self, now: u64, totals: &mut Totals) {
        self.placer.expire(now);
        self.hand_over(totals);
        totals.placed(&self.placer.counters());
    }

    fn post(&mut self, rx: &mut dyn SplitRxQueue) {
        let Self { store, placer, .. } = self;
        store.post(|| placer.next_slot(), |burst| rx.post(burst));
    }

    fn finish(&mut self, totals: &mut Totals) {
        self.placer.flush();
        self.hand_over(totals);
        totals.placed(&self.placer.counters());
    }

    fn digest(&self) -> Option<u32> {
        self.consumer.digest()
    }

    fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }
}

/// Copies rows from slot to slot, by way of the host.
struct Mover {
    payload: PayloadReader,
    row: Vec<u8>,
    side: Vec<u8>,
}

impl Mover {
    /// Does what a plan says; returns the bytes copied.
    fn follow(&mut self, steps: &[Step], len: impl Fn(u32) -> usize) -> Result<u64, CopyError> {
        let mut copied = 0;
        for step in steps {
            match *step {
                Step::Copy { row, from, to } => {
                    let bytes = &mut self.row[..len(row)];
                    self.payload.read(from, bytes)?;
                    self.payload.write(to, bytes)?;
                    copied += bytes.len() as u64;
                }
                Step::Save { row, from } => {
                    self.payload.read(from, &mut self.side[..len(row)])?;
                }
                Step::Restore { row, to } => {
                    let bytes = &self.side[..len(row)];
                    self.payload.write(to, bytes)?;
                    copied += bytes.len() as u64;
                }
            }
        }
        Ok(copied)
    }
}
