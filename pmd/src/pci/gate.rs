//! Between a device and the queues it was started with: has it provably stopped, and what went wrong.
//! One gate for each queue that can stop alone, all of a start with one memory of what went wrong; queues
//! that come home late still find theirs.
#![allow(unsafe_code, reason = "turns the device's word into a proof")]
#![expect(clippy::disallowed_types, reason = "control plane: what ended queues leave behind")]

use std::{
    fmt, mem,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use mempool::Quiesced;

/// Shared by a started device and a queue of it, or several that stop together.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<State>);

/// What is done once the device has stopped.
type Deed = Box<dyn FnOnce(Quiesced) + Send>;

#[derive(Default)]
struct State {
    stopped: AtomicBool,
    /// Of all gates of a start.
    fault: Arc<OnceLock<String>>,
    /// What queues left that ended before the device did.
    left: Mutex<Vec<Deed>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stopped, fault, left: _ } = self;
        f.debug_struct("State").field("stopped", stopped).field("fault", fault).finish()
    }
}

impl Gate {
    /// A gate for a start: DMA may run.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Another gate of the same start: it closes by itself, and a fault of one is a fault of all.
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self(Arc::new(State { fault: Arc::clone(&self.0.fault), ..State::default() }))
    }

    /// States that the device has stopped for good, as far as the queues of this gate go.
    ///
    /// # Safety
    /// No descriptor of these queues will be read or written, nor any buffer they name: the device was
    /// reset, may no longer master the bus, is gone, or has said that it disabled them.
    pub unsafe fn close(&self) {
        let mut left = self.0.left.lock().unwrap_or_else(PoisonError::into_inner);
        // Release: whatever proved it happened before; pairs with `proof`. Under the lock, so that nothing
        // is left behind that nobody looks at any more.
        self.0.stopped.store(true, Ordering::Release);
        let deeds = mem::take(&mut *left);
        drop(left);
        for deed in deeds {
            // SAFETY: the caller vouches for it.
            deed(unsafe { Quiesced::new() });
        }
    }

    /// Does it with the proof: now if the device has stopped, else when it does. If it never does, `deed`
    /// is dropped without having been called, when the last handle of this gate goes.
    pub fn when_stopped(&self, deed: impl FnOnce(Quiesced) + Send + 'static) {
        let mut left = self.0.left.lock().unwrap_or_else(PoisonError::into_inner);
        match self.proof() {
            None => left.push(Box::new(deed)),
            Some(proof) => {
                drop(left);
                deed(proof);
            }
        }
    }

    /// The proof that lets a queue have its buffers back; none while the device may run.
    #[must_use]
    pub fn proof(&self) -> Option<Quiesced> {
        let stopped = self.0.stopped.load(Ordering::Acquire);
        // SAFETY: `close` was called, whose caller vouched for it.
        stopped.then(|| unsafe { Quiesced::new() })
    }

    /// Latches why a queue no longer works; the first reason stays.
    #[cold]
    pub fn fault(&self, why: impl fmt::Display) {
        self.0.fault.get_or_init(|| why.to_string());
    }

    /// Whether queues of this gate may go on: the device was not stopped, and no queue of the start is
    /// faulted.
    #[inline(always)]
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.has_stopped() && self.is_sound()
    }

    /// Whether what a queue of this gate has may still be taken: none of the start is faulted. Holds on
    /// after a queue was disabled alone, whose last frames somebody wants.
    #[inline(always)]
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.0.fault.get().is_none()
    }

    /// Whether the device has stopped, as far as the queues of this gate go.
    #[inline(always)]
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Acquire)
    }

    /// Why a queue no longer works.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        self.0.fault.get().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_proof_before_the_device_has_stopped() {
        let gate = Gate::new();
        let queue = gate.clone();
        assert!(queue.proof().is_none());
        // SAFETY: there is no device.
        unsafe { gate.close() };
        assert!(queue.proof().is_some());
    }

    #[test]
    fn what_is_left_behind_is_done_once_the_device_has_stopped_and_at_once_from_then_on() {
        let gate = Gate::new();
        let (done, count) =
            (Arc::new(Mutex::new(0)), |done: &Arc<Mutex<u32>>| *done.lock().unwrap());
        let deed = || {
            let done = Arc::clone(&done);
            move |_proof: Quiesced| *done.lock().unwrap() += 1
        };
        gate.when_stopped(deed());
        assert_eq!(count(&done), 0);
        // SAFETY: there is no device.
        unsafe { gate.close() };
        assert_eq!(count(&done), 1);
        gate.when_stopped(deed());
        assert_eq!(count(&done), 2);

        let never = Gate::new();
        never.when_stopped(deed());
        drop(never);
        assert_eq!(count(&done), 2);
    }

    #[test]
    fn a_queue_that_stops_alone_leaves_its_siblings_running_and_a_fault_stops_all() {
        let gate = Gate::new();
        let alone = gate.sibling();
        // SAFETY: there is no device.
        unsafe { alone.close() };
        assert!(alone.proof().is_some() && gate.proof().is_none());
        assert!(gate.is_live() && !alone.is_live() && alone.is_sound());
        alone.fault("nonsense");
        assert!(!gate.is_live() && !alone.is_sound());
    }

    #[test]
    fn the_first_reason_stays() {
        let gate = Gate::new();
        gate.fault("length 65535");
        gate.fault("something later");
        assert_eq!(gate.why(), Some("length 65535"));
    }
}
