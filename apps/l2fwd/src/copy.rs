//! A copy of a frame in buffers of its own: what a flooded frame needs that leaves by some ports with
//! a tag and by others without. Everything else travels by reference.

use mempool::{Buf, Cache, Cpu, Frame, Readable};

/// Copies a frame, segment by segment, each into a buffer with the pool's headroom; none if there are
/// not enough buffers.
pub(crate) fn copy<A: Readable>(cache: &mut Cache<Cpu>, frame: Frame<'_, A>) -> Option<Buf<Cpu>> {
    let room = cache.pool().room();
    let mut head: Option<Buf<Cpu>> = None;
    for segment in frame.segments() {
        for part in segment.bytes().chunks(room) {
            let mut buf = cache.take_one()?;
            buf.frame_mut().set_len(part.len());
            buf.bytes_mut().copy_from_slice(part);
            match &mut head {
                None => head = Some(buf),
                Some(head) => head.chain(buf).ok()?,
            }
        }
    }
    let mut copied = head?;
    copied.frame_mut().set_rx(&frame.meta().rx());
    Some(copied)
}
