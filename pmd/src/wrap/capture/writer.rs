//! The thread behind a tap: takes frames off the tapes of all queues and writes them. Knows files and
//! FIFOs; the port's workers never wait for it.

use std::{
    io,
    os::unix::fs::FileTypeExt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{
            Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, channel, sync_channel,
        },
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::queues::Tap;
use crate::pcap::{
    Direction, FileOptions, Files, Note, Statistics, TapeReader, WriteError, clock, pull_earliest,
    tape,
};

/// Frames between two looks at everything else.
const ROUND: usize = 256;
/// How long the thread sleeps where nothing comes, and where nobody reads a FIFO.
const NAP: Duration = Duration::from_micros(500);
const LOOK: Duration = Duration::from_millis(50);
/// How long stopping waits for what was captured to be written.
const PATIENCE: Duration = Duration::from_secs(2);

enum Message {
    /// A queue's tape, from now on.
    Tape(TapeReader),
    /// Answer when everything before this is written.
    Flush(SyncSender<()>),
}

/// What the workers, the thread and the control plane share.
#[derive(Default)]
pub(super) struct State {
    /// Whether somebody writes what is copied.
    on: AtomicBool,
    written: AtomicU64,
    lost: AtomicU64,
    /// Readers that a FIFO had.
    readers: AtomicU64,
    stopped: AtomicBool,
}

impl State {
    /// Whether frames are wanted. Relaxed, as all here: figures, and a wish.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Frames that found no room.
    #[cold]
    pub(super) fn lost(&self, frames: usize) {
        self.lost.fetch_add(frames as u64, Ordering::Relaxed);
    }
}

/// The thread, seen from the control plane. Dropping it ends the file.
pub(super) struct Writer {
    state: Arc<State>,
    is_fifo: bool,
    hurry: Arc<AtomicBool>,
    messages: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Begins the file, unless it is a FIFO, and starts the thread.
    pub(super) fn open(options: &FileOptions) -> io::Result<Self> {
        let is_fifo = options.path.metadata().is_ok_and(|there| there.file_type().is_fifo());
        if is_fifo && options.rotates() {
            return Err(io::Error::other("a FIFO cannot be rotated"));
        }
        let state = Arc::new(State::default());
        let files = if is_fifo { None } else { Some(Files::create(options.clone())?) };
        state.on.store(files.is_some(), Ordering::Relaxed);
        let (sender, receiver) = channel();
        let thread = Thread {
            state: Arc::clone(&state),
            options: options.clone(),
            is_fifo,
            files,
            tapes: Vec::new(),
            began: clock::now(),
            said: 0,
            in_file: 0,
            next_look: Instant::now(),
        };
        let handle = std::thread::Builder::new()
            .name("capture tap".into())
            .spawn(move || thread.run(&receiver))?;
        let hurry = Arc::clone(&options.hurry);
        Ok(Self { state, is_fifo, hurry, messages: Some(sender), thread: Some(handle) })
    }

    /// A new tape for a queue; `None` if the thread is gone.
    pub(super) fn tap(&self, direction: Direction, snaplen: usize, bytes: usize) -> Option<Tap> {
        let (writer, reader) = tape(bytes);
        self.messages.as_ref()?.send(Message::Tape(reader)).ok()?;
        Some(Tap::new(writer, Arc::clone(&self.state), direction, snaplen))
    }

    /// Waits a little until what was captured is written.
    pub(super) fn flush(&self) {
        let (done, is_done) = sync_channel(1);
        let sent = self.messages.as_ref().map(|to| to.send(Message::Flush(done)));
        if let Some(Ok(())) = sent {
            let _ = is_done.recv_timeout(PATIENCE);
        }
    }

    /// What was counted, by name.
    pub(super) fn counts(&self) -> Vec<(String, u64)> {
        let State { written, lost, readers, stopped, .. } = &*self.state;
        let mut counts = vec![
            ("capture_written".into(), written.load(Ordering::Relaxed)),
            ("capture_lost".into(), lost.load(Ordering::Relaxed)),
            ("capture_stopped".into(), stopped.load(Ordering::Relaxed).into()),
        ];
        if self.is_fifo {
            counts.push(("capture_readers".into(), readers.load(Ordering::Relaxed)));
        }
        counts
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.hurry.store(true, Ordering::Relaxed);
        drop(self.messages.take());
        let Some(thread) = self.thread.take() else { return };
        let deadline = Instant::now() + PATIENCE;
        while !thread.is_finished() && Instant::now() < deadline {
            nap(NAP);
        }
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}

struct Thread {
    state: Arc<State>,
    options: FileOptions,
    is_fifo: bool,
    /// `None` while nobody reads the FIFO, and after a failure.
    files: Option<Files>,
    tapes: Vec<TapeReader>,
    began: u64,
    /// Frames lost that the file knows of.
    said: u64,
    /// Frames of the present file or reader.
    in_file: u64,
    /// When to look again for a reader of the FIFO.
    next_look: Instant,
}

impl Thread {
    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            let has_more = self.round();
            let message = if has_more {
                messages.try_recv().map_err(|error| error == TryRecvError::Disconnected)
            } else {
                let nap = if self.files.is_some() { NAP } else { LOOK };
                let got = messages.recv_timeout(nap);
                got.map_err(|error| error == RecvTimeoutError::Disconnected)
            };
            match message {
                Ok(Message::Tape(tape)) => self.tapes.push(tape),
                Ok(Message::Flush(done)) => {
                    while self.round() {}
                    let _gone = done.send(());
                }
                Err(true) => {
                    while self.round() {}
                    return self.finish();
                }
                Err(false) => {}
            }
        }
    }

    /// Writes some of what is there; whether there may be more. What was written is on its way when
    /// there is not.
    fn round(&mut self) -> bool {
        match &self.files {
            None => self.look_for_reader(),
            // The next reader gets a file of its own, not the rest of this one's.
            Some(files) if self.is_fifo && !files.has_reader() => {
                self.state.on.store(false, Ordering::Relaxed);
                self.files = None;
            }
            Some(_) => {}
        }
        let mut got = 0;
        while got < ROUND && self.write_one() {
            got += 1;
        }
        if got == ROUND {
            return true;
        }
        self.tapes.retain_mut(|tape| !tape.has_ended() || tape.peek().is_some());
        if let Some(files) = self.files.as_mut().filter(|files| files.held() > 0)
            && let Err(error) = files.flush()
        {
            self.broken(&error);
        }
        false
    }

    /// Writes the earliest frame of all tapes; false if there is none.
    fn write_one(&mut self) -> bool {
        let Some(entry) = pull_earliest(&mut self.tapes) else {
            return false;
        };
        let Some(files) = &mut self.files else {
            // What was on the tape when the reader left was its own to leave.
            if !self.is_fifo {
                self.state.lost(1);
            }
            return true;
        };
        let lost = self.state.lost.load(Ordering::Relaxed);
        let more = lost - self.said;
        self.said = lost;
        let comment = (more > 0)
            .then(|| format!("{more} frames are missing here: writing is too slow for them"));
        let note = Note {
            direction: entry.direction,
            dropped: (more > 0).then_some(more),
            comment: comment.as_deref(),
        };
        // What a rotated file ends with.
        if files.options().rotates() {
            let written = self.state.written.load(Ordering::Relaxed);
            files.set_statistics([counts(self.began, written, lost)]);
        }
        match files.write_noted(&entry.packet, &note, std::iter::once(entry.bytes)) {
            Ok(()) => {
                self.in_file += 1;
                self.state.written.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                if !self.is_fifo {
                    self.state.lost(1);
                }
                self.broken(&error);
            }
        }
        true
    }

    /// Somebody may have opened the FIFO.
    fn look_for_reader(&mut self) {
        if !self.is_fifo || Instant::now() < self.next_look {
            return;
        }
        self.next_look = Instant::now() + LOOK;
        if let Ok(files) = Files::create(self.options.clone()) {
            self.files = Some(files);
            (self.began, self.in_file) = (clock::now(), 0);
            self.said = self.state.lost.load(Ordering::Relaxed);
            self.state.readers.fetch_add(1, Ordering::Relaxed);
            // The file's header at once: the reader may wait for it.
            let flushed = self.files.as_mut().map_or(Ok(()), Files::flush);
            match flushed {
                Ok(()) => self.state.on.store(true, Ordering::Relaxed),
                Err(error) => self.broken(&error),
            }
        }
    }

    /// The file took no more, or the reader has left.
    #[cold]
    fn broken(&mut self, error: &WriteError) {
        self.state.on.store(false, Ordering::Relaxed);
        self.files = None;
        self.state.written.fetch_sub(error.lost_frames as u64, Ordering::Relaxed);
        if self.is_fifo {
            // The next one begins anew; what this one did not read was its own to leave.
            return;
        }
        self.state.lost(error.lost_frames);
        self.state.stopped.store(true, Ordering::Relaxed);
        let (path, written) =
            (self.options.path.display(), self.state.written.load(Ordering::Relaxed));
        tracing::warn!("capture to {path} stops after {written} frames: {error}; the port goes on");
    }

    fn finish(mut self) {
        let Some(mut files) = self.files.take() else { return };
        let written =
            if self.is_fifo { self.in_file } else { self.state.written.load(Ordering::Relaxed) };
        let lost = self.state.lost.load(Ordering::Relaxed);
        files.set_statistics([counts(self.began, written, lost)]);
        if let Err(error) = files.finish() {
            self.broken(&error);
        }
    }
}

fn counts(began: u64, written: u64, lost: u64) -> Statistics {
    Statistics {
        start: Some(began),
        end: Some(clock::now()),
        received: Some(written + lost),
        dropped: Some(lost),
        delivered: Some(written),
        ..Statistics::default()
    }
}

#[expect(clippy::disallowed_methods, reason = "not a worker: ends a thread")]
fn nap(time: Duration) {
    std::thread::sleep(time);
}
