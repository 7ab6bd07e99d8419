//! What can go wrong with a guest. The variant says who can do something about it.

use std::io;
use std::path::Path;
use std::time::Duration;

/// Why a guest did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something that `cargo xtask testbed setup` makes is not there; a test skips.
    #[error("the testbed is not set up: {0}; run `cargo xtask testbed setup`")]
    NotSetUp(String),
    /// The options or the topology ask for something that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// A file, a socket or a process of the host's failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with the path.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// QEMU or the guest's kernel ended.
    #[error("the guest died: {why}\n{console}")]
    Died {
        /// What was seen of it.
        why: String,
        /// The end of the console, and of what QEMU printed.
        console: String,
    },
    /// It took too long.
    #[error("{what} took longer than {limit:?}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// The other end does not speak our language.
    #[error("{0}")]
    Protocol(String),
    /// A step of the set-up failed.
    #[error("setting up {step} failed: {reason}")]
    Setup {
        /// Which.
        step: String,
        /// What was printed, and what to install.
        reason: String,
    },
    /// QEMU refused a command of its monitor.
    #[error("qemu refused {command}: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's own words.
        reason: String,
    },
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }
}

/// Says which path an I/O error is about.
pub(crate) trait At<T> {
    fn at(self, verb: &str, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, verb: &str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::io(format!("cannot {verb} {}", path.display()), source))
    }
}
