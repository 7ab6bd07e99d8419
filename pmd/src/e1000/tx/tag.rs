//! A VLAN tag that the driver puts into a copy of a frame. The chips insert tags only while CTRL.VME is on
//! (82574 §10.2.2.1, 82576 §8.2.1), and then take them out of what they receive too: a port that was not
//! asked for that does it this way.

use mempool::{Cpu, Frame, FrameMut, Meta, Offload, Readable};

/// Where a tag goes: behind both addresses (IEEE 802.1Q §9.3).
const PLACE: usize = 12;
/// Bytes of a tag.
pub(super) const LEN: usize = 4;

/// Whether a frame asks for a tag.
#[inline(always)]
pub(super) fn is_asked(meta: &Meta) -> bool {
    meta.asks() && meta.tx().offload.has(Offload::TX_VLAN_INSERT)
}

/// The frame's tag, as it stands on the wire.
pub(super) fn of(meta: &Meta) -> [u8; LEN] {
    let [a, b] = meta.tx().vlan.to_be_bytes();
    [0x81, 0x00, a, b]
}

/// The bytes of the frame with `tag` in its place; none where its first buffer ends before that.
pub(super) fn parts<'f, A: Readable>(
    frame: Frame<'f, A>,
    tag: &'f [u8],
) -> Option<impl Iterator<Item = &'f [u8]>> {
    let (addresses, rest) = frame.bytes().split_at_checked(PLACE)?;
    let further = frame.segments().skip(1).map(Frame::bytes);
    Some([addresses, tag, rest].into_iter().chain(further))
}

/// Asks of a tagged copy what was asked of its original besides the tag.
pub(super) fn ask_the_rest(copy: &mut FrameMut<'_, Cpu>, original: &Meta) {
    let mut asked = original.tx();
    asked.offload = asked.offload.without(Offload::TX_VLAN_INSERT);
    // The headers start further on by the tag; a length that does not fit makes no sense anyway, and is
    // refused as such.
    asked.l2_len = asked.l2_len.saturating_add(4);
    copy.ask(&asked);
}
