//! A transmit queue: copies frames into the slots of a `PACKET_TX_RING` and has the kernel send
//! them, one system call per burst. A slot that the kernel does not take stays queued and is tried
//! again, so that a busy wire loses nothing; one that it refuses is dropped and counted.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use mempool::{Burst, Cache, Cpu, Frame, Readable, Shared};

use super::{
    abi::{SlotHeader, TxRingRequest},
    counters::{Event, Events},
    interface::Interface,
    mapping::Mapping,
    options::Options,
    sys,
};
use crate::{DropReason, QueueCounters, TxQueue, headers::ethertype};

/// How long a queue that ends waits for the kernel to take what is queued.
const FAREWELL: Duration = Duration::from_millis(50);
const TAG: usize = 4;
const SHORTEST: usize = 14;
/// Frames smaller than this get slots of this size.
const LEAST_SLOT: usize = 2048;

pub(super) struct Tx {
    socket: OwnedFd,
    interface: Interface,
    ring: Mapping,
    slot_size: usize,
    /// Number of slots less one: a mask.
    mask: usize,
    /// Indices run free. `tail..sent` the kernel has taken; `sent..head` it is to take.
    head: usize,
    sent: usize,
    tail: usize,
    /// Length of the frame in each slot: the kernel may write the slot's own.
    lens: Box<[u32]>,
    /// Longest frame that the interface takes, and that a slot holds.
    max_frame: usize,
    gone: Arc<AtomicBool>,
    counters: QueueCounters,
    events: Events,
}

impl Tx {
    /// A queue of `slots` frames of up to `max_frame` bytes and a tag.
    pub(super) fn new(
        interface: Interface,
        options: &Options,
        slots: usize,
        max_frame: usize,
        gone: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let slot_size = (SlotHeader::DATA + max_frame + TAG).next_power_of_two().max(LEAST_SLOT);
        let len = slot_size * slots;
        let block_size = slot_size.max(len.min(128 << 10)).max(4096);
        let narrow = |n: usize| u32::try_from(n).map_err(|_| io::ErrorKind::InvalidInput);
        let request = TxRingRequest {
            block_size: narrow(block_size)?,
            blocks: narrow(len / block_size)?,
            slot_size: narrow(slot_size)?,
            slots: narrow(slots)?,
        };
        let socket = sys::socket()?;
        let fd = socket.as_fd();
        sys::set_option(fd, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V2 as u32))?;
        sys::set_option(fd, libc::PACKET_QDISC_BYPASS, &u32::from(options.qdisc_bypass))?;
        sys::set_send_buffer(fd, narrow((2 * len).clamp(256 << 10, 64 << 20))?);
        sys::set_option(fd, libc::PACKET_TX_RING, &request)?;
        let ring = Mapping::of(fd, len)?;
        sys::bind(fd, interface.index, 0)?;
        Ok(Self {
            socket,
            interface,
            ring,
            slot_size,
            mask: slots - 1,
            head: 0,
            sent: 0,
            tail: 0,
            lens: vec![0; slots].into(),
            max_frame,
            gone,
            counters: QueueCounters::default(),
            events: Events::default(),
        })
    }

    pub(super) fn events(&self) -> &Events {
        &self.events
    }

    fn place_of(&self, index: usize) -> usize {
        (index & self.mask) * self.slot_size
    }

    /// The slot's status, with the stamps that the kernel may leave in it taken off.
    #[inline]
    fn status(&self, index: usize) -> u32 {
        const STATES: u32 =
            libc::TP_STATUS_SEND_REQUEST | libc::TP_STATUS_SENDING | libc::TP_STATUS_WRONG_FORMAT;
        // Acquire: the kernel is done with the slot's bytes before it says so.
        self.ring.status(self.place_of(index)).load(Ordering::Acquire) & STATES
    }

    #[inline]
    fn set_status(&self, index: usize, status: u32) {
        // Release: the frame is in the slot before the kernel may look.
        self.ring.status(self.place_of(index)).store(status, Ordering::Release);
    }

    fn queued(&self) -> usize {
        self.head.wrapping_sub(self.sent)
    }

    /// Copies frames from the front of `burst` into slots; returns how many are done with, those
    /// that cannot be sent included.
    fn place<A: Readable>(&mut self, burst: &Burst<A>) -> usize {
        let mut done = 0;
        for frame in burst.iter() {
            let len = if burst.has_chains() { frame.frame_len() } else { frame.len() };
            if let Some(reason) = self.refusal(frame, len) {
                self.counters.dropped(reason, 1);
            } else if self.in_flight() > self.mask {
                break;
            } else {
                self.fill(frame, len);
            }
            done += 1;
        }
        done
    }

    /// Why a frame cannot be sent, before the kernel says so.
    #[inline]
    fn refusal<A: Readable>(&self, frame: Frame<'_, A>, len: usize) -> Option<DropReason> {
        if len < SHORTEST {
            return Some(DropReason::Malformed);
        }
        if len > self.max_frame {
            let kind = frame.bytes().get(12..14);
            let is_tagged = kind == Some(&ethertype::VLAN.to_be_bytes());
            if !is_tagged || len > self.max_frame + TAG {
                return Some(DropReason::TooLong);
            }
        }
        None
    }

    #[inline]
    fn fill<A: Readable>(&mut self, frame: Frame<'_, A>, len: usize) {
        let place = self.place_of(self.head);
        let mut at = place + SlotHeader::DATA;
        for segment in frame.segments() {
            self.ring.copy_in(at, segment.bytes());
            at += segment.len();
        }
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.ring.write(place + SlotHeader::LEN, &len);
        self.lens[self.head & self.mask] = len;
        self.set_status(self.head, libc::TP_STATUS_SEND_REQUEST);
        self.head = self.head.wrapping_add(1);
    }

    /// Has the kernel send what is queued.
    fn flush(&mut self) {
        if self.queued() == 0 {
            return;
        }
        let before = self.sent;
        self.events.add(Event::Kick, 1);
        let result = sys::kick(self.socket.as_fd());
        self.notice_taken();
        match result {
            Ok(()) | Err(libc::EINTR) => {}
            Err(error) => self.refused(error, before),
        }
    }

    fn notice_taken(&mut self) {
        const NOT_TAKEN: u32 = libc::TP_STATUS_SEND_REQUEST | libc::TP_STATUS_WRONG_FORMAT;
        while self.sent != self.head && self.status(self.sent) & NOT_TAKEN == 0 {
            self.sent = self.sent.wrapping_add(1);
        }
    }

    #[cold]
    fn refused(&mut self, error: libc::c_int, before: usize) {
        match error {
            libc::ENETDOWN => self.withdraw(DropReason::LinkDown),
            libc::ENXIO | libc::ENODEV => {
                self.gone.store(true, Ordering::Relaxed);
                self.withdraw(DropReason::LinkDown);
            }
            // A full device or socket; with no carrier the kernel says ENOBUFS too, for ever.
            libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => {
                self.events.add(Event::Congested, 1);
                if error == libc::ENOBUFS && self.sent == before && !self.interface.is_up() {
                    self.withdraw(DropReason::LinkDown);
                }
            }
            _ => self.repair(),
        }
    }

    /// Takes back what the kernel has not taken.
    fn withdraw(&mut self, reason: DropReason) {
        let count = self.queued();
        for step in 0..count {
            self.set_status(self.sent.wrapping_add(step), libc::TP_STATUS_AVAILABLE);
        }
        // The kernel goes on with the slot it stopped at, which is the next one we fill.
        self.head = self.sent;
        self.counters.dropped(reason, count);
    }

    /// The kernel stopped at a slot that it will not send, and at which it goes on: that frame goes,
    /// those behind it move up. It happens when the MTU shrinks.
    fn repair(&mut self) {
        let slot_room = self.slot_size - SlotHeader::DATA - TAG;
        self.max_frame = self.interface.max_frame().unwrap_or(0).min(slot_room);
        let (mut to, mut lost, end) = (self.sent, 0, self.head);
        let mut from = self.sent;
        while from != end {
            let (len, status) = (self.lens[from & self.mask], self.status(from));
            let is_bad = status & libc::TP_STATUS_WRONG_FORMAT != 0;
            if is_bad || len as usize > self.max_frame + TAG {
                lost += 1;
            } else {
                if from != to {
                    let bytes = SlotHeader::DATA + len as usize - SlotHeader::LEN;
                    let skip = SlotHeader::LEN;
                    let (old, new) = (self.place_of(from) + skip, self.place_of(to) + skip);
                    self.ring.copy_within(old, new, bytes);
                    self.lens[to & self.mask] = len;
                }
                self.set_status(to, libc::TP_STATUS_SEND_REQUEST);
                to = to.wrapping_add(1);
            }
            from = from.wrapping_add(1);
        }
        self.head = to;
        while to != end {
            self.set_status(to, libc::TP_STATUS_AVAILABLE);
            to = to.wrapping_add(1);
        }
        self.counters.dropped(DropReason::SendError, lost);
        if lost == 0 {
            // An error that names no frame: none of them can be sent.
            self.withdraw(DropReason::SendError);
        }
    }

    /// Counts the frames that the kernel is done with.
    fn retire(&mut self) -> usize {
        let (mut frames, mut bytes) = (0, 0);
        while self.tail != self.sent && self.status(self.tail) == libc::TP_STATUS_AVAILABLE {
            bytes += self.lens[self.tail & self.mask] as usize;
            frames += 1;
            self.tail = self.tail.wrapping_add(1);
        }
        if frames > 0 {
            self.counters.delivered(frames, bytes);
        }
        frames
    }

    /// Sends what it can of `burst`; returns how many frames are done with.
    fn send_front<A: Readable>(&mut self, burst: &Burst<A>) -> usize {
        if self.gone.load(Ordering::Relaxed) {
            self.withdraw(DropReason::LinkDown);
            self.counters.dropped(DropReason::LinkDown, burst.len());
            return burst.len();
        }
        self.retire();
        let done = self.place(burst);
        self.flush();
        self.retire();
        done
    }
}

impl TxQueue for Tx {
    fn send(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        let done = self.send_front(burst);
        burst.recycle_front(cache, done);
        done
    }

    fn send_shared(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Shared>) -> usize {
        let done = self.send_front(burst);
        for frame in burst.drain_front(done) {
            if let Ok(buf) = frame.unshare() {
                cache.give(buf);
            }
        }
        done
    }

    fn reap(&mut self, _cache: &mut Cache<Cpu>) -> usize {
        if self.gone.load(Ordering::Relaxed) {
            self.withdraw(DropReason::LinkDown);
        } else {
            self.flush();
        }
        self.retire()
    }

    fn in_flight(&self) -> usize {
        self.head.wrapping_sub(self.tail)
    }

    fn counters(&self) -> &QueueCounters {
        &self.counters
    }
}

impl Drop for Tx {
    /// What the kernel does not take in time is dropped; what it took is sent.
    fn drop(&mut self) {
        let end = Instant::now() + FAREWELL;
        while self.queued() > 0 && Instant::now() < end && !self.gone.load(Ordering::Relaxed) {
            self.flush();
            std::thread::yield_now();
        }
        self.withdraw(DropReason::SendError);
        self.retire();
        let taken = self.in_flight();
        let bytes = (0..taken)
            .map(|step| self.lens[self.tail.wrapping_add(step) & self.mask] as usize)
            .sum();
        self.counters.delivered(taken, bytes);
        self.tail = self.head;
    }
}
