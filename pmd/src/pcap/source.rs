//! Where a receive queue's frames come from: a file read as it is needed, or an arena replayed for
//! ever. Knows no buffers.

use std::sync::Arc;

use super::{
    ReadError, Reader,
    arena::{Arena, Entry},
    flow::Share,
    input::Input,
    reader::Step,
};

/// A frame, as the queue needs it.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) timestamp: Option<u64>,
    pub(super) truncated: bool,
    /// Nanoseconds after the first frame of the file.
    pub(super) due: u64,
}

/// Yields one frame after the other.
pub(super) trait Source: Send {
    /// Goes on to the next frame of this queue. An error comes once, then the end.
    fn advance(&mut self) -> Result<Step, ReadError>;

    /// The frame that [`Source::advance`] found.
    fn item(&self) -> Item<'_>;
}

/// Frames of other queues that are passed over in one go: bounds the time of a poll.
const PASSED: usize = 1024;

/// A file read as it is needed.
pub(super) struct Streamed {
    reader: Reader<Input>,
    share: Share,
    first: Option<u64>,
}

impl Streamed {
    pub(super) fn new(reader: Reader<Input>, share: Share) -> Self {
        Self { reader, share, first: None }
    }
}

impl Source for Streamed {
    #[inline]
    fn advance(&mut self) -> Result<Step, ReadError> {
        for _ in 0..PASSED {
            let step = self.reader.advance()?;
            if step != Step::Frame {
                return Ok(step);
            }
            let record = self.reader.record();
            if self.first.is_none() {
                self.first = record.timestamp;
            }
            if self.share.has(record.number, record.bytes) {
                return Ok(Step::Frame);
            }
        }
        Ok(Step::Pending)
    }

    #[inline]
    fn item(&self) -> Item<'_> {
        let record = self.reader.record();
        let first = self.first.unwrap_or(0);
        Item {
            bytes: record.bytes,
            timestamp: record.timestamp,
            truncated: record.is_truncated(),
            due: record.timestamp.map_or(0, |time| time.saturating_sub(first)),
        }
    }
}

/// An arena replayed for ever.
pub(super) struct Looped {
    arena: Arc<Arena>,
    table: Vec<Entry>,
    /// The frame after the current one.
    next: usize,
    current: usize,
    /// When this round began, in nanoseconds after the first.
    round: u64,
    period: u64,
}

impl Looped {
    pub(super) fn new(arena: Arc<Arena>, table: Vec<Entry>) -> Self {
        let period = arena.period();
        Self { arena, table, next: 0, current: 0, round: 0, period }
    }
}

impl Source for Looped {
    fn advance(&mut self) -> Result<Step, ReadError> {
        if self.table.is_empty() {
            return Ok(Step::Pending);
        }
        if self.next == self.table.len() {
            self.next = 0;
            // A capture may claim centuries: its next round is due at the end of time, then.
            self.round = self.round.saturating_add(self.period);
        }
        self.current = self.next;
        self.next += 1;
        Ok(Step::Frame)
    }

    fn item(&self) -> Item<'_> {
        let entry = self.table[self.current];
        Item {
            bytes: self.arena.bytes(entry),
            timestamp: entry.is_stamped().then_some(entry.timestamp),
            truncated: entry.is_truncated(),
            due: self.round.saturating_add(entry.timestamp.saturating_sub(self.arena.first())),
        }
    }
}
