//! What can go wrong when a port is opened, started or stopped. Every message says what, where, and
//! what to do.

use std::io;

use crate::{MapError, SpecError};

/// A port could not be opened, started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The port spec cannot be read.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// No driver of that name.
    #[error("port '{port}': unknown driver '{driver}'{}; known: {known}", did_you_mean(suggestion.as_deref()))]
    UnknownDriver {
        /// The spec.
        port: String,
        /// The name.
        driver: String,
        /// The known name that is nearest.
        suggestion: Option<String>,
        /// All names.
        known: String,
    },
    /// An option that the driver does not know, or a value it cannot take.
    #[error("port '{port}': {why}")]
    BadOption {
        /// The spec.
        port: String,
        /// What is wrong and what is allowed.
        why: String,
    },
    /// The port is open already, as often as it can be.
    #[error("port '{port}': already open; {why}")]
    AlreadyOpen {
        /// The spec.
        port: String,
        /// How often it can be open.
        why: &'static str,
    },
    /// The interface, file or wire does not exist.
    #[error("port '{port}': {why}")]
    NotThere {
        /// The spec.
        port: String,
        /// What is missing and what to do.
        why: String,
    },
    /// A capability or permission is missing.
    #[error("port '{port}': {what}: permission denied; needs {needs}")]
    NoPermission {
        /// The spec.
        port: String,
        /// What was tried.
        what: String,
        /// The capability, and how to get it.
        needs: String,
    },
    /// Ring sizes are powers of two.
    #[error(
        "port '{port}': ring of {ring} descriptors: must be a power of two in {low}..={high} (nearest: {nearest})"
    )]
    RingSize {
        /// The spec.
        port: String,
        /// What was asked.
        ring: usize,
        /// Least.
        low: usize,
        /// Most.
        high: usize,
        /// The nearest that is allowed.
        nearest: usize,
    },
    /// More queues than the device has.
    #[error("port '{port}': {asked} {what} queues asked, it has {most}")]
    TooManyQueues {
        /// The spec.
        port: String,
        /// `receive` or `transmit`.
        what: &'static str,
        /// What was asked.
        asked: usize,
        /// What there is.
        most: usize,
    },
    /// The device cannot split heads from payloads.
    #[error(
        "port '{port}': the {driver} driver cannot split headers from payloads; use the bounce path (receive into host memory, copy payloads in bulk)"
    )]
    NoSplit {
        /// The spec.
        port: String,
        /// Its driver.
        driver: &'static str,
    },
    /// The device cannot reach the pool's memory.
    #[error("port '{port}': {source}")]
    Map {
        /// The spec.
        port: String,
        /// Why, and the next best way.
        #[source]
        source: MapError,
    },
    /// The device is in the wrong state for the call.
    #[error("port '{port}': {why}")]
    State {
        /// The spec.
        port: String,
        /// What state it is in.
        why: &'static str,
    },
    /// A capture file is damaged.
    #[error("port '{port}': record {record} at offset {offset:#x}: {why}")]
    BrokenFile {
        /// The spec.
        port: String,
        /// Number of the record, counted from 1.
        record: u64,
        /// Its offset in the file.
        offset: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The system refused.
    #[error("port '{port}': {what}: {source}")]
    System {
        /// The spec.
        port: String,
        /// Which step failed.
        what: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|name| format!(" (did you mean '{name}'?)")).unwrap_or_default()
}

impl Error {
    /// Whether the user asked for something that cannot be, as opposed to something that is missing
    /// here: the difference between exit codes 2 and 3.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Spec(_)
                | Self::UnknownDriver { .. }
                | Self::BadOption { .. }
                | Self::RingSize { .. }
                | Self::TooManyQueues { .. }
                | Self::NoSplit { .. }
                | Self::AlreadyOpen { .. }
        )
    }
}
