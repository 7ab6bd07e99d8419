//! Writes lines on a thread of its own, so that a slow file or terminal holds up no worker: what does
//! not fit its queue is lost, and counted.

use std::{
    fs::File,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Bursts of lines that may wait to be written.
const QUEUE: usize = 1024;
/// How long an event, or the end, waits for the lines before it.
const PATIENCE: Duration = Duration::from_secs(1);

enum Message {
    Lines(String, u64),
    /// Answer when everything before this is written.
    Flush(SyncSender<()>),
}

struct Shared {
    start: Instant,
    /// Frames that may still be traced.
    left: AtomicU64,
    written: AtomicU64,
    lost: AtomicU64,
    failed: AtomicBool,
}

/// A worker's end: hands lines over and never waits.
#[derive(Clone)]
pub(super) struct Handle {
    shared: Arc<Shared>,
    sender: SyncSender<Message>,
}

impl Handle {
    /// Whether there is anything left to do.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.shared.left.load(Ordering::Relaxed) > 0 && !self.shared.failed.load(Ordering::Relaxed)
    }

    /// Time since the port was opened.
    pub(super) fn now(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// Takes up to `want` of the frames that may be traced; returns how many.
    pub(super) fn claim(&self, want: u64) -> u64 {
        let take = |left: u64| Some(left - left.min(want));
        let before = self.shared.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        before.unwrap_or(0).min(want)
    }

    /// Hands over the lines of `frames` frames.
    pub(super) fn lines(&self, text: String, frames: u64) {
        match self.sender.try_send(Message::Lines(text, frames)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.shared.lost.fetch_add(frames, Ordering::Relaxed);
            }
        }
    }
}

/// The writing thread; ends when it is dropped.
pub(super) struct Writer {
    handle: Option<Handle>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Writer {
    /// Starts writing to a file, to standard output (`-`) or to standard error.
    pub(super) fn open(to: Option<&str>, count: u64) -> io::Result<Self> {
        let to: Box<dyn Write + Send> = match to {
            None => Box::new(io::stderr()),
            Some("-") => Box::new(io::stdout()),
            Some(path) => Box::new(File::create(path)?),
        };
        Self::start(to, count)
    }

    pub(super) fn start(to: Box<dyn Write + Send>, count: u64) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            start: Instant::now(),
            left: AtomicU64::new(count),
            written: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        });
        let (sender, receiver) = sync_channel(QUEUE);
        let books = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("trace".into());
        let thread = thread.spawn(move || write_all(to, &receiver, &books))?;
        let handle = Handle { shared: Arc::clone(&shared), sender };
        Ok(Self { handle: Some(handle), thread: Some(thread), shared })
    }

    /// An end for a worker.
    pub(super) fn handle(&self) -> Handle {
        self.handle.clone().expect("there until it is dropped")
    }

    /// Writes an event of the control plane: not counted, and not lost to a queue that is full.
    pub(super) fn event(&self, port: &str, what: &str) {
        let Some(handle) = &self.handle else { return };
        let line = format!("# {:>11.6} {port} {what}\n", handle.now().as_secs_f64());
        if handle.sender.try_send(Message::Lines(line.clone(), 0)).is_err() {
            self.flush();
            handle.lines(line, 0);
        }
    }

    /// Waits, within limits, until what was handed over is written.
    pub(super) fn flush(&self) {
        let Some(handle) = &self.handle else { return };
        let (done, wait) = sync_channel(1);
        let deadline = Instant::now() + PATIENCE;
        let mut message = Message::Flush(done);
        loop {
            message = match handle.sender.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Full(message)) if Instant::now() < deadline => message,
                Err(_) => return,
            };
            std::thread::park_timeout(Duration::from_millis(1));
        }
        let _late = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }

    /// Frames whose lines were written.
    pub(super) fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// Frames whose lines were lost.
    pub(super) fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.flush();
        self.handle = None;
        // A queue that is still out keeps the channel open, and a terminal may be stuck: whoever
        // drops a port does not wait for either.
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            let _ = self.thread.take().map(JoinHandle::join);
        }
    }
}

fn write_all(mut to: Box<dyn Write + Send>, messages: &Receiver<Message>, shared: &Shared) {
    let mut said = 0;
    for message in messages {
        let (text, frames) = match message {
            Message::Lines(text, frames) => (text, frames),
            Message::Flush(done) => {
                let _gone = done.send(());
                continue;
            }
        };
        if shared.failed.load(Ordering::Relaxed) {
            shared.lost.fetch_add(frames, Ordering::Relaxed);
            continue;
        }
        let lost = shared.lost.load(Ordering::Relaxed);
        let mut outcome = Ok(());
        if lost > said {
            let more = lost - said;
            outcome = writeln!(to, "# {more} frames were not traced: writing is too slow for them");
            said = lost;
        }
        match outcome.and_then(|()| to.write_all(text.as_bytes())).and_then(|()| to.flush()) {
            Ok(()) => _ = shared.written.fetch_add(frames, Ordering::Relaxed),
            Err(error) => {
                shared.failed.store(true, Ordering::Relaxed);
                shared.lost.fetch_add(frames, Ordering::Relaxed);
                tracing::warn!("the trace ends: {error}; the port goes on");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_ends_the_trace_and_lost_lines_are_counted() {
        let writer = Writer::start(Box::new(Full), 10).unwrap();
        let handle = writer.handle();
        assert!(handle.is_on());
        handle.lines("one\n".into(), 1);
        writer.flush();
        assert!(!handle.is_on());
        handle.lines("two\nthree\n".into(), 2);
        writer.flush();
        assert_eq!((writer.written(), writer.lost()), (0, 3));
    }

    /// A terminal that is stuck until the other end of the channel is dropped.
    struct Stuck(Receiver<()>);
    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _gone = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_terminal_costs_lines_that_are_counted_and_holds_nobody_up() {
        let (key, stuck) = sync_channel(0);
        let writer = Writer::start(Box::new(Stuck(stuck)), u64::MAX).unwrap();
        let handle = writer.handle();
        (0..3000).for_each(|_| handle.lines("line\n".into(), 1));
        assert!((3000 - QUEUE as u64 - 1..=3000 - QUEUE as u64).contains(&writer.lost()));
        drop(key);
        writer.flush();
        assert_eq!(writer.written() + writer.lost(), 3000);
        assert!(writer.written() >= QUEUE as u64);
    }

    #[test]
    fn no_more_frames_are_claimed_than_were_asked_for() {
        let writer = Writer::start(Box::new(io::sink()), 10).unwrap();
        let handle = writer.handle();
        assert_eq!([handle.claim(7), handle.claim(7), handle.claim(7)], [7, 3, 0]);
        assert!(!handle.is_on());
    }
}
