//! A receive queue: copies frames from the blocks of a `TPACKET_V3` ring into buffers, and makes
//! of them what was, or would have been, on the wire. An idle poll is one load; the kernel is asked
//! something once in thousands of polls.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use mempool::{Buf, Burst, Cache, Cpu, Offload, RxMeta};

use super::{
    abi::{BlockHeader, Offloads, RxRingRequest},
    block::{Altered, Found, Step, Walk},
    checksum,
    counters::{Event, Events},
    gso::Cut,
    mapping::{Mapping, Span},
    options::Options,
    sys,
};
use crate::{DropReason, QueueCounters, RxQueue};

/// Idle polls between two questions to the kernel.
const IDLE_POLLS: u32 = 4096;
/// Blocks between two questions to the kernel.
const BLOCKS: u32 = 64;

pub(super) struct Rx {
    socket: OwnedFd,
    ring: Mapping,
    block_size: usize,
    /// Number of blocks less one: a mask.
    mask: usize,
    /// The block to look at; runs free.
    block: usize,
    walk: Option<Walk>,
    /// A frame on its way to several buffers, or into several frames.
    scratch: Box<[u8]>,
    segment: Box<[u8]>,
    pending: Option<Pending>,
    /// Frames of the kernel's that were seen here, and that it counted as put into the ring.
    seen: u64,
    stored: u64,
    until_asked: (u32, u32),
    gone: Arc<AtomicBool>,
    counters: QueueCounters,
    events: Events,
}

/// What stands in `scratch`.
struct Pending {
    len: usize,
    meta: RxMeta,
    /// How it is cut and which segment is next; none if it is one frame.
    cut: Option<(Cut, usize)>,
}

impl Rx {
    /// A queue that is bound to nothing yet.
    pub(super) fn new(options: &Options, hash: bool, gone: Arc<AtomicBool>) -> io::Result<Self> {
        let socket = sys::socket()?;
        let fd = socket.as_fd();
        sys::set_option(fd, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V3 as u32))?;
        sys::set_option(fd, libc::PACKET_VNET_HDR, &1_u32)?;
        sys::set_option(fd, libc::PACKET_IGNORE_OUTGOING, &1_u32)?;
        let (blocks, block_size) = (options.blocks, options.block);
        let narrow = |n: usize| u32::try_from(n).map_err(|_| io::ErrorKind::InvalidInput);
        let slot_size = 2048; // Of no consequence in version 3, but it has to divide a block.
        let request = RxRingRequest {
            block_size: narrow(block_size)?,
            blocks: narrow(blocks)?,
            slot_size,
            slots: narrow(blocks * (block_size / slot_size as usize))?,
            timeout_ms: options.timeout_ms,
            private: 0,
            features: if hash { libc::TP_FT_REQ_FILL_RXHASH } else { 0 },
        };
        sys::set_option(fd, libc::PACKET_RX_RING, &request)?;
        let ring = Mapping::of(fd, blocks * block_size)?;
        Ok(Self {
            socket,
            ring,
            block_size,
            mask: blocks - 1,
            block: 0,
            walk: None,
            scratch: vec![0; block_size + 4].into(),
            segment: vec![0; 1 << 16].into(),
            pending: None,
            seen: 0,
            stored: 0,
            until_asked: (IDLE_POLLS, BLOCKS),
            gone,
            counters: QueueCounters::default(),
            events: Events::default(),
        })
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(super) fn events(&self) -> &Events {
        &self.events
    }

    fn base(&self) -> usize {
        (self.block & self.mask) * self.block_size
    }

    /// The block to look at.
    fn block(&self) -> Span<'_> {
        self.ring.span(self.base(), self.block_size)
    }

    /// Whether there is a block to walk.
    #[inline]
    fn open_block(&mut self) -> bool {
        if self.walk.is_some() {
            return true;
        }
        // Acquire: the kernel stores the status after the block's frames; they are read after it.
        let status = self.ring.status(self.base() + BlockHeader::STATUS).load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return false;
        }
        self.walk = Some(Walk::start(self.block()));
        true
    }

    /// Hands the block back.
    #[inline]
    fn release_block(&mut self) {
        let status = self.ring.status(self.base() + BlockHeader::STATUS);
        // Release: our copies out of the block are done before the kernel writes it again.
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.walk = None;
        self.block = self.block.wrapping_add(1);
        self.until_asked.1 -= 1;
        if self.until_asked.1 == 0 {
            self.ask_kernel();
        }
    }

    /// Copies frames of the open block, as many as fit one buffer each, until one does not; returns
    /// their bytes, or none if there is no buffer.
    fn copy_frames(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> Option<usize> {
        let Some(mut walk) = self.walk else {
            return Some(0);
        };
        let first = burst.len();
        let room = cache.pool().room();
        let taken = cache.take_bare(burst, walk.left());
        let (mut used, mut bytes, before) = (0, 0, walk.left());
        let block = self.block();
        while used < taken {
            let (found, altered) = match walk.step(block) {
                Step::Plain(found) => (found, None),
                Step::Altered(found, altered) => (found, Some(altered)),
                Step::Broken(lost) => {
                    self.counters.dropped(DropReason::Malformed, lost);
                    continue;
                }
                Step::Done => break,
            };
            if altered.is_some_and(|altered| altered.is_cut) {
                self.counters.dropped(DropReason::TooLong, 1);
                continue;
            }
            let len = altered.map_or(found.len, |altered| altered.wire_len(&found));
            if len > room || altered.is_some_and(|altered| altered.is_super()) {
                self.load(&found, &altered.unwrap_or_default());
                break;
            }
            let mut frame = burst.frame_mut(first + used);
            frame.received(len, &found.meta);
            match altered {
                None => block.copy_out(found.at, frame.bytes_mut()),
                Some(altered) => self.copy_mended(&found, &altered, frame.bytes_mut()),
            }
            bytes += len;
            used += 1;
        }
        self.seen += (before - walk.left()) as u64;
        let is_starved = taken == 0 && walk.left() > 0;
        for _ in used..taken {
            burst.pop().into_iter().for_each(|spare| cache.give(spare));
        }
        self.walk = Some(walk);
        if walk.left() == 0 {
            self.release_block();
        }
        (!is_starved).then_some(bytes)
    }

    /// Copies a frame as it was on the wire: with its tag, and its checksum if it is one frame.
    #[inline(never)]
    fn copy_mended(&self, found: &Found, altered: &Altered, to: &mut [u8]) {
        const ADDRESSES: usize = 12;
        let (block, mut inserted) = (self.block(), 0);
        if let Some(tag) = altered.tag {
            inserted = tag.len();
            block.copy_out(found.at, &mut to[..ADDRESSES]);
            to[ADDRESSES..ADDRESSES + inserted].copy_from_slice(&tag);
            block.copy_out(found.at + ADDRESSES, &mut to[ADDRESSES + inserted..]);
            self.events.add(Event::TagRestored, 1);
        } else {
            block.copy_out(found.at, to);
        }
        let Offloads { flags, checksum_start, checksum_offset, .. } = altered.offloads;
        if flags & Offloads::NEEDS_CHECKSUM != 0 && !altered.is_super() {
            let start = usize::from(checksum_start) + inserted;
            if checksum::complete(to, start, usize::from(checksum_offset)) {
                self.events.add(Event::ChecksumCompleted, 1);
            }
        }
    }

    /// Copies a frame that needs more than one buffer to where it can be worked on.
    #[cold]
    fn load(&mut self, found: &Found, altered: &Altered) {
        let len = altered.wire_len(found);
        let mut scratch = std::mem::take(&mut self.scratch);
        self.copy_mended(found, altered, &mut scratch[..len]);
        let (mut cut, mut meta) = (None, found.meta);
        if altered.is_super() {
            cut = Cut::plan(&scratch[..len], &altered.offloads).map(|cut| (cut, 0));
            let event = if cut.is_some() {
                Event::SuperFrameCut
            } else {
                meta.offload = meta.offload.with(Offload::RX_CSUM_PARTIAL);
                Event::SuperFrameWhole
            };
            self.events.add(event, 1);
        }
        self.scratch = scratch;
        self.pending = Some(Pending { len, meta, cut });
    }

    /// Delivers what is pending, as far as `burst` has room; returns its bytes, or none if there is
    /// no buffer.
    #[cold]
    fn deliver(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> Option<usize> {
        let mut bytes = 0;
        while burst.room() > 0 {
            let Some(pending) = &mut self.pending else {
                break;
            };
            let whole = &self.scratch[..pending.len];
            let (frame, is_last) = match &mut pending.cut {
                None => (whole, true),
                Some((cut, index)) => {
                    let len = cut.segment(whole, *index, &mut self.segment);
                    (&self.segment[..len], *index + 1 == cut.segments())
                }
            };
            let Some(mut buf) = spread(frame, cache) else {
                return (bytes > 0).then_some(bytes);
            };
            buf.frame_mut().set_rx(&pending.meta);
            burst.push(buf);
            bytes += frame.len();
            if let Some((_, index)) = &mut pending.cut {
                *index += 1;
            }
            if is_last {
                self.pending = None;
            }
        }
        Some(bytes)
    }

    /// Takes over what the kernel counted, and notices if the interface is gone.
    #[cold]
    fn ask_kernel(&mut self) {
        self.until_asked = (IDLE_POLLS, BLOCKS);
        if let Ok(counted) = sys::take_statistics(self.socket.as_fd()) {
            let (frames, drops) = (u64::from(counted.frames), u64::from(counted.drops));
            self.stored += frames.saturating_sub(drops);
            self.counters.dropped(DropReason::Kernel, counted.drops as usize);
            self.events.add(Event::RingFull, u64::from(counted.freezes));
        }
        if matches!(sys::bound_index(self.socket.as_fd()), Ok(index) if index <= 0) {
            self.gone.store(true, Ordering::Relaxed);
        }
    }
}

/// Puts a frame into as many buffers as it takes.
fn spread(frame: &[u8], cache: &mut Cache<Cpu>) -> Option<Buf<Cpu>> {
    let room = cache.pool().room();
    let mut parts = frame.chunks(room);
    let mut first = filled(parts.next()?, cache)?;
    for part in parts {
        match filled(part, cache).map(|next| first.chain(next)) {
            Some(Ok(())) => {}
            Some(Err(_)) | None => return None,
        }
    }
    Some(first)
}

fn filled(part: &[u8], cache: &mut Cache<Cpu>) -> Option<Buf<Cpu>> {
    let mut buf = cache.take_one()?;
    buf.frame_mut().set_len(part.len());
    buf.bytes_mut().copy_from_slice(part);
    Some(buf)
}

impl RxQueue for Rx {
    fn recv(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        let before = burst.len();
        let mut bytes = 0;
        while burst.room() > 0 {
            let copied = if self.pending.is_some() {
                self.deliver(cache, burst)
            } else if self.open_block() {
                self.copy_frames(cache, burst)
            } else {
                break;
            };
            let Some(copied) = copied else {
                self.events.add(Event::NoBuffer, 1);
                break;
            };
            bytes += copied;
        }
        let received = burst.len() - before;
        if received > 0 {
            self.counters.delivered(received, bytes);
        } else {
            self.until_asked.0 -= 1;
            if self.until_asked.0 == 0 {
                self.ask_kernel();
            }
        }
        received
    }

    fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        // Readable as soon as the kernel hands a block over: when it is full, or `timeout` after its
        // first frame. An error that waits (the interface went down) would wake at once, for ever.
        let _ = rustix::net::sockopt::socket_error(&self.socket);
        let has_more = self.pending.is_some() || self.walk.is_some();
        (!has_more).then(|| self.socket.as_fd())
    }

    fn counters(&self) -> &QueueCounters {
        &self.counters
    }
}

impl Drop for Rx {
    /// What the kernel has put into the ring and nobody took is a drop too: the sums stay exact.
    fn drop(&mut self) {
        self.ask_kernel();
        let rest = self.pending.take().map_or(0, |pending| match pending.cut {
            None => 1,
            Some((cut, index)) => cut.segments() - index,
        });
        let left = self.stored.saturating_sub(self.seen) + rest as u64;
        self.counters.dropped(DropReason::Kernel, usize::try_from(left).unwrap_or(0));
        self.events.add(Event::LeftInRing, left);
    }
}
