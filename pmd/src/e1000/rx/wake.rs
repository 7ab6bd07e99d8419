//! Waking an idle receiver: one interrupt, unmasked when asked for, which the device masks again when it
//! comes.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::pci::Mmio;

/// The interrupt of one queue.
pub(in crate::e1000) struct Wake<M> {
    /// The eventfd of its vector.
    pub(in crate::e1000) fd: Arc<OwnedFd>,
    /// The registers.
    pub(in crate::e1000) mmio: M,
    /// Byte offset of the register whose written ones unmask (IMS, EIMS).
    pub(in crate::e1000) register: u32,
    /// The queue's bits there.
    pub(in crate::e1000) bits: u32,
}

impl<M: Mmio> Wake<M> {
    /// Forgets earlier interrupts, unmasks the next one.
    pub(super) fn arm(&mut self) -> BorrowedFd<'_> {
        let mut ready = [PollFd::new(&*self.fd, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if matches!(poll(&mut ready, Some(&now)), Ok(1..)) {
            // An eventfd that is readable does not block, and one read empties it; if it fails, the
            // caller wakes up once for nothing.
            let _count = rustix::io::read(&*self.fd, &mut [0; 8]);
        }
        self.mmio.write(self.register, self.bits);
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[derive(Clone, Default)]
    struct LastWrite(Arc<AtomicU32>);

    impl Mmio for LastWrite {
        fn read(&self, _offset: u32) -> u32 {
            0
        }

        fn write(&self, offset: u32, value: u32) {
            self.0.store(offset << 16 | value, Ordering::Relaxed);
        }
    }

    #[test]
    fn arming_forgets_what_came_before_and_unmasks_the_next() {
        let fd = Arc::new(eventfd(3, EventfdFlags::empty()).unwrap());
        let mmio = LastWrite::default();
        let mut wake =
            Wake { fd: Arc::clone(&fd), mmio: mmio.clone(), register: 0xd0, bits: 1 << 3 };
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        for _ in 0..2 {
            let mut ready = [PollFd::from_borrowed_fd(wake.arm(), PollFlags::IN)];
            assert_eq!(poll(&mut ready, Some(&now)), Ok(0));
        }
        assert_eq!(mmio.0.load(Ordering::Relaxed), 0xd0 << 16 | 1 << 3);
        rustix::io::write(&*fd, &1_u64.to_ne_bytes()).unwrap();
        let mut ready = [PollFd::new(&*fd, PollFlags::IN)];
        assert_eq!(poll(&mut ready, Some(&now)), Ok(1));
    }
}
