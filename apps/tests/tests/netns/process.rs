//! Programs that a test starts in a namespace: their output, their end, and that they do end.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Nothing a test waits for takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Lets others work for a while.
#[expect(clippy::disallowed_methods, reason = "a test that waits for other programs may sleep")]
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}

/// Waits until `done` yields something.
pub(crate) fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(result) = done() {
            return result;
        }
        assert!(Instant::now() < end, "{what} did not happen in {DEADLINE:?}");
        pause(Duration::from_millis(20));
    }
}

/// Whether a program can be found.
pub(crate) fn is_installed(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

/// One of our own programs, as built for release beside the folder this test was built in.
pub(crate) fn binary(name: &str) -> String {
    let folder = std::env::var_os("MEMWIRE_BIN_DIR").map(PathBuf::from).or_else(|| {
        let test = std::env::current_exe().ok()?;
        Some(test.ancestors().nth(3)?.join("release"))
    });
    let path = folder.unwrap_or_default().join(name);
    assert!(path.is_file(), "{} is not there: run `cargo build --release --bins`", path.display());
    path.to_string_lossy().into_owned()
}

/// What a program left behind.
pub(crate) struct Finished {
    status: ExitStatus,
    name: String,
    /// What it wrote to stdout.
    pub(crate) stdout: String,
    /// What it wrote to stderr.
    pub(crate) stderr: String,
}

impl Finished {
    /// Fails the test unless the program succeeded.
    pub(crate) fn succeeded(self) -> Self {
        let Self { status, name, stdout, stderr } = &self;
        assert!(status.success(), "{name}: {status}\n{stdout}\n{stderr}");
        self
    }

    /// Its exit code.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Its stdout, as one JSON value.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", self.name, self.stdout))
    }
}

/// A program that runs; killed if the test ends first.
pub(crate) struct Process {
    child: Child,
    name: String,
    output: [PathBuf; 2],
}

impl Process {
    /// Starts a program; its output goes to files in `folder`.
    pub(crate) fn start(folder: &Path, command: &mut Command, name: &str) -> Self {
        let number = folder.read_dir().unwrap().count();
        let output = ["out", "err"].map(|kind| folder.join(format!("{number}-{kind}")));
        let [stdout, stderr] = output.clone().map(|path| File::create(path).unwrap());
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { child, name: name.to_owned(), output }
    }

    /// Processor time of all its threads so far.
    pub(crate) fn cpu_time(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = std::fs::read_to_string(path).unwrap();
        // proc_pid_stat(5): behind the name in brackets, utime and stime are the 12th and 13th word.
        let words = text.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
        let ticks: u64 = words.map(|word| word.parse::<u64>().unwrap()).sum();
        Duration::from_secs(1) * u32::try_from(ticks).unwrap()
            / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap()
    }

    /// Asks it to end, as ^C does.
    pub(crate) fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
    }

    /// What it has written to stdout so far.
    pub(crate) fn stdout(&self) -> String {
        std::fs::read_to_string(&self.output[0]).unwrap_or_default()
    }

    /// What it has written to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(&self.output[1]).unwrap_or_default()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it ends.
    pub(crate) fn finish(mut self) -> Finished {
        let what = format!("the end of {}", self.name);
        let status = wait_for(&what, || self.child.try_wait().unwrap());
        let [stdout, stderr] = &self.output;
        let read = |path| -> io::Result<String> {
            Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
        };
        let (stdout, stderr) = (read(stdout).unwrap(), read(stderr).unwrap());
        Finished { status, name: self.name.clone(), stdout, stderr }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
