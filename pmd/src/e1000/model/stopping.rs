//! A receive queue that is stopped while the rest of the chip runs. Neither chip stops at once: what it has
//! begun is written first, later, and a driver that does not wait for the end sees its memory change.

use super::{
    core::{Core, Side},
    counters, map,
    options::Chip,
    receive::RxQueue,
};

/// Descriptors that are written back between two looks of the driver.
const AT_ONCE: usize = 64;

impl RxQueue {
    /// Whether it was told to stop and has not yet.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Whether it takes no further frame.
    pub(super) fn is_off(&self) -> bool {
        self.is_stopping() || !self.ring.is_active()
    }
}

impl Core {
    /// RXDCTL.ENABLE of a running queue was cleared (82576 §4.5.9, §8.10.8): one buffer may still be filled,
    /// descriptors are written back, and only then the bit reads as clear.
    pub(super) fn begin_stop(&mut self, queue: usize) {
        if self.rx[queue].ring.is_active() {
            self.remember_stopped(queue);
            self.rx[queue].stopping = Some(true);
        }
    }

    /// The next step of a queue's end; each time somebody looks.
    pub(super) fn stop_a_little(&mut self, queue: usize) {
        let Some(may_fill) = self.rx[queue].stopping else { return };
        if !self.may_write() || self.options.faults.disable_sticks {
            return;
        }
        if may_fill {
            self.rx[queue].stopping = Some(false);
            if self.rx[queue].current.is_some() {
                self.fill(queue);
                return;
            }
        }
        if self.rx[queue].ring.untold() > 0 {
            return self.tell_some(queue);
        }
        self.end_queue(queue);
    }

    /// Writes some of the descriptors back that are done.
    fn tell_some(&mut self, queue: usize) {
        for _ in 0..AT_ONCE {
            self.tell(Side::Rx, queue);
        }
    }

    /// A queue has stopped: the rest of a frame it was at is dropped.
    fn end_queue(&mut self, queue: usize) {
        let rx = &mut self.rx[queue];
        rx.ring.stop();
        (rx.stopping, rx.was_stopped) = (None, true);
        let Some((frame, progress)) = rx.current.take() else { return };
        if self.chip == Chip::I82574 && progress.at == 0 {
            self.fifo.push_front(frame);
            return;
        }
        self.fifo_bytes = self.fifo_bytes.saturating_sub(frame.bytes.len());
        if progress.at == 0 {
            counters::count(self, map::MPC);
        }
    }

    /// RDFPC is read (82574 §10.2.8): a frame or two more were stored meanwhile; how many are left.
    pub(super) fn drain_fifo(&mut self) -> u32 {
        if self.is_alive() && !self.options.faults.disable_sticks {
            self.receive_one();
            self.receive_one();
        }
        let open = self.rx.iter().filter(|queue| queue.current.is_some()).count();
        u32::try_from(self.fifo.len() + open).unwrap_or(u32::MAX)
    }

    /// Whether transactions are open: descriptors that are done and not written back.
    pub(super) fn has_transactions(&self) -> bool {
        let untold = self.rx.iter().any(|queue| queue.ring.untold() > 0);
        self.chip == Chip::I82574
            && self.may_write()
            && (untold || self.options.faults.disable_sticks)
    }

    /// STATUS is read after "master disable" was set (82574 §5.2): some more have ended.
    pub(super) fn end_transactions(&mut self) {
        let held = self.has(map::CTRL, map::CTRL_GIO_MASTER_DISABLE);
        if !held || !self.has_transactions() || self.options.faults.disable_sticks {
            return;
        }
        if let Some(queue) = self.rx.iter().position(|queue| queue.ring.untold() > 0) {
            self.tell_some(queue);
        }
    }

    /// A ring register is written. A queue of the 82574 whose unit is off, and which has no transaction
    /// open, forgets its ring; whether it did, or had before.
    pub(super) fn forget_paused(&mut self, side: Side, queue: usize) -> bool {
        let is_off = side == Side::Rx && !self.has(map::RCTL, map::RCTL_EN);
        let held = self.has(map::CTRL, map::CTRL_GIO_MASTER_DISABLE);
        if self.chip != Chip::I82574 || !is_off || !held || self.has_transactions() {
            return false;
        }
        self.remember_stopped(queue);
        self.end_queue(queue);
        true
    }
}
