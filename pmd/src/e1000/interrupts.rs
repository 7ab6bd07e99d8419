//! Message-signalled interrupts: one vector for each receive queue as far as there are enough, and one
//! for everything else. Where the system gives none, queues are polled only.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use super::{
    chip::Chip,
    chip_82574, chip_82576,
    register::Registers,
    registers::{EIMS, ICR, IMS},
};
use crate::pci::{Bus, Mmio};

/// The vectors of a started port.
pub(super) struct Vectors {
    /// By receive queue; shorter than the queues where vectors were short.
    queues: Vec<Arc<OwnedFd>>,
    other: Arc<OwnedFd>,
}

impl Vectors {
    /// Asks the system for vectors, and routes the chip's causes to them. Causes of queues stay masked
    /// until a queue asks ([`crate::RxQueue::arm`]).
    pub(super) fn new<B: Bus>(
        bus: &mut B,
        regs: &Registers<B::Mmio>,
        chip: Chip,
        queues: usize,
        interval_us: u32,
    ) -> Option<Self> {
        let mut fds = vectors(bus, (queues + 1).min(chip.vectors()))?;
        let other = fds.pop()?;
        match chip {
            Chip::E82574 => chip_82574::interrupts(regs, fds.len(), fds.len(), interval_us),
            Chip::E82576 => chip_82576::interrupts(regs, fds.len(), fds.len(), interval_us),
        }
        let causes = IMS::default().with(IMS::LSC, true);
        // The 82574's vector for other causes has a mask bit of its own.
        regs.write(if chip == Chip::E82574 { causes.with(IMS::OTHER, true) } else { causes });
        Some(Self { queues: fds, other })
    }

    /// How a receive queue is woken: its descriptor, the register that unmasks it, and its bit there.
    pub(super) fn of_queue<M: Mmio>(
        &self,
        regs: &Registers<M>,
        chip: Chip,
        index: usize,
    ) -> Option<(Arc<OwnedFd>, u32, u32)> {
        let fd = Arc::clone(self.queues.get(index)?);
        Some(match chip {
            Chip::E82574 => (fd, regs.offset_of::<IMS>(), 1 << (20 + index)),
            Chip::E82576 => (fd, regs.offset_of::<EIMS>(), 1 << index),
        })
    }

    /// How often the link changed since this was asked last, as far as interrupts tell.
    pub(super) fn take_link_changes<M: Mmio>(&self, regs: &Registers<M>) -> u64 {
        let mut count = [0; 8];
        // Not blocking: eventfds of a bus never are.
        if !is_readable(&self.other) || rustix::io::read(&self.other, &mut count).is_err() {
            return 0;
        }
        let causes: ICR = regs.read();
        if causes.0 == u32::MAX || !causes.has(ICR::LSC) { 0 } else { u64::from_ne_bytes(count) }
    }
}

/// As many vectors as the system gives, up to `most`.
fn vectors<B: Bus>(bus: &mut B, most: usize) -> Option<Vec<Arc<OwnedFd>>> {
    let mut refused = None;
    for count in (1..=most).rev() {
        match bus.interrupts(count) {
            Ok(fds) if fds.len() == count => return Some(fds),
            Ok(_) => break,
            Err(error) => refused = Some(error),
        }
    }
    let why = refused.map(|error| error.to_string()).unwrap_or_default();
    tracing::warn!(address = bus.address(), why, "no interrupts: queues can only be polled");
    None
}

fn is_readable(fd: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut ask = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut ask, Some(&now)).is_ok_and(|ready| ready > 0)
}
