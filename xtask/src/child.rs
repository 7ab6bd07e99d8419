//! One child process: streamed line by line while it runs, captured for reading afterwards, and
//! ended with all its descendants when its time is up. Knows nothing of what the lines mean.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// How long a child may run unless it says otherwise.
const TIME_LIMIT: Duration = Duration::from_secs(45 * 60);
/// How long to wait for the rest of the output once the child itself has gone.
const DRAIN: Duration = Duration::from_secs(2);
/// How often a silent child is looked at.
const POLL: Duration = Duration::from_millis(200);

/// A command to be run.
pub(crate) struct Child {
    command: Command,
    name: String,
    time_limit: Duration,
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

impl Child {
    pub(crate) fn new(program: &str) -> Self {
        let mut command = Command::new(program);
        command.env("CARGO_TERM_COLOR", "never");
        // Cargo runs us with these describing xtask; a test must not take them for its own.
        for (key, _) in std::env::vars_os().filter(|(key, _)| describes_a_package(key)) {
            command.env_remove(key);
        }
        Self { command, name: program.to_owned(), time_limit: TIME_LIMIT }
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
        self.run(true)
    }

    /// Runs to the end, keeping what it prints.
    pub(crate) fn output(self) -> Result<Output> {
        self.run(false)
    }

    fn shown(&self) -> String {
        let words: Vec<_> = self.command.get_args().map(|word| word.to_string_lossy()).collect();
        let program = self.name.rsplit('/').next().unwrap_or(&self.name);
        format!("{program} {}", words.join(" "))
    }

    fn run(mut self, show: bool) -> Result<Output> {
        let mut child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{}`", self.name))?;
        let (sender, lines) = mpsc::channel();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        if let (Some(out), Some(err)) = (out, err) {
            forward(out, sender.clone(), Line::Out);
            forward(err, sender, Line::Err);
        }

        let deadline = Instant::now() + self.time_limit;
        let mut gone_since = None;
        let (mut stdout, mut stderr, mut timed_out) = (String::new(), String::new(), false);
        loop {
            match lines.recv_timeout(POLL) {
                Ok(line) => keep(line, show, &mut stdout, &mut stderr),
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
            if !timed_out && Instant::now() > deadline {
                let note = format!("{} took longer than {:?}: ended\n", self.name, self.time_limit);
                eprint!("{note}");
                stderr.push_str(&note);
                end_family(child.id());
                timed_out = true;
            }
        }
        let status = child.wait()?;
        let code = status.code().filter(|_| !timed_out);
        Ok(Output { success: code == Some(0), code, stdout, stderr })
    }
}

fn describes_a_package(key: &std::ffi::OsStr) -> bool {
    let key = key.to_string_lossy();
    key.starts_with("CARGO_PKG_")
        || ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PRIMARY_PACKAGE"]
            .contains(&key.as_ref())
}

fn keep(line: Line, show: bool, stdout: &mut String, stderr: &mut String) {
    match line {
        Line::Out(line) => {
            if show {
                print!("{line}");
            }
            stdout.push_str(&line);
        }
        Line::Err(line) => {
            if show {
                eprint!("{line}");
            }
            stderr.push_str(&line);
        }
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
    fn a_missing_program_is_named() {
        let error = Child::new("no-such-program-here").output().expect_err("it does not exist");
        assert!(error.to_string().contains("no-such-program-here"), "{error}");
    }
}
