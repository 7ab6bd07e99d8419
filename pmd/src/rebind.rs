//! What comes of giving a queue other memory while its port runs. See [`crate::Device::rebind`].

use std::fmt;

use crate::{AnyRxQueue, Error};

/// A receive queue that has other memory now.
pub struct Rebound {
    /// The queue from here on.
    pub queue: AnyRxQueue,
    /// What it was before, if anything may be left in it: stopped, and proven so. It posts nothing more, and
    /// yields what had arrived by then. Receive from it until nothing comes, before [`Rebound::queue`]
    /// (frames stay in order); then drop it: its buffers come home, and its memory is unmapped.
    pub former: Option<AnyRxQueue>,
}

/// Yields the queue that is to be given other memory, once all is ready for the change: called once at most.
/// `None` if it is not to be had, and nothing is changed.
pub type TakeQueue<'a> = &'a mut dyn FnMut() -> Option<AnyRxQueue>;

/// A queue could not be given other memory.
pub struct RebindError {
    /// Why.
    pub error: Error,
    /// Whether the queue was taken, and is lost: the device did not show that it stopped using its memory,
    /// or did not start it again. The port has to be stopped. If not, the queue was not taken, and runs on.
    pub is_lost: bool,
}

impl RebindError {
    /// Before the queue was taken.
    #[must_use]
    pub fn early(error: Error) -> Self {
        Self { error, is_lost: false }
    }

    /// The queue is lost until the port was stopped.
    #[must_use]
    pub fn lost(error: Error) -> Self {
        Self { error, is_lost: true }
    }

    /// The queue did not come.
    #[must_use]
    pub fn not_taken(port: &str) -> Self {
        let why = "the queue that was to get other memory did not come";
        Self::early(Error::State { port: port.to_owned(), why })
    }
}

impl fmt::Debug for RebindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RebindError")
            .field("error", &self.error)
            .field("is_lost", &self.is_lost)
            .finish()
    }
}

impl fmt::Display for RebindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for RebindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}
