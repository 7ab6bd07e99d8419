//! The receiving queue: datagrams straight into buffers; what is longer than one by way of a scratch
//! stretch, into a chain.
#![allow(unsafe_code, reason = "the kernel writes buffers that are this queue's")]

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use mempool::{Buf, Burst, Cache, Cpu, Pool, RxMeta};

use super::{
    LONGEST, SHORTEST,
    batch::{Batch, MOST},
    socket::Socket,
};
use crate::{DropReason, QueueCounters, RxQueue};

pub(super) struct Rx {
    socket: Arc<Socket>,
    batch: Batch,
    /// Buffers for the next datagrams.
    stock: Burst<Cpu>,
    /// What goes beyond a buffer, a stretch for each datagram; only touched by long frames.
    beyond: Vec<u8>,
    /// Bytes of a buffer, and of its stretch of `beyond`.
    room: usize,
    rest: usize,
    counters: QueueCounters,
}

impl Rx {
    pub(super) fn new(socket: Arc<Socket>, pool: &Pool<Cpu>) -> Self {
        let room = pool.room();
        let rest = LONGEST.saturating_sub(room);
        Self {
            socket,
            batch: Batch::receiving(),
            stock: Burst::with_limit(pool, MOST),
            beyond: vec![0; rest * MOST],
            room,
            rest,
            counters: QueueCounters::default(),
        }
    }

    /// Receives up to `want` datagrams into the stock's first buffers; returns how many were asked for
    /// and how many came. None are asked for if there is no buffer.
    fn receive(&mut self, cache: &mut Cache<Cpu>, want: usize) -> (usize, usize) {
        let Self { socket, batch, stock, beyond, room, rest, .. } = self;
        let before = stock.len();
        cache.take_bare(stock, want.saturating_sub(before));
        stock.received_alike(before, *room, &RxMeta::default());
        let asked = stock.len().min(want);
        if asked == 0 {
            return (0, 0);
        }
        batch.clear();
        let beyond = beyond.as_mut_ptr();
        for index in 0..asked {
            batch.part(stock.frame_mut(index).bytes_mut().as_mut_ptr(), *room);
            if *rest > 0 {
                batch.part(beyond.wrapping_add(index * *rest), *rest);
            }
            batch.end();
        }
        // SAFETY: the parts are (1) the rooms of buffers in `stock`, each its own, and (2) stretches of
        // `beyond`, each `rest` of its `rest * MOST` bytes (`stock` holds `MOST` at most); both are this
        // queue's, which is borrowed exclusively.
        let came = unsafe { batch.receive(socket.as_fd()) };
        // Nothing there, or nothing to be had now: the next poll asks again.
        (asked, came.unwrap_or(0))
    }

    /// There is no buffer: throws away what is there, up to `most` datagrams, as a NIC without
    /// descriptors would; whoever sends is not held up.
    #[cold]
    fn discard(&mut self, most: usize) {
        self.batch.clear();
        (0..most).for_each(|_| self.batch.end());
        // SAFETY: there are no parts.
        let came = unsafe { self.batch.receive(self.socket.as_fd()) };
        self.counters.dropped(DropReason::NoBuffer, came.unwrap_or(0));
    }

    /// Hands over the first `came` of the stock's buffers; returns their frames' bytes.
    fn hand_over(&mut self, came: usize, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        let (mut bytes, mut is_plain) = (0, true);
        for index in 0..came {
            match self.batch.received(index) {
                Some(len) if (SHORTEST..=self.room).contains(&len) => {
                    self.stock.frame_mut(index).set_len(len);
                    bytes += len;
                }
                _ => is_plain = false,
            }
        }
        if is_plain {
            burst.append_front(&mut self.stock, came);
            return bytes;
        }
        self.hand_over_one_by_one(came, cache, burst)
    }

    #[cold]
    fn hand_over_one_by_one(
        &mut self,
        came: usize,
        cache: &mut Cache<Cpu>,
        burst: &mut Burst<Cpu>,
    ) -> usize {
        let Self { stock, batch, beyond, room, rest, counters, .. } = self;
        let mut bytes = 0;
        for (index, mut head) in stock.drain_front(came).enumerate() {
            let long = match batch.received(index) {
                None => Err(DropReason::TooLong),
                Some(len) if len > LONGEST => Err(DropReason::TooLong),
                Some(len) if len < SHORTEST => Err(DropReason::Malformed),
                Some(len) => Ok(len),
            };
            let frame = long.and_then(|len| {
                head.frame_mut().set_len(len.min(*room));
                let tail = len.saturating_sub(*room);
                chain(&mut head, &beyond[index * *rest..][..tail], cache).map(|()| len)
            });
            match frame {
                Ok(len) => {
                    bytes += len;
                    burst.push(head);
                }
                Err(reason) => {
                    counters.dropped(reason, 1);
                    cache.give(head);
                }
            }
        }
        bytes
    }
}

/// Hangs `rest` behind `head`, in fresh buffers.
fn chain(head: &mut Buf<Cpu>, rest: &[u8], cache: &mut Cache<Cpu>) -> Result<(), DropReason> {
    let room = cache.pool().room();
    for part in rest.chunks(room) {
        let mut next = cache.take_one().ok_or(DropReason::NoBuffer)?;
        let _fits = next.frame_mut().append(part);
        head.chain(next).map_err(|_| DropReason::TooLong)?;
    }
    Ok(())
}

impl RxQueue for Rx {
    fn recv(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        let (before, mut bytes) = (burst.len(), 0);
        while burst.room() > 0 {
            let (asked, came) = self.receive(cache, burst.room().min(MOST));
            if came > 0 {
                bytes += self.hand_over(came, cache, burst);
            }
            if asked == 0 {
                self.discard(burst.room().min(MOST));
            }
            if came < asked || asked == 0 {
                break;
            }
        }
        let received = burst.len() - before;
        if received > 0 {
            self.counters.delivered(received, bytes);
        }
        received
    }

    fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        // Readable as long as there is a datagram.
        Some(self.socket.as_fd())
    }

    fn counters(&self) -> &QueueCounters {
        &self.counters
    }
}
