//! The receiving queue of a driver that splits frames (buffer split): the head into host memory, the payload
//! into a buffer of any memory. Each mbuf becomes the slot that it stands for; nothing is copied, and no payload
//! is looked at.
//!
//! Drivers take payload buffers in the order of their posting, when they are started and whenever one is filled.
//! One that a frame leaves empty is posted again, behind those posted by then.
#![allow(unsafe_code, reason = "reads mbufs that DPDK handed over, and adopts their slots")]

use std::{mem::MaybeUninit, ptr::null_mut, sync::Arc};

use dpdk_sys::{self as sys, mbuf};
use mempool::{Buf, Burst, Cache, Cpu, Device, RxMeta, Split, SplitBurst, SplitCache, Tally};

use super::{
    lane::Lane,
    layout::Mbuf,
    mirror::Mirror,
    offload,
    payloads::{Payloads, adopt_one},
    port::Port,
    rx::{chain, data_len, free, ol_flags, packet_len, place, told, unlink},
};
use crate::{DropReason, MapError, PostOrder, QueueCounters, SplitRxQueue};

pub(super) struct SplitRx {
    /// The port is closed when its last queue is gone.
    port: Arc<Port>,
    heads: Arc<Mirror>,
    payloads: Arc<Payloads>,
    lane: Lane,
    heads_away: Tally<Cpu>,
    data_away: Tally<Device>,
    queue: u16,
    order: PostOrder,
    /// Whether it has been posted enough for the port to start.
    is_ready: bool,
    /// Buffers that are posted and not filled.
    posted: usize,
    /// Bytes in front of heads and of payloads.
    offsets: [u16; 2],
    mbufs: Box<[Mbuf]>,
    /// Of pairs, while they are looked at.
    seconds: Box<[Mbuf]>,
    pairs: Box<[Pair]>,
    /// For segments that come one by one, and buffers on their way; empty between calls.
    head: Burst<Cpu>,
    data: Burst<Device>,
    counters: QueueCounters,
}

// SAFETY: pointers to mbufs are there during `recv` only, or are stale and not used.
unsafe impl Send for SplitRx {}

/// A frame of a head and one payload: slots, and bytes.
#[derive(Clone, Copy, Default)]
struct Pair {
    head: (u32, usize),
    data: (u32, usize),
}

/// What came of a run of pairs.
#[derive(Default)]
struct Run {
    count: usize,
    bytes: usize,
    /// Of all heads together.
    flags: u64,
}

impl SplitRx {
    pub(super) fn new(
        port: Arc<Port>,
        heads: Arc<Mirror>,
        payloads: Arc<Payloads>,
        queue: u16,
        order: PostOrder,
    ) -> Self {
        let most = Burst::<Cpu>::CAPACITY;
        let headroom = |bytes| u16::try_from(bytes).unwrap_or(u16::MAX);
        let offsets = [heads.pool().headroom(), payloads.pool().headroom()].map(headroom);
        Self {
            port,
            queue,
            order,
            is_ready: false,
            posted: payloads.count(),
            offsets,
            lane: Lane::new(&heads),
            heads_away: heads.stock().away().tally(),
            data_away: payloads.tally(),
            mbufs: vec![null_mut(); most].into(),
            seconds: vec![null_mut(); most].into(),
            pairs: vec![Pair::default(); most].into(),
            head: Burst::with_limit(heads.pool(), most),
            data: Burst::with_limit(payloads.pool(), most),
            counters: QueueCounters::default(),
            heads,
            payloads,
        }
    }

    /// Posts buffers of the worker's once enough are missing, if the queue is the one to post.
    #[inline(always)]
    fn refill(&mut self, cache: &mut Cache<Device>) {
        let missing = self.payloads.limit() - self.posted;
        if self.order == PostOrder::Cache && missing >= self.payloads.limit() / 4 {
            self.refill_now(cache, missing);
        }
    }

    #[inline(never)]
    fn refill_now(&mut self, cache: &mut Cache<Device>, mut missing: usize) {
        while missing > 0 && cache.take_bare(&mut self.data, missing) > 0 {
            let posted = self.payloads.post(&mut self.data, missing, &mut self.data_away);
            self.posted += posted;
            missing -= posted;
            if !self.data.is_empty() {
                // Of an area that came after the port was started.
                self.data.received_alike(0, 0, &RxMeta::default());
                self.data.recycle(cache);
                break;
            }
        }
    }

    /// What a port waits for that is started late.
    #[cold]
    fn is_startable(&mut self) -> bool {
        if !self.is_ready && self.posted >= self.payloads.limit() / 2 {
            self.is_ready = true;
            self.port.posted();
        }
        self.port.is_started()
    }

    /// Turns the first `count` mbufs into frames; returns frames and bytes.
    fn deliver(&mut self, count: usize, burst: &mut SplitBurst) -> (usize, usize) {
        let before = burst.len();
        let (mut bytes, mut done) = (0, 0);
        while done < count {
            let run = self.take_pairs(done, count);
            if run.count > 0 {
                self.push_pairs(&run, done, burst);
                bytes += run.bytes;
                done += run.count;
            } else {
                bytes += self.deliver_odd(self.mbufs[done], burst);
                done += 1;
            }
        }
        (burst.len() - before, bytes)
    }

    /// Takes the slots of plain pairs from the `from`-th mbuf on until one is not.
    #[inline(never)]
    fn take_pairs(&mut self, from: usize, to: usize) -> Run {
        let Self { mbufs, seconds, pairs, offsets, heads, payloads, .. } = self;
        let firsts = &mbufs[from..to];
        let seconds_of = firsts.iter().zip(&mut *seconds).map_while(|(first, place)| {
            *place = is_pair(*first, *offsets)?;
            Some(())
        });
        let count = seconds_of.count();
        let (heads, data) = (heads.stock().layout(), payloads.layout());
        let part = [heads.part_of(firsts[0]), data.part_of(seconds[0])];
        let count = part[0].slots(&firsts[..count], pairs, |pair, slot| pair.head.0 = slot);
        let count = part[1].slots(&seconds[..count], pairs, |pair, slot| pair.data.0 = slot);
        let mut run = Run::default();
        for ((first, second), pair) in firsts[..count].iter().zip(&*seconds).zip(pairs) {
            // SAFETY: `slots` said that it knows it.
            if !unsafe { part[1].take_back(pair.data.0) } {
                break;
            }
            // SAFETY: as above.
            if !unsafe { part[0].take_back(pair.head.0) } {
                // The frame is looked at by itself.
                // SAFETY: as above.
                unsafe { part[1].lend(pair.data.0) };
                break;
            }
            run.flags |= ol_flags(*first);
            unlink(*first);
            (pair.head.1, pair.data.1) = (data_len(*first), data_len(*second));
            run.bytes += pair.head.1 + pair.data.1;
            run.count += 1;
        }
        run
    }

    /// Appends the pairs of a run that began at the `from`-th mbuf.
    #[inline(always)]
    fn push_pairs(&mut self, run: &Run, from: usize, burst: &mut SplitBurst) {
        let (pairs, count) = (&self.pairs[..run.count], run.count);
        let Self { heads: mirror, payloads, mbufs, .. } = self;
        burst.push_pairs(|heads, data| {
            let is_ours =
                heads.pool().is_same(mirror.pool()) && data.pool().is_same(payloads.pool());
            assert!(is_ours, "the burst is not of the queue's pools");
            let (at, plain) = (heads.len(), RxMeta::default());
            let number = |slot: fn(&Pair) -> u32| {
                move |pairs: &[Pair], places: &mut [MaybeUninit<u32>]| {
                    for (pair, place) in pairs.iter().zip(places) {
                        place.write(slot(pair));
                    }
                    pairs.len()
                }
            };
            let (head, payload) = (number(|pair| pair.head.0), number(|pair| pair.data.0));
            // SAFETY: `take_pairs` took surrendered slots of this pool, each once.
            unsafe { heads.adopt_received(pairs, &plain, head, |pair, _| Some(pair.head.1)) };
            // SAFETY: as above.
            unsafe { data.adopt_received(pairs, &plain, payload, |pair, _| Some(pair.data.1)) };
            if !offload::is_silent(run.flags) {
                let mut mbufs = mbufs[from..].iter();
                heads.for_each_mut(at, |mut frame| {
                    if let Some(mbuf) = mbufs.next() {
                        frame.set_rx(&told(*mbuf));
                    }
                });
            }
        });
        self.heads_away.took(count);
        self.data_away.took(count);
        self.posted -= count;
    }

    /// Delivers a frame that is no plain pair: without payload, of several payload buffers, or none of ours.
    #[cold]
    fn deliver_odd(&mut self, first: Mbuf, burst: &mut SplitBurst) -> usize {
        let (rx, len) = (told(first), packet_len(first));
        let payloads = || chain(first).skip(1);
        let is_ours = self.heads.stock().layout().slot(first).is_some()
            && payloads().all(|mbuf| self.payloads.layout().slot(mbuf).is_some());
        let filled = payloads().filter(|mbuf| data_len(*mbuf) > 0).count();
        let refused = if !is_ours || len == 0 {
            Some(DropReason::Malformed)
        } else if filled > 1 && self.order == PostOrder::App {
            // Where the application posts, a payload is one buffer.
            Some(DropReason::TooLong)
        } else {
            None
        };
        if let Some(reason) = refused {
            // To their mempools: payload buffers are posted again.
            free(&[first]);
            self.counters.dropped(reason, 1);
            return 0;
        }
        let mut next = unlink(first);
        let mut data: Option<Buf<Device>> = None;
        while !next.is_null() {
            let mbuf = next;
            next = unlink(mbuf);
            if data_len(mbuf) == 0 {
                free(&[mbuf]);
                continue;
            }
            let Some(mut segment) = self.adopt_data(mbuf) else { continue };
            place_data(&mut segment, mbuf);
            match &mut data {
                None => data = Some(segment),
                Some(data) => {
                    if data.chain(segment).is_err() {
                        self.counters.dropped(DropReason::TooLong, 1);
                    }
                }
            }
        }
        let Some(mut head) = self.adopt_head(first) else {
            self.counters.dropped(DropReason::Malformed, 1);
            return 0;
        };
        place(&mut head, first, &rx);
        burst.push(Split { head, data });
        len
    }

    fn adopt_head(&mut self, mbuf: Mbuf) -> Option<Buf<Cpu>> {
        let slot = self.heads.stock().layout().take_back(mbuf)?;
        self.heads_away.took(1);
        // SAFETY: `take_back` yields a surrendered slot of the heads' pool, once.
        unsafe { adopt_one(&mut self.head, slot) }
    }

    fn adopt_data(&mut self, mbuf: Mbuf) -> Option<Buf<Device>> {
        let slot = self.payloads.layout().take_back(mbuf)?;
        self.data_away.took(1);
        self.posted -= 1;
        // SAFETY: `take_back` yields a surrendered slot of the payloads' pool, once.
        unsafe { adopt_one(&mut self.data, slot) }
    }
}

impl SplitRxQueue for SplitRx {
    fn recv(&mut self, cache: &mut SplitCache, burst: &mut SplitBurst) -> usize {
        self.refill(&mut cache.data);
        if !self.port.is_started() && !self.is_startable() {
            return 0;
        }
        let room = burst.room().min(self.mbufs.len());
        #[expect(clippy::cast_possible_truncation, reason = "at most a burst's capacity, 512")]
        let most = room as u16;
        let (port, queue, mbufs) = (self.port.id(), self.queue, self.mbufs.as_mut_ptr());
        // SAFETY: the port is started with this queue, and lives as long as `port`; the queue is ours alone;
        // there is room for `most`.
        let count = self
            .lane
            .during(&mut cache.heads, || unsafe { sys::rx_burst(port, queue, mbufs, most) });
        if count == 0 {
            return 0;
        }
        let (frames, bytes) = self.deliver(usize::from(count.min(most)), burst);
        self.counters.delivered(frames, bytes);
        frames
    }

    fn post(&mut self, data: &mut Burst<Device>) -> usize {
        if self.order == PostOrder::Cache {
            return 0;
        }
        let room = self.payloads.limit() - self.posted;
        let posted = self.payloads.post(data, room, &mut self.data_away);
        self.posted += posted;
        posted
    }

    fn meet_areas(&mut self) -> Result<(), MapError> {
        if self.payloads.knows_all_areas() {
            return Ok(());
        }
        Err(MapError::Unsupported {
            backing: "an area that came while the port runs",
            mapper: "DPDK",
            why: "its buffers get their mbufs when the port is started; stop it and start it again"
                .into(),
        })
    }

    fn counters(&self) -> &QueueCounters {
        &self.counters
    }
}

/// The second mbuf of a frame of two, where both start where a fresh buffer does and the second is not empty.
#[inline(always)]
fn is_pair(first: Mbuf, [head_offset, data_offset]: [u16; 2]) -> Option<Mbuf> {
    // SAFETY: an mbuf that DPDK handed over.
    let segments = unsafe { mbuf::nb_segs(first).read() };
    // SAFETY: as above.
    let offset = unsafe { mbuf::data_off(first).read() };
    if segments != 2 || offset != head_offset {
        return None;
    }
    // SAFETY: as above.
    let second = unsafe { mbuf::next(first).read() };
    if second.is_null() || data_len(second) == 0 {
        return None;
    }
    // SAFETY: the second of two segments that DPDK handed over.
    let offset = unsafe { mbuf::data_off(second).read() };
    (offset == data_offset).then_some(second)
}

/// States a payload where it lies in its slot.
fn place_data(segment: &mut Buf<Device>, at: Mbuf) {
    // SAFETY: an mbuf that DPDK handed over.
    let offset = unsafe { mbuf::data_off(at).read() };
    let mut frame = segment.frame_mut();
    frame.reset(usize::from(offset));
    frame.set_len(data_len(at));
}
