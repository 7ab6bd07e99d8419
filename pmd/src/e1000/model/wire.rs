//! Frames between two models, or between a model and a test. Knows no chip.
#![expect(clippy::disallowed_types, reason = "a model for tests: clarity before speed")]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A frame on its way, and whether it is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OnWire {
    pub(super) bytes: Vec<u8>,
    pub(super) damaged: bool,
}

type Lane = Arc<Mutex<VecDeque<OnWire>>>;

/// One end: what comes in, what goes out.
#[derive(Clone, Debug, Default)]
pub(super) struct End {
    inward: Lane,
    outward: Lane,
}

fn lock(lane: &Lane) -> MutexGuard<'_, VecDeque<OnWire>> {
    lane.lock().unwrap_or_else(PoisonError::into_inner)
}

impl End {
    /// The other end.
    pub(super) fn opposite(&self) -> Self {
        Self { inward: Arc::clone(&self.outward), outward: Arc::clone(&self.inward) }
    }

    pub(super) fn send(&self, bytes: Vec<u8>) {
        lock(&self.outward).push_back(OnWire { bytes, damaged: false });
    }

    pub(super) fn inject(&self, frame: OnWire) {
        lock(&self.inward).push_back(frame);
    }

    /// The next frame, if `fits` takes it.
    pub(super) fn receive_if(&self, fits: impl Fn(&OnWire) -> bool) -> Option<OnWire> {
        let mut lane = lock(&self.inward);
        if fits(lane.front()?) { lane.pop_front() } else { None }
    }

    pub(super) fn waiting(&self) -> usize {
        lock(&self.inward).len()
    }

    /// Everything that went out and was not taken yet.
    pub(super) fn take_sent(&self) -> Vec<Vec<u8>> {
        lock(&self.outward).drain(..).map(|frame| frame.bytes).collect()
    }
}
