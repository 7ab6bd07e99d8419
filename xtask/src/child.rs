//! One child process: streamed line by line while it runs, captured for reading afterwards, and
//! ended with all its descendants when its time is up. Knows nothing of what the lines mean.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::digest::Digest;

/// How long a child may run unless it says otherwise.
const TIME_LIMIT: Duration = Duration::from_secs(45 * 60);
/// How long a run of tests may say nothing.
const SILENCE_LIMIT: Duration = Duration::from_secs(10 * 60);
/// How long to wait for the rest of the output once the child itself has gone.
const DRAIN: Duration = Duration::from_secs(2);
/// How often a silent child is looked at.
const POLL: Duration = Duration::from_millis(200);

/// A command to be run.
pub(crate) struct Child {
    command: Command,
    name: String,
    time_limit: Duration,
    silence_limit: Duration,
}

/// What a finished child left behind.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) success: bool,
    /// The exit status; none when a signal or the time limit ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

enum Line {
    Out(String),
    Err(String),
}

/// What becomes of lines as they are printed.
enum Show<'a> {
    Nothing,
    All,
    Digest(&'a mut Digest),
}

impl Child {
    pub(crate) fn new(program: &str) -> Self {
        let mut command = Command::new(program);
        command.env("CARGO_TERM_COLOR", "never");
        // Cargo runs us with these describing xtask; a test must not take them for its own.
        for (key, _) in std::env::vars_os().filter(|(key, _)| describes_a_package(key)) {
            command.env_remove(key);
        }
        Self {
            command,
            name: program.to_owned(),
            time_limit: TIME_LIMIT,
            silence_limit: TIME_LIMIT,
        }
    }

    pub(crate) fn args<S: Into<OsString>>(
        mut self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        self.command.args(arguments.into_iter().map(Into::into));
        self
    }

    pub(crate) fn env(mut self, key: &str, value: impl Into<OsString>) -> Self {
        self.command.env(key, value.into());
        self
    }

    pub(crate) fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.command.current_dir(folder.into());
        self
    }

    pub(crate) fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Runs to the end, showing and keeping what it prints.
    pub(crate) fn stream(self) -> Result<Output> {
        eprintln!("+ {}", self.shown());
        self.run(Show::All)
    }

    /// Runs tests to the end, showing what is worth a line. Both streams are kept as one, in order.
    pub(crate) fn digest(mut self, digest: &mut Digest) -> Result<Output> {
        digest.line(&format!("+ {}", self.shown()));
        self.silence_limit = SILENCE_LIMIT;
        self.run(Show::Digest(digest))
    }

    /// Runs to the end, keeping what it prints.
    pub(crate) fn output(self) -> Result<Output> {
        self.run(Show::Nothing)
    }

    fn shown(&self) -> String {
        let words: Vec<_> = self.command.get_args().map(|word| word.to_string_lossy()).collect();
        let program = self.name.rsplit('/').next().unwrap_or(&self.name);
        format!("{program} {}", words.join(" "))
    }

    fn run(mut self, mut show: Show<'_>) -> Result<Output> {
        let (sender, lines) = mpsc::channel();
        self.command.stdin(Stdio::null());
        let mut child = if matches!(show, Show::Digest(_)) {
            let (reader, writer) = io::pipe()?;
            self.command.stdout(writer.try_clone()?).stderr(writer);
            let child = self.spawn()?;
            forward(reader, sender, Line::Out);
            child
        } else {
            self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = self.spawn()?;
            if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
                forward(out, sender.clone(), Line::Out);
                forward(err, sender, Line::Err);
            }
            child
        };
        let Self { command, name, time_limit, silence_limit } = self;
        // It holds ends of the pipe, which would never be empty for good.
        drop(command);

        let start = Instant::now();
        let mut heard = start;
        let mut gone_since = None;
        let (mut stdout, mut stderr, mut ended) = (String::new(), String::new(), false);
        loop {
            match lines.recv_timeout(POLL) {
                Ok(line) => {
                    heard = Instant::now();
                    keep(line, &mut show, &mut stdout, &mut stderr);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    // A descendant that outlives the child may hold the pipes open for ever.
                    if child.try_wait()?.is_some() {
                        let since = *gone_since.get_or_insert_with(Instant::now);
                        if since.elapsed() > DRAIN {
                            break;
                        }
                    }
                }
            }
            let note = if start.elapsed() > time_limit {
                format!("{name} took longer than {time_limit:?}: ended\n")
            } else if heard.elapsed() > silence_limit {
                format!("{name} said nothing for {silence_limit:?}: ended\n")
            } else {
                continue;
            };
            if !ended {
                eprint!("{note}");
                stderr.push_str(&note);
                if let Show::Digest(digest) = &mut show {
                    digest.hangs();
                }
                end_family(child.id());
                ended = true;
            }
        }
        let status = child.wait()?;
        let code = status.code().filter(|_| !ended);
        Ok(Output { success: code == Some(0), code, stdout, stderr })
    }

    fn spawn(&mut self) -> Result<process::Child> {
        self.command.spawn().with_context(|| format!("cannot start `{}`", self.name))
    }
}

fn describes_a_package(key: &std::ffi::OsStr) -> bool {
    let key = key.to_string_lossy();
    key.starts_with("CARGO_PKG_")
        || ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PRIMARY_PACKAGE"]
            .contains(&key.as_ref())
}

fn keep(line: Line, show: &mut Show<'_>, stdout: &mut String, stderr: &mut String) {
    match (&line, show) {
        (_, Show::Nothing) => {}
        (Line::Out(line), Show::All) => print!("{line}"),
        (Line::Err(line), Show::All) => eprint!("{line}"),
        (Line::Out(line) | Line::Err(line), Show::Digest(digest)) => digest.line(line.trim_end()),
    }
    match line {
        Line::Out(line) => stdout.push_str(&line),
        Line::Err(line) => stderr.push_str(&line),
    }
}

fn forward(pipe: impl Read + Send + 'static, lines: Sender<Line>, wrap: fn(String) -> Line) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            if lines.send(wrap(String::from_utf8_lossy(&bytes).into_owned())).is_err() {
                return;
            }
            bytes.clear();
        }
    });
}

/// Ends a process and what it started, parents first so that none starts another.
fn end_family(pid: u32) {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself in the meantime.
        let _ = kill_process(pid, Signal::KILL);
    }
    for child in children.unwrap_or_default().split_whitespace() {
        if let Ok(child) = child.parse() {
            end_family(child);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_and_the_status_are_kept() {
        let output =
            Child::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]).output().expect("sh");

        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
        assert!(!output.success);
        assert_eq!(output.code, Some(3));
    }

    #[test]
    fn a_child_that_takes_too_long_is_ended_with_its_descendants() {
        let start = Instant::now();

        let output = Child::new("sh")
            .args(["-c", "(echo $$; sleep 60) & wait"])
            .time_limit(Duration::from_millis(300))
            .output()
            .expect("sh");

        assert!(!output.success && output.code.is_none());
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_descendant_that_holds_the_pipe_does_not_hold_us() {
        let start = Instant::now();

        let output = Child::new("sh").args(["-c", "sleep 20 & echo done"]).output().expect("sh");

        assert!(output.success);
        assert_eq!(output.stdout, "done\n");
        assert!(start.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn a_run_of_tests_gives_both_streams_as_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut digest = Digest::new(&folder.path().join("log")).expect("a log");

        let script = "echo a; echo b >&2; echo c; exit 3";
        let output = Child::new("sh").args(["-c", script]).digest(&mut digest).expect("sh");

        assert_eq!((output.stdout.as_str(), output.code), ("a\nb\nc\n", Some(3)));
        let log = std::fs::read_to_string(folder.path().join("log")).expect("the log");
        assert_eq!(log, format!("+ sh -c {script}\n{}", output.stdout));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Child::new("no-such-program-here").output().expect_err("it does not exist");
        assert!(error.to_string().contains("no-such-program-here"), "{error}");
    }
}
