//! What came of each flow: which numbers arrived, which came late, which came twice. Numbers in,
//! counts out; knows no frame.
//!
//! * **reordered** (RFC 4737 §3.3): it arrives after a whole frame with a higher number. Damaged ones
//!   overtake nobody, for a receiver that throws them away does not see them.
//! * **duplicate**: its number has arrived before.
//! * **stale**: so far behind that it is no longer known whether its number has arrived; or from
//!   before the flow was begun anew. It counts as neither of the above, nor as arrived.

use serde::Serialize;

/// Most numbers of a flow that are remembered.
const WINDOW: usize = 1 << 16;
/// Bits for all flows together, unless that makes less than the least window.
const BITS: usize = 1 << 26;
const LEAST_WINDOW: usize = 256;
/// A number further ahead than this is no number of the flow's.
const LEAP: u64 = 1 << 36;

/// What came of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is the first of its number, after all lower ones that came.
    InOrder,
    /// It is the first of its number, and a higher one was before it.
    Reordered,
    /// Its number came before.
    Duplicate,
    /// It is too old to tell.
    Stale,
    /// Too far ahead to be true.
    Absurd,
}

/// Counts of one flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FlowCounts {
    /// Numbers that arrived, whole or damaged.
    pub arrived: u64,
    /// Frames that came after one with a higher number.
    pub reordered: u64,
    /// Frames whose number had come before.
    pub duplicate: u64,
    /// Frames with a wrong checksum.
    pub corrupt: u64,
    /// Frames that ended too early.
    pub truncated: u64,
    /// Frames too old to tell.
    pub stale: u64,
}

impl FlowCounts {
    /// Counts all of `other` too.
    pub fn merge(&mut self, other: &Self) {
        self.arrived += other.arrived;
        self.reordered += other.reordered;
        self.duplicate += other.duplicate;
        self.corrupt += other.corrupt;
        self.truncated += other.truncated;
        self.stale += other.stale;
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    /// One more than the highest number seen.
    next: u64,
    /// One more than the highest number of a whole frame.
    whole: u64,
    /// The first number that counts.
    floor: u64,
    counts: FlowCounts,
}

/// The flows of one receiver.
pub(crate) struct Tracker {
    flows: Vec<Flow>,
    /// For each flow, a bit for each of the last `window` numbers.
    bits: Vec<u64>,
    window: u64,
}

impl Tracker {
    pub(crate) fn new(flows: usize) -> Self {
        let window = BITS / flows.max(1);
        let window = (window / 2 + 1).next_power_of_two().clamp(LEAST_WINDOW, WINDOW);
        Self {
            flows: vec![Flow::default(); flows],
            bits: vec![0; flows * window / 64],
            window: window as u64,
        }
    }

    /// Forgets everything; flow `i` goes on with number `first(i)`.
    pub(crate) fn restart(&mut self, first: impl Fn(usize) -> u64) {
        self.bits.fill(0);
        for (index, flow) in self.flows.iter_mut().enumerate() {
            let next = first(index);
            *flow = Flow { next, whole: next, floor: next, counts: FlowCounts::default() };
        }
    }

    /// A number arrives; `is_trusted` if its frame is whole. Returns what came of it, and by how
    /// many the flow's highest number grew.
    #[inline]
    pub(crate) fn arrive(&mut self, flow: usize, number: u64, is_trusted: bool) -> (Arrival, u64) {
        let window = self.window;
        let words = usize::try_from(window / 64).unwrap_or(1);
        let bits = &mut self.bits[flow * words..(flow + 1) * words];
        let flow = &mut self.flows[flow];
        if number >= flow.next {
            let ahead = number - flow.next;
            if ahead >= LEAP || (!is_trusted && ahead >= window) {
                return (Arrival::Absurd, 0);
            }
            if ahead > 0 {
                clear(bits, flow.next, ahead.min(window), window);
            }
            set(bits, number, window);
            flow.next = number + 1;
            if is_trusted {
                flow.whole = flow.next;
            }
            flow.counts.arrived += 1;
            return (Arrival::InOrder, ahead + 1);
        }
        if number < flow.floor || flow.next - number > window {
            flow.counts.stale += 1;
            return (Arrival::Stale, 0);
        }
        if is_set(bits, number, window) {
            flow.counts.duplicate += u64::from(is_trusted);
            return (Arrival::Duplicate, 0);
        }
        set(bits, number, window);
        flow.counts.arrived += 1;
        if number >= flow.whole {
            // Only damaged frames were before it.
            flow.whole = if is_trusted { number + 1 } else { flow.whole };
            return (Arrival::InOrder, 0);
        }
        flow.counts.reordered += u64::from(is_trusted);
        (Arrival::Reordered, 0)
    }

    /// Counts a frame of the flow that was damaged.
    pub(crate) fn damaged(&mut self, flow: usize, is_truncated: bool) {
        let counts = &mut self.flows[flow].counts;
        if is_truncated {
            counts.truncated += 1;
        } else {
            counts.corrupt += 1;
        }
    }

    /// For each flow: its counts, and the numbers from the first that counts to the highest.
    pub(crate) fn flows(&self) -> impl Iterator<Item = (FlowCounts, u64)> {
        self.flows.iter().map(|flow| (flow.counts, flow.next - flow.floor))
    }
}

fn place(number: u64, window: u64) -> (usize, u64) {
    let bit = number & (window - 1);
    (usize::try_from(bit / 64).unwrap_or(0), 1 << (bit % 64))
}

#[inline]
fn set(bits: &mut [u64], number: u64, window: u64) {
    let (word, bit) = place(number, window);
    // The number takes the place of one a whole window ago.
    bits[word] |= bit;
}

#[inline]
fn is_set(bits: &[u64], number: u64, window: u64) -> bool {
    let (word, bit) = place(number, window);
    bits[word] & bit != 0
}

/// Forgets what stood in the places of the numbers that were passed over.
fn clear(bits: &mut [u64], from: u64, count: u64, window: u64) {
    if count >= window {
        return bits.fill(0);
    }
    for number in from..from + count {
        let (word, bit) = place(number, window);
        bits[word] &= !bit;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn counts(numbers: &[u64]) -> FlowCounts {
        let mut tracker = Tracker::new(1);
        numbers.iter().for_each(|number| {
            tracker.arrive(0, *number, true);
        });
        tracker.flows().next().unwrap().0
    }

    #[test]
    fn late_frames_are_reordered_and_repeated_ones_duplicates() {
        let counts = counts(&[0, 1, 3, 2, 4, 4, 9, 3, 7]);
        let expected = FlowCounts { arrived: 7, reordered: 2, duplicate: 2, ..counts };
        assert_eq!(counts, expected);
        assert_eq!((counts.stale, counts.corrupt), (0, 0));
    }

    #[test]
    fn the_window_wraps_and_forgets_nothing_within_it() {
        let mut tracker = Tracker::new(1);
        let window = tracker.window;
        let (mut seen, mut highest, mut random) = (HashSet::new(), 0, 7u64);
        for step in 0..500_000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let back = (random >> 33) % 100;
            let number = (step * 3).saturating_sub(back);
            let expected = match (seen.insert(number), number >= highest) {
                (false, _) => Arrival::Duplicate,
                (true, true) => Arrival::InOrder,
                (true, false) => Arrival::Reordered,
            };
            highest = highest.max(number + 1);
            assert_eq!(tracker.arrive(0, number, true).0, expected, "{number}");
        }
        let old = highest - window - 1;
        assert_eq!(tracker.arrive(0, old, true).0, Arrival::Stale);
        assert_eq!(tracker.arrive(0, highest + LEAP, true).0, Arrival::Absurd);
        assert_eq!(tracker.arrive(0, highest + window, true).0, Arrival::InOrder);
        assert_eq!(tracker.arrive(0, highest + window - 1, true).0, Arrival::Reordered);
    }

    #[test]
    fn a_flow_that_is_begun_anew_does_not_take_up_old_frames() {
        let mut tracker = Tracker::new(2);
        (0..10).for_each(|number| {
            tracker.arrive(1, number, true);
        });
        tracker.restart(|flow| flow as u64 * 12);
        assert_eq!(tracker.arrive(1, 11, true).0, Arrival::Stale);
        assert_eq!(tracker.arrive(1, 13, true), (Arrival::InOrder, 2));
        assert_eq!(tracker.arrive(1, 12, true).0, Arrival::Reordered);
        assert_eq!(tracker.flows().nth(1).unwrap().1, 2);
    }

    #[test]
    fn damaged_frames_arrive_and_overtake_nobody() {
        let mut tracker = Tracker::new(1);
        let mut arrive = |number, is_whole| tracker.arrive(0, number, is_whole).0;
        assert_eq!(arrive(0, true), Arrival::InOrder);
        assert_eq!(arrive(3, false), Arrival::InOrder);
        assert_eq!(arrive(1, true), Arrival::InOrder);
        assert_eq!(arrive(4, true), Arrival::InOrder);
        assert_eq!(arrive(2, true), Arrival::Reordered);
        assert_eq!(arrive(1 << 40, false), Arrival::Absurd);
        assert_eq!(tracker.flows().next().unwrap().0.arrived, 5);
    }

    #[test]
    fn many_flows_have_smaller_windows() {
        assert_eq!(Tracker::new(1).window, 65536);
        assert_eq!(Tracker::new(4096).window, 16384);
        assert_eq!(Tracker::new(1 << 20).window, 256);
    }
}
