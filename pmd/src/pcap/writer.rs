//! Writes captures with nanosecond timestamps. Holds up to 1 MiB, made at the start, and writes it in
//! one piece; knows no files: whatever takes bytes will do.

use std::io::{self, ErrorKind, Write};

use super::{
    Interface, Note, Section, Statistics, WriteError,
    reader::MAX_CAPTURED,
    section::{put_interface, put_note, put_section, put_statistics},
};

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
/// Room for the options of a frame, or for a statistics block.
const OPTIONS: usize = 8 << 10;
const _: () = assert!(BUFFER > MAX_CAPTURED + OVERHEAD + OPTIONS);
/// Type of the block that a frame is in.
const ENHANCED_PACKET: u32 = 6;

impl Format {
    /// Bytes of the file's header, where it says nothing but the least.
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

/// A frame to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Which of the capture's interfaces it is of, from 0; the classic format knows none.
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub timestamp: u64,
    /// Its bytes on the wire, without FCS.
    pub len: usize,
    /// How many of those are there to be written.
    pub captured: usize,
}

impl Packet {
    /// A frame that is all there.
    #[inline]
    #[must_use]
    pub const fn whole(interface: u32, timestamp: u64, len: usize) -> Self {
        Self { interface, timestamp, len, captured: len }
    }
}

/// Writes frames into a capture. Dropping it writes what it holds; [`Writer::finish`] also says
/// whether that worked.
pub struct Writer<W: Write> {
    /// `None` once it was taken out.
    sink: Option<W>,
    format: Format,
    snaplen: usize,
    /// What every capture of this writer starts with.
    header: Vec<u8>,
    interfaces: u32,
    /// All of it initialised; the first `filled` bytes are held.
    buffer: Box<[u8]>,
    filled: usize,
    /// Options of the frame in hand.
    options: Vec<u8>,
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
        Self::with_interfaces(sink, format, snaplen, &Section::default(), &[Interface::default()])
    }

    /// Starts a capture that says who writes it and of which interfaces; the classic format can say
    /// neither.
    ///
    /// # Panics
    /// If what it says takes more than half a megabyte.
    #[must_use]
    pub fn with_interfaces(
        sink: W,
        format: Format,
        snaplen: usize,
        section: &Section,
        interfaces: &[Interface],
    ) -> Self {
        let snaplen = snaplen.clamp(1, MAX_CAPTURED);
        let mut header = Vec::new();
        match format {
            Format::Pcap => {
                let words = [0xa1b2_3c4d, 4 << 16 | 2, 0, 0, narrow(snaplen), 1];
                header.extend(words.map(u32::to_le_bytes).as_flattened());
            }
            Format::Pcapng => {
                put_section(&mut header, section);
                for interface in interfaces {
                    put_interface(&mut header, interface, narrow(snaplen));
                }
            }
        }
        assert!(header.len() <= BUFFER / 2, "a header of {} bytes", header.len());
        let mut writer = Self {
            sink: Some(sink),
            format,
            snaplen,
            header,
            interfaces: narrow(interfaces.len()),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            filled: 0,
            options: Vec::with_capacity(OPTIONS),
            written: 0,
            frames: 0,
            dead: false,
        };
        writer.start();
        writer
    }

    fn start(&mut self) {
        self.buffer[..self.header.len()].copy_from_slice(&self.header);
        self.filled = self.header.len();
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
        self.written + self.filled as u64
    }

    /// Whether no frame was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Bytes that wait in memory.
    #[must_use]
    pub fn held(&self) -> usize {
        self.filled
    }

    /// Bytes that are kept of a frame of `len`.
    #[inline]
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
    /// If the parts together are shorter than what is kept of `len`.
    #[inline]
    pub fn write_parts<'p>(
        &mut self,
        timestamp: u64,
        len: usize,
        parts: impl Iterator<Item = &'p [u8]>,
    ) -> Result<(), WriteError> {
        self.write_packet(&Packet::whole(0, timestamp, len), parts)
    }

    /// Writes one frame of one of the interfaces.
    ///
    /// # Errors
    /// As [`Writer::write`].
    ///
    /// # Panics
    /// As [`Writer::write_parts`]; or there is no such interface.
    #[inline]
    pub fn write_packet<'p>(
        &mut self,
        packet: &Packet,
        parts: impl Iterator<Item = &'p [u8]>,
    ) -> Result<(), WriteError> {
        self.put::<false>(packet, parts)
    }

    /// Writes one frame and what is said of it; the classic format cannot say it.
    ///
    /// # Errors
    /// As [`Writer::write`].
    ///
    /// # Panics
    /// As [`Writer::write_packet`].
    pub fn write_noted<'p>(
        &mut self,
        packet: &Packet,
        note: &Note<'_>,
        parts: impl Iterator<Item = &'p [u8]>,
    ) -> Result<(), WriteError> {
        if self.format == Format::Pcap {
            return self.put::<false>(packet, parts);
        }
        self.options.clear();
        put_note(&mut self.options, note);
        self.put::<true>(packet, parts)
    }

    /// Writes one frame, with or without the options that wait in `self.options`.
    #[inline(always)]
    fn put<'p, const NOTED: bool>(
        &mut self,
        packet: &Packet,
        mut parts: impl Iterator<Item = &'p [u8]>,
    ) -> Result<(), WriteError> {
        let Packet { interface, timestamp, len, captured } = *packet;
        let captured = self.captured(captured);
        let noted = if NOTED { self.options.len() } else { 0 };
        let total = self.format.record_len(captured) + noted;
        if self.filled + total > BUFFER || self.dead {
            self.flush()?;
        }
        let record = &mut self.buffer[self.filled..self.filled + total];
        let (caplen, original) = (narrow(captured), narrow(len));
        let data = match self.format {
            Format::Pcap => {
                let seconds = u32::try_from(timestamp / 1_000_000_000).unwrap_or(u32::MAX);
                let fraction = narrow_u64(timestamp % 1_000_000_000);
                put_words(record, [seconds, fraction, caplen, original])
            }
            Format::Pcapng => {
                assert!(interface < self.interfaces, "interface {interface} was not described");
                let block = narrow(total);
                let (high, low) =
                    (narrow_u64(timestamp >> 32), narrow_u64(timestamp & 0xffff_ffff));
                let words = [ENHANCED_PACKET, block, interface, high, low, caplen, original];
                let behind = put_words(record, words);
                let (data, end) = behind.split_at_mut(captured);
                let (padding, end) = end.split_at_mut(captured.next_multiple_of(4) - captured);
                padding.fill(0);
                if NOTED {
                    end[..noted].copy_from_slice(&self.options);
                }
                end[noted..].copy_from_slice(&block.to_le_bytes());
                data
            }
        };
        let first = parts.next().unwrap_or_default();
        if first.len() >= data.len() {
            copy(data, &first[..data.len()]);
        } else {
            fill(data, first, parts);
        }
        self.filled += total;
        self.frames += 1;
        Ok(())
    }

    /// Writes what was counted on an interface; pcapng only.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn write_statistics(
        &mut self,
        interface: u32,
        now: u64,
        counts: &Statistics,
    ) -> Result<(), WriteError> {
        if self.format == Format::Pcap {
            return Ok(());
        }
        self.options.clear();
        put_statistics(&mut self.options, interface, now, counts);
        if self.filled + self.options.len() > BUFFER || self.dead {
            self.flush()?;
        }
        self.buffer[self.filled..][..self.options.len()].copy_from_slice(&self.options);
        self.filled += self.options.len();
        Ok(())
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
            if done == self.filled {
                break sink.flush().err();
            }
            match sink.write(&self.buffer[done..self.filled]) {
                Ok(0) => break Some(ErrorKind::WriteZero.into()),
                Ok(more) => done += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
        };
        let Some(source) = failed else {
            self.written += done as u64;
            self.filled = 0;
            return Ok(());
        };
        self.dead = true;
        let (whole, lost_frames, lost_bytes) = self.lost(done);
        self.written += whole as u64;
        self.filled = 0;
        Err(WriteError { source, whole: self.written, lost_frames, lost_bytes })
    }

    /// Of what is held, of which the sink took `done` bytes: bytes of the whole records among those,
    /// and frames and bytes of the others.
    #[cold]
    fn lost(&self, done: usize) -> (usize, usize, usize) {
        let held = &self.buffer[..self.filled];
        let word = |at: usize| super::classic::word(held, at, false) as usize;
        // What is held starts with the header, or with a record.
        let classic = self.format == Format::Pcap;
        let mut at = if self.written == 0 { self.header.len() } else { 0 };
        let (mut whole, mut frames, mut bytes) = (if done < at { 0 } else { at }, 0, 0);
        while at < held.len() {
            // Where the original length stands, if this is a frame.
            let (len, original) = if classic {
                (self.format.record_len(word(at + 8)), Some(at + 12))
            } else {
                (word(at + 4), (word(at) == ENHANCED_PACKET as usize).then_some(at + 24))
            };
            at += len;
            if at <= done {
                whole = at;
            } else if let Some(original) = original {
                (frames, bytes) = (frames + 1, bytes + word(original));
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

/// Writes words to the front of a record; yields what is behind them.
#[inline(always)]
fn put_words<const N: usize>(record: &mut [u8], words: [u32; N]) -> &mut [u8] {
    let (front, behind) = record.split_at_mut(N * 4);
    front.copy_from_slice(words.map(u32::to_le_bytes).as_flattened());
    behind
}

/// Bytes of a piece of [`copy`].
const PIECE: usize = 32;
/// Bytes up to which [`copy`] goes by pieces rather than by `memcpy`.
const PIECES: usize = 8 * PIECE;

/// Copies between slices of equal length; short ones in pieces, of which the last may lie over the
/// one before.
#[inline(always)]
fn copy(to: &mut [u8], from: &[u8]) {
    if let (PIECE..=PIECES, Some(last)) = (from.len(), from.last_chunk::<PIECE>()) {
        let (pieces, _) = to.as_chunks_mut::<PIECE>();
        for (to, from) in pieces.iter_mut().zip(from.as_chunks::<PIECE>().0) {
            *to = *from;
        }
        if let Some(to) = to.last_chunk_mut::<PIECE>() {
            *to = *last;
        }
        return;
    }
    to.copy_from_slice(from);
}

/// Fills `to` from several parts, of which `first` is too short.
#[cold]
fn fill<'p>(to: &mut [u8], first: &'p [u8], parts: impl Iterator<Item = &'p [u8]>) {
    let (len, mut at) = (to.len(), 0);
    for part in std::iter::once(first).chain(parts) {
        let count = part.len().min(len - at);
        to[at..at + count].copy_from_slice(&part[..count]);
        at += count;
    }
    assert!(at == len, "a frame of {len} B came {} B short", len - at);
}

/// Lengths here are checked to be far below 2^32, but for a frame's original length.
fn narrow(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn narrow_u64(half: u64) -> u32 {
    u32::try_from(half).unwrap_or(u32::MAX)
}
