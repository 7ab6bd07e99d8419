//! Frames of several segments (jumbo frames): slots of one pool, linked through their metadata.
#![allow(unsafe_code, reason = "walks and changes the links of slots it owns")]

use crate::{Access, Buf, Slot, core::Core};

/// Links `tail` behind the last segment of `head`.
pub(crate) fn append<A: Access>(head: &mut Buf<A>, tail: Buf<A>) -> Result<(), Buf<A>> {
    let segments = head.frame().meta().segments.checked_add(tail.frame().meta().segments);
    let Some(segments) = segments.filter(|_| head.core_ptr() == tail.core_ptr()) else {
        return Err(tail);
    };
    if A::COUNTED {
        // A shared frame's links are read by others.
        return Err(tail);
    }
    let last = last_of(head.core(), head.slot().index());
    let next = tail.into_raw();
    // SAFETY: `head` owns its chain; nobody else looks at its metadata.
    unsafe { (*head.core().table.meta(last)).next = next };
    // SAFETY: as above.
    unsafe { (*head.core().table.meta(head.slot().index())).segments = segments };
    Ok(())
}

/// Takes everything behind the first segment off.
pub(crate) fn split<A: Access>(head: &mut Buf<A>) -> Option<Buf<A>> {
    let segments = head.frame().meta().segments;
    if A::COUNTED || !head.is_chain() {
        return None;
    }
    // SAFETY: `head` owns the slot.
    let next = unsafe { head.core().unlink(head.slot().index()) };
    // SAFETY: `head` owned the chain; the link to it is gone.
    unsafe { (*head.core().table.meta(next)).segments = segments - 1 };
    // SAFETY: as above: the rest has this one owner now.
    Some(unsafe { Buf::from_raw(head.core_ptr(), next) })
}

fn last_of(core: &Core, mut slot: u32) -> u32 {
    loop {
        // SAFETY: the caller owns the chain.
        let next = unsafe { (*core.table.meta(slot)).next };
        if next == Slot::NONE {
            return slot;
        }
        slot = next;
    }
}
