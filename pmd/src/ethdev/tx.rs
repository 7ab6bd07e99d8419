//! The sending queue: each frame as the mbuf that stands for its slot. What a driver is done with goes back
//! to the mirror's stock, by DPDK's own way of freeing, and from there to the pool or to a receive queue.
#![allow(unsafe_code, reason = "writes mbufs whose slots it owns")]

use std::{ptr::null_mut, sync::Arc};

use dpdk_sys::{self as sys, mbuf};
use mempool::{Buf, Burst, Cache, Cpu, Frame, Offload, Readable, RxMeta, Shared, Tally};

use super::{
    lane::Lane,
    layout::{Layout, Mbuf},
    mirror::Mirror,
    offload,
    port::Port,
};
use crate::{DropReason, QueueCounters, TxQueue, copy::copy_frame};

/// An Ethernet header.
pub(super) const SHORTEST: usize = 14;
const LONGEST: usize = 65535;

/// Drivers that read the buffer of an mbuf they send, free the mbuf, and do nothing else with it. Theirs need
/// not be marked as external buffers, which costs DPDK 25 instructions when it frees one. Others may make
/// indirect mbufs of a frame (segmentation in software does), and take the owner of data that is not external
/// to lie before it.
const SIMPLE: [&str; 7] = [
    "net_null",
    "net_ring",
    "net_pcap",
    "net_af_packet",
    "net_memif",
    "net_e1000_em",
    "net_e1000_igb",
];

/// What a queue can do.
#[derive(Clone, Copy)]
pub(super) struct Abilities {
    /// Longest frame.
    pub(super) longest: usize,
    /// Whether frames may have several segments.
    pub(super) segments: bool,
    /// What frames may ask for.
    pub(super) offloads: Offload,
}

pub(super) struct Tx {
    /// The port is closed when its last queue is gone.
    port: Arc<Port>,
    mirror: Arc<Mirror>,
    lane: Lane,
    away: Tally<Cpu>,
    queue: u16,
    abilities: Abilities,
    /// What every mbuf of one segment is marked with.
    mark: u64,
    mbufs: Box<[Mbuf]>,
    /// Segments of the frame that is being sent, and copies.
    segments: Burst<Cpu>,
    copies: Option<Box<Burst<Cpu>>>,
    /// A frame of several segments that was taken, and found no room: an mbuf, its segments and bytes.
    waiting: Option<(Mbuf, usize, usize)>,
    counters: QueueCounters,
}

// SAFETY: `mbufs` is filled and emptied within one call; `waiting` is this queue's own.
unsafe impl Send for Tx {}

/// What is to become of the frame at the front of a burst.
enum Next {
    /// That many, of so many bytes, are sent as they are.
    Plain(usize, usize),
    Chain,
    Dropped(DropReason),
}

impl Tx {
    pub(super) fn new(
        port: Arc<Port>,
        mirror: Arc<Mirror>,
        queue: u16,
        abilities: Abilities,
    ) -> Self {
        let most = Burst::<Cpu>::CAPACITY;
        let segments = Burst::with_limit(mirror.pool(), most);
        let copies = Some(Box::new(Burst::with_limit(mirror.pool(), 1)));
        let abilities =
            Abilities { longest: abilities.longest.clamp(SHORTEST, LONGEST), ..abilities };
        let is_simple = SIMPLE.contains(&port.driver().as_str());
        let mark = if is_simple { 0 } else { sys::MEMWIRE_F_EXTERNAL };
        let (lane, away) = (Lane::new(&mirror), mirror.stock().away().tally());
        Self {
            port,
            mirror,
            lane,
            away,
            queue,
            abilities,
            mark,
            mbufs: vec![null_mut(); most].into_boxed_slice(),
            segments,
            copies,
            waiting: None,
            counters: QueueCounters::default(),
        }
    }

    /// Sends from the front of a burst of the queue's own pool; returns how many frames are gone from it.
    fn send_own(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        let before = burst.len();
        while !burst.is_empty() && self.send_waiting(cache) {
            match self.look(burst) {
                Next::Plain(count, bytes) => {
                    if self.send_plain(cache, burst, count, bytes) < count {
                        break;
                    }
                }
                Next::Chain => {
                    let Some(frame) = burst.drain_front(1).next() else { break };
                    self.send_chain(cache, frame);
                }
                Next::Dropped(reason) => {
                    burst.recycle_front(cache, 1);
                    self.counters.dropped(reason, 1);
                }
            }
        }
        before - burst.len()
    }

    /// Looks at the front of a burst, and makes mbufs of the plain frames of one area there: they are lent from
    /// here on.
    #[inline(always)]
    fn look(&mut self, burst: &Burst<Cpu>) -> Next {
        let layout = self.mirror.stock().layout();
        let (mbufs, room, mark) = (&mut self.mbufs, self.abilities.longest - SHORTEST, self.mark);
        let (count, bytes) = if burst.has_chains() {
            lend_run::<true>(layout, burst, mbufs, room, mark)
        } else {
            lend_run::<false>(layout, burst, mbufs, room, mark)
        };
        match count {
            0 => self.look_closer(burst.frame(0)),
            count => Next::Plain(count, bytes),
        }
    }

    /// What becomes of a frame that is not plain.
    #[cold]
    fn look_closer(&mut self, frame: Frame<'_, Cpu>) -> Next {
        let (meta, len) = (frame.meta(), frame.frame_len());
        let Abilities { longest, segments, offloads } = self.abilities;
        let layout = self.mirror.stock().layout();
        if len < SHORTEST {
            return Next::Dropped(DropReason::Malformed);
        }
        if len > longest || meta.segments() > 1 && !segments {
            return Next::Dropped(DropReason::TooLong);
        }
        // What the device cannot do, and slots of an area that came after the start.
        let is_known =
            frame.segments().all(|segment| layout.mbuf(segment.slot().index()).is_some());
        if !meta.tx().offload.without(offloads).is_empty() || !is_known {
            return Next::Dropped(DropReason::SendError);
        }
        Next::Chain
    }

    /// Sends the first `count` frames, which are lent; returns how many the driver took.
    #[inline(always)]
    fn send_plain(
        &mut self,
        cache: &mut Cache<Cpu>,
        burst: &mut Burst<Cpu>,
        count: usize,
        mut bytes: usize,
    ) -> usize {
        self.away.gave(count);
        let sent = self.transmit(cache, count);
        if sent < count {
            let stock = self.mirror.stock();
            for frame in burst.iter().take(count).skip(sent) {
                bytes -= frame.len();
                stock.layout().keep(frame.slot().index());
            }
            self.away.took(count - sent);
        }
        // Slots of the frames that were taken are DPDK's since then, or back in the stock already.
        burst.surrender_front(sent, <[u32]>::len);
        self.counters.delivered(sent, bytes);
        sent
    }

    /// Gives the driver the first `count` of `mbufs`.
    #[inline(always)]
    fn transmit(&mut self, cache: &mut Cache<Cpu>, count: usize) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "at most a burst's capacity, 512")]
        let count = count as u16;
        let (port, queue, mbufs) = (self.port.id(), self.queue, self.mbufs.as_mut_ptr());
        // SAFETY: the port is started with this queue, and lives as long as `port`; the queue is ours alone;
        // the mbufs' slots are ours, and given away as far as they are taken.
        let sent = self.lane.during(cache, || unsafe { sys::tx_burst(port, queue, mbufs, count) });
        usize::from(sent.min(count))
    }

    /// Sends a frame of several segments, or one that asks for more than its bytes. If there is no room it
    /// waits here: its segments are single ones by then, since DPDK frees them one by one.
    #[cold]
    fn send_chain(&mut self, cache: &mut Cache<Cpu>, frame: Buf<Cpu>) {
        let is_v6 = frame
            .bytes()
            .get(usize::from(frame.frame().meta().tx().l2_len))
            .is_some_and(|b| b >> 4 == 6);
        let (flags, lengths) = offload::asked(frame.frame().meta(), is_v6);
        let (tag, len) = (frame.frame().meta().tx().vlan, frame.frame().frame_len());
        let (mut first, mut last, mut count): (Mbuf, Mbuf, usize) = (null_mut(), null_mut(), 0);
        let mut next = Some(frame);
        while let Some(mut segment) = next {
            next = segment.unchain();
            let Some(mbuf) = self.mirror.stock().layout().lend(segment.slot().index()) else {
                continue;
            };
            let meta = segment.frame().meta();
            write_plain(mbuf, meta.offset(), meta.len(), sys::MEMWIRE_F_EXTERNAL);
            if first.is_null() {
                first = mbuf;
            } else {
                // SAFETY: an mbuf whose slot is ours.
                unsafe { mbuf::next(last).write(mbuf) };
            }
            (last, count) = (mbuf, count + 1);
            self.segments.push(segment);
            self.away.gave(1);
            self.segments.surrender_front(1, <[u32]>::len);
        }
        write_head(first, (count, len), (flags, lengths, tag));
        self.waiting = Some((first, count, len));
        self.send_waiting(cache);
    }

    /// Sends what waits; false if it still does.
    #[inline(always)]
    fn send_waiting(&mut self, cache: &mut Cache<Cpu>) -> bool {
        self.waiting.is_none() || self.send_waiting_now(cache)
    }

    #[cold]
    fn send_waiting_now(&mut self, cache: &mut Cache<Cpu>) -> bool {
        let Some((mbuf, _, len)) = self.waiting else { return true };
        self.mbufs[0] = mbuf;
        if self.transmit(cache, 1) == 0 {
            return false;
        }
        self.waiting = None;
        self.counters.delivered(1, len);
        true
    }

    /// Sends copies: an mbuf stands for a slot of one pool, with one owner.
    fn send_copies<A: Readable>(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<A>) -> usize {
        let Some(mut copies) = self.copies.take() else { return 0 };
        let before = burst.len();
        while !burst.is_empty() {
            let frame = burst.frame(0);
            let (len, parts) = (frame.frame_len(), frame.segments().map(Frame::bytes));
            let Ok(mut copy) = copy_frame(cache, len, parts, &RxMeta::default()) else { break };
            if frame.meta().asks() {
                copy.frame_mut().ask(&frame.meta().tx());
            }
            copies.push(copy);
            let sent = self.send_own(cache, &mut copies);
            copies.recycle(cache);
            if sent == 0 {
                break;
            }
            burst.drain_front(1).for_each(drop);
        }
        self.copies = Some(copies);
        before - burst.len()
    }
}

impl TxQueue for Tx {
    fn send(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        if burst.pool().is_same(self.mirror.pool()) {
            self.send_own(cache, burst)
        } else {
            self.send_copies(cache, burst)
        }
    }

    fn send_shared(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Shared>) -> usize {
        self.send_copies(cache, burst)
    }

    fn reap(&mut self, cache: &mut Cache<Cpu>) -> usize {
        self.send_waiting(cache);
        let (port, queue) = (&self.port, self.queue);
        self.lane.during(cache, || port.done_cleanup(queue));
        0
    }

    fn in_flight(&self) -> usize {
        usize::from(self.waiting.is_some())
    }

    fn counters(&self) -> &QueueCounters {
        &self.counters
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if let Some((mbuf, ..)) = self.waiting.take() {
            super::rx::free(&[mbuf]);
            self.counters.dropped(DropReason::LinkDown, 1);
        }
    }
}

/// Makes mbufs of frames from the front of a burst on until one is not plain (one segment that asks for nothing,
/// at most `room` longer than the shortest), or not of the first one's area; returns how many, and their bytes.
///
/// By itself, so that all it needs stays in registers. `CHAINS` says whether some may have several segments.
#[inline(never)]
fn lend_run<const CHAINS: bool>(
    layout: &Layout,
    burst: &Burst<Cpu>,
    mbufs: &mut [Mbuf],
    room: usize,
    mark: u64,
) -> (usize, usize) {
    let part = layout.part_with(burst.slots()[0]);
    let known = part.mbufs(burst.slots(), mbufs);
    let mut bytes = 0;
    let count = burst.visit(&mbufs[..known], |mbuf, slot, meta| {
        let len = meta.len();
        if CHAINS && meta.segments() > 1 || meta.asks() || len.wrapping_sub(SHORTEST) > room {
            return false;
        }
        // SAFETY: `mbufs` knew the slot.
        unsafe { part.lend(slot) };
        write_plain(*mbuf, meta.offset(), len, mark);
        bytes += len;
        true
    });
    (count, bytes)
}

/// Makes an mbuf say where a frame of one segment that asks for nothing is. An mbuf
/// at rest has no successor, and one segment.
#[inline(always)]
fn write_plain(at: Mbuf, offset: usize, len: usize, mark: u64) {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "offsets have 16 bits, and `len` was held against them"
    )]
    let (offset, short, len) = (offset as u16, len as u16, len as u32);
    // SAFETY: an mbuf whose slot is ours; so for those below.
    unsafe { mbuf::data_off(at).write(offset) };
    // SAFETY: as above.
    unsafe { mbuf::data_len(at).write(short) };
    // SAFETY: as above.
    unsafe { mbuf::pkt_len(at).write(len) };
    // SAFETY: as above.
    unsafe { mbuf::ol_flags(at).write(mark) };
}

/// Says of the whole frame what its first mbuf has to.
fn write_head(at: Mbuf, (segments, len): (usize, usize), (flags, lengths, tag): (u64, u64, u16)) {
    let segments = u16::try_from(segments).unwrap_or(u16::MAX);
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    // SAFETY: an mbuf whose slot is ours; so for those below.
    unsafe { mbuf::nb_segs(at).write(segments) };
    // SAFETY: as above.
    unsafe { mbuf::pkt_len(at).write(len) };
    // SAFETY: as above.
    unsafe { mbuf::ol_flags(at).write(sys::MEMWIRE_F_EXTERNAL | flags) };
    // SAFETY: as above.
    unsafe { mbuf::tx_offload(at).write(lengths) };
    // SAFETY: as above.
    unsafe { mbuf::vlan_tci(at).write(tag) };
}
