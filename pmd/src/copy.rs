//! Copying a frame into fresh buffers: one buffer where it fits, a chain where it does not. For
//! drivers whose frames lie in memory that is not the pool's.

use mempool::{Buf, Burst, Cache, Cpu, RxMeta};

use crate::DropReason;

/// The first frames of a burst were copied out: their buffers go home, by the cache where that is of their pool.
pub(crate) fn give_back(burst: &mut Burst<Cpu>, cache: &mut Cache<Cpu>, frames: usize) {
    if burst.pool().is_same(cache.pool()) {
        burst.recycle_front(cache, frames);
    } else {
        burst.drain_front(frames).for_each(drop);
    }
}

/// Copies a frame of `len` bytes, given in `parts`, into buffers of `cache`.
///
/// # Errors
/// [`DropReason::NoBuffer`]: there were not enough; those taken went back.
#[inline]
pub(crate) fn copy_frame<'p>(
    cache: &mut Cache<Cpu>,
    len: usize,
    mut parts: impl Iterator<Item = &'p [u8]>,
    rx: &RxMeta,
) -> Result<Buf<Cpu>, DropReason> {
    let mut head = cache.take_one().ok_or(DropReason::NoBuffer)?;
    if len <= cache.pool().room() {
        let mut at = 0;
        let mut frame = head.frame_mut();
        let room = frame.room_mut();
        for part in parts {
            room[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        frame.received(at, rx);
        return Ok(head);
    }
    let mut part: &[u8] = &[];
    let mut left = len;
    let mut fill = |buf: &mut Buf<Cpu>| {
        while left > 0 {
            if part.is_empty() {
                let Some(next) = parts.next() else { break };
                part = next;
                continue;
            }
            let mut frame = buf.frame_mut();
            let count = part.len().min(frame.tailroom());
            if count == 0 {
                break;
            }
            let (now, rest) = part.split_at(count);
            let _fits = frame.append(now);
            part = rest;
            left -= count;
        }
        left
    };
    let mut rest = fill(&mut head);
    head.frame_mut().set_rx(rx);
    while rest > 0 {
        let mut segment = cache.take_one().ok_or(DropReason::NoBuffer)?;
        let before = rest;
        rest = fill(&mut segment);
        if rest == before {
            break;
        }
        head.chain(segment).map_err(|_| DropReason::TooLong)?;
    }
    Ok(head)
}
