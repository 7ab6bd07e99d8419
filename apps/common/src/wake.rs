//! Waiting for the next frame of any of some queues, asleep. Knows descriptors; knows no driver.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a worker waits at most. Between two waits it sees whether it is to stop, what it is ordered to
/// do, and which deadlines have passed, so none of that comes later than this; 250 times a second cost less
/// than a hundredth of a core.
pub(crate) const LONGEST: Duration = Duration::from_millis(4);

/// Descriptors of armed queues.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    armed: Vec<OwnedFd>,
}

impl Wakers {
    /// Takes what arming each queue yielded; returns whether all of them, and at least one, can wake. The
    /// descriptors are copied: a queue is polled once more before the wait, and may end meanwhile.
    pub(crate) fn set<'q>(
        &mut self,
        queues: impl IntoIterator<Item = Option<BorrowedFd<'q>>>,
    ) -> bool {
        self.armed.clear();
        for armed in queues {
            let Some(Ok(copy)) = armed.map(|armed| armed.try_clone_to_owned()) else {
                self.armed.clear();
                return false;
            };
            self.armed.push(copy);
        }
        !self.armed.is_empty()
    }

    /// Lets go of them.
    pub(crate) fn clear(&mut self) {
        self.armed.clear();
    }

    /// Waits until one of them is readable, [`LONGEST`] at most; lets go of them.
    pub(crate) fn wait(&mut self) {
        let armed = self.armed.iter().map(AsFd::as_fd);
        let mut armed: Vec<_> =
            armed.map(|armed| PollFd::from_borrowed_fd(armed, PollFlags::IN)).collect();
        let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(LONGEST.subsec_nanos()) };
        // A signal ends the wait, as time does.
        let _ = poll(&mut armed, Some(&limit));
        drop(armed);
        self.armed.clear();
    }
}
