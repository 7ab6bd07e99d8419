//! What of a run of tests is worth a line on the terminal: how each executable ended, tests that took
//! long, all that a failed one printed, and why others were skipped. The whole of it goes to a file.
//!
//! Knows what cargo and its test harness print; starts nothing and counts nothing.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// What takes longer has a line of its own.
const LONG: Duration = Duration::from_secs(3);
/// How much of what a failed test printed is shown: its last lines.
const SHOWN_LINES: usize = 120;
/// How cargo's lines of progress begin, once what stands before them is cut off.
const PROGRESS: [&str; 12] = [
    "Blocking ",
    "Building ",
    "Checking ",
    "Compiling ",
    "Documenting ",
    "Downloaded ",
    "Downloading ",
    "Executable ",
    "Finished ",
    "Fresh ",
    "Locking ",
    "Updating ",
];

/// Reads lines as they come.
pub(crate) struct Digest {
    file: File,
    path: PathBuf,
    /// What runs: a test's file, or a crate.
    executable: String,
    section: Section,
    /// The last lines of the test that runs, or of the list of failures.
    recent: VecDeque<String>,
    /// The test that runs, where tests run one by one.
    test: Option<String>,
    /// When the one before it ended. Its own name comes with the first line that it prints, which may be
    /// its last words.
    since: Instant,
    failing: Vec<String>,
    skipped: HashSet<String>,
    /// How many tests gave the same reason.
    reasons: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    /// Cargo builds: what is no progress is an error or a warning.
    Build,
    /// Tests run.
    Tests,
    /// What the tests that passed had printed.
    Successes,
    /// What the tests that failed had printed, and their names.
    Failures,
}

impl Digest {
    /// Makes the file, anew.
    ///
    /// # Errors
    /// The file's folder cannot be written.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let folder = path.parent().context("a log has a folder")?;
        fs::create_dir_all(folder)?;
        let file = File::create(path).with_context(|| path.display().to_string())?;
        Ok(Self {
            file,
            path: path.to_path_buf(),
            executable: String::new(),
            section: Section::Build,
            recent: VecDeque::new(),
            test: None,
            since: Instant::now(),
            failing: Vec::new(),
            skipped: HashSet::new(),
            reasons: BTreeMap::new(),
        })
    }

    /// Another executable begins, which nobody but us announces.
    pub(crate) fn begin(&mut self, executable: &str) {
        executable.clone_into(&mut self.executable);
        self.section = Section::Tests;
        self.recent.clear();
        self.test = None;
    }

    /// Takes a line; what is to be shown of it is printed.
    pub(crate) fn line(&mut self, line: &str) {
        // A log that cannot be written is no reason to stop the tests.
        let _ = writeln!(self.file, "{line}");
        for shown in self.shown(line, Instant::now()) {
            println!("{shown}");
        }
    }

    /// Prints what the test that runs has printed, since it will not end by itself.
    pub(crate) fn hangs(&mut self) {
        let name = self.test.take().unwrap_or_default();
        println!("  {name} ({}) hangs; its last lines:", self.executable);
        for line in self.recent.drain(..) {
            println!("{line}");
        }
        self.failed(&name);
    }

    /// Prints why tests were skipped; gives the names of those that failed.
    pub(crate) fn end(self) -> Vec<String> {
        for (reason, count) in &self.reasons {
            println!("  SKIP {count}: {reason}");
        }
        if !self.failing.is_empty() {
            println!("  the whole of it: {}", self.path.display());
        }
        self.failing
    }

    /// What stands on the terminal for a line.
    fn shown(&mut self, line: &str, now: Instant) -> Vec<String> {
        self.note_skip(line);
        let bare = line.trim_start();
        if let Some(executable) =
            bare.strip_prefix("Running ").or_else(|| bare.strip_prefix("Doc-tests "))
        {
            self.begin(executable.split(" (").next().unwrap_or(executable));
            self.since = now;
            return Vec::new();
        }
        if let Some(result) = line.strip_prefix("test result: ") {
            return self.finish(result);
        }
        match (self.section, line) {
            (Section::Build, _) => {
                let silent = bare.is_empty() || PROGRESS.iter().any(|word| bare.starts_with(word));
                if silent { Vec::new() } else { vec![line.to_owned()] }
            }
            (_, "successes:") => {
                self.section = Section::Successes;
                Vec::new()
            }
            (_, "failures:") => {
                // The second time it stands over the names.
                if self.section != Section::Failures {
                    self.recent.clear();
                }
                self.section = Section::Failures;
                Vec::new()
            }
            (Section::Successes, _) => Vec::new(),
            (Section::Failures, _) => {
                self.remember(line);
                Vec::new()
            }
            (Section::Tests, _) => self.running(line, now),
        }
    }

    /// A line while tests run: one of the harness's, or a test's own.
    fn running(&mut self, line: &str, now: Instant) -> Vec<String> {
        if let Some((name, verdict)) =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ..."))
        {
            self.test = Some(name.to_owned());
            self.recent.clear();
            self.remember(line);
            if verdict.trim() == "FAILED" {
                self.failed(name);
            }
            if matches!(verdict.trim(), "ok" | "FAILED") {
                self.since = now;
            }
            return Vec::new();
        }
        self.remember(line);
        // An executable that crashed has no result; what cargo says of it stands below.
        if line.starts_with("error: ") && line.contains("to rerun pass") {
            self.section = Section::Build;
            return self.recent.drain(..).collect();
        }
        // Without a word of its own, a test's verdict stands alone on the line.
        match (line, self.test.take()) {
            ("ok", Some(name)) => {
                let took = self.lap(now);
                if took < LONG { Vec::new() } else { vec![format!("  {name} {}", seconds(took))] }
            }
            (_, Some(name)) if line.ends_with("FAILED") => {
                self.failed(&name);
                let took = self.lap(now);
                let head = format!("  {name} FAILED {}", seconds(took));
                std::iter::once(head).chain(self.recent.drain(..)).collect()
            }
            (_, test) => {
                self.test = test;
                Vec::new()
            }
        }
    }

    /// How long the test took that ends now.
    fn lap(&mut self, now: Instant) -> Duration {
        now.saturating_duration_since(std::mem::replace(&mut self.since, now))
    }

    /// An executable has ended.
    fn finish(&mut self, result: &str) -> Vec<String> {
        self.section = Section::Tests;
        self.test = None;
        let failed = !result.starts_with("ok. ");
        let long = result
            .rsplit_once("finished in ")
            .and_then(|(_, took)| took.trim_end_matches('s').parse().ok())
            .is_some_and(|took: f64| took >= LONG.as_secs_f64());
        let mut lines = Vec::new();
        if failed {
            lines.extend(self.recent.drain(..));
        }
        if failed || long {
            lines.push(format!("  {}: {result}", self.executable));
        }
        self.recent.clear();
        lines
    }

    fn remember(&mut self, line: &str) {
        if self.recent.len() == SHOWN_LINES {
            self.recent.pop_front();
        }
        self.recent.push_back(line.to_owned());
    }

    fn failed(&mut self, test: &str) {
        self.failing.push(format!("{test} ({})", self.executable));
    }

    /// Counts a reason once for each test of an executable.
    fn note_skip(&mut self, line: &str) {
        let Some(skip) = skip_in(line) else { return };
        let (name, reason) = skip.split_once(": ").unwrap_or((skip, "no reason given"));
        if self.skipped.insert(format!("{} {name}", self.executable)) {
            *self.reasons.entry(reason.to_owned()).or_default() += 1;
        }
    }
}

/// What a line says about a test that skips: its name and its reason, if the line is such a one.
/// With `--nocapture` the harness may have left `test name ... ` before it.
pub(crate) fn skip_in(line: &str) -> Option<&str> {
    let announced = || line.split_once(" ... SKIP ").map(|(_, rest)| rest);
    line.trim_start().strip_prefix("SKIP ").or_else(announced)
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of these lines, one second apart.
    fn shown(lines: &[&str]) -> (Vec<String>, Digest) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut digest = Digest::new(&folder.path().join("logs/unit.log")).expect("a log");
        let mut now = Instant::now();
        let mut shown = Vec::new();
        for line in lines {
            shown.extend(digest.shown(line, now));
            now += Duration::from_secs(1);
        }
        (shown, digest)
    }

    #[test]
    fn what_passes_soon_is_silent() {
        let (lines, digest) = shown(&[
            "   Compiling memwire v0.1.0",
            "     Running tests/ports.rs (target/debug/deps/ports-1)",
            "running 2 tests",
            "test a ... ok",
            "test b ... ok",
            "",
            "successes:",
            "---- a stdout ----",
            "hello",
            "test result: ok. 2 passed; 0 failed; 0 ignored; finished in 0.11s",
        ]);
        assert!(lines.is_empty(), "{lines:?}");
        assert!(digest.end().is_empty());
    }

    #[test]
    fn what_a_failed_test_printed_is_shown_and_its_name_kept() {
        let (lines, digest) = shown(&[
            "     Running tests/ports.rs (target/debug/deps/ports-1)",
            "test a ... ok",
            "test b ... FAILED",
            "successes:",
            "---- a stdout ----",
            "hello",
            "failures:",
            "---- b stdout ----",
            "it broke",
            "failures:",
            "    b",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; finished in 0.11s",
        ]);
        let expected =
            ["---- b stdout ----", "it broke", "    b", "  tests/ports.rs: FAILED. 1 passed"];
        assert_eq!(lines.len(), expected.len());
        assert!(
            lines.iter().zip(expected).all(|(line, start)| line.starts_with(start)),
            "{lines:?}"
        );
        assert_eq!(digest.end(), ["b (tests/ports.rs)"]);
    }

    #[test]
    fn tests_that_run_one_by_one_are_timed_and_a_failed_one_shows_its_own_lines() {
        let (lines, digest) = shown(&[
            "     Running tests/guest.rs (target/release/deps/guest-1)",
            "test slow ... booting",
            "still",
            "done",
            "ok",
            "test quick ...",
            "ok",
            "test bad ... booting",
            "panicked at guest.rs",
            "FAILED",
            "failures:",
            "failures:",
            "    bad",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; finished in 9.00s",
        ]);
        assert_eq!(lines[0], "  slow 4.0 s");
        let bad = ["  bad FAILED 3.0 s", "test bad ... booting", "panicked at guest.rs", "FAILED"];
        assert_eq!(lines[1..5], bad);
        assert_eq!(digest.end(), ["bad (tests/guest.rs)"]);
    }

    #[test]
    fn errors_of_a_build_are_shown_whole() {
        let errors = ["error[E0308]: mismatched types", " --> src/lib.rs:1:1"];
        let (lines, _) = shown(&["   Compiling x v1", errors[0], errors[1]]);
        assert_eq!(lines, errors);
    }

    #[test]
    fn a_crash_shows_what_was_printed_before_it() {
        let (lines, _) = shown(&[
            "     Running tests/a.rs (a-1)",
            "running 1 test",
            "about to crash",
            "error: test failed, to rerun pass `-p a --test a`",
            "Caused by:",
            "  process didn't exit successfully: signal: 11",
            "     Running tests/b.rs (b-1)",
        ]);
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert!(lines[4].ends_with("signal: 11"));
    }

    #[test]
    fn a_reason_to_skip_is_counted_once_a_test() {
        let (_, digest) = shown(&[
            "     Running tests/a.rs (a-1)",
            "test veth ... SKIP veth: needs root",
            "SKIP veth: needs root",
            "SKIP tap: needs root",
            "     Running tests/b.rs (b-1)",
            "SKIP veth: needs root",
        ]);
        assert_eq!(digest.reasons, BTreeMap::from([("needs root".to_owned(), 3)]));
    }
}
