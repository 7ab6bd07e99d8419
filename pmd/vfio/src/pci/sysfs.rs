//! The kernel's files, below a root that tests set up themselves.

use std::path::{Path, PathBuf};

/// Where `/sys`, `/proc` and `/dev` are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysfs {
    root: PathBuf,
}

impl Sysfs {
    /// Those of this machine.
    #[must_use]
    pub fn system() -> Self {
        Self::at("/")
    }

    /// Those below another root: a copy of a machine's, or a test's.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
}
