//! The transmit queue: copies frames into a capture, and is done with their buffers at once.

use std::sync::Arc;

use mempool::{Burst, Cache, Cpu, Frame, Offload, Readable, Shared};

use super::{Files, Packet, WriteError, clock, state::State};
use crate::{DropReason, QueueCounters, TxQueue};

/// A queue that writes.
pub(super) struct PcapTx {
    /// `None` after a fault.
    output: Option<Files>,
    state: Arc<State>,
    counters: QueueCounters,
}

impl PcapTx {
    pub(super) fn new(output: Files, state: Arc<State>, counters: QueueCounters) -> Self {
        Self { output: Some(output), state, counters }
    }

    /// Writes frames; those that cannot be written are dropped and counted.
    #[inline(always)]
    fn write<'b, A: Readable>(&mut self, frames: impl ExactSizeIterator<Item = Frame<'b, A>>) {
        let count = frames.len();
        let (mut written, mut bytes, mut now) = (0, 0, None);
        if let Some(output) = &mut self.output {
            for frame in frames {
                let meta = frame.meta();
                let timestamp = if meta.offload().has(Offload::RX_TIMESTAMP) {
                    meta.timestamp()
                } else {
                    *now.get_or_insert_with(clock::now)
                };
                let len = frame.frame_len();
                let parts = frame.segments().map(Frame::bytes);
                if let Err(error) = output.write(&Packet::whole(0, timestamp, len), parts) {
                    self.fault(&error);
                    break;
                }
                (written, bytes) = (written + 1, bytes + len);
            }
        }
        self.counters.delivered(written, bytes);
        if written < count {
            self.counters.dropped(DropReason::SendError, count - written);
        }
    }

    /// Closes the output, and takes back what was counted as delivered and did not reach it.
    #[cold]
    fn fault(&mut self, error: &WriteError) {
        let WriteError { lost_frames, lost_bytes, .. } = *error;
        self.output = None;
        self.counters.undelivered(DropReason::SendError, lost_frames, lost_bytes);
        self.state.fault(error.to_string());
    }
}

impl TxQueue for PcapTx {
    fn send(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) -> usize {
        let count = burst.len();
        self.write(burst.iter());
        burst.recycle(cache);
        count
    }

    fn send_shared(&mut self, cache: &mut Cache<Cpu>, burst: &mut Burst<Shared>) -> usize {
        let count = burst.len();
        self.write(burst.iter());
        burst.release(cache);
        count
    }

    fn reap(&mut self, _cache: &mut Cache<Cpu>) -> usize {
        0
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn counters(&self) -> &QueueCounters {
        &self.counters
    }
}

impl Drop for PcapTx {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.output.as_mut().map(Files::flush) {
            self.fault(&error);
        }
    }
}
