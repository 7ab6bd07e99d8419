//! Capture files: one, or one after the other by size and by time, each complete in itself.

use std::{
    io,
    num::NonZeroU64,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    Format, Interface, Note, Packet, Section, Statistics, WriteError, Writer, clock,
    options::is_standard, reader::MAX_CAPTURED, sink::Sink,
};

/// What to write, and where.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// The first file; `-` is standard output. Further ones are `out.1.pcap`, `out.2.pcap`, ….
    pub path: PathBuf,
    /// Their format.
    pub format: Format,
    /// Bytes kept of a frame.
    pub snaplen: usize,
    /// Bytes of a file after which the next one is begun.
    pub rotate_bytes: Option<u64>,
    /// Time of a file, by the stamps of its frames, after which the next one is begun.
    pub rotate_after: Option<Duration>,
    /// How many files to keep: after that many the first is written anew.
    pub files: Option<NonZeroU64>,
    /// Who writes.
    pub section: Section,
    /// Of which interfaces.
    pub interfaces: Vec<Interface>,
    /// Set it to stop soon: the reader of a pipe is waited for a second in all then.
    pub hurry: Arc<AtomicBool>,
}

impl FileOptions {
    /// One file of whole frames of one interface.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, format: Format) -> Self {
        Self {
            path: path.into(),
            format,
            snaplen: MAX_CAPTURED,
            rotate_bytes: None,
            rotate_after: None,
            files: None,
            section: Section::default(),
            interfaces: vec![Interface::default()],
            hurry: Arc::default(),
        }
    }

    /// Whether more than one file may be written.
    #[must_use]
    pub fn rotates(&self) -> bool {
        self.rotate_bytes.is_some() || self.rotate_after.is_some()
    }
}

impl Format {
    /// The format that a file's name asks for.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "pcapng" | "ntar" => Some(Self::Pcapng),
            "pcap" | "cap" => Some(Self::Pcap),
            _ => None,
        }
    }
}

/// Files being written. Dropping them writes what is held; [`Files::finish`] also says whether that
/// worked, and what was counted.
pub struct Files {
    writer: Writer<Sink>,
    options: FileOptions,
    /// Of each interface, as last told: they end each file.
    statistics: Vec<Statistics>,
    /// Files begun; outlives this output, so that a restart does not overwrite what was written.
    begun: Arc<AtomicU64>,
    /// Where rotating by time is due, in nanoseconds since 1970; 0 before the first frame.
    due: u64,
}

impl Files {
    /// Begins the first file.
    ///
    /// # Errors
    /// It cannot be created, or is a FIFO that nobody reads.
    pub fn create(options: FileOptions) -> io::Result<Self> {
        Self::open(&options, &Arc::default())
    }

    /// Begins the next file.
    pub(super) fn open(options: &FileOptions, begun: &Arc<AtomicU64>) -> io::Result<Self> {
        let sink = begin(options, begun)?;
        let FileOptions { format, snaplen, section, interfaces, .. } = options;
        let writer = Writer::with_interfaces(sink, *format, *snaplen, section, interfaces);
        Ok(Self {
            writer,
            statistics: Vec::new(),
            options: options.clone(),
            begun: Arc::clone(begun),
            due: 0,
        })
    }

    /// What is written where.
    #[must_use]
    pub fn options(&self) -> &FileOptions {
        &self.options
    }

    /// Files begun so far.
    #[must_use]
    pub fn begun(&self) -> u64 {
        // Relaxed: one writer, and it is this one.
        self.begun.load(Ordering::Relaxed)
    }

    /// Bytes that wait in memory.
    #[must_use]
    pub fn held(&self) -> usize {
        self.writer.held()
    }

    /// Bytes of the file that is being written, those in memory too.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.writer.len()
    }

    /// Whether somebody would read what is written: of a pipe, its reader; of a file, always.
    #[must_use]
    pub fn has_reader(&self) -> bool {
        self.writer.sink().is_none_or(Sink::has_reader)
    }

    /// What was counted so far, one entry for each interface: the next file that ends says so.
    pub fn set_statistics(&mut self, counts: impl IntoIterator<Item = Statistics>) {
        self.statistics.clear();
        self.statistics.extend(counts);
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// The system refused. The file ends behind its last whole record; nothing more is written.
    #[inline(always)]
    pub fn write<'p>(
        &mut self,
        packet: &Packet,
        parts: impl Iterator<Item = &'p [u8]>,
    ) -> Result<(), WriteError> {
        if self.options.rotates() {
            self.rotate_if_due(packet)?;
        }
        self.writer.write_packet(packet, parts).map_err(|error| self.cut(error))
    }

    /// Writes one frame and what is said of it.
    ///
    /// # Errors
    /// As [`Files::write`].
    pub fn write_noted<'p>(
        &mut self,
        packet: &Packet,
        note: &Note<'_>,
        parts: impl Iterator<Item = &'p [u8]>,
    ) -> Result<(), WriteError> {
        if self.options.rotates() {
            self.rotate_if_due(packet)?;
        }
        self.writer.write_noted(packet, note, parts).map_err(|error| self.cut(error))
    }

    #[inline]
    fn rotate_if_due(&mut self, packet: &Packet) -> Result<(), WriteError> {
        let record = self.options.format.record_len(self.writer.captured(packet.captured)) as u64;
        let is_full =
            self.options.rotate_bytes.is_some_and(|limit| self.writer.len() + record > limit);
        let is_old = self.due > 0 && packet.timestamp >= self.due;
        if (is_full || is_old) && !self.writer.is_empty() {
            self.rotate()?;
        }
        if let (0, Some(time)) = (self.due, self.options.rotate_after) {
            let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            self.due = packet.timestamp.saturating_add(time);
        }
        Ok(())
    }

    #[cold]
    fn rotate(&mut self) -> Result<(), WriteError> {
        self.end()?;
        let sink = begin(&self.options, &self.begun).map_err(|source| {
            let whole = self.writer.len();
            WriteError { source, whole, lost_frames: 0, lost_bytes: 0 }
        })?;
        self.due = 0;
        self.writer.restart(sink).map(drop)
    }

    /// Writes what was counted, and all that is held.
    fn end(&mut self) -> Result<(), WriteError> {
        let now = clock::now();
        for (interface, counts) in (0..).zip(&self.statistics) {
            let wrote = self.writer.write_statistics(interface, now, counts);
            wrote.map_err(|error| self.cut(error))?;
        }
        self.flush()
    }

    /// Writes out what is held.
    ///
    /// # Errors
    /// As [`Files::write`].
    pub fn flush(&mut self) -> Result<(), WriteError> {
        self.writer.flush().map_err(|error| self.cut(error))
    }

    /// Ends the last file: with what was counted, and all that was held.
    ///
    /// # Errors
    /// As [`Files::write`].
    pub fn finish(mut self) -> Result<(), WriteError> {
        self.end()
    }

    /// After an error, leaves a file that ends behind its last whole record.
    #[cold]
    fn cut(&self, error: WriteError) -> WriteError {
        // Standard output may be a file that others had written to before: not ours to cut.
        if let Some(sink) = self.writer.sink().filter(|_| !is_standard(&self.options.path)) {
            // A pipe or a device has no length to set.
            let _ = sink.file().set_len(error.whole);
        }
        error
    }
}

/// Creates the next file: `out.pcap`, `out.1.pcap`, `out.2.pcap`, …
fn begin(options: &FileOptions, begun: &AtomicU64) -> io::Result<Sink> {
    // Relaxed: one queue begins files; the port only hands the count on.
    let number = begun.load(Ordering::Relaxed);
    let number = options.files.map_or(number, |files| number % files);
    let sink = Sink::create(&numbered(&options.path, number), &options.hurry)?;
    begun.fetch_add(1, Ordering::Relaxed);
    Ok(sink)
}

/// The name of the `number`-th file. Devices and FIFOs keep theirs.
fn numbered(path: &Path, number: u64) -> PathBuf {
    if number == 0 || path.metadata().is_ok_and(|meta| !meta.is_file()) {
        return path.to_owned();
    }
    let (Some(stem), extension) = (path.file_stem(), path.extension()) else {
        return path.to_owned();
    };
    let mut name = stem.to_owned();
    name.push(format!(".{number}"));
    if let Some(extension) = extension {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::{Path, numbered};

    #[test]
    fn rotated_files_keep_folder_and_extension() {
        let name = |path: &str, number| numbered(Path::new(path), number);
        assert_eq!(name("/x/out.pcap", 0), Path::new("/x/out.pcap"));
        assert_eq!(name("/x/out.pcap", 1), Path::new("/x/out.1.pcap"));
        assert_eq!(name("a.b.pcapng", 12), Path::new("a.b.12.pcapng"));
        assert_eq!(name("capture", 3), Path::new("capture.3"));
    }
}
