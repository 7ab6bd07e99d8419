//! The files a transmit queue writes: one, or one after the other by size.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
};

use super::{
    WriteError, Writer,
    options::{OutputOptions, is_standard},
};

/// An output that is open.
pub(super) struct Output {
    writer: Writer<File>,
    options: OutputOptions,
    /// Files begun; outlives this output, so that a restart does not overwrite what was written.
    begun: Arc<AtomicU64>,
}

impl Output {
    /// Begins the next file.
    pub(super) fn open(options: &OutputOptions, begun: &Arc<AtomicU64>) -> io::Result<Self> {
        let file = begin(options, begun)?;
        let writer = Writer::with_snaplen(file, options.format, options.snaplen);
        Ok(Self { writer, options: options.clone(), begun: Arc::clone(begun) })
    }

    /// Writes one frame of `len` bytes.
    #[inline]
    pub(super) fn write<'p>(
        &mut self,
        timestamp: u64,
        len: usize,
        parts: impl Iterator<Item = &'p [u8]>,
    ) -> Result<(), WriteError> {
        if let Some(limit) = self.options.rotate {
            let record = self.options.format.record_len(self.writer.captured(len)) as u64;
            if !self.writer.is_empty() && self.writer.len() + record > limit {
                self.rotate().map_err(|error| self.cut(error))?;
            }
        }
        self.writer.write_parts(timestamp, len, parts).map_err(|error| self.cut(error))
    }

    #[cold]
    fn rotate(&mut self) -> Result<(), WriteError> {
        self.writer.flush()?;
        let file = begin(&self.options, &self.begun).map_err(|source| {
            let whole = self.writer.len();
            WriteError { source, whole, lost_frames: 0, lost_bytes: 0 }
        })?;
        self.writer.restart(file).map(drop)
    }

    /// Writes out what is held.
    pub(super) fn flush(&mut self) -> Result<(), WriteError> {
        self.writer.flush().map_err(|error| self.cut(error))
    }

    /// After an error, leaves a file that ends behind its last whole record.
    #[cold]
    fn cut(&self, error: WriteError) -> WriteError {
        // Standard output may be a file that others had written to before: not ours to cut.
        if let Some(file) = self.writer.sink().filter(|_| !is_standard(&self.options.path)) {
            // A pipe or a device has no length to set.
            let _ = file.set_len(error.whole);
        }
        error
    }
}

/// Creates the next file: `out.pcap`, `out.1.pcap`, `out.2.pcap`, …
fn begin(options: &OutputOptions, begun: &AtomicU64) -> io::Result<File> {
    if is_standard(&options.path) {
        return Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?));
    }
    // Relaxed: one queue begins files; the port only hands the count on.
    let file = create(&numbered(&options.path, begun.load(Ordering::Relaxed)))?;
    begun.fetch_add(1, Ordering::Relaxed);
    Ok(file)
}

/// Creates a file, or opens a FIFO without waiting for its reader.
fn create(path: &Path) -> io::Result<File> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let opened = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(nonblocking)
        .open(path);
    let file = opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NXIO) => io::Error::other("nobody reads the FIFO; start its reader first"),
        _ => error,
    })?;
    // Only opening must not wait; writing does, as long as the reader is there.
    fcntl_setfl(&file, fcntl_getfl(&file)?.difference(OFlags::NONBLOCK))?;
    Ok(file)
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
