//! Queues for drivers that cannot use memory that is not DPDK's: frames are copied between DPDK's buffers
//! and ours.
#![allow(unsafe_code, reason = "fills mbufs of DPDK's own")]

use std::{ptr::null_mut, sync::Arc};

use dpdk_sys::{self as sys, mbuf};
use mempool::{Burst, Cache, Cpu, Frame, Readable, Shared};

use super::{
    layout::Mbuf,
    port::Port,
    rx,
    setup::QueueMemory,
    tx::{Abilities, SHORTEST},
};
use crate::{
    DropReason, QueueCounters, RxQueue, TxQueue,
    copy::{copy_frame, give_back},
};

/// Frames at a time.
const BURST: usize = 32;

pub(super) struct CopyRx {
    port: Arc<Port>,
    queue: u16,
    counters: QueueCounters,
}

impl CopyRx {
    pub(super) fn new(port: Arc<Port>, queue: u16) -> Self {
        Self { port, queue, counters: QueueCounters::default() }
    }
}

impl RxQueue for CopyRx {
    fn recv(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        let (mut frames, mut bytes) = (0, 0);
        let mut mbufs: [Mbuf; BURST] = [null_mut(); BURST];
        while burst.room() > 0 {
            let room = burst.room().min(BURST);
            let most = u16::try_from(room).unwrap_or(0);
            // SAFETY: the port is started with this queue, and lives as long as `port`; the queue is ours
            // alone; there is room for `most`.
            let count =
                unsafe { sys::rx_burst(self.port.id(), self.queue, mbufs.as_mut_ptr(), most) };
            let count = usize::from(count.min(most));
            for &mbuf in &mbufs[..count] {
                let (len, parts) = (rx::packet_len(mbuf), rx::chain(mbuf).map(rx::bytes));
                match copy_frame(cache, len, parts, &rx::told(mbuf)) {
                    Ok(frame) => {
                        burst.push(frame);
                        (frames, bytes) = (frames + 1, bytes + len);
                    }
                    Err(reason) => self.counters.dropped(reason, 1),
                }
            }
            rx::free(&mbufs[..count]);
            if count < room {
                break;
            }
        }
        self.counters.delivered(frames, bytes);
        frames
    }

    fn counters(&self) -> &QueueCounters {
        &self.counters
    }
}

pub(super) struct CopyTx {
    port: Arc<Port>,
    memory: QueueMemory,
    queue: u16,
    longest: usize,
    counters: QueueCounters,
}

// SAFETY: DPDK's mempools may be used by any thread.
unsafe impl Send for CopyTx {}

impl CopyTx {
    /// Frames fit one of DPDK's buffers, or are too long; what they ask for is not done.
    pub(super) fn new(
        port: Arc<Port>,
        memory: QueueMemory,
        queue: u16,
        abilities: Abilities,
    ) -> Self {
        let counters = QueueCounters::default();
        Self { port, memory, queue, longest: abilities.longest, counters }
    }

    fn send_all<A: Readable>(
        &mut self,
        burst: &mut Burst<A>,
        mut done: impl FnMut(&mut Burst<A>, usize),
    ) -> usize {
        let before = burst.len();
        while !burst.is_empty() {
            let (mut mbufs, want): ([Mbuf; BURST], _) =
                ([null_mut(); BURST], burst.len().min(BURST));
            let mut filled = 0;
            for frame in burst.iter().take(want) {
                if self.objection(frame).is_some() {
                    break;
                }
                let Some(mbuf) = self.copied(frame) else { break };
                mbufs[filled] = mbuf;
                filled += 1;
            }
            if filled == 0 {
                let Some(reason) = self.objection(burst.frame(0)) else { break };
                self.counters.dropped(reason, 1);
                done(burst, 1);
                continue;
            }
            let count = u16::try_from(filled).unwrap_or(0);
            // SAFETY: the port is started with this queue, and lives as long as `port`; the queue is ours
            // alone; the mbufs were allocated here.
            let sent =
                unsafe { sys::tx_burst(self.port.id(), self.queue, mbufs.as_mut_ptr(), count) };
            let sent = usize::from(sent.min(count));
            rx::free(&mbufs[sent..filled]);
            let bytes = burst.iter().take(sent).map(Frame::frame_len).sum();
            self.counters.delivered(sent, bytes);
            done(burst, sent);
            if sent < filled {
                break;
            }
        }
        before - burst.len()
    }

    /// Why a frame cannot be sent.
    fn objection<A: Readable>(&self, frame: Frame<'_, A>) -> Option<DropReason> {
        match frame.frame_len() {
            ..SHORTEST => Some(DropReason::Malformed),
            len if len > self.longest => Some(DropReason::TooLong),
            _ if frame.meta().asks() => Some(DropReason::SendError),
            _ => None,
        }
    }

    /// A frame in one of DPDK's buffers; none if it has none left.
    fn copied<A: Readable>(&self, frame: Frame<'_, A>) -> Option<Mbuf> {
        let mut at: Mbuf = null_mut();
        // SAFETY: a mempool of mbufs, and a place for one.
        let failed = unsafe { sys::memwire_mbuf_alloc(self.memory.mempool, &raw mut at, 1) };
        if failed != 0 {
            return None;
        }
        // SAFETY: a fresh mbuf, which is ours; so for those below.
        let base = unsafe { mbuf::buf_addr(at).read() };
        // SAFETY: as above.
        let offset = unsafe { mbuf::data_off(at).read() };
        let mut to = base.cast::<u8>().wrapping_add(usize::from(offset));
        let mut len: u16 = 0;
        for segment in frame.segments() {
            let bytes = segment.bytes();
            // SAFETY: the buffer has room for `longest` bytes (`Port::own_pool`), and all segments together
            // have no more.
            unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            to = to.wrapping_add(bytes.len());
            len = len.saturating_add(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
        }
        // SAFETY: as above.
        unsafe { mbuf::data_len(at).write(len) };
        // SAFETY: as above.
        unsafe { mbuf::pkt_len(at).write(u32::from(len)) };
        Some(at)
    }
}

impl TxQueue for CopyTx {
    fn send(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        self.send_all(burst, |burst, frames| give_back(burst, cache, frames))
    }

    fn send_shared(&mut self, _cache: &mut Cache<Cpu>, burst: &mut Burst<Shared>) -> usize {
        self.send_all(burst, |burst, frames| burst.drain_front(frames).for_each(drop))
    }

    fn reap(&mut self, _cache: &mut Cache<Cpu>) -> usize {
        self.port.done_cleanup(self.queue);
        0
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn counters(&self) -> &QueueCounters {
        &self.counters
    }
}
