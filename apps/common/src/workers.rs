//! Worker threads: named, pinned, sharing one stop flag. A worker that panics stops all of them and
//! becomes an error; none of them is ever lost track of.

use std::{
    any::Any,
    sync::mpsc,
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

use crate::{AppError, Stop, lcore, stop::GRACE};

/// A set of workers that yield a `T` each.
pub struct Workers<T> {
    stop: Stop,
    running: Vec<(String, JoinHandle<Option<T>>)>,
}

/// Wakes whoever waits, and stops the others if the worker goes by a panic.
struct Farewell {
    stop: Stop,
    owner: Thread,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        if thread::panicking() {
            self.stop.set();
        }
        self.owner.unpark();
    }
}

impl<T: Send + 'static> Workers<T> {
    /// None yet. Workers see `stop`; so does a panic.
    #[must_use]
    pub fn new(stop: &Stop) -> Self {
        Self { stop: stop.clone(), running: Vec::new() }
    }

    /// Starts a worker, pinned to `core` if one is named. `job` polls the flag once per burst and
    /// returns soon after it is set.
    ///
    /// # Errors
    /// The thread could not be started or pinned; `job` did not run.
    pub fn spawn(
        &mut self,
        name: impl Into<String>,
        core: Option<usize>,
        job: impl FnOnce(&Stop) -> T + Send + 'static,
    ) -> Result<(), AppError> {
        let name = name.into();
        let stop = self.stop.clone();
        let farewell = Farewell { stop: stop.clone(), owner: thread::current() };
        let (tell, hear) = mpsc::channel();
        let body = move || {
            let _farewell = farewell;
            let pinned = core.map_or(Ok(()), lcore::pin);
            let is_pinned = pinned.is_ok();
            let _ = tell.send(pinned);
            is_pinned.then(|| job(&stop))
        };
        let thread = thread::Builder::new().name(name.clone()).spawn(body);
        let handle =
            thread.map_err(|error| AppError::failed(format!("worker '{name}': {error}")))?;
        match hear.recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(AppError::failed(format!("worker '{name}' did not start"))),
        }
        self.running.push((name, handle));
        Ok(())
    }

    /// Whether all of them are done.
    #[must_use]
    pub fn are_done(&self) -> bool {
        self.running.iter().all(|(_, handle)| handle.is_finished())
    }

    /// Waits until all are done, the flag is set, or `timeout` is over; returns whether it is worth
    /// going on.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            if self.are_done() || self.stop.is_set() {
                return false;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            // In short steps: a signal handler sets the flag and wakes nobody.
            thread::park_timeout(left.min(Duration::from_millis(20)));
        }
    }

    /// Sets the flag, waits for all workers, and returns what they yield, in the order they were
    /// started.
    ///
    /// # Errors
    /// A worker panicked, or did not come back within two seconds.
    pub fn join(self) -> Result<Vec<T>, AppError> {
        self.join_within(GRACE)
    }

    fn join_within(self, grace: Duration) -> Result<Vec<T>, AppError> {
        self.stop.set();
        let deadline = Instant::now() + grace;
        while !self.are_done() && Instant::now() < deadline {
            thread::park_timeout(Duration::from_millis(5));
        }
        let mut yields = Vec::with_capacity(self.running.len());
        let mut first_error = None;
        for (name, handle) in self.running {
            let result = if handle.is_finished() {
                handle.join().map_err(|panic| format!("panicked: {}", panic_text(&*panic)))
            } else {
                Err(format!("did not stop within {} s", grace.as_secs_f64()))
            };
            match result {
                Ok(value) => yields.extend(value),
                Err(why) => {
                    first_error
                        .get_or_insert_with(|| AppError::failed(format!("worker '{name}' {why}")));
                }
            }
        }
        first_error.map_or(Ok(yields), Err)
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until_stopped(stop: &Stop) {
        while !stop.is_set() {
            thread::yield_now();
        }
    }

    #[test]
    fn workers_yield_in_the_order_they_were_started() {
        let mut workers = Workers::new(&Stop::new());
        for number in 0..4 {
            workers.spawn(format!("w{number}"), None, move |_| number).unwrap();
        }
        assert_eq!(workers.join().unwrap(), [0, 1, 2, 3]);
    }

    #[test]
    fn a_worker_is_named_and_pinned() {
        let core = lcore::allowed().unwrap().0[0];
        let mut workers = Workers::new(&Stop::new());
        let job = |_: &Stop| (thread::current().name().map(str::to_owned), lcore::allowed());
        workers.spawn("rx0", Some(core), job).unwrap();
        let (name, allowed) = workers.join().unwrap().remove(0);
        assert_eq!(name.as_deref(), Some("rx0"));
        assert_eq!(allowed.unwrap().0, [core]);
    }

    #[test]
    fn a_core_that_is_not_there_is_an_error_at_the_start() {
        let mut workers = Workers::new(&Stop::new());
        let error = workers.spawn("rx0", Some(1023), |_| ()).unwrap_err();
        assert!(error.to_string().starts_with("core 1023: not in allowed set"), "{error}");
        assert!(workers.join().unwrap().is_empty());
    }

    #[test]
    fn one_panic_stops_all_and_is_an_error() {
        let mut workers = Workers::new(&Stop::new());
        workers.spawn("good", None, until_stopped).unwrap();
        workers.spawn("bad", None, |_| panic!("slot 7")).unwrap();
        assert!(!workers.wait(Duration::from_secs(5)));
        let error = workers.join().unwrap_err();
        assert_eq!(error.to_string(), "worker 'bad' panicked: slot 7");
    }

    #[test]
    fn waiting_ends_with_the_time_or_with_the_work() {
        let mut workers = Workers::new(&Stop::new());
        workers.spawn("w", None, until_stopped).unwrap();
        assert!(workers.wait(Duration::from_millis(1)));
        workers.stop.set();
        assert!(!workers.wait(Duration::from_secs(5)));
        workers.join().unwrap();
    }

    #[test]
    fn a_worker_that_does_not_stop_is_named() {
        let (release, held) = mpsc::channel::<()>();
        let mut workers = Workers::new(&Stop::new());
        workers.spawn("deaf", None, move |_| held.recv().is_ok()).unwrap();
        let error = workers.join_within(Duration::from_millis(10)).unwrap_err();
        assert_eq!(error.to_string(), "worker 'deaf' did not stop within 0.01 s");
        drop(release);
    }
}
