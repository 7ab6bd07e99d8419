//! Whole frames: 82574 by extended descriptors, 82576 by advanced one-buffer ones. A frame longer than a
//! buffer becomes a chain, which may come together over several calls.

use std::{mem, os::fd::BorrowedFd};

use mempool::{Buf, Burst, Cache, Cpu, Pool, RxMeta};

use super::{Bad, Suspicion, Wake, refill_at};
use crate::{
    DmaMapper, DropReason, MapError, QueueCounters, RxQueue,
    e1000::{
        descriptor::receive::{Arrived, Found, Strip, give_whole, take_whole},
        held::{Ledger, Mapping},
        ring::{Doorbell, Report, Ring, Short, Wiring},
    },
    pci::{Gate, Mmio},
};

/// What the control plane set the queue's registers to.
#[derive(Clone, Copy, Debug)]
pub(in crate::e1000) struct Shape {
    /// Bytes the device writes into a buffer at most; at most the room of the pool's.
    pub(in crate::e1000) buffer: usize,
    /// Longest frame, in bytes without FCS.
    pub(in crate::e1000) max_frame: usize,
    /// Whether VLAN tags are taken out.
    pub(in crate::e1000) strip_vlan: bool,
}

/// A receive queue of whole frames.
pub(in crate::e1000) struct WholeRx<M: Mmio, D: DmaMapper> {
    ring: Ring<Short>,
    doorbell: Doorbell<M>,
    /// Buffers by descriptor.
    held: Ledger<Cpu>,
    mapping: Mapping<Cpu, D>,
    /// The descriptor to look at, and the first one that is not the device's; both run free.
    next: usize,
    given: usize,
    shape: Shape,
    strip: Strip,
    /// Fresh buffers on their way into the ring; empty between calls.
    stock: Burst<Cpu>,
    open: Open,
    suspicion: Suspicion,
    wake: Option<Wake<M>>,
    report: Report,
}

/// A frame that has not ended.
#[derive(Default)]
enum Open {
    /// None.
    #[default]
    No,
    /// The pieces so far.
    Frame(Buf<Cpu>, usize),
    /// Its pieces are thrown away up to its end, for this reason.
    Discarded(Bad),
}

impl<M: Mmio, D: DmaMapper> WholeRx<M, D> {
    /// A queue that has posted nothing yet: [`WholeRx::fill`].
    ///
    /// # Errors
    /// The pool's memory cannot be mapped for the device.
    ///
    /// # Panics
    /// If the device would write more into a buffer than there is room.
    pub(in crate::e1000) fn new(
        wiring: Wiring<M>,
        shape: Shape,
        wake: Option<Wake<M>>,
        pool: &Pool<Cpu>,
        mapper: D,
    ) -> Result<Self, MapError> {
        assert!(shape.buffer <= pool.room(), "{shape:?} for buffers of {} B", pool.room());
        let (count, gate) = (wiring.descriptors, wiring.gate.clone());
        let (ring, doorbell, report) = wiring.split(1);
        let origin = ring.origin();
        Ok(Self {
            ring,
            doorbell,
            held: Ledger::new(pool, count, gate.clone()),
            mapping: Mapping::new(pool, mapper, gate)?,
            next: origin,
            given: origin,
            shape,
            strip: Strip::new(shape.strip_vlan),
            stock: Burst::with_limit(pool, Burst::<Cpu>::CAPACITY),
            open: Open::No,
            suspicion: Suspicion::default(),
            wake,
            report,
        })
    }

    /// The gate of this queue alone.
    pub(in crate::e1000) fn gate(&self) -> Gate {
        self.report.gate.clone()
    }

    /// Posts buffers before the first poll, so that frames that come earlier find some. Call it when the
    /// ring's registers are set and it is enabled.
    pub(in crate::e1000) fn fill(&mut self) {
        let mut cache = self.held.pool().cache();
        self.refill(&mut cache);
    }

    /// Tops the ring up once enough is missing; one descriptor stays free, or a full ring would look
    /// empty.
    #[inline(always)]
    fn refill(&mut self, cache: &mut Cache<Cpu>) {
        let missing = self.ring.count() - 1 - self.given.wrapping_sub(self.next);
        if missing >= refill_at(self.ring.count()) {
            self.give(cache, missing);
        }
    }

    fn give(&mut self, cache: &mut Cache<Cpu>, mut missing: usize) {
        let before = self.given;
        while missing > 0 {
            let run = self.ring.run(self.given, missing);
            let most = run.len();
            let got = cache.take_bare(&mut self.stock, most);
            let mapped = self.mapping.describe(&self.stock, run.iter(), give_whole);
            self.held.post(self.ring.place(self.given), &mut self.stock, mapped);
            self.given = self.given.wrapping_add(mapped);
            missing -= mapped;
            if mapped < most || got < most {
                break;
            }
        }
        if !self.stock.is_empty() {
            self.give_back(cache);
        }
        if self.given != before {
            self.doorbell.ring(self.ring.place(self.given));
        }
    }

    /// Buffers of memory that the device cannot reach.
    #[cold]
    fn give_back(&mut self, cache: &mut Cache<Cpu>) {
        self.stock.received_alike(0, 0, &RxMeta::default());
        self.stock.recycle(cache);
    }

    /// Takes good single-buffer frames, as far as their descriptors lie in one piece; returns how many,
    /// their bytes, and the descriptor behind them if it is done and no such frame.
    #[inline(always)]
    fn take_plain(&mut self, burst: &mut Burst<Cpu>) -> (usize, usize, Option<Arrived>) {
        let most = burst.room().min(self.given.wrapping_sub(self.next));
        let run = self.ring.run(self.next, most);
        let (buffer, strip) = (self.shape.buffer, self.strip);
        let (mut bytes, mut odd, mut last) = (0, None, Found::NONE);
        let received = |from: &Short| {
            let arrived = take_whole(from);
            let len = arrived.len();
            match arrived.whole_after(strip, &mut last) {
                // One compare for 1..=buffer.
                Some(meta) if len.wrapping_sub(1) < buffer => {
                    bytes += len;
                    Some((len, meta))
                }
                _ => {
                    odd = arrived.is_done().then_some(arrived);
                    None
                }
            }
        };
        let done = self.held.receive_into(self.ring.place(self.next), burst, run, received);
        self.next = self.next.wrapping_add(done);
        (done, bytes, odd)
    }

    /// The next descriptor, if it is done.
    #[cold]
    fn take_next(&self) -> Option<Arrived> {
        let is_given = self.next != self.given;
        is_given.then(|| take_whole(self.ring.at(self.next))).filter(|arrived| arrived.is_done())
    }

    /// Takes a descriptor that is no good frame by itself; returns the bytes of a frame that it ends.
    #[cold]
    fn take_odd(
        &mut self,
        arrived: Arrived,
        cache: &mut Cache<Cpu>,
        burst: &mut Burst<Cpu>,
    ) -> Option<usize> {
        let mut piece = self.held.complete(self.ring.place(self.next))?;
        self.next = self.next.wrapping_add(1);
        let bad = self.judge(arrived);
        let len = if bad.is_some() { 0 } else { arrived.len() };
        piece.frame_mut().received(len, &RxMeta::default());
        let (frame, total) = match mem::take(&mut self.open) {
            Open::Discarded(why) => {
                cache.give(piece);
                return self.discard(arrived, bad.unwrap_or(why), false);
            }
            Open::No => (piece, len),
            Open::Frame(mut frame, before) => {
                let hung = if len > 0 { frame.chain(piece) } else { Err(piece) };
                if let Err(unused) = hung {
                    cache.give(unused);
                }
                (frame, before + len)
            }
        };
        let endless = (total > self.shape.max_frame).then_some(Bad::Endless { bytes: total });
        if let Some(bad) = bad.or(endless) {
            free(frame, cache);
            return self.discard(arrived, bad, true);
        }
        if !arrived.is_last() {
            self.open = Open::Frame(frame, total);
            return None;
        }
        let mut frame = frame;
        frame.frame_mut().set_rx(&arrived.meta(self.strip));
        burst.push(frame);
        self.suspicion.allay();
        Some(total)
    }

    /// What is wrong with a descriptor by itself.
    fn judge(&self, arrived: Arrived) -> Option<Bad> {
        let (len, buffer) = (arrived.len(), self.shape.buffer);
        // The end of a frame may be empty: where its last buffer held nothing but the FCS.
        let may_be_empty = arrived.is_last() && matches!(self.open, Open::Frame(..));
        if len > buffer || len == 0 && !may_be_empty {
            return Some(Bad::Length { len, buffer });
        }
        arrived.is_spoilt().then(|| Bad::Spoilt { status: arrived.status() })
    }

    /// Throws a frame away, and what is still to come of it; counts it if it is the first piece.
    fn discard(&mut self, arrived: Arrived, bad: Bad, is_first: bool) -> Option<usize> {
        if is_first {
            let reason = match bad {
                Bad::Endless { .. } => DropReason::TooLong,
                _ => DropReason::Malformed,
            };
            self.report.counters.dropped(reason, 1);
        }
        if !arrived.is_last() {
            self.open = Open::Discarded(bad);
        }
        self.suspicion.note(bad, self.report.index, &self.report.gate);
        None
    }
}

impl<M: Mmio, D: DmaMapper> WholeRx<M, D> {
    /// Of a queue that was stopped alone, and has yielded what it had: the rest of an open frame never
    /// comes.
    #[cold]
    fn end_open(&mut self, cache: &mut Cache<Cpu>) {
        if let Open::Frame(frame, _) = mem::take(&mut self.open) {
            free(frame, cache);
            self.report.counters.dropped(DropReason::Device, 1);
        }
    }
}

/// Frees a frame segment by segment into the cache.
fn free(mut frame: Buf<Cpu>, cache: &mut Cache<Cpu>) {
    while let Some(rest) = frame.unchain() {
        cache.give(frame);
        frame = rest;
    }
    cache.give(frame);
}

impl<M: Mmio, D: DmaMapper> RxQueue for WholeRx<M, D> {
    fn recv(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        let (mut delivered, mut bytes) = (0, 0);
        while burst.room() > 0 && self.report.gate.is_sound() {
            let odd = if matches!(self.open, Open::No) {
                let (done, sum, odd) = self.take_plain(burst);
                (delivered, bytes) = (delivered + done, bytes + sum);
                if done > 0 {
                    self.suspicion.allay();
                }
                if done > 0 && odd.is_none() {
                    // The ring's end, or that of what has come.
                    continue;
                }
                odd
            } else {
                // The pieces of a frame that began earlier may look like frames of their own.
                self.take_next()
            };
            let Some(odd) = odd else { break };
            if let Some(len) = self.take_odd(odd, cache, burst) {
                (delivered, bytes) = (delivered + 1, bytes + len);
            }
        }
        if self.report.gate.is_live() {
            self.refill(cache);
        } else if delivered == 0 {
            self.end_open(cache);
        }
        if delivered > 0 {
            self.report.counters.delivered(delivered, bytes);
        }
        delivered
    }

    fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        self.wake.as_mut().map(Wake::arm)
    }

    fn counters(&self) -> &QueueCounters {
        &self.report.counters
    }
}
