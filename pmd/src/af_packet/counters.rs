//! What a queue of this driver counts beyond what every queue counts. One writer, any readers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A checksum that a local sender had left to hardware was completed.
    ChecksumCompleted,
    /// A VLAN tag that the kernel had taken out was put back.
    TagRestored,
    /// A super-frame was cut into frames.
    SuperFrameCut,
    /// A super-frame was of a kind that we cannot cut, and delivered whole.
    SuperFrameWhole,
    /// The kernel found the receive ring full.
    RingFull,
    /// The pool had no buffer; the frames stayed in the ring.
    NoBuffer,
    /// Frames that were still in the ring when the queue ended (dropped, as `kernel`).
    LeftInRing,
    /// The kernel was told to send.
    Kick,
    /// The kernel could not take all there was to send; it was tried again.
    Congested,
}

impl Event {
    const ALL: [(Self, &'static str); 9] = [
        (Self::ChecksumCompleted, "rx_checksum_completed"),
        (Self::TagRestored, "rx_vlan_restored"),
        (Self::SuperFrameCut, "rx_super_frames_cut"),
        (Self::SuperFrameWhole, "rx_super_frames_whole"),
        (Self::RingFull, "rx_ring_full"),
        (Self::NoBuffer, "rx_no_buffer"),
        (Self::LeftInRing, "rx_left_in_ring"),
        (Self::Kick, "tx_kicks"),
        (Self::Congested, "tx_congested"),
    ];
}

/// The events of one queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Events(Arc<[AtomicU64; Event::ALL.len()]>);

impl Events {
    /// Counts; the queue's alone to call.
    #[inline]
    pub(super) fn add(&self, event: Event, count: u64) {
        let cell = &self.0[event as usize];
        // Relaxed, and no read-modify-write: one writer, and readers want a figure.
        cell.store(cell.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    /// The sums over several queues, by name.
    pub(super) fn sum<'a>(queues: impl Iterator<Item = &'a Self> + Clone) -> Vec<(String, u64)> {
        let sum = |event: Event| {
            queues.clone().map(|queue| queue.0[event as usize].load(Ordering::Relaxed)).sum()
        };
        Event::ALL.iter().map(|(event, name)| ((*name).to_owned(), sum(*event))).collect()
    }
}
