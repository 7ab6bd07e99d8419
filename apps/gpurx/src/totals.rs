//! What a worker counts: plain numbers that it adds to, published once per burst for whoever watches.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::place;

macro_rules! totals {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A worker's counts at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        struct Cells {
            $($name: AtomicU64,)*
        }

        impl Totals {
            /// Counts all of `other` too.
            pub fn merge(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }

        impl Published {
            /// States the counts. The owner's alone to call.
            #[inline]
            pub fn state(&self, totals: &Totals) {
                // Relaxed: figures for a report, each whole.
                $(self.0.$name.store(totals.$name, Ordering::Relaxed);)*
            }

            /// The counts now, at most a burst old.
            #[must_use]
            pub fn snapshot(&self) -> Totals {
                Totals { $($name: self.0.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

/// Counts that other threads may read. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Published(Arc<Cells>);

totals! {
    /// Rows handed over; with sinks that place nothing, frames of the flow.
    rows,
    /// Frames of other flows.
    foreign,
    /// Frames of the flow without a valid header, or too long for a row.
    invalid,
    /// Frames of the flow without a payload behind the header.
    unsplit,
    /// Frames whose block was handed over before they came.
    late,
    /// Frames whose row was there already.
    duplicate,
    /// Frames with a number far from all others.
    jump,
    /// Rows that never came.
    missing,
    /// Rows that came after a later one.
    reordered,
    /// Rows that were what was sent.
    ok,
    /// Rows that were not.
    bad,
    /// Blocks with all their rows.
    complete,
    /// Blocks without.
    partial,
    /// Rows moved for a contiguous tensor.
    rows_moved,
    /// Blocks moved whole.
    relocated,
    /// Times the stream was taken up elsewhere.
    resyncs,
    /// Payload bytes that the host copied or looked at.
    touched,
    /// Frames of the flow whose payloads were dropped: their memory was revoked.
    revoked,
    /// Rows that are in host memory: that for payloads was revoked.
    rows_to_host,
    /// Blocks shown to a consumer that keeps them.
    shown,
    /// Of those, blocks that it returned.
    returned,
    /// Blocks taken back as their consumer was gone.
    scrubbed,
    /// Blocks that were still out when the run ended.
    unreturned,
    /// Blocks that no consumer was there for, or had room for.
    unconsumed,
    /// Blocks that were out longer than they may be.
    overdue,
    /// Returns of entries that the ring does not have.
    out_of_range,
    /// Returns of another generation of the ring.
    wrong_generation,
    /// Returns whose entry is not the one of their serial.
    forged,
    /// Returns of blocks that were not shown yet.
    never_shown,
    /// Returns of blocks that were returned already.
    repeated,
    /// Slots that are shown now.
    shown_slots,
    /// Times that payload memory ran short.
    shortages,
    /// Nanoseconds of that, in all.
    shortage_ns,
    /// Rows in host memory that took the place of a device's.
    spilled,
    /// Slots that were posted although their run was not whole.
    coalesced,
    /// Blocks that waited and were dropped.
    blocks_shed,
    /// Rows in them.
    rows_shed,
}

impl Totals {
    /// Takes over what the placement counts.
    pub fn placed(&mut self, counters: &place::Counters) {
        let place::Counters {
            complete,
            partial,
            rows,
            missing,
            reordered,
            duplicate,
            late,
            jump,
            resyncs,
            rows_moved,
            relocated,
        } = *counters;
        (self.complete, self.partial, self.rows, self.missing) = (complete, partial, rows, missing);
        (self.reordered, self.duplicate) = (reordered, duplicate);
        (self.late, self.jump, self.resyncs) = (late, jump, resyncs);
        (self.rows_moved, self.relocated) = (rows_moved, relocated);
    }

    /// Frames accounted for. Once nothing is open: what the queue delivered.
    #[must_use]
    pub fn frames(&self) -> u64 {
        let Self { rows, foreign, invalid, unsplit, late, duplicate, jump, revoked, .. } = self;
        rows + foreign + invalid + unsplit + late + duplicate + jump + revoked
    }
}
