//! What the doctor says: findings, in sections. Knows no machine.

use serde::Serialize;

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Status {
    /// Good.
    #[serde(rename = "OK")]
    Ok,
    /// It works less well than it could, or will not for everything.
    #[serde(rename = "WARN")]
    Warn,
    /// What was asked for cannot work.
    #[serde(rename = "FAIL")]
    Fail,
    /// There is nothing to be looked at, or nothing that can be known from here.
    #[serde(rename = "SKIP")]
    Skip,
}

impl Status {
    pub(super) const ALL: [Self; 4] = [Self::Ok, Self::Warn, Self::Fail, Self::Skip];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
            Self::Skip => "SKIP",
        }
    }
}

/// One fact, and what to do about it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    pub(super) status: Status,
    /// What it is about: `2M`, `0000:01:00.0`.
    pub(super) what: String,
    pub(super) says: String,
    /// In one line; none where nothing is to be done.
    pub(super) fix: Option<String>,
    /// More lines, for who asked for this section.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) details: Vec<String>,
}

impl Finding {
    fn new(status: Status, what: impl Into<String>, says: impl Into<String>) -> Self {
        Self { status, what: what.into(), says: says.into(), fix: None, details: Vec::new() }
    }

    pub(super) fn ok(what: impl Into<String>, says: impl Into<String>) -> Self {
        Self::new(Status::Ok, what, says)
    }

    pub(super) fn warn(what: impl Into<String>, says: impl Into<String>) -> Self {
        Self::new(Status::Warn, what, says)
    }

    pub(super) fn fail(what: impl Into<String>, says: impl Into<String>) -> Self {
        Self::new(Status::Fail, what, says)
    }

    pub(super) fn skip(what: impl Into<String>, says: impl Into<String>) -> Self {
        Self::new(Status::Skip, what, says)
    }

    pub(super) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    pub(super) fn details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }
}

/// Findings on one matter.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Section {
    /// As `memwire doctor NAME` calls it.
    pub(super) name: &'static str,
    #[serde(skip)]
    pub(super) title: &'static str,
    pub(super) findings: Vec<Finding>,
}
