//! What is told of a consumer in another process.

use std::{collections::BTreeMap, fmt::Write};

use serde::Serialize;

use crate::{handover::server::Server, report::reasons, totals::Totals};

/// What became of blocks for a consumer in another process: `complete + partial = shown + unconsumed`, and
/// `shown = returned + scrubbed + unreturned` when all is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConsumerReport {
    /// Where it came to.
    pub socket: String,
    /// Consumers that were shown blocks.
    pub attached: u64,
    /// Consumers that were sent away.
    pub refused: u64,
    /// Blocks shown.
    pub shown: u64,
    /// Of those, blocks that the consumer returned.
    pub returned: u64,
    /// Taken back as their consumer was gone.
    pub scrubbed: u64,
    /// Still out when the run ended.
    pub unreturned: u64,
    /// Blocks that no consumer was there for, or had room for.
    pub unconsumed: u64,
    /// Blocks that were out for longer than `--consumer-deadline`.
    pub overdue: u64,
    /// Slots that are shown now, beside what the pools count as held.
    pub shown_slots: u64,
    /// Returns that were not taken, by reason.
    pub refusals: BTreeMap<&'static str, u64>,
}

impl ConsumerReport {
    /// Of a run.
    #[must_use]
    pub fn new(server: &Server, totals: &Totals) -> Self {
        let Totals { shown, returned, scrubbed, unreturned, unconsumed, overdue, .. } = *totals;
        let refusals = [
            ("out_of_range", totals.out_of_range),
            ("wrong_generation", totals.wrong_generation),
            ("forged", totals.forged),
            ("never_shown", totals.never_shown),
            ("repeated", totals.repeated),
        ];
        let (attached, refused) = (server.visits().attached(), server.visits().refused());
        Self {
            socket: server.path().display().to_string(),
            attached,
            refused,
            shown,
            returned,
            scrubbed,
            unreturned,
            unconsumed,
            overdue,
            shown_slots: totals.shown_slots,
            refusals: refusals.into(),
        }
    }

    /// Whether every block of so many is accounted for.
    pub(crate) fn is_balanced(&self, blocks: u64) -> bool {
        blocks == self.shown + self.unconsumed
            && self.shown == self.returned + self.scrubbed + self.unreturned
            && self.shown_slots == 0
    }

    /// Two lines for people.
    pub(crate) fn write(&self, to: &mut String) -> std::fmt::Result {
        let Self { attached, refused, shown, returned, scrubbed, unreturned, .. } = self;
        let Self { unconsumed, overdue, shown_slots, refusals, .. } = self;
        writeln!(
            to,
            "remote  {attached} attached  {refused} sent away  shown {shown}  returned {returned}  \
             scrubbed {scrubbed}  unreturned {unreturned}  unconsumed {unconsumed}  overdue {overdue}"
        )?;
        let wrong = refusals.iter().filter(|(_, count)| **count > 0);
        writeln!(
            to,
            "shown   {shown_slots} slots  returns refused {}{}",
            refusals.values().sum::<u64>(),
            reasons(wrong)
        )
    }
}
