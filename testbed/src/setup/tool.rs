//! A program of the host's, run to the end: what it printed is shown only if it failed.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::machine::tail;

/// How much of what a failing program printed is worth showing.
const TAIL: usize = 25;

/// Which Debian package has a program.
const PACKAGE_OF: [(&str, &str); 6] = [
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("tar", "tar"),
    ("make", "build-essential"),
    ("xz", "xz-utils"),
    ("depmod", "kmod"),
];

/// A program to be run.
pub(super) struct Tool {
    command: Command,
    shown: String,
}

impl Tool {
    pub(super) fn new(program: &str) -> Self {
        let mut command = Command::new(program);
        // Messages are looked at, and a build is the same everywhere.
        command.env("LC_ALL", "C").stdin(Stdio::null());
        Self { command, shown: program.to_owned() }
    }

    pub(super) fn args<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        for word in words {
            self.shown = format!("{} {}", self.shown, word.as_ref().to_string_lossy());
            self.command.arg(word);
        }
        self
    }

    pub(super) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    pub(super) fn folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Runs it, and returns what it printed.
    pub(super) fn run(mut self) -> Result<String> {
        let output = self.command.output().map_err(|error| {
            let program = self.command.get_program().to_string_lossy().into_owned();
            match PACKAGE_OF.iter().find(|(name, _)| *name == program) {
                Some((_, package)) if error.kind() == ErrorKind::NotFound => {
                    Error::Invalid(format!("{program} is not installed: apt-get install {package}"))
                }
                _ => Error::io(format!("cannot run {program}"), error),
            }
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let printed = [output.stdout, output.stderr].concat();
        let printed = tail(&String::from_utf8_lossy(&printed), TAIL);
        Err(Error::Invalid(format!("`{}` failed ({}):\n{printed}", self.shown, output.status)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_printed_is_told_when_it_fails() {
        assert_eq!(Tool::new("sh").args(["-c", "echo fine"]).run().expect("sh"), "fine\n");

        let script = "echo out; echo err >&2; exit 3";
        let error = Tool::new("sh").args(["-c", script]).run().expect_err("status 3").to_string();

        assert!(error.contains("exit status: 3") && error.contains("out\nerr"), "{error}");
    }

    #[test]
    fn a_program_that_is_missing_is_named_with_its_package() {
        let nowhere = tempfile::tempdir().expect("a temporary folder");
        let tool = Tool::new("dpkg-deb").env("PATH", nowhere.path());
        let error = tool.run().expect_err("it is not there").to_string();
        assert_eq!(error, "dpkg-deb is not installed: apt-get install dpkg");
    }
}
