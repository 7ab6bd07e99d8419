//! The clean stop: one flag that everybody polls, set by the first SIGINT or SIGTERM, by a deadline,
//! by a worker that panics. A second signal ends the process at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag::{register, register_conditional_shutdown},
};

use crate::AppError;

/// How long workers may take to leave their loops once asked.
pub const GRACE: Duration = Duration::from_secs(2);
/// What the shell reports of a process that ^C ended.
const INTERRUPTED: i32 = 130;

/// A flag that says "stop". Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A flag that only [`Stop::set`] sets.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A flag that the first SIGINT or SIGTERM sets; the second ends the process with 130.
    ///
    /// # Errors
    /// The system refused the handlers.
    pub fn on_signals() -> Result<Self, AppError> {
        let stop = Self::new();
        // A flag of its own: a deadline may have set the other one, and that is no ^C.
        let seen = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            let failed = |error| AppError::failed(format!("signal {signal}: no handler: {error}"));
            // In this order: the first signal finds `seen` clear, and sets it for the second.
            register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&seen))
                .map_err(failed)?;
            register(signal, Arc::clone(&seen)).map_err(failed)?;
            register(signal, Arc::clone(&stop.0)).map_err(failed)?;
        }
        Ok(stop)
    }

    /// Asks everybody to stop.
    pub fn set(&self) {
        // Relaxed: the flag carries no data; joining the workers orders what they did.
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether to stop. One relaxed load: poll it once per burst.
    #[inline]
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_flag() {
        let stop = Stop::new();
        let other = stop.clone();
        assert!(!other.is_set());
        stop.set();
        assert!(other.is_set());
    }

    #[test]
    fn the_first_signal_only_sets_the_flag() {
        let stop = Stop::on_signals().unwrap();
        signal_hook::low_level::raise(SIGTERM).unwrap();
        assert!(stop.is_set());
    }
}
