//! Payload memory that runs short, because a consumer keeps blocks: when that begins and ends, which step is due,
//! and what is told of it. Numbers only; whoever has the memory takes the steps. Nothing here runs while
//! there is enough but one comparison per posting.
//!
//! The steps, each taken only while the one before does not suffice:
//!
//! 1. *event*: less than a quarter of the ring is posted, and there is nothing to post;
//! 2. *coalesce*: empty slots of runs that are not whole are posted too;
//! 3. *grow*: an area of the same memory is added to the pool (`--grow`);
//! 4. *spill*: an area of host memory is, rows in which are counted (`--spill`);
//! 5. *shed*: less than an eighth is posted: blocks that wait for their consumer are dropped whole, the one that
//!    has waited longest first, so that what is received stays whole and heads keep flowing.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::totals::Totals;

/// How often the log hears of it, at most.
const TELL: Duration = Duration::from_secs(1);

/// One queue's memory.
#[derive(Clone, Copy, Debug)]
pub struct Shortage {
    /// Slots posted below which memory is short, below which blocks are shed, and from which on there is enough
    /// again.
    low: u32,
    least: u32,
    enough: u32,
    /// When it became short, in nanoseconds since the worker started.
    since: Option<u64>,
    events: u64,
    /// Nanoseconds of those that are over.
    lasted: u64,
    blocks_shed: u64,
    rows_shed: u64,
}

impl Shortage {
    /// Of a queue with a ring of so many descriptors; there is enough.
    #[must_use]
    pub fn new(ring: usize) -> Self {
        let ring = u32::try_from(ring).unwrap_or(u32::MAX);
        let (low, least, enough) = ((ring / 4).max(1), (ring / 8).max(1), (ring / 2).max(1));
        Self { low, least, enough, since: None, events: 0, lasted: 0, blocks_shed: 0, rows_shed: 0 }
    }

    /// Whether memory is short, or so little is posted that it may be.
    #[inline]
    #[must_use]
    pub fn may_be(&self, posted: u32) -> bool {
        posted < self.low || self.since.is_some()
    }

    /// Whether memory is short.
    #[inline]
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// After posting, with so many slots posted now; `is_dry` if there is nothing left to post. Returns
    /// whether memory is short.
    #[cold]
    pub fn look(&mut self, posted: u32, is_dry: bool, now: u64) -> bool {
        match self.since {
            None if posted < self.low && is_dry => {
                self.since = Some(now);
                self.events += 1;
            }
            Some(since) if posted >= self.enough => {
                self.lasted += now.saturating_sub(since);
                self.since = None;
            }
            _ => {}
        }
        self.is_on()
    }

    /// Whether blocks that wait are to be dropped: there are so many slots, posted or to be posted.
    #[must_use]
    pub fn sheds(&self, slots: u32) -> bool {
        self.is_on() && slots < self.least
    }

    /// A block with so many rows was dropped.
    pub fn shed(&mut self, rows: u32) {
        self.blocks_shed += 1;
        self.rows_shed += u64::from(rows);
    }

    /// States what was counted; `coalesced` slots were posted although their run was not whole.
    pub fn count(&self, coalesced: u64, now: u64, totals: &mut Totals) {
        let lasting = self.since.map_or(0, |since| now.saturating_sub(since));
        totals.shortages = self.events;
        totals.shortage_ns = self.lasted + lasting;
        totals.coalesced = coalesced;
        (totals.blocks_shed, totals.rows_shed) = (self.blocks_shed, self.rows_shed);
    }
}

/// Areas that came when memory was short and went when it was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GrowthReport {
    /// Areas that were added to pools.
    pub(crate) areas_added: u64,
    /// Areas that were taken out again.
    pub(crate) areas_removed: u64,
    /// Most slots that all payload pools had at a time.
    pub(crate) peak_slots: u64,
}

/// What was done about payload memory that ran short.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ShortageReport {
    /// Times that less than a quarter of a ring was posted, and nothing was left to post.
    pub events: u64,
    /// Milliseconds until half of it was posted again, in all.
    pub ms: f64,
    /// Slots that were posted although their run was not whole.
    pub slots_coalesced: u64,
    /// Areas that were added to payload pools.
    pub areas_added: u64,
    /// Areas that were taken out again.
    pub areas_removed: u64,
    /// Most slots that all payload pools had at a time.
    pub peak_slots: u64,
    /// Rows in host memory that took the place of a device's.
    pub rows_to_host: u64,
    /// Blocks that waited for a consumer and were dropped.
    pub blocks_shed: u64,
    /// Rows in them.
    pub rows_shed: u64,
}

impl ShortageReport {
    /// Of what the workers counted, and of areas.
    pub(crate) fn new(totals: &Totals, growth: GrowthReport) -> Self {
        let GrowthReport { areas_added, areas_removed, peak_slots } = growth;
        Self {
            areas_added,
            areas_removed,
            peak_slots,
            rows_to_host: totals.spilled,
            events: totals.shortages,
            ms: totals.shortage_ns as f64 / 1e6,
            slots_coalesced: totals.coalesced,
            blocks_shed: totals.blocks_shed,
            rows_shed: totals.rows_shed,
        }
    }

    /// A line for people; none if nothing happened.
    pub(crate) fn write(&self, to: &mut String) -> std::fmt::Result {
        let Self { events, ms, slots_coalesced, blocks_shed, rows_shed, .. } = self;
        if *events + blocks_shed == 0 {
            return Ok(());
        }
        write!(to, "short   {events} times, {ms:.1} ms in all  coalesced {slots_coalesced} slots")?;
        let Self { areas_added, areas_removed, peak_slots, rows_to_host, .. } = self;
        if *areas_added > 0 {
            write!(
                to,
                "  areas added {areas_added}, removed {areas_removed}, {peak_slots} slots at most, rows to \
                 host {rows_to_host}"
            )?;
        }
        writeln!(to, "  shed {blocks_shed} blocks, {rows_shed} rows")
    }
}

/// Tells the log of shortages, once a second at most.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    told: ShortageReport,
    at: Option<Instant>,
}

impl Teller {
    /// Tells what is new, if it is time to.
    pub(crate) fn tick(&mut self, totals: &Totals) {
        let now = ShortageReport::new(totals, GrowthReport::default());
        let is_early = self.at.is_some_and(|at| at.elapsed() < TELL);
        if is_early || now == self.told {
            return;
        }
        let new = now.events - self.told.events.min(now.events);
        tracing::warn!(
            shortages = now.events,
            new,
            ms = now.ms.round(),
            coalesced = now.slots_coalesced,
            blocks_shed = now.blocks_shed,
            "payload memory ran short: a consumer is slow"
        );
        (self.told, self.at) = (now, Some(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_counted_once_until_half_of_the_ring_is_posted_again() {
        let mut shortage = Shortage::new(64);
        assert!(!shortage.may_be(16) && !shortage.is_on());
        assert!(shortage.may_be(15));
        assert!(!shortage.look(15, false, 1), "there is something to post");
        assert!(shortage.look(15, true, 1_000_000));
        assert!(shortage.look(3, true, 2_000_000) && shortage.look(31, false, 3_000_000));
        assert!(!shortage.look(32, false, 4_000_000));
        assert!(shortage.look(0, true, 9_000_000));
        let mut totals = Totals::default();
        shortage.count(7, 9_500_000, &mut totals);
        let report = ShortageReport::new(&totals, GrowthReport::default());
        assert_eq!((report.events, report.slots_coalesced), (2, 7));
        assert!((report.ms - 3.5).abs() < 1e-9, "{report:?}");
    }

    #[test]
    fn blocks_are_shed_below_an_eighth_and_only_while_it_is_short() {
        let mut shortage = Shortage::new(64);
        assert!(!shortage.sheds(0));
        shortage.look(0, true, 0);
        assert!(shortage.sheds(7) && !shortage.sheds(8));
        shortage.shed(100);
        let mut totals = Totals::default();
        shortage.count(0, 0, &mut totals);
        let report = ShortageReport::new(&totals, GrowthReport::default());
        assert_eq!((report.blocks_shed, report.rows_shed), (1, 100));
        let mut text = String::new();
        report.write(&mut text).unwrap();
        assert_eq!(
            text,
            "short   1 times, 0.0 ms in all  coalesced 0 slots  shed 1 blocks, 100 rows\n"
        );
    }

    #[test]
    fn nothing_is_told_when_nothing_happened() {
        let mut text = String::new();
        ShortageReport::default().write(&mut text).unwrap();
        assert_eq!(text, "");
    }
}
