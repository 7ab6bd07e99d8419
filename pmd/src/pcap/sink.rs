//! Where a capture's bytes go: files, devices, pipes. A pipe whose reader does not read is waited for,
//! but not for ever. Knows no capture format.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::fd::AsFd,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FlockOperation, OFlags, fcntl_getfl, fcntl_setfl, flock},
    io::Errno,
};

use super::options::is_standard;

/// What a pipe takes without blocking once it is ready at all (`PIPE_BUF`).
const PIECE: usize = 4096;
/// How long one look at a pipe waits.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// How long a reader is waited for in all, once the writer is in a hurry.
const GRACE: Duration = Duration::from_secs(1);

/// An open file, device or pipe.
pub(super) struct Sink {
    file: File,
    is_pipe: bool,
    is_locked: bool,
    /// Set by whoever wants to stop soon.
    hurry: Arc<AtomicBool>,
    /// Since when there is a hurry.
    hurried: Option<Instant>,
}

impl Sink {
    /// Creates or opens what `path` names; `-` is standard output. Never waits for the reader of a
    /// FIFO. With `is_only`, a file that somebody else writes, or reads as a port, is left alone.
    pub(super) fn create(path: &Path, hurry: &Arc<AtomicBool>, is_only: bool) -> io::Result<Self> {
        let file = if is_standard(path) {
            File::from(io::stdout().as_fd().try_clone_to_owned()?)
        } else {
            create(path)?
        };
        let kind = file.metadata()?.file_type();
        let is_locked = kind.is_file() && !is_standard(path);
        if is_locked {
            let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
            if is_only && locked.is_err_and(|error| error == Errno::WOULDBLOCK) {
                let why = "the file is being written, or read, by another port or program";
                return Err(io::Error::other(why));
            }
            // Only now: what others had written would be gone.
            file.set_len(0)?;
        }
        use std::os::unix::fs::FileTypeExt;
        Ok(Self {
            file,
            is_pipe: kind.is_fifo() || kind.is_socket(),
            is_locked,
            hurry: Arc::clone(hurry),
            hurried: None,
        })
    }

    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Whether a pipe has a reader; other things need none.
    pub(super) fn has_reader(&self) -> bool {
        let mut fds = [PollFd::new(&self.file, PollFlags::OUT)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        !self.is_pipe
            || poll(&mut fds, Some(&now)).is_err()
            || !fds[0].revents().contains(PollFlags::ERR)
    }

    /// Waits until the pipe takes a piece.
    fn wait(&mut self) -> io::Result<()> {
        loop {
            let mut fds = [PollFd::new(&self.file, PollFlags::OUT)];
            let is_ready = poll(&mut fds, Some(&LOOK))? > 0;
            // Relaxed: a wish; it orders nothing.
            if !self.hurry.load(Ordering::Relaxed) {
                self.hurried = None;
            } else if self.hurried.get_or_insert_with(Instant::now).elapsed() > GRACE {
                let why = "the reader of the pipe does not read fast enough";
                return Err(io::Error::new(ErrorKind::TimedOut, why));
            }
            if is_ready {
                // Also if the reader is gone: writing says so.
                return Ok(());
            }
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if self.is_locked {
            // Said aloud: closing alone leaves the lock with a child that another thread has forked
            // and that has not yet become its program.
            let _ = flock(&self.file, FlockOperation::Unlock);
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_pipe {
            return self.file.write(bytes);
        }
        self.wait()?;
        self.file.write(&bytes[..bytes.len().min(PIECE)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Creates a file, or opens a FIFO without waiting for its reader.
fn create(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let opened = File::options()
        .write(true)
        .create(true)
        .truncate(false)
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
