//! Where frames go: capture files, lines for people, or a tape to the thread that writes. Each holds what it has for a while; nobody
//! waits longer than a tenth of a second for it.

use std::{
    io::{self, ErrorKind, Write},
    time::{Duration, Instant},
};

use pmd::pcap::{Files, Note, Packet, Statistics, TapeWriter, WriteError};

use crate::line::print_line;

/// How long a frame is held at most, and how long while nothing else comes.
const HELD: Duration = Duration::from_millis(100);
const HELD_IDLE: Duration = Duration::from_millis(10);
/// Rounds between two looks at the clock.
const ROUNDS: u32 = 64;
/// Bytes of text that are printed at once.
const TEXT: usize = 32 << 10;

/// An end of the run, as far as writing is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// What to tell.
    pub(crate) why: String,
    /// Whether the reader of a pipe has had enough: no error.
    pub(crate) is_reader_gone: bool,
    /// Frames that were taken for writing and are not there.
    pub(crate) lost: usize,
}

impl From<WriteError> for Broken {
    fn from(error: WriteError) -> Self {
        Self {
            why: error.to_string(),
            is_reader_gone: is_reader_gone(&error.source),
            lost: error.lost_frames,
        }
    }
}

/// Whether it was the reader of a pipe who left, or kept us waiting when it was time to stop.
fn is_reader_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::TimedOut)
}

/// Where frames go.
pub(crate) enum Target {
    /// Capture files.
    Files(Box<Files>),
    /// Lines on stdout.
    Lines(Lines),
    /// A tape, and the bytes kept of a frame: where several workers share one file.
    Tape(TapeWriter, usize),
    /// Nowhere: with `--json`, stdout is for that.
    Count,
}

impl Target {
    /// Writes one frame that stands in `parts`; false if there was no room for it.
    #[inline(always)]
    pub(crate) fn write<'p>(
        &mut self,
        packet: &Packet,
        note: Option<&Note<'_>>,
        parts: impl Iterator<Item = &'p [u8]>,
    ) -> Result<bool, Broken> {
        match (self, note) {
            (Self::Files(files), None) => files.write(packet, parts)?,
            (Self::Files(files), Some(note)) => files.write_noted(packet, note, parts)?,
            (Self::Tape(tape, snaplen), _) => return Ok(tape.push(packet, None, *snaplen, parts)),
            (Self::Lines(lines), _) => lines.write(packet, parts)?,
            (Self::Count, _) => {}
        }
        Ok(true)
    }

    /// Ends a burst.
    #[inline]
    pub(crate) fn commit(&mut self) {
        if let Self::Tape(tape, _) = self {
            tape.commit();
        }
    }

    /// Lets go of the tape, if it is one: the other end reads it to its end.
    pub(crate) fn leave(&mut self) {
        if matches!(self, Self::Tape(..)) {
            *self = Self::Count;
        }
    }

    /// What was counted so far, for the file's end.
    pub(crate) fn set_statistics(&mut self, counts: impl IntoIterator<Item = Statistics>) {
        if let Self::Files(files) = self {
            files.set_statistics(counts);
        }
    }

    /// Whether counts are asked for while it runs.
    pub(crate) fn rotates(&self) -> bool {
        matches!(self, Self::Files(files) if files.options().rotates())
    }

    fn held(&self) -> usize {
        match self {
            Self::Files(files) => files.held(),
            Self::Lines(lines) => lines.text.len(),
            Self::Tape(..) | Self::Count => 0,
        }
    }

    fn flush(&mut self) -> Result<(), Broken> {
        match self {
            Self::Files(files) => Ok(files.flush()?),
            Self::Lines(lines) => lines.flush(),
            Self::Tape(..) | Self::Count => Ok(()),
        }
    }

    /// Writes all there is; returns files begun and the bytes of the last one.
    pub(crate) fn finish(self) -> (u64, u64, Result<(), Broken>) {
        match self {
            Self::Files(files) => {
                let (begun, bytes) = (files.begun(), files.file_len());
                (begun, bytes, files.finish().map_err(Broken::from))
            }
            Self::Lines(mut lines) => (0, 0, lines.flush()),
            Self::Tape(..) | Self::Count => (0, 0, Ok(())),
        }
    }
}

/// Lines on stdout.
pub(crate) struct Lines {
    /// Of the ports.
    names: Vec<String>,
    text: String,
    /// Lines in `text`.
    waiting: usize,
    /// A frame of several segments, in one piece.
    whole: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(names: Vec<String>) -> Self {
        let text = String::with_capacity(TEXT + 1024);
        Self { names, text, waiting: 0, whole: Vec::new() }
    }

    fn write<'p>(
        &mut self,
        packet: &Packet,
        mut parts: impl Iterator<Item = &'p [u8]>,
    ) -> Result<(), Broken> {
        if self.text.len() >= TEXT {
            self.flush()?;
        }
        let first = parts.next().unwrap_or_default();
        let bytes = if first.len() < packet.captured {
            self.whole.clear();
            self.whole.extend(first);
            parts.for_each(|part| self.whole.extend(part));
            &self.whole
        } else {
            first
        };
        let port = &self.names[packet.interface as usize];
        // A String takes any text.
        let _ = print_line(&mut self.text, packet.timestamp, port, bytes, packet.len);
        self.waiting += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Broken> {
        let mut stdout = io::stdout().lock();
        let wrote = stdout.write_all(self.text.as_bytes()).and_then(|()| stdout.flush());
        self.text.clear();
        let lost = std::mem::take(&mut self.waiting);
        wrote.map_err(|error| Broken {
            why: format!("writing to stdout: {error}"),
            is_reader_gone: is_reader_gone(&error),
            lost,
        })
    }
}

/// Sees to it that nothing is held for long, without a look at the clock per round.
pub(crate) struct Pulse {
    last: Instant,
    rounds: u32,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self { last: Instant::now(), rounds: 0 }
    }

    /// Ends a round.
    #[inline]
    pub(crate) fn round(&mut self, got: usize, target: &mut Target) -> Result<(), Broken> {
        self.rounds = self.rounds.wrapping_add(1);
        if (got > 0 && !self.rounds.is_multiple_of(ROUNDS)) || target.held() == 0 {
            return Ok(());
        }
        self.look(got, target)
    }

    #[cold]
    fn look(&mut self, got: usize, target: &mut Target) -> Result<(), Broken> {
        let now = Instant::now();
        let limit = if got > 0 { HELD } else { HELD_IDLE };
        if now - self.last >= limit {
            self.last = now;
            target.flush()?;
        }
        Ok(())
    }
}
