//! A capture held in memory for replay: frames in one span, a table of who is where.

use std::io::Read;

use super::{ReadError, Reader, flow::Share, reader::Record};

/// The unit of the span: a cache line, and the copy that costs least.
pub(super) const LINE: usize = 64;
/// Bytes a replayed capture may take.
pub(super) const LIMIT: usize = 1 << 30;

/// One frame of an arena.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// First line of the frame.
    pub(super) line: u32,
    /// Bytes, and in the top bit whether the frame was truncated.
    len: u32,
    /// Nanoseconds since 1970; the frame's number stands in the table's order.
    pub(super) timestamp: u64,
}

const TRUNCATED: u32 = 1 << 31;
const UNSTAMPED: u32 = 1 << 30;
const _: () = assert!(super::reader::MAX_CAPTURED < UNSTAMPED as usize);

impl Entry {
    #[inline(always)]
    pub(super) fn len(self) -> usize {
        (self.len & !(TRUNCATED | UNSTAMPED)) as usize
    }

    #[inline(always)]
    pub(super) fn is_truncated(self) -> bool {
        self.len & TRUNCATED != 0
    }

    #[inline(always)]
    pub(super) fn is_stamped(self) -> bool {
        self.len & UNSTAMPED == 0
    }
}

/// Frames in memory; each starts a line, and the last line of each is filled with zeros.
#[derive(Default)]
pub(super) struct Arena {
    lines: Vec<[u8; LINE]>,
    entries: Vec<Entry>,
}

/// Why a capture cannot be held.
pub(super) enum LoadError {
    /// It is broken.
    Read(ReadError),
    /// It is larger than [`LIMIT`].
    TooLarge,
}

impl Arena {
    /// Reads all of a capture, from a source that waits.
    pub(super) fn load<R: Read>(reader: &mut Reader<R>) -> Result<Self, LoadError> {
        let mut arena = Self::default();
        loop {
            match reader.read_record() {
                Ok(Some(record)) => arena.push(&record)?,
                Ok(None) => return Ok(arena),
                Err(error) => return Err(LoadError::Read(error)),
            }
        }
    }

    fn push(&mut self, record: &Record<'_>) -> Result<(), LoadError> {
        let line = u32::try_from(self.lines.len()).map_err(|_| LoadError::TooLarge)?;
        let (chunks, rest) = record.bytes.as_chunks::<LINE>();
        self.lines.extend_from_slice(chunks);
        if !rest.is_empty() {
            let mut last = [0; LINE];
            last[..rest.len()].copy_from_slice(rest);
            self.lines.push(last);
        }
        let mut len = u32::try_from(record.bytes.len()).map_err(|_| LoadError::TooLarge)?;
        if record.is_truncated() {
            len |= TRUNCATED;
        }
        if record.timestamp.is_none() {
            len |= UNSTAMPED;
        }
        self.entries.push(Entry { line, len, timestamp: record.timestamp.unwrap_or(0) });
        let held = self.lines.len() * LINE + self.entries.len() * size_of::<Entry>();
        if held > LIMIT { Err(LoadError::TooLarge) } else { Ok(()) }
    }

    /// The table of one queue's frames.
    pub(super) fn share(&self, share: Share) -> Vec<Entry> {
        (1..)
            .zip(&self.entries)
            .filter(|(number, entry)| share.has(*number, self.bytes(**entry)))
            .map(|(_, entry)| *entry)
            .collect()
    }

    /// All lines.
    #[inline(always)]
    pub(super) fn lines(&self) -> &[[u8; LINE]] {
        &self.lines
    }

    /// A frame's bytes.
    #[inline(always)]
    pub(super) fn bytes(&self, entry: Entry) -> &[u8] {
        let at = entry.line as usize * LINE;
        &self.lines.as_flattened()[at..at + entry.len()]
    }

    /// The time of the first frame.
    pub(super) fn first(&self) -> u64 {
        self.entries.first().map_or(0, |entry| entry.timestamp)
    }

    /// Nanoseconds from the first frame to the next round's first: from first to last, and a mean
    /// gap behind the last.
    pub(super) fn period(&self) -> u64 {
        let first = self.first();
        let last = self.entries.iter().map(|entry| entry.timestamp).max().unwrap_or(first);
        let gaps = self.entries.len().saturating_sub(1).max(1) as u64;
        let span = last - first;
        span.saturating_add(span / gaps)
    }
}
