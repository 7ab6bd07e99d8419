//! What can be wrong with a capture that is read or written.

use std::io;

/// A capture cannot be read any further. What was read before stands.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file is no capture, or one that cannot be read here.
    #[error("file header at offset {offset:#x}: {why}")]
    Header {
        /// Where in the file.
        offset: u64,
        /// What is wrong and what to do.
        why: String,
    },
    /// A record (pcap) or block (pcapng) is broken.
    #[error("record {record} at offset {offset:#x}: {why}")]
    Record {
        /// Number of the packet record, from 1; for a block without a packet, of the next one.
        record: u64,
        /// Where the record or block starts in the file.
        offset: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The system could not read the file.
    #[error("reading at offset {offset:#x}: {source}")]
    Io {
        /// How far it was read.
        offset: u64,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The source would block; ask again.
    #[error("no whole record is there yet; ask again")]
    Pending,
}

/// A capture cannot be written any further.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.text())]
pub struct WriteError {
    /// The system's reason.
    #[source]
    pub source: io::Error,
    /// Bytes of the file that are whole records, on their way to the disk.
    pub whole: u64,
    /// Frames that were taken for writing before this call, and are not in the file.
    pub lost_frames: usize,
    /// The bytes they had on the wire.
    pub lost_bytes: usize,
}

impl WriteError {
    fn text(&self) -> String {
        use rustix::io::Errno;
        let Self { source, whole, lost_frames, .. } = self;
        let why = match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => {
                format!(
                    "disk full after {whole} bytes; free some space, or rotate and move files away"
                )
            }
            Some(Errno::FBIG) => {
                format!("file too large after {whole} bytes; rotate")
            }
            Some(Errno::PIPE) => format!("the reader of the pipe went away after {whole} bytes"),
            _ => format!("writing after {whole} bytes: {source}"),
        };
        match lost_frames {
            0 => why,
            lost => format!("{why}; {lost} frames that were waiting in memory are lost"),
        }
    }
}
