//! What a driver did that the datasheets forbid. Collects; decides nothing.

use std::fmt;

/// Beyond this many, more of the same says nothing.
const MOST: usize = 1000;

/// The list of violations.
#[derive(Debug, Default)]
pub(super) struct Checker {
    violations: Vec<String>,
}

impl Checker {
    #[cold]
    pub(super) fn note(&mut self, what: impl fmt::Display) {
        if self.violations.len() < MOST {
            self.violations.push(what.to_string());
        }
    }

    /// Notes it unless it is so.
    pub(super) fn demand(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.note(what());
        }
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.violations.clone()
    }
}
