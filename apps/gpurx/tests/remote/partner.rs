//! The two programs, started together. Killed if a test fails before they end.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{check_summary, gpurx, outcome};

/// Longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A folder for a socket.
pub(crate) fn socket() -> TempDir {
    tempfile::Builder::new().prefix("hand").tempdir().unwrap()
}

/// A program that runs.
struct Running(Option<Child>);

impl Running {
    fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(Some(child.spawn().unwrap()))
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let child = self.0.as_ref().unwrap();
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end: exit code (-1: by a signal), stdout, stderr.
    fn end(mut self) -> (i32, String, String) {
        outcome(&self.0.take().unwrap().wait_with_output().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// gpurx with a socket for consumers.
pub(crate) struct Gpurx {
    running: Option<Running>,
    folder: TempDir,
}

impl Gpurx {
    /// Starts it, and waits until it listens.
    pub(crate) fn start(line: &str) -> Self {
        let folder = socket();
        let path = folder.path().join("s");
        let mut command = gpurx(line);
        command.args(["--json", "--metrics", "0", "--consumer"]).arg(&path);
        let this = Self { running: Some(Running::start(&mut command)), folder };
        let deadline = Instant::now() + LIMIT;
        while !path.exists() && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        this
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// Waits for its end, which has to be a good one.
    pub(crate) fn end(mut self) -> Value {
        let (code, stdout, stderr) = self.running.take().unwrap().end();
        assert_eq!(code, 0, "{stdout}\n{stderr}");
        let summary: Value = serde_json::from_str(&stdout).unwrap();
        check_summary(&summary);
        summary
    }

    /// The same, after a ^C.
    pub(crate) fn stop(self) -> Value {
        self.running.as_ref().unwrap().signal(rustix::process::Signal::INT);
        self.end()
    }

    pub(crate) fn revoke_or_resume(&self) {
        self.running.as_ref().unwrap().signal(rustix::process::Signal::USR1);
    }

    pub(crate) fn kill(&mut self) {
        drop(self.running.take());
    }
}

/// gpurx-consumer.
pub(crate) struct Consumer(Running);

impl Consumer {
    pub(crate) fn start(gpurx: &Gpurx, line: &str) -> Self {
        Self::at(&gpurx.path(), line)
    }

    pub(crate) fn at(socket: &Path, line: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gpurx-consumer"));
        command.args(line.split_whitespace()).args(["--json", "--wait", "20s", "--socket"]);
        Self(Running::start(command.arg(socket)))
    }

    /// Waits until it has a ring among its mappings, and for a moment more: it accepts then.
    pub(crate) fn wait_until_attached(&self) {
        let pid = self.0.0.as_ref().unwrap().id();
        let deadline = Instant::now() + LIMIT;
        let has_ring = || {
            let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
            maps.contains("memwire:hand-over")
        };
        while !has_ring() {
            assert!(Instant::now() < deadline, "the consumer found no ring");
            std::thread::park_timeout(Duration::from_millis(1));
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }

    pub(crate) fn kill(&self) {
        self.0.signal(rustix::process::Signal::KILL);
    }

    pub(crate) fn end(self) -> (i32, String, String) {
        self.0.end()
    }
}
