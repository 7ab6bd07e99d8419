//! The sending queue: frames straight out of their buffers, segment by segment. A frame is gone when
//! the call that sent it returns: nothing is ever in flight.
#![allow(unsafe_code, reason = "the kernel reads buffers that are the caller's")]

use std::{os::fd::AsFd, sync::Arc};

use mempool::{Burst, Cache, Cpu, Readable, Shared};

use super::{
    LONGEST, SHORTEST,
    batch::{Batch, MOST, PARTS},
    path::SocketPath,
    socket::Socket,
};
use crate::{DropReason, QueueCounters, TxQueue, copy::give_back};

pub(super) struct Tx {
    socket: Arc<Socket>,
    batch: Batch,
    counters: QueueCounters,
}

/// What became of the frames at the front of a burst.
enum Outcome {
    Sent {
        frames: usize,
        bytes: usize,
    },
    Dropped(usize, DropReason),
    /// They wait.
    Full,
}

impl Tx {
    pub(super) fn new(socket: Arc<Socket>, peer: &SocketPath) -> Self {
        Self { socket, batch: Batch::sending(peer), counters: QueueCounters::default() }
    }

    /// Sends from the front, as much as one call takes.
    fn send_some<A: Readable>(&mut self, burst: &Burst<A>) -> Outcome {
        let Self { socket, batch, .. } = self;
        batch.clear();
        let mut lens = [0; MOST];
        for (frame, len) in burst.iter().zip(&mut lens) {
            *len = frame.frame_len();
            let parts = frame.segments().take(PARTS + 1).count();
            let why = match *len {
                ..SHORTEST => DropReason::Malformed,
                SHORTEST..=LONGEST if parts <= PARTS => {
                    for segment in frame.segments() {
                        let bytes = segment.bytes();
                        batch.part(bytes.as_ptr().cast_mut(), bytes.len());
                    }
                    batch.end();
                    continue;
                }
                _ => DropReason::TooLong,
            };
            if batch.len() == 0 {
                return Outcome::Dropped(1, why);
            }
            break;
        }
        // SAFETY: the parts are frames' bytes, lent by `burst` until this returns; they are only read.
        match unsafe { batch.send(socket.as_fd()) } {
            Ok(frames) => Outcome::Sent { frames, bytes: lens[..frames].iter().sum() },
            Err(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR) => Outcome::Full,
            // Nobody is there, or nobody that would have them.
            Err(
                libc::ENOENT
                | libc::ECONNREFUSED
                | libc::ENOTDIR
                | libc::EPERM
                | libc::EACCES
                | libc::EPIPE
                | libc::ECONNRESET
                | libc::EPROTOTYPE
                | libc::ENOTSOCK,
            ) => Outcome::Dropped(burst.len(), DropReason::LinkDown),
            Err(_) => Outcome::Dropped(1, DropReason::SendError),
        }
    }

    /// Sends until the burst is empty or the peer full; `done` frees so many frames from the front.
    fn send_all<A: Readable>(
        &mut self,
        burst: &mut Burst<A>,
        mut done: impl FnMut(&mut Burst<A>, usize),
    ) -> usize {
        let before = burst.len();
        while !burst.is_empty() {
            match self.send_some(burst) {
                // The kernel says why it stopped when it is asked again.
                Outcome::Sent { frames, bytes } if frames > 0 => {
                    done(burst, frames);
                    self.counters.delivered(frames, bytes);
                }
                Outcome::Dropped(frames, why) => {
                    done(burst, frames);
                    self.counters.dropped(why, frames);
                }
                Outcome::Full | Outcome::Sent { .. } => break,
            }
        }
        before - burst.len()
    }
}

impl TxQueue for Tx {
    fn send(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        self.send_all(burst, |burst, frames| give_back(burst, cache, frames))
    }

    fn send_shared(&mut self, _cache: &mut Cache<Cpu>, burst: &mut Burst<Shared>) -> usize {
        self.send_all(burst, |burst, frames| burst.drain_front(frames).for_each(drop))
    }

    fn reap(&mut self, _cache: &mut Cache<Cpu>) -> usize {
        0
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn counters(&self) -> &QueueCounters {
        &self.counters
    }
}
