//! Descriptors of frames of one plain buffer, many at a time. Rings no doorbell and asks for no report.

use mempool::{Meta, OneArea};

use crate::e1000::{
    descriptor::transmit::{LAST, SHORTEST, TxFormat},
    ring::Short,
};

/// Whether a frame asks for nothing and is of `SHORTEST..=SHORTEST + span` bytes.
#[inline(always)]
fn is_plain(meta: &Meta, span: usize) -> bool {
    meta.len().wrapping_sub(SHORTEST) <= span && !meta.asks()
}

/// The second word of the descriptor of such a frame.
#[inline(always)]
fn plain_word<F: TxFormat>(len: usize) -> u64 {
    F::plain(len) | LAST | len as u64
}

/// Writes a descriptor for each frame, up to the first one that is not plain. Returns how many, their
/// bytes, and the last one.
#[inline(always)]
pub(super) fn write_plain<F: TxFormat>(
    run: &[Short],
    frames: OneArea<'_>,
    span: usize,
) -> (usize, usize, (u64, u64)) {
    let (mut count, mut bytes) = (run.len(), 0);
    for (at, (to, (meta, iova))) in run.iter().zip(frames.places()).enumerate() {
        if !is_plain(meta, span) {
            count = at;
            break;
        }
        let len = meta.len();
        to.store([iova, plain_word::<F>(len)]);
        bytes += len;
    }
    // Once more, rather than kept from one turn to the next.
    let last = count.checked_sub(1).map(|last| frames.place(last));
    let last = last.map_or((0, 0), |(meta, iova)| (iova, plain_word::<F>(meta.len())));
    (count, bytes, last)
}

/// The same of frames in several areas, up to the first one without an address too.
#[cold]
pub(super) fn write_each<'a, F: TxFormat>(
    run: &[Short],
    frames: impl Iterator<Item = Option<(&'a Meta, u64)>>,
    span: usize,
) -> (usize, usize, (u64, u64)) {
    let (mut count, mut bytes, mut last) = (0, 0, (0, 0));
    for (to, frame) in run.iter().zip(frames) {
        let Some((meta, iova)) = frame.filter(|(meta, _)| is_plain(meta, span)) else { break };
        let len = meta.len();
        last = (iova, plain_word::<F>(len));
        to.store([last.0, last.1]);
        count += 1;
        bytes += len;
    }
    (count, bytes, last)
}
