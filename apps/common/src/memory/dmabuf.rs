//! `dmabuf:...`: a dma-buf as memory for payloads, imported or made on the spot. Text in, fields out. Knows no NIC:
//! whether one reaches it shows when it is mapped.

use std::{fmt, os::fd::RawFd, path::PathBuf};

use providers::DmaBuf;

use crate::{AppError, units::parse_size};

/// How it is written.
pub(super) const USAGE: &str = "dmabuf:fd=N, dmabuf:PATH (a socket), dmabuf:udmabuf:SIZE or dmabuf:heap:NAME:SIZE, each with [,cpu=off]";

/// A dma-buf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmaBufSpec {
    source: Source,
    /// Whether the CPU is kept out.
    without_cpu: bool,
}

/// Where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// A descriptor that this process was started with.
    Number(RawFd),
    /// A process that offers it there (`memwire dmabuf export`).
    Socket(PathBuf),
    /// Made of so many bytes of a memory file.
    Udmabuf(usize),
    /// So many bytes of a dma-heap.
    Heap(String, usize),
}

impl DmaBufSpec {
    /// Reads what stands behind `dmabuf:`; an error says what is wrong.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let (text, without_cpu) = match text.rsplit_once(',') {
            Some((text, "cpu=off")) => (text, true),
            Some((text, "cpu=on")) => (text, false),
            Some((_, option)) => return Err(format!("unknown option '{option}'; write {USAGE}")),
            None => (text, false),
        };
        let size = |text: &str| parse_size(text).map_err(|error| error.to_string());
        let source = if let Some(number) = text.strip_prefix("fd=") {
            let number = number.parse().ok().filter(|number| *number >= 0);
            Source::Number(number.ok_or("fd= takes the number of an open descriptor")?)
        } else if let Some(bytes) = text.strip_prefix("udmabuf:") {
            Source::Udmabuf(size(bytes)?)
        } else if let Some(heap) = text.strip_prefix("heap:") {
            let (name, bytes) = heap.split_once(':').ok_or_else(|| {
                format!("'{heap}': which heap, and how much? as in dmabuf:heap:system:64M")
            })?;
            Source::Heap(name.to_owned(), size(bytes)?)
        } else if text.contains('/') {
            Source::Socket(text.into())
        } else {
            return Err(format!("'{text}' names no dma-buf; write {USAGE}"));
        };
        Ok(Self { source, without_cpu })
    }

    /// Imports or makes it.
    pub(super) fn open(&self) -> Result<DmaBuf, AppError> {
        let opened = match &self.source {
            Source::Number(number) => DmaBuf::from_number(*number),
            Source::Socket(path) => DmaBuf::receive(path),
            Source::Udmabuf(bytes) => DmaBuf::udmabuf(*bytes, None),
            Source::Heap(name, bytes) => DmaBuf::heap(name, *bytes),
        };
        let buffer = opened.map_err(|error| AppError::missing(error.to_string()))?;
        Ok(if self.without_cpu { buffer.without_cpu() } else { buffer })
    }
}

impl fmt::Display for DmaBufSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Number(number) => write!(f, "dmabuf:fd={number}")?,
            Source::Socket(path) => write!(f, "dmabuf:{}", path.display())?,
            Source::Udmabuf(bytes) => write!(f, "dmabuf:udmabuf:{bytes}")?,
            Source::Heap(name, bytes) => write!(f, "dmabuf:heap:{name}:{bytes}")?,
        }
        f.write_str(if self.without_cpu { ",cpu=off" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dma_buf_is_printed_as_it_is_read() {
        for text in ["fd=5", "/run/x.sock,cpu=off", "udmabuf:65536", "heap:system:4096"] {
            assert_eq!(DmaBufSpec::read(text).unwrap().to_string(), format!("dmabuf:{text}"));
        }
    }

    #[test]
    fn what_is_no_dma_buf_is_refused_with_what_is() {
        for (text, words) in [
            ("x", "'x' names no dma-buf; write dmabuf:fd=N"),
            ("fd=-1", "the number of an open descriptor"),
            ("fd=one", "the number of an open descriptor"),
            ("heap:system", "which heap, and how much?"),
            ("udmabuf:much", "a size in bytes"),
            ("udmabuf:1M,fast", "unknown option 'fast'"),
        ] {
            let why = DmaBufSpec::read(text).unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
    }
}
