//! A slot's handle: a small number, checked where it enters.
#![allow(unsafe_code, reason = "one vectorisable copy of raw slot arrays")]

/// The index of one slot of one pool. It says nothing about ownership: owning is [`crate::Buf`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Slot(pub(crate) u32);

impl Slot {
    /// No slot: the end of a chain, a frame without a data buffer.
    pub(crate) const NONE: u32 = u32::MAX;

    /// The number itself, for logs, row maps and tables kept beside the pool.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }
}

/// Slack behind every array of slots, so that bulk copies move whole vectors and never ask how many
/// of the last one count.
pub(crate) const PAD: usize = 8;

/// Copies `count` slots in steps of [`PAD`]; may read and write up to `PAD - 1` slots further.
///
/// # Safety
/// Both arrays are valid for `count` rounded up to a multiple of `PAD`, and do not overlap.
#[inline(always)]
pub(crate) unsafe fn copy_slots(
    from: *const std::mem::MaybeUninit<u32>,
    to: *mut std::mem::MaybeUninit<u32>,
    count: usize,
) {
    type Step = [std::mem::MaybeUninit<u32>; PAD];
    let mut at = 0;
    while at < count {
        // SAFETY: `at < count`: inside the array.
        let from = unsafe { from.add(at) }.cast::<Step>();
        // SAFETY: as above, for the destination.
        let to = unsafe { to.add(at) }.cast::<Step>();
        // SAFETY: the step lies inside the rounded-up length (caller). MaybeUninit moves padding
        // without asking whether it was ever written.
        let step = unsafe { from.read_unaligned() };
        // SAFETY: as above, for the destination.
        unsafe { to.write_unaligned(step) };
        at += PAD;
    }
}

/// Calls `step` with 0, 1, and so on below `most` until it says no; returns how often it said yes. Four at a time: a
/// loop's own three instructions are an eighth of what a slot costs.
#[inline(always)]
pub(crate) fn run(most: usize, mut step: impl FnMut(usize) -> bool) -> usize {
    let mut at = 0;
    while most - at >= 4 {
        for _ in 0..4 {
            if !step(at) {
                return at;
            }
            at += 1;
        }
    }
    while at < most && step(at) {
        at += 1;
    }
    at
}
