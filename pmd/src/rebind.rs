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

/// A queue could not be given other memory.
pub struct RebindError {
    /// Why.
    pub error: Error,
    /// The queue, as it was: nothing was touched, and it runs on. `None` if the device did not show that it
    /// stopped using the queue's memory, or did not start it again: the port has to be stopped.
    pub queue: Option<AnyRxQueue>,
}

impl RebindError {
    /// Nothing was touched.
    #[must_use]
    pub fn untouched(error: Error, queue: AnyRxQueue) -> Self {
        Self { error, queue: Some(queue) }
    }

    /// The queue is lost until the port was stopped.
    #[must_use]
    pub fn lost(error: Error) -> Self {
        Self { error, queue: None }
    }
}

impl fmt::Debug for RebindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RebindError")
            .field("error", &self.error)
            .field("untouched", &self.queue.is_some())
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
