//! Where captures are read from: files that can be opened again and again, and streams (FIFOs,
//! standard input) that cannot, which are never waited for.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::Path,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FlockOperation, flock},
};

use super::options::is_standard;

/// An open capture.
pub(super) struct Input {
    file: File,
    /// How long to wait for something to read, if the file may keep one waiting.
    patience: Option<Timespec>,
}

/// How long [`Input::waiting`] waits for the other end of a stream.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
const NONE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

impl Input {
    /// Opens a file or a stream; never waits for the other end of a FIFO.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = if is_standard(path) {
            File::from(io::stdin().as_fd().try_clone_to_owned()?)
        } else {
            let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
            OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?
        };
        let kind = file.metadata()?.file_type();
        if kind.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        if kind.is_file() {
            // Nobody begins to write a file that is being read; one that grows may be read.
            let _ = flock(&file, FlockOperation::NonBlockingLockShared);
        }
        Ok(Self { file, patience: (!kind.is_file()).then_some(NONE) })
    }

    /// Waits for a stream, up to ten seconds at a time: for reading it before the data path starts.
    pub(super) fn waiting(mut self) -> Self {
        self.patience = self.patience.map(|_| PATIENCE);
        self
    }

    /// Whether it can be read once only.
    pub(super) fn is_stream(path: &Path) -> io::Result<bool> {
        Ok(is_standard(path) || !std::fs::metadata(path)?.is_file())
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        if self.patience.is_none() {
            // Said aloud, as a sink does.
            let _ = flock(&self.file, FlockOperation::Unlock);
        }
    }
}

impl Read for Input {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if let Some(patience) = &self.patience {
            let mut fds = [PollFd::new(&self.file, PollFlags::IN)];
            if poll(&mut fds, Some(patience))? == 0 {
                let nothing =
                    if *patience == NONE { ErrorKind::WouldBlock } else { ErrorKind::TimedOut };
                return Err(nothing.into());
            }
        }
        self.file.read(to)
    }
}
