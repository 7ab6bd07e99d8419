//! Processes in the guest: each the leader of a process group, so that a signal reaches what it
//! started; what they print goes to the host as it comes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
#[expect(
    clippy::disallowed_types,
    reason = "control plane: a signal must not meet a reaped process"
)]
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::{Message, tell};
use crate::protocol::{BODY, Head, Start, Stream};

/// How long to wait for the rest of the output once the process itself has gone: a descendant that
/// outlives it may hold the pipes open for ever.
const DRAIN: Duration = Duration::from_millis(500);

/// Processes that have not been reaped, so that their numbers are still theirs.
#[expect(
    clippy::disallowed_types,
    reason = "control plane: a signal must not meet a reaped process"
)]
type Living = Arc<Mutex<HashMap<u32, Pid>>>;

/// All processes that were started.
pub(super) struct Jobs {
    host: SyncSender<Message>,
    living: Living,
    inputs: HashMap<u32, Sender<Vec<u8>>>,
    terminals: HashMap<u32, File>,
}

/// A process that has just been started, and the ends of its streams that are ours.
struct Started {
    child: Child,
    input: Option<File>,
    outputs: Vec<(File, Stream)>,
    terminal: Option<File>,
}

impl Jobs {
    pub(super) fn new(host: SyncSender<Message>) -> Self {
        let (living, inputs, terminals) = Default::default();
        Self { host, living, inputs, terminals }
    }

    pub(super) fn start(&mut self, start: Start) {
        let job = start.job;
        let started = match spawn(&start) {
            Ok(started) => started,
            Err(error) => {
                let program = start.words.first().map_or("nothing", String::as_str);
                tell(&self.host, Head::Failed { job, reason: format!("{program}: {error}") });
                return;
            }
        };
        let Started { child, input, outputs, terminal } = started;
        let pid = child.id().cast_signed();
        if let Some(pid) = Pid::from_raw(pid) {
            self.living.lock().unwrap_or_else(PoisonError::into_inner).insert(job, pid);
        }
        tell(&self.host, Head::Started { job, pid });
        if let Some(input) = input {
            let (sender, bytes) = mpsc::channel();
            std::thread::spawn(move || feed(input, &bytes));
            self.inputs.insert(job, sender);
        }
        if let Some(terminal) = terminal {
            self.terminals.insert(job, terminal);
        }
        let (done, ends) = mpsc::channel();
        for (from, stream) in outputs {
            let (host, done) = (self.host.clone(), done.clone());
            std::thread::spawn(move || {
                forward(from, job, stream, &host);
                // The waiter may have stopped waiting.
                let _ = done.send(());
            });
        }
        drop(done);
        let (host, living) = (self.host.clone(), Arc::clone(&self.living));
        std::thread::spawn(move || finish(job, child, &ends, &host, &living));
    }

    pub(super) fn input(&mut self, job: u32, bytes: Vec<u8>) {
        if bytes.is_empty() {
            self.inputs.remove(&job);
        } else if let Some(input) = self.inputs.get(&job) {
            // A process that no longer reads is no fault of the host's.
            let _ = input.send(bytes);
        }
    }

    pub(super) fn signal(&self, job: u32, number: i32) {
        let living = self.living.lock().unwrap_or_else(PoisonError::into_inner);
        let signal = Signal::from_named_raw(number);
        if let (Some(pid), Some(signal)) = (living.get(&job), signal) {
            // It may be a zombie already; its number is still its own.
            let _ = kill_process_group(*pid, signal);
        }
    }

    pub(super) fn resize(&self, job: u32, rows: u16, columns: u16) {
        if let Some(terminal) = self.terminals.get(&job) {
            let _ = tcsetwinsize(terminal, size(rows, columns));
        }
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn spawn(start: &Start) -> std::io::Result<Started> {
    match start.terminal {
        Some((rows, columns)) => spawn_on_a_terminal(start, rows, columns),
        None => spawn_with_pipes(start),
    }
}

fn spawn_with_pipes(start: &Start) -> std::io::Result<Started> {
    let mut command = command(&start.words, start)?;
    let input = if start.input { Stdio::piped() } else { Stdio::null() };
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    let input = child.stdin.take().map(|pipe| File::from(OwnedFd::from(pipe)));
    let out = child.stdout.take().map(|pipe| (File::from(OwnedFd::from(pipe)), Stream::Out));
    let err = child.stderr.take().map(|pipe| (File::from(OwnedFd::from(pipe)), Stream::Err));
    Ok(Started { child, input, outputs: out.into_iter().chain(err).collect(), terminal: None })
}

/// `setsid` makes the terminal the controlling one, for which a program cannot ask before it runs.
fn spawn_on_a_terminal(start: &Start, rows: u16, columns: u16) -> std::io::Result<Started> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    tcsetwinsize(&ours, size(rows, columns))?;
    let name = ptsname(&ours, Vec::new())?;
    let theirs = File::options().read(true).write(true).open(name.to_string_lossy().as_ref())?;
    let setsid = ["setsid", "--ctty", "--wait"].map(str::to_owned);
    let words: Vec<String> = setsid.into_iter().chain(start.words.iter().cloned()).collect();
    let mut command = command(&words, start)?;
    command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs).process_group(0);
    let child = command.spawn()?;
    let ours = File::from(ours);
    Ok(Started {
        child,
        input: Some(ours.try_clone()?),
        outputs: vec![(ours.try_clone()?, Stream::Out)],
        terminal: Some(ours),
    })
}

fn command(words: &[String], start: &Start) -> std::io::Result<Command> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(std::io::Error::other("no program was named"));
    };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&start.folder);
    command.env_clear().envs(start.environment.iter().map(|(key, value)| (key, value)));
    Ok(command)
}

fn feed(mut input: File, bytes: &Receiver<Vec<u8>>) {
    for bytes in bytes {
        if input.write_all(&bytes).is_err() {
            return;
        }
    }
}

/// A terminal whose last user has gone reads as an error, a pipe as the end: both end it.
fn forward(mut from: File, job: u32, stream: Stream, host: &SyncSender<Message>) {
    let mut bytes = vec![0; BODY];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let message = (Head::Output { job, stream }, bytes[..count].to_vec());
        if host.send(message).is_err() {
            return;
        }
    }
}

fn finish(
    job: u32,
    mut child: Child,
    ends: &Receiver<()>,
    host: &SyncSender<Message>,
    living: &Living,
) {
    if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
        // Leaves it a zombie, so that its number is not given to another before it is off the list.
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    }
    living.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
    let status = child.wait().map_or(127, shell_status);
    while ends.recv_timeout(DRAIN).is_ok() {}
    tell(host, Head::Finished { job, status });
}

/// What a shell calls it: the exit status, or 128 and the signal that ended it.
fn shell_status(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(127)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(job: u32, script: &str) -> Start {
        Start {
            job,
            words: ["sh", "-c", script].map(str::to_owned).to_vec(),
            folder: "/".to_owned(),
            environment: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
            input: true,
            terminal: None,
        }
    }

    /// Everything until the job is finished, and its status.
    fn collect(messages: &Receiver<Message>) -> (String, i32) {
        let mut printed = String::new();
        loop {
            let limit = Duration::from_secs(20);
            match messages.recv_timeout(limit).expect("the job ends") {
                (Head::Output { .. }, body) => printed += &String::from_utf8_lossy(&body),
                (Head::Finished { status, .. }, _) => return (printed, status),
                (Head::Failed { reason, .. }, _) => return (reason, -1),
                _ => {}
            }
        }
    }

    #[test]
    fn a_process_is_heard_fed_and_reported() {
        let (host, messages) = mpsc::sync_channel(8);
        let mut jobs = Jobs::new(host);
        jobs.start(start(1, "read word; echo got $word; exit 9"));
        jobs.input(1, b"this\n".to_vec());
        assert_eq!(collect(&messages), ("got this\n".to_owned(), 9));
    }

    #[test]
    fn a_signal_reaches_what_the_process_started() {
        let (host, messages) = mpsc::sync_channel(8);
        let mut jobs = Jobs::new(host);
        jobs.start(start(1, "sleep 60 & echo ready; wait"));
        while !matches!(messages.recv(), Ok((Head::Output { .. }, _))) {}
        jobs.signal(1, 9);
        assert_eq!(collect(&messages), (String::new(), 137));
    }

    #[test]
    fn a_descendant_that_holds_the_pipe_does_not_hold_the_report() {
        let (host, messages) = mpsc::sync_channel(8);
        let mut jobs = Jobs::new(host);
        jobs.start(start(1, "sleep 30 & exit 3"));
        assert_eq!(collect(&messages).1, 3);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let (host, messages) = mpsc::sync_channel(8);
        let mut jobs = Jobs::new(host);
        let mut start = start(1, "");
        start.words = vec!["no-such-program-here".to_owned()];
        jobs.start(start);
        let (reason, _) = collect(&messages);
        assert!(reason.starts_with("no-such-program-here: "), "{reason}");
    }

    #[test]
    fn a_terminal_is_one_and_has_the_size_that_was_asked_for() {
        let (host, messages) = mpsc::sync_channel(8);
        let mut jobs = Jobs::new(host);
        let mut start = start(1, "test -t 0 && stty size < /dev/tty");
        start.terminal = Some((33, 77));
        jobs.start(start);
        assert_eq!(collect(&messages), ("33 77\r\n".to_owned(), 0));
    }
}
