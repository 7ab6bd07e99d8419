//! Split frames: the head into host memory, the payload into a buffer of any memory, by 82574 packet
//! split or 82576 header split.
//!
//! A descriptor takes a pair of buffers, whether the frame fills both or not. Payload buffers are handed
//! to the device in the order of their posting. One that a frame leaves empty is posted again at once,
//! behind those posted by then: nothing is lost, and no buffer comes back that was not filled.

use std::{mem, os::fd::BorrowedFd};

use mempool::{Buf, Burst, Cache, Cpu, Device, RxMeta, Split, SplitBurst, SplitCache};

use super::{BATCH, Bad, Payloads, Suspicion, Wake, refill_at};
use crate::{
    DmaMapper, DropReason, MapError, PostOrder, QueueCounters, SplitConfig, SplitRxQueue,
    e1000::{
        descriptor::receive::{Arrived, SplitArrived, SplitFormat, Strip},
        held::{Ledger, Mapping},
        ring::{Doorbell, Report, Ring, Wiring},
    },
    pci::{Gate, Mmio},
};

/// What the control plane set the queue's registers to.
#[derive(Clone, Copy, Debug)]
pub(in crate::e1000) struct SplitShape {
    /// Bytes the device writes into a head's buffer at most; at most the room of the heads' pool.
    pub(in crate::e1000) head_buffer: usize,
    /// Bytes it writes into a payload's buffer at most; at most the room of the payloads' pool.
    pub(in crate::e1000) data_buffer: usize,
    /// Longest frame, in bytes without FCS.
    pub(in crate::e1000) max_frame: usize,
    /// Whether VLAN tags are taken out.
    pub(in crate::e1000) strip_vlan: bool,
}

/// A receive queue of split frames.
pub(in crate::e1000) struct SplitRx<F: SplitFormat, M: Mmio, D: DmaMapper> {
    ring: Ring<F::Descriptor>,
    doorbell: Doorbell<M>,
    /// Heads by descriptor.
    heads: Ledger<Cpu>,
    mapping: Mapping<Cpu, D>,
    payloads: Payloads<D>,
    /// The descriptor to look at, and the first one that is not the device's; both run free. Payloads
    /// are posted as far as there or further.
    next: usize,
    given: usize,
    /// Places kept free for payload buffers of an open frame: where the application posts they may have
    /// to be posted again.
    reserved: usize,
    shape: SplitShape,
    strip: Strip,
    /// Fresh heads on their way into the ring; empty between calls.
    stock: Burst<Cpu>,
    batch: [SplitArrived; BATCH],
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
    /// The pieces so far, and their bytes.
    Frame(Split, usize),
    /// Its pieces are thrown away up to its end, for this reason.
    Discarded(Bad),
}

/// Why a frame is thrown away.
struct Refused(Bad, DropReason);

impl<F: SplitFormat, M: Mmio, D: DmaMapper + Clone> SplitRx<F, M, D> {
    /// A queue that has posted nothing yet: [`SplitRx::fill`].
    ///
    /// # Errors
    /// A pool's memory cannot be mapped for the device.
    ///
    /// # Panics
    /// If the device would write more into a buffer than there is room.
    pub(in crate::e1000) fn new(
        wiring: Wiring<M>,
        shape: SplitShape,
        wake: Option<Wake<M>>,
        config: &SplitConfig,
        mapper: D,
    ) -> Result<Self, MapError> {
        let SplitConfig { heads, data, .. } = config;
        let (head_room, data_room) = (heads.room(), data.room());
        assert!(
            shape.head_buffer <= head_room && shape.data_buffer <= data_room,
            "{shape:?} for heads of {head_room} and payloads of {data_room} B"
        );
        let (count, gate) = (wiring.descriptors, wiring.gate.clone());
        let (ring, doorbell, report) = wiring.split::<F::Descriptor>(F::UNIT);
        let origin = ring.origin();
        Ok(Self {
            ring,
            doorbell,
            heads: Ledger::new(heads, count, gate.clone()),
            mapping: Mapping::new(heads, mapper.clone(), gate.clone())?,
            payloads: Payloads::new(config, mapper, count, origin, gate)?,
            next: origin,
            given: origin,
            reserved: 0,
            shape,
            strip: Strip::new(shape.strip_vlan),
            stock: Burst::with_limit(heads, Burst::<Cpu>::CAPACITY),
            batch: [SplitArrived::NONE; BATCH],
            open: Open::No,
            suspicion: Suspicion::default(),
            wake,
            report,
        })
    }
}

impl<F: SplitFormat, M: Mmio, D: DmaMapper> SplitRx<F, M, D> {
    /// The gate of this queue alone.
    pub(in crate::e1000) fn gate(&self) -> Gate {
        self.report.gate.clone()
    }

    /// Posts buffers before the first poll, so that frames that come earlier find some; none where the
    /// application posts. Call it when the ring's registers are set and it is enabled.
    pub(in crate::e1000) fn fill(&mut self) {
        let mut cache =
            SplitCache { heads: self.heads.pool().cache(), data: self.payloads.cache() };
        self.refill(&mut cache);
    }

    /// Descriptors that could have a payload buffer and have none. One stays free always, or a full ring
    /// would look empty.
    #[inline(always)]
    fn unposted(&self) -> usize {
        self.ring.count() - 1 - self.reserved - self.payloads.posted().wrapping_sub(self.next)
    }

    /// Tops the ring up once enough is missing.
    #[inline(always)]
    fn refill(&mut self, cache: &mut SplitCache) {
        let enough = refill_at(self.ring.count());
        let unposted = self.unposted();
        if unposted >= enough && self.payloads.order() == PostOrder::Cache {
            self.payloads.refill(&mut cache.data, unposted);
        }
        let headless = self.payloads.posted().wrapping_sub(self.given);
        let with_device = self.given.wrapping_sub(self.next);
        if headless >= enough || headless > 0 && with_device < enough {
            self.give(&mut cache.heads, headless);
        }
    }

    /// Joins heads to posted payload buffers and hands the pairs to the device.
    fn give(&mut self, cache: &mut Cache<Cpu>, mut headless: usize) {
        let before = self.given;
        while headless > 0 {
            let run = self.ring.run(self.given, headless);
            let (most, data) = (run.len(), self.payloads.addresses(self.given, run.len()));
            let got = cache.take_bare(&mut self.stock, most);
            let places = run.iter().zip(data);
            let give = |(to, data): (_, &crate::Iova), head| F::give(to, head, *data);
            let mapped = self.mapping.describe(&self.stock, places, give);
            self.heads.post(self.ring.place(self.given), &mut self.stock, mapped);
            self.given = self.given.wrapping_add(mapped);
            headless -= mapped;
            if mapped < most || got < most {
                break;
            }
        }
        if !self.stock.is_empty() {
            // Of memory that the device cannot reach.
            self.stock.received_alike(0, 0, &RxMeta::default());
            self.stock.recycle(cache);
        }
        if self.given != before {
            self.doorbell.ring(self.ring.place(self.given));
        }
    }

    /// Takes the buffers of the descriptor at `next`, which is done.
    #[inline(always)]
    fn take_pair(&mut self) -> Option<(Buf<Cpu>, Buf<Device>)> {
        let head = self.heads.complete(self.ring.place(self.next))?;
        let data = self.payloads.complete(self.next)?;
        self.next = self.next.wrapping_add(1);
        Some((head, data))
    }

    /// Copies the descriptors of up to `most` good frames that have both head and payload into `batch`;
    /// returns how many, and their bytes.
    #[inline(always)]
    fn look(&mut self, most: usize) -> (usize, usize) {
        let SplitShape { head_buffer, data_buffer, .. } = self.shape;
        let most = most.min(self.given.wrapping_sub(self.next)).min(BATCH);
        let run = self.ring.run(self.next, most);
        let (mut ready, mut bytes) = (0, 0);
        for (from, place) in run.iter().zip(&mut self.batch) {
            let split = F::take(from, head_buffer);
            // One compare for 1..=buffer.
            let data_fits = split.data.wrapping_sub(1) < data_buffer;
            if !split.arrived.is_whole() || !data_fits || split.head > head_buffer {
                break;
            }
            *place = split;
            ready += 1;
            bytes += split.head + split.data;
        }
        (ready, bytes)
    }

    /// Takes the first frames of `batch`.
    #[inline(always)]
    fn take_pairs(&mut self, count: usize, burst: &mut SplitBurst) {
        let (place, index, strip) = (self.ring.place(self.next), self.next, self.strip);
        let batch = &self.batch[..count];
        burst.push_pairs(|heads, data| {
            let before = (heads.len(), data.len());
            self.heads.complete_into(place, count, heads);
            self.payloads.complete_into(index, count, data);
            let received = batch.iter().map(move |split| (split.head, split.arrived.meta(strip)));
            heads.received_each(before.0, received);
            let received = batch.iter().map(|split| (split.data, RxMeta::default()));
            data.received_each(before.1, received);
        });
        self.next = self.next.wrapping_add(count);
        self.suspicion.allay();
    }

    /// One frame that came in one descriptor.
    #[inline(always)]
    fn take_frame(&mut self, split: SplitArrived) -> Option<Split> {
        let (mut head, mut data) = self.take_pair()?;
        head.frame_mut().received(split.head, &split.arrived.meta(self.strip));
        data.frame_mut().received(split.data, &RxMeta::default());
        if split.data > 0 {
            return Some(Split { head, data: Some(data) });
        }
        self.payloads.post_again(data);
        Some(Split { head, data: None })
    }

    /// Takes a descriptor that is no good frame by itself; returns a frame that it ends, and its bytes.
    #[cold]
    fn take_odd(&mut self, split: SplitArrived, cache: &mut SplitCache) -> Option<(Split, usize)> {
        let ended = self.take_piece(split, cache);
        let is_kept = matches!(&self.open, Open::Frame(Split { data: Some(_), .. }, _));
        self.reserved = usize::from(is_kept && self.payloads.order() == PostOrder::App);
        ended
    }

    fn take_piece(
        &mut self,
        split: SplitArrived,
        cache: &mut SplitCache,
    ) -> Option<(Split, usize)> {
        let (mut head, mut data) = self.take_pair()?;
        let refused = self.judge(split);
        let (mut head_len, data_len) =
            if refused.is_some() { (0, 0) } else { (split.head, split.data) };
        let is_further = !matches!(self.open, Open::No);
        if is_further && !F::FURTHER_HEADS {
            head_len = 0;
        }
        head.frame_mut().received(head_len, &RxMeta::default());
        data.frame_mut().received(data_len, &RxMeta::default());
        let data = if data_len > 0 {
            Some(data)
        } else {
            self.payloads.post_again(data);
            None
        };
        let arrived = split.arrived;
        let (frame, total, misfit) = match mem::take(&mut self.open) {
            Open::Discarded(why) => {
                self.throw_away(Split { head, data }, cache);
                let why = refused.map_or(why, |Refused(bad, _)| bad);
                self.discard(arrived, why, None);
                return None;
            }
            Open::No => (Split { head, data }, head_len + data_len, None),
            Open::Frame(mut frame, before) => {
                cache.heads.give(head);
                let total = before + head_len + data_len;
                // Bytes of a further head belong between two payload buffers; where the application
                // posts, a payload is one buffer.
                let too_long =
                    head_len > 0 || data.is_some() && self.payloads.order() == PostOrder::App;
                let misfit =
                    too_long.then_some(Refused(Bad::Endless { bytes: total }, DropReason::TooLong));
                match (&mut frame.data, data) {
                    (Some(first), Some(more)) => {
                        if let Err(unused) = first.chain(more) {
                            self.payloads.post_again(unused);
                        }
                    }
                    (first @ None, more) => *first = more,
                    (Some(_), None) => {}
                }
                (frame, total, misfit)
            }
        };
        let endless = (total > self.shape.max_frame)
            .then_some(Refused(Bad::Endless { bytes: total }, DropReason::TooLong));
        if let Some(Refused(bad, reason)) = refused.or(misfit).or(endless) {
            self.throw_away(frame, cache);
            self.discard(arrived, bad, Some(reason));
            return None;
        }
        if !arrived.is_last() {
            self.open = Open::Frame(frame, total);
            return None;
        }
        let mut frame = frame;
        frame.head.frame_mut().set_rx(&arrived.meta(self.strip));
        self.suspicion.allay();
        Some((frame, total))
    }

    /// What is wrong with a descriptor by itself.
    fn judge(&self, split: SplitArrived) -> Option<Refused> {
        let SplitShape { head_buffer, data_buffer, .. } = self.shape;
        let malformed = |bad| Some(Refused(bad, DropReason::Malformed));
        if split.head > head_buffer {
            return malformed(Bad::Length { len: split.head, buffer: head_buffer });
        }
        let may_be_empty = split.arrived.is_last() && matches!(self.open, Open::Frame(..));
        let is_empty = split.head + split.data == 0;
        if split.data > data_buffer || is_empty && !may_be_empty {
            return malformed(Bad::Length { len: split.data, buffer: data_buffer });
        }
        let status = split.arrived.status();
        if split.arrived.is_spoilt() { malformed(Bad::Spoilt { status }) } else { None }
    }

    /// Frees a frame that is thrown away; its payload buffers go back to who posted them.
    fn throw_away(&mut self, frame: Split, cache: &mut SplitCache) {
        cache.heads.give(frame.head);
        let mut rest = frame.data;
        while let Some(mut data) = rest {
            rest = data.unchain();
            match self.payloads.order() {
                PostOrder::App => self.payloads.post_again(data),
                PostOrder::Cache => cache.data.give(data),
            }
        }
    }

    /// Of a queue that was stopped alone, and has yielded what it had: the rest of an open frame never
    /// comes.
    #[cold]
    fn end_open(&mut self, cache: &mut SplitCache) {
        if let Open::Frame(frame, _) = mem::take(&mut self.open) {
            self.throw_away(frame, cache);
            self.report.counters.dropped(DropReason::Device, 1);
        }
    }

    /// Notes a bad descriptor; counts its frame unless an earlier piece did.
    fn discard(&mut self, arrived: Arrived, bad: Bad, count: Option<DropReason>) {
        if let Some(reason) = count {
            self.report.counters.dropped(reason, 1);
        }
        if !arrived.is_last() {
            self.open = Open::Discarded(bad);
        }
        self.suspicion.note(bad, self.report.index, &self.report.gate);
    }

    /// Whether a descriptor is a good frame by itself.
    #[inline(always)]
    fn is_plain(&self, split: SplitArrived) -> bool {
        let SplitShape { head_buffer, data_buffer, .. } = self.shape;
        split.arrived.is_whole()
            && split.head <= head_buffer
            && split.data <= data_buffer
            && split.head + split.data > 0
            && matches!(self.open, Open::No)
    }
}

impl<F: SplitFormat, M: Mmio, D: DmaMapper> SplitRxQueue for SplitRx<F, M, D> {
    fn recv(&mut self, cache: &mut SplitCache, burst: &mut SplitBurst) -> usize {
        let (mut delivered, mut bytes) = (0, 0);
        while burst.room() > 0 && self.next != self.given && self.report.gate.is_sound() {
            if matches!(self.open, Open::No) {
                let (ready, sum) = self.look(burst.room());
                if ready > 0 {
                    self.take_pairs(ready, burst);
                    (delivered, bytes) = (delivered + ready, bytes + sum);
                    continue;
                }
            }
            let split = F::take(self.ring.at(self.next), self.shape.head_buffer);
            if !split.arrived.is_done() {
                break;
            }
            if self.is_plain(split) {
                let Some(frame) = self.take_frame(split) else { break };
                burst.push(frame);
                bytes += split.head + split.data;
                delivered += 1;
                self.suspicion.allay();
            } else if let Some((frame, len)) = self.take_odd(split, cache) {
                burst.push(frame);
                bytes += len;
                delivered += 1;
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

    fn post(&mut self, data: &mut Burst<Device>) -> usize {
        if self.payloads.order() == PostOrder::Cache || !self.report.gate.is_live() {
            return 0;
        }
        let room = self.unposted();
        self.payloads.post(data, room)
    }

    fn meet_areas(&mut self) -> Result<(), MapError> {
        self.payloads.meet_areas()
    }

    fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        self.wake.as_mut().map(Wake::arm)
    }

    fn counters(&self) -> &QueueCounters {
        &self.report.counters
    }
}
