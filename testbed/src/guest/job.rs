//! A process in the guest, seen from the host.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::Guest;
use super::link::Event;
use crate::error::{Error, Result};
use crate::protocol::{BODY, Head, Stream};

/// How much of each stream stands in the message that it did not end in time.
const LAST_LINES: usize = 20;

/// A process in the guest. Dropping it kills it and what it started.
#[derive(Debug)]
pub struct Job<'a> {
    guest: &'a Guest,
    number: u32,
    events: Receiver<Event>,
    /// The command, for messages.
    name: String,
    pid: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    status: Option<i32>,
}

/// What a process left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; 128 and the signal's number if a signal ended it.
    pub status: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Output {
    /// What it printed, if it ended well.
    ///
    /// # Errors
    /// If it did not; with everything that it printed.
    pub fn success(self) -> Result<String> {
        if self.status == 0 {
            return Ok(self.stdout);
        }
        let Self { status, stdout, stderr } = self;
        Err(Error::Invalid(format!("status {status} in the guest\n{stdout}{stderr}")))
    }
}

/// The signals that tests send, by the numbers of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `SIGINT`, what Ctrl-C sends.
    Interrupt = 2,
    /// `SIGKILL`.
    Kill = 9,
    /// `SIGTERM`.
    Terminate = 15,
    /// `SIGCONT`.
    Continue = 18,
    /// `SIGSTOP`.
    Stop = 19,
}

impl<'a> Job<'a> {
    pub(super) fn new(
        guest: &'a Guest,
        number: u32,
        events: Receiver<Event>,
        name: String,
    ) -> Self {
        let (stdout, stderr) = (Vec::new(), Vec::new());
        Self { guest, number, events, name, pid: None, stdout, stderr, status: None }
    }

    /// Waits for it to end, and takes what it printed. It goes on running if it does not end in time.
    ///
    /// # Errors
    /// If it did not end in time, could not be started, or the guest died.
    pub fn wait(&mut self, limit: Duration) -> Result<Output> {
        self.follow(limit, |_| true)?;
        Ok(self.output())
    }

    /// Waits until something that it has printed so far, on either stream, is wanted.
    ///
    /// # Errors
    /// If it ended without, if nothing wanted came in time, or the guest died.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<()> {
        let has =
            |job: &Self| job.stdout_so_far().contains(text) || job.stderr_so_far().contains(text);
        self.poll();
        let deadline = Instant::now() + limit;
        while !has(self) {
            if let Some(status) = self.status {
                let (out, err) = (self.stdout_so_far(), self.stderr_so_far());
                let name = &self.name;
                return Err(Error::Invalid(format!(
                    "{name} ended with {status} and never said {text:?}\n{out}{err}"
                )));
            }
            self.step(deadline, limit)?;
        }
        Ok(())
    }

    /// Its number in the guest, which is that of its process group too.
    ///
    /// # Errors
    /// If it could not be started.
    pub fn pid(&mut self) -> Result<i32> {
        let limit = Duration::from_secs(30);
        let deadline = Instant::now() + limit;
        loop {
            if let Some(pid) = self.pid {
                return Ok(pid);
            }
            self.step(deadline, limit)?;
        }
    }

    /// Sends its process group a signal; nothing happens if it has ended.
    ///
    /// # Errors
    /// If the guest cannot be reached.
    pub fn kill(&self, signal: Signal) -> Result<()> {
        let head = Head::Signal { job: self.number, number: signal as i32 };
        self.guest.link.send(&head, &[])
    }

    /// Hands it bytes on its standard input, which only [`Guest::spawn_with_input`] gives it.
    ///
    /// # Errors
    /// If the guest cannot be reached.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        for part in bytes.chunks(BODY) {
            self.guest.link.send(&Head::Input { job: self.number }, part)?;
        }
        Ok(())
    }

    /// Ends its standard input.
    ///
    /// # Errors
    /// If the guest cannot be reached.
    pub fn close_input(&self) -> Result<()> {
        self.guest.link.send(&Head::Input { job: self.number }, &[])
    }

    /// What it has printed by now.
    #[must_use]
    pub fn stdout_so_far(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// What it has complained of by now.
    #[must_use]
    pub fn stderr_so_far(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Takes in what has come, without waiting; whether it has ended.
    pub fn poll(&mut self) -> bool {
        while let Ok(event) = self.events.try_recv() {
            self.hear(event);
        }
        self.status.is_some()
    }

    /// Waits for the end, showing each piece of output as it comes; `show` says whether it is also kept.
    pub(crate) fn follow(
        &mut self,
        limit: Duration,
        mut show: impl FnMut((Stream, &[u8])) -> bool,
    ) -> Result<i32> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.status {
                return Ok(status);
            }
            match self.next(deadline, limit)? {
                Event::Output(stream, bytes) => {
                    if show((stream, &bytes)) {
                        self.hear(Event::Output(stream, bytes));
                    }
                }
                Event::Failed(reason) => return Err(Error::Invalid(reason)),
                other => self.hear(other),
            }
        }
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        self.guest.link.send(&Head::Resize { job: self.number, rows, columns }, &[])
    }

    fn step(&mut self, deadline: Instant, limit: Duration) -> Result<()> {
        match self.next(deadline, limit)? {
            Event::Failed(reason) => Err(Error::Invalid(reason)),
            other => {
                self.hear(other);
                Ok(())
            }
        }
    }

    fn next(&self, deadline: Instant, limit: Duration) -> Result<Event> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.events.recv_timeout(left) {
            Ok(event) => Ok(event),
            Err(RecvTimeoutError::Timeout) => {
                let (name, said) = (&self.name, self.last_words());
                Err(Error::TimedOut { what: format!("{name} in the guest{said}"), limit })
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.guest.death(&self.name)),
        }
    }

    /// What it printed last of what was kept, for a message.
    fn last_words(&self) -> String {
        let (out, err) = (self.stdout_so_far(), self.stderr_so_far());
        let tail = |text: &str| {
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
        };
        if out.is_empty() && err.is_empty() {
            return String::new();
        }
        format!(", whose last words were\n{}\n{}\nand which", tail(&out), tail(&err))
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Started(pid) => self.pid = Some(pid),
            Event::Output(Stream::Out, bytes) => self.stdout.extend(bytes),
            Event::Output(Stream::Err, bytes) => self.stderr.extend(bytes),
            Event::Finished(status) => self.status = Some(status),
            Event::Failed(reason) => {
                self.stderr.extend(reason.into_bytes());
                self.status = Some(127);
            }
        }
    }

    fn output(&mut self) -> Output {
        let text =
            |bytes: &mut Vec<u8>| String::from_utf8_lossy(&std::mem::take(bytes)).into_owned();
        Output {
            status: self.status.unwrap_or(-1),
            stdout: text(&mut self.stdout),
            stderr: text(&mut self.stderr),
        }
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        if !self.poll() {
            // A guest that cannot be reached runs nothing for long.
            let _ = self.kill(Signal::Kill);
        }
    }
}
