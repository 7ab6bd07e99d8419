//! Reads captures, one record after the other, from files and from streams that cannot seek.
//!
//! The reader is our own, although `pcap-file` exists: a driver has to name the number and the offset
//! of a broken record, must resume where a pipe has no more just now, may not hold 8 MB for each file
//! that is open, and has to take truncated captures (an original length above the file's snaplen),
//! none of which that crate offers. It serves the tests as a second opinion.
//!
//! Believes no length before it is checked; holds one window of 512 KiB however long a record claims
//! to be.

use std::io::Read;

use super::{
    ReadError,
    blocks::{Block, Blocks},
    classic::{self, Classic},
    window::{Fill, Window},
};

/// Bytes of a record that are captured, at most; what `tcpdump` and Wireshark take, too.
pub const MAX_CAPTURED: usize = 256 << 10;

/// A frame of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number, from 1.
    pub number: u64,
    /// Where its record starts in the file.
    pub offset: u64,
    /// Nanoseconds since 1970, if the capture says.
    pub timestamp: Option<u64>,
    /// Bytes the frame had on the wire, without FCS.
    pub original: usize,
    /// What was captured of it, without FCS.
    pub bytes: &'a [u8],
}

impl Record<'_> {
    /// Whether the frame was longer than what was captured of it.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.original > self.bytes.len()
    }
}

/// A record at the front of the window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    pub(super) timestamp: Option<u64>,
    pub(super) original: usize,
    /// Where its bytes start, from the front of the window.
    pub(super) at: usize,
    pub(super) len: usize,
    /// Bytes of the whole record.
    pub(super) total: usize,
}

/// What going on to the next record came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is one.
    Frame,
    /// There is none just now.
    Pending,
    /// There are no more.
    End,
}

enum Format {
    Unknown,
    Classic(Classic),
    Blocks(Blocks),
}

/// Reads a capture, pcap or pcapng, of any byte order and time resolution, of Ethernet frames.
///
/// ```
/// use pmd::pcap::{Format, Reader, Writer};
///
/// let mut writer = Writer::new(Vec::new(), Format::Pcapng);
/// writer.write(1_700_000_000_000_000_001, b"a frame that is no frame")?;
/// let file = writer.finish()?;
///
/// let mut reader = Reader::new(file.as_slice());
/// while let Some(record) = reader.read_record()? {
///     assert_eq!(record.timestamp, Some(1_700_000_000_000_000_001));
///     assert_eq!(record.bytes, b"a frame that is no frame");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reader<R> {
    window: Window<R>,
    format: Format,
    current: Head,
    /// Where the current record starts in the file.
    offset: u64,
    records: u64,
    strict: bool,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(source: R) -> Self {
        Self {
            window: Window::new(source),
            format: Format::Unknown,
            current: Head::default(),
            offset: 0,
            records: 0,
            strict: false,
            ended: false,
        }
    }

    /// Takes records longer than the file's own snaplen for broken; by default they may be as long
    /// as [`MAX_CAPTURED`].
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// The next record, or `None` at the end, and after an error.
    ///
    /// # Errors
    /// The capture is broken, or of another link type than Ethernet, or the system could not read
    /// it. [`ReadError::Pending`] if the source is non-blocking and has no more just now.
    pub fn read_record(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        match self.advance()? {
            Step::Frame => Ok(Some(self.record())),
            Step::End => Ok(None),
            Step::Pending => Err(ReadError::Pending),
        }
    }

    /// The record that the last [`Reader::advance`] found.
    #[inline(always)]
    pub(super) fn record(&self) -> Record<'_> {
        let Head { timestamp, original, at, len, .. } = self.current;
        let bytes = &self.window.bytes()[at..at + len];
        Record { number: self.records, offset: self.offset, timestamp, original, bytes }
    }

    /// Goes on to the next record.
    #[inline]
    pub(super) fn advance(&mut self) -> Result<Step, ReadError> {
        self.window.consume(self.current.total);
        self.current.total = 0;
        if self.ended {
            return Ok(Step::End);
        }
        let step = self.parse();
        match &step {
            Ok(Step::Frame) => self.records += 1,
            Ok(Step::Pending) => {}
            Ok(Step::End) | Err(_) => self.ended = true,
        }
        step
    }

    fn parse(&mut self) -> Result<Step, ReadError> {
        loop {
            self.offset = self.window.offset();
            let found = match &mut self.format {
                Format::Unknown => match self.open()? {
                    Fill::Ready => continue,
                    _ => return Ok(Step::Pending),
                },
                Format::Classic(classic) => classic.record(&mut self.window, self.strict),
                Format::Blocks(blocks) => match blocks.block(&mut self.window, self.strict) {
                    Ok(Block::Other) => continue,
                    Ok(Block::Packet(head)) => Ok((Step::Frame, head)),
                    Ok(Block::Pending) => Ok((Step::Pending, Head::default())),
                    Ok(Block::End) => Ok((Step::End, Head::default())),
                    Err(error) => {
                        self.offset = blocks.offset();
                        Err(error)
                    }
                },
            };
            return match found {
                Ok((step, head)) => {
                    self.current = head;
                    Ok(step)
                }
                Err(fault) => Err(self.error(fault)),
            };
        }
    }

    /// Finds out the format.
    fn open(&mut self) -> Result<Fill, ReadError> {
        let offset = 0;
        let header = |why| ReadError::Header { offset, why };
        match self.window.need(4).map_err(|source| ReadError::Io { offset, source })? {
            Fill::Ready => {}
            Fill::Pending => return Ok(Fill::Pending),
            Fill::Ended(0) => return Err(header("the file is empty".into())),
            Fill::Ended(_) => return Err(header("the file ends inside the magic number".into())),
        }
        let bytes = self.window.bytes();
        let magic = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if magic == Blocks::MAGIC {
            self.format = Format::Blocks(Blocks::default());
            return Ok(Fill::Ready);
        }
        let big = classic::is_big_endian(magic).map_err(header)?;
        match self
            .window
            .need(Classic::HEADER)
            .map_err(|source| ReadError::Io { offset, source })?
        {
            Fill::Ready => {}
            Fill::Pending => return Ok(Fill::Pending),
            Fill::Ended(there) => {
                return Err(header(format!(
                    "the file ends inside its header: {there} of {} bytes",
                    Classic::HEADER
                )));
            }
        }
        self.format = Format::Classic(Classic::parse(self.window.bytes(), big).map_err(header)?);
        self.window.consume(Classic::HEADER);
        Ok(Fill::Ready)
    }

    #[cold]
    fn error(&self, fault: Fault) -> ReadError {
        let offset = self.offset;
        match fault {
            Fault::Io(source) => ReadError::Io { offset: self.window.offset(), source },
            Fault::Header(why) => ReadError::Header { offset, why },
            Fault::Record(why) => ReadError::Record { record: self.records + 1, offset, why },
        }
    }
}

/// What a parser found wrong; the reader knows where.
pub(super) enum Fault {
    Header(String),
    Record(String),
    Io(std::io::Error),
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// The lengths of a record, checked: captured and original without the FCS.
#[inline(always)]
pub(super) fn lengths(
    captured: u32,
    original: u32,
    snaplen: u32,
    fcs: usize,
) -> Result<(usize, usize), Fault> {
    let (len, whole) = (captured as usize, original as usize);
    if len > MAX_CAPTURED {
        return Err(broken(format_args!(
            "caplen {captured} is more than the limit {MAX_CAPTURED}"
        )));
    }
    if len > whole {
        return Err(broken(format_args!(
            "caplen {captured} is more than the original length {original}"
        )));
    }
    if snaplen != 0 && captured > snaplen {
        return Err(broken(format_args!("caplen {captured} is more than the snaplen {snaplen}")));
    }
    let original = whole.saturating_sub(fcs);
    Ok((len.min(original), original))
}

/// A broken record, said in words.
#[cold]
#[inline(never)]
pub(super) fn broken(why: std::fmt::Arguments<'_>) -> Fault {
    Fault::Record(why.to_string())
}

/// Refuses what is not Ethernet (LINKTYPE_ registry of the tcpdump group).
pub(super) fn check_link(link: u16) -> Result<(), String> {
    let name = match link {
        1 => return Ok(()),
        0 | 108 => "BSD loopback",
        101 | 228 | 229 => "raw IP",
        105 | 127 | 163 => "802.11",
        113 | 276 => "Linux cooked",
        _ => "unknown here",
    };
    Err(format!("link type {link} ({name}) is not Ethernet (1); capture on an Ethernet interface"))
}
