//! The receiving queue: one burst of DPDK's, each mbuf turned into the slot that it stands for. Frames that
//! came by reference from another pool's mirror (a ring between two ports) are copied.
#![allow(unsafe_code, reason = "reads mbufs that DPDK handed over, and adopts their slots")]

use std::{mem::MaybeUninit, ptr::null_mut, slice, sync::Arc};

use dpdk_sys::{self as sys, mbuf};
use mempool::{Buf, Burst, Cache, Cpu, RxMeta, Tally};

use super::{
    lane::Lane,
    layout::{Layout, Mbuf},
    mirror::Mirror,
    offload,
    port::Port,
};
use crate::{DropReason, QueueCounters, RxQueue, copy::copy_frame};

pub(super) struct Rx {
    /// The port is closed when its last queue is gone.
    port: Arc<Port>,
    mirror: Arc<Mirror>,
    lane: Lane,
    away: Tally<Cpu>,
    queue: u16,
    headroom: u16,
    mbufs: Box<[Mbuf]>,
    /// For the segments of a frame.
    segments: Burst<Cpu>,
    counters: QueueCounters,
}

// SAFETY: pointers to mbufs are there during `recv` only, or are stale and not used.
unsafe impl Send for Rx {}

impl Rx {
    pub(super) fn new(port: Arc<Port>, mirror: Arc<Mirror>, queue: u16) -> Self {
        let headroom = u16::try_from(mirror.pool().headroom()).unwrap_or(u16::MAX);
        let most = Burst::<Cpu>::CAPACITY;
        let segments = Burst::with_limit(mirror.pool(), most);
        let mbufs = vec![null_mut(); most].into_boxed_slice();
        let (lane, away) = (Lane::new(&mirror), mirror.stock().away().tally());
        Self {
            port,
            mirror,
            lane,
            away,
            queue,
            headroom,
            mbufs,
            segments,
            counters: QueueCounters::default(),
        }
    }

    /// Turns the first `count` mbufs into frames; returns frames and bytes.
    #[inline]
    fn deliver(
        &mut self,
        count: usize,
        cache: &mut Cache<Cpu>,
        burst: &mut Burst<Cpu>,
    ) -> (usize, usize) {
        let before = burst.len();
        let (mut bytes, mut done) = (0, 0);
        while done < count {
            bytes += self.deliver_run(done, count, burst, &mut done);
            if done < count {
                bytes += self.deliver_odd(self.mbufs[done], cache, burst);
                done += 1;
            }
        }
        (burst.len() - before, bytes)
    }

    /// Delivers plain mbufs of one area from the `from`-th on until one is not; returns their bytes.
    #[inline(always)]
    fn deliver_run(
        &mut self,
        from: usize,
        to: usize,
        burst: &mut Burst<Cpu>,
        done: &mut usize,
    ) -> usize {
        let (mbufs, at) = (&self.mbufs[from..to], burst.len());
        let layout = self.mirror.stock().layout();
        let Run { count, bytes, flags } = take_run(layout, mbufs, self.headroom, burst);
        self.away.took(count);
        *done = from + count;
        if !offload::is_silent(flags) {
            let mut mbufs = mbufs.iter();
            burst.for_each_mut(at, |mut frame| {
                if let Some(mbuf) = mbufs.next() {
                    frame.set_rx(&told(*mbuf));
                }
            });
        }
        bytes
    }

    /// Delivers a frame that is of several segments, lies elsewhere in its slot, is not our mirror's, or not
    /// ours alone.
    #[cold]
    fn deliver_odd(
        &mut self,
        first: Mbuf,
        cache: &mut Cache<Cpu>,
        burst: &mut Burst<Cpu>,
    ) -> usize {
        let (rx, len) = (told(first), packet_len(first));
        let layout = self.mirror.stock().layout();
        // What others refer to as well (a driver that sends to several ports) stays DPDK's.
        let is_ours = chain(first).all(|mbuf| layout.slot(mbuf).is_some() && references(mbuf) == 1);
        let frame = if is_ours {
            self.by_reference(first, &rx)
        } else {
            self.by_copy(first, len, &rx, cache)
        };
        match frame {
            Ok(frame) => {
                burst.push(frame);
                len
            }
            Err(reason) => {
                self.counters.dropped(reason, 1);
                0
            }
        }
    }

    fn by_reference(&mut self, first: Mbuf, rx: &RxMeta) -> Result<Buf<Cpu>, DropReason> {
        let (mut head, mut next): (Option<Buf<Cpu>>, _) = (None, first);
        while !next.is_null() {
            let mbuf = next;
            next = unlink(mbuf);
            let Some(mut segment) = self.adopt(mbuf) else { continue };
            place(&mut segment, mbuf, rx);
            let Some(head) = &mut head else {
                head = Some(segment);
                continue;
            };
            head.chain(segment).map_err(|_| DropReason::TooLong)?;
        }
        head.ok_or(DropReason::Malformed)
    }

    /// The handle of an mbuf's slot.
    fn adopt(&mut self, mbuf: Mbuf) -> Option<Buf<Cpu>> {
        let slot = self.mirror.stock().layout().take_back(mbuf)?;
        self.away.took(1);
        // SAFETY: `take_back` yields a surrendered slot of the mirror's pool, once.
        unsafe {
            self.segments.adopt(false, |free| {
                free[0] = slot;
                1
            })
        };
        self.segments.pop()
    }

    fn by_copy(
        &mut self,
        first: Mbuf,
        len: usize,
        rx: &RxMeta,
        cache: &mut Cache<Cpu>,
    ) -> Result<Buf<Cpu>, DropReason> {
        let frame = copy_frame(cache, len, chain(first).map(bytes), rx);
        free(&[first]);
        frame
    }
}

impl RxQueue for Rx {
    fn recv(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        assert!(burst.pool().is_same(self.mirror.pool()), "the burst is not of the queue's pool");
        let room = burst.room().min(self.mbufs.len());
        #[expect(clippy::cast_possible_truncation, reason = "at most a burst's capacity, 512")]
        let most = room as u16;
        let (port, queue, mbufs) = (self.port.id(), self.queue, self.mbufs.as_mut_ptr());
        // SAFETY: the port is started with this queue, and lives as long as `port`; the queue is ours alone;
        // there is room for `most`.
        let count = self.lane.during(cache, || unsafe { sys::rx_burst(port, queue, mbufs, most) });
        if count == 0 {
            return 0;
        }
        let (frames, bytes) = self.deliver(usize::from(count.min(most)), cache, burst);
        self.counters.delivered(frames, bytes);
        frames
    }

    fn counters(&self) -> &QueueCounters {
        &self.counters
    }
}

/// What came of a run of plain mbufs.
struct Run {
    count: usize,
    bytes: usize,
    /// Of all of them together.
    flags: u64,
}

/// Makes frames of mbufs until one is not plain (one segment that starts where a fresh buffer does, and has one
/// owner), or not of the first one's area.
///
/// By itself, so that all it needs stays in registers.
#[inline(never)]
fn take_run(layout: &Layout, mbufs: &[Mbuf], headroom: u16, burst: &mut Burst<Cpu>) -> Run {
    let part = layout.part_of(mbufs[0]);
    let (mut flags, mut bytes) = (0, 0);
    let number = |mbufs: &[Mbuf], places: &mut [MaybeUninit<u32>]| {
        part.slots(mbufs, places, |place, slot| {
            place.write(slot);
        })
    };
    let take = |mbuf: &Mbuf, slot| {
        // SAFETY: `number` knew the slot.
        let is_taken = is_plain(*mbuf, headroom) && unsafe { part.take_back(slot) };
        is_taken.then(|| {
            let len = data_len(*mbuf);
            flags |= ol_flags(*mbuf);
            bytes += len;
            len
        })
    };
    // SAFETY: `take_back` says yes to surrendered slots of the mirror's pool, each once.
    let count = unsafe { burst.adopt_received(mbufs, &RxMeta::default(), number, take) };
    Run { count, bytes, flags }
}

/// The mbuf and those behind it.
pub(super) fn chain(first: Mbuf) -> impl Iterator<Item = Mbuf> {
    // SAFETY: mbufs that DPDK handed over, linked; nobody else touches them.
    let next =
        |mbuf: &Mbuf| Some(unsafe { mbuf::next(*mbuf).read() }).filter(|next| !next.is_null());
    std::iter::successors(Some(first), next)
}

/// Bytes of one segment.
pub(super) fn bytes<'a>(at: Mbuf) -> &'a [u8] {
    // SAFETY: an mbuf that DPDK handed over.
    let base = unsafe { mbuf::buf_addr(at).read() };
    // SAFETY: as above.
    let offset = unsafe { mbuf::data_off(at).read() };
    let start = base.cast::<u8>().wrapping_add(usize::from(offset));
    // SAFETY: a received segment: `data_len` bytes from `data_off` on were written; nobody writes them while
    // the caller holds the mbuf.
    unsafe { slice::from_raw_parts(start, data_len(at)) }
}

/// Gives mbufs, with all their segments, back to DPDK.
pub(super) fn free(mbufs: &[Mbuf]) {
    let count = u32::try_from(mbufs.len()).unwrap_or(u32::MAX);
    // SAFETY: mbufs that the caller owns, and gives up. DPDK reads the pointers.
    unsafe { sys::rte_pktmbuf_free_bulk(mbufs.as_ptr().cast_mut(), count) };
}

/// Whether a frame is one segment that starts where a fresh buffer does, and nobody else refers to it.
#[inline(always)]
fn is_plain(at: Mbuf, headroom: u16) -> bool {
    // SAFETY: an mbuf that DPDK handed over.
    let counts = unsafe { mbuf::counts(at).read() };
    // SAFETY: as above.
    let offset = unsafe { mbuf::data_off(at).read() };
    counts == [1, 1] && offset == headroom
}

fn references(at: Mbuf) -> u16 {
    // SAFETY: an mbuf that DPDK handed over; who else refers to it changes the count in DPDK's own way, and
    // a count of more than one is left to DPDK.
    unsafe { mbuf::refcnt(at).read() }
}

#[inline(always)]
pub(super) fn data_len(at: Mbuf) -> usize {
    // SAFETY: an mbuf that DPDK handed over.
    usize::from(unsafe { mbuf::data_len(at).read() })
}

pub(super) fn packet_len(at: Mbuf) -> usize {
    chain(at).map(data_len).sum()
}

#[inline(always)]
pub(super) fn ol_flags(at: Mbuf) -> u64 {
    // SAFETY: an mbuf that DPDK handed over.
    unsafe { mbuf::ol_flags(at).read() }
}

/// What DPDK found out about the frame.
#[inline(always)]
pub(super) fn told(at: Mbuf) -> RxMeta {
    let flags = ol_flags(at);
    // SAFETY: an mbuf that DPDK handed over.
    let vlan = unsafe { mbuf::vlan_tci(at).read() };
    // SAFETY: as above.
    let hash = unsafe { mbuf::hash_rss(at).read() };
    offload::of_flags(flags, vlan, hash)
}

/// Makes an mbuf a single one, as those at rest are; returns what was behind it.
pub(super) fn unlink(at: Mbuf) -> Mbuf {
    // SAFETY: an mbuf that DPDK handed over, which nobody else touches.
    let next = unsafe { mbuf::next(at).replace(null_mut()) };
    // SAFETY: as above.
    unsafe { mbuf::nb_segs(at).write(1) };
    next
}

/// States a segment where it lies in its slot.
pub(super) fn place(segment: &mut Buf<Cpu>, at: Mbuf, rx: &RxMeta) {
    // SAFETY: an mbuf that DPDK handed over.
    let offset = unsafe { mbuf::data_off(at).read() };
    let len = data_len(at);
    let mut frame = segment.frame_mut();
    frame.received(0, rx);
    frame.reset(usize::from(offset));
    frame.set_len(len);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mbuf_is_plain_if_it_is_one_segment_at_the_headroom_that_nobody_else_refers_to() {
        // As large and aligned as an mbuf, all zeroes.
        let mut memory = Box::new(MaybeUninit::<sys::rte_mbuf>::zeroed());
        let at: Mbuf = memory.as_mut_ptr();
        let is_plain_with = |offset, references, segments| {
            // SAFETY: the memory above.
            unsafe { mbuf::data_off(at).write(offset) };
            // SAFETY: as above.
            unsafe { mbuf::refcnt(at).write(references) };
            // SAFETY: as above.
            unsafe { mbuf::nb_segs(at).write(segments) };
            is_plain(at, 128)
        };
        assert!(is_plain_with(128, 1, 1));
        assert!(!is_plain_with(126, 1, 1), "lies elsewhere");
        assert!(!is_plain_with(128, 2, 1), "another's too");
        assert!(!is_plain_with(128, 1, 2), "a chain");
    }
}
