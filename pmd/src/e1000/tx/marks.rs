//! Which descriptors will be reported: the device writes back only those that ask for it, and a report
//! is for all descriptors before it too.

use crate::e1000::{
    descriptor::transmit::DONE,
    ring::{Ring, Short},
};

/// Where things stood when a report was asked for; free-running counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// The descriptor behind the one that reports.
    pub(super) next: usize,
    /// Frames sent by then, of the queue's own buffers and of shared ones.
    pub(super) own: usize,
    pub(super) shared: usize,
}

/// Reports that were asked for and are not in, oldest first.
pub(super) struct Marks {
    marks: Box<[Mark]>,
    /// Free-running.
    first: usize,
    last: usize,
}

impl Marks {
    /// Room for a mark on each of `ring` descriptors (a power of two).
    pub(super) fn new(ring: usize) -> Self {
        Self { marks: vec![Mark::default(); ring].into(), first: 0, last: 0 }
    }

    #[inline(always)]
    fn at(&self, index: usize) -> Mark {
        self.marks[index & (self.marks.len() - 1)]
    }

    /// Notes that the descriptor before `mark.next` reports.
    #[inline(always)]
    pub(super) fn push(&mut self, mark: Mark) {
        let mask = self.marks.len() - 1;
        self.marks[self.last & mask] = mark;
        self.last = self.last.wrapping_add(1);
    }

    /// The newest report of those that came in, in order.
    #[inline(always)]
    pub(super) fn take(&mut self, ring: &Ring<Short>) -> Option<Mark> {
        let mut newest = None;
        while self.first != self.last {
            let mark = self.at(self.first);
            if !has_reported(ring, mark) {
                break;
            }
            newest = Some(mark);
            self.first = self.first.wrapping_add(1);
        }
        newest
    }

    /// The newest report that came in, even if an older one is missing: descriptors are done in order,
    /// so that one was lost. For when room is short.
    #[cold]
    pub(super) fn take_any(&mut self, ring: &Ring<Short>) -> Option<Mark> {
        let mut at = self.last;
        while at != self.first {
            at = at.wrapping_sub(1);
            let mark = self.at(at);
            if has_reported(ring, mark) {
                self.first = at.wrapping_add(1);
                return Some(mark);
            }
        }
        None
    }
}

#[inline(always)]
fn has_reported(ring: &Ring<Short>, mark: Mark) -> bool {
    ring.at(mark.next.wrapping_sub(1)).load_done(1) & DONE != 0
}
