//! Writes captures with nanosecond timestamps. Holds up to 1 MiB, made at the start, and writes it in
//! one piece; knows no files: whatever takes bytes will do.

use std::io::{self, ErrorKind, Write};

use super::{WriteError, reader::MAX_CAPTURED};

/// A capture format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The classic format, with nanoseconds (magic number a1b23c4d).
    #[default]
    Pcap,
    /// The next generation, with nanoseconds.
    Pcapng,
}

const BUFFER: usize = 1 << 20;
/// What a record has beyond its data, at most: a block of 32 bytes and padding.
const OVERHEAD: usize = 36;
const _: () = assert!(BUFFER > MAX_CAPTURED + OVERHEAD + 128);

impl Format {
    /// Bytes of the file's header.
    #[must_use]
    pub const fn header_len(self) -> usize {
        match self {
            Self::Pcap => 24,
            Self::Pcapng => 28 + 32,
        }
    }

    /// Bytes of a record with this many bytes of data.
    #[must_use]
    pub const fn record_len(self, captured: usize) -> usize {
        match self {
            Self::Pcap => 16 + captured,
            Self::Pcapng => 32 + captured.next_multiple_of(4),
        }
    }
}

/// Writes frames into a capture. Dropping it writes what it holds; [`Writer::finish`] also says
/// whether that worked.
pub struct Writer<W: Write> {
    /// `None` once it was taken out.
    sink: Option<W>,
    format: Format,
    snaplen: usize,
    buffer: Vec<u8>,
    /// Bytes that the sink took.
    written: u64,
    frames: usize,
    /// After an error, nothing more is written.
    dead: bool,
}

impl<W: Write> Writer<W> {
    /// Starts a capture; nothing is written yet.
    #[must_use]
    pub fn new(sink: W, format: Format) -> Self {
        Self::with_snaplen(sink, format, MAX_CAPTURED)
    }

    /// Starts a capture that keeps at most `snaplen` bytes of a frame.
    #[must_use]
    pub fn with_snaplen(sink: W, format: Format, snaplen: usize) -> Self {
        let mut writer = Self {
            sink: Some(sink),
            format,
            snaplen: snaplen.clamp(1, MAX_CAPTURED),
            buffer: Vec::with_capacity(BUFFER),
            written: 0,
            frames: 0,
            dead: false,
        };
        writer.start();
        writer
    }

    fn start(&mut self) {
        let snaplen = narrow(self.snaplen);
        match self.format {
            Format::Pcap => {
                self.words(&[0xa1b2_3c4d, 4 << 16 | 2, 0, 0, snaplen, 1]);
            }
            Format::Pcapng => {
                // Section header: type, length, byte order, version 1.0, length unknown.
                self.words(&[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28]);
                // Interface: Ethernet; if_tsresol (9), one byte: 10^-9; end of options.
                self.words(&[1, 32, 1, snaplen, 1 << 16 | 9, 9, 0, 32]);
            }
        }
    }

    /// Ends this capture and begins another of the same kind in `sink`; yields the old sink.
    ///
    /// # Errors
    /// The old one could not be written to its end.
    pub(super) fn restart(&mut self, sink: W) -> Result<Option<W>, WriteError> {
        self.flush()?;
        let old = self.sink.replace(sink);
        (self.written, self.frames) = (0, 0);
        self.start();
        Ok(old)
    }

    /// Bytes of the capture so far, whether they have left the buffer or not.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Whether no frame was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Bytes that are kept of a frame of `len`.
    #[must_use]
    pub fn captured(&self, len: usize) -> usize {
        len.min(self.snaplen)
    }

    /// Where the bytes go.
    pub(super) fn sink(&self) -> Option<&W> {
        self.sink.as_ref()
    }

    /// Writes one frame, stamped with nanoseconds since 1970.
    ///
    /// # Errors
    /// The sink refused. Frames taken before may be lost; the error says how many.
    pub fn write(&mut self, timestamp: u64, frame: &[u8]) -> Result<(), WriteError> {
        self.write_parts(timestamp, frame.len(), std::iter::once(frame))
    }

    /// Writes one frame of `len` bytes that stands in several places.
    ///
    /// # Errors
    /// As [`Writer::write`].
    ///
    /// # Panics
    /// If the parts are shorter than `len`, together.
    pub fn write_parts<'p>(
        &mut self,
        timestamp: u64,
        len: usize,
        parts: impl Iterator<Item = &'p [u8]>,
    ) -> Result<(), WriteError> {
        let captured = self.captured(len);
        if self.buffer.len() + self.format.record_len(captured) > BUFFER || self.dead {
            self.flush()?;
        }
        let (caplen, original) = (narrow(captured), narrow(len));
        let block = narrow(self.format.record_len(captured));
        match self.format {
            Format::Pcap => {
                let seconds = u32::try_from(timestamp / 1_000_000_000).unwrap_or(u32::MAX);
                let fraction = narrow_u64(timestamp % 1_000_000_000);
                self.words(&[seconds, fraction, caplen, original]);
            }
            Format::Pcapng => {
                let (high, low) =
                    (narrow_u64(timestamp >> 32), narrow_u64(timestamp & 0xffff_ffff));
                self.words(&[6, block, 0, high, low, caplen, original]);
            }
        }
        let mut left = captured;
        for part in parts {
            let count = part.len().min(left);
            self.buffer.extend_from_slice(&part[..count]);
            left -= count;
        }
        assert!(left == 0, "a frame of {len} B came {left} B short");
        if self.format == Format::Pcapng {
            let padding = captured.next_multiple_of(4) - captured;
            self.buffer.extend_from_slice(&[0; 3][..padding]);
            self.words(&[block]);
        }
        self.frames += 1;
        Ok(())
    }

    #[inline(always)]
    fn words<const N: usize>(&mut self, words: &[u32; N]) {
        self.buffer.extend_from_slice(words.map(u32::to_le_bytes).as_flattened());
    }

    /// Writes out what is held.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn flush(&mut self) -> Result<(), WriteError> {
        if self.dead {
            let source = io::Error::other("writing failed before");
            return Err(WriteError { source, whole: self.written, lost_frames: 0, lost_bytes: 0 });
        }
        let Some(sink) = &mut self.sink else {
            return Ok(());
        };
        let mut done = 0;
        let failed = loop {
            if done == self.buffer.len() {
                break sink.flush().err();
            }
            match sink.write(&self.buffer[done..]) {
                Ok(0) => break Some(ErrorKind::WriteZero.into()),
                Ok(more) => done += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
        };
        let Some(source) = failed else {
            self.written += done as u64;
            self.buffer.clear();
            return Ok(());
        };
        self.dead = true;
        let (whole, lost_frames, lost_bytes) = self.lost(done);
        self.written += whole as u64;
        self.buffer.clear();
        Err(WriteError { source, whole: self.written, lost_frames, lost_bytes })
    }

    /// Of what is held, of which the sink took `done` bytes: bytes of the whole records among those,
    /// and frames and bytes of the others.
    #[cold]
    fn lost(&self, done: usize) -> (usize, usize, usize) {
        let mut at = if self.written == 0 { self.format.header_len() } else { 0 };
        let (mut whole, mut frames, mut bytes) = (if done < at { 0 } else { at }, 0, 0);
        let word = |at: usize| super::classic::word(&self.buffer, at, false) as usize;
        while at < self.buffer.len() {
            let lengths = at + if self.format == Format::Pcap { 8 } else { 20 };
            at += self.format.record_len(word(lengths));
            if at <= done {
                whole = at;
            } else {
                (frames, bytes) = (frames + 1, bytes + word(lengths + 4));
            }
        }
        (whole, frames, bytes)
    }

    /// Writes out what is held and yields the sink.
    ///
    /// # Errors
    /// As [`Writer::write`].
    ///
    /// # Panics
    /// Never: the sink is there until this call.
    pub fn finish(mut self) -> Result<W, WriteError> {
        self.flush()?;
        Ok(self.sink.take().expect("the sink is there until it is finished"))
    }
}

impl<W: Write> Drop for Writer<W> {
    fn drop(&mut self) {
        if !self.dead {
            // Whoever wants to know calls `finish`.
            let _ = self.flush();
        }
    }
}

/// Lengths here are checked to be far below 2^32, but for a frame's original length.
fn narrow(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn narrow_u64(half: u64) -> u32 {
    u32::try_from(half).unwrap_or(u32::MAX)
}
