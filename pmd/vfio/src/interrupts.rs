//! Message-signalled interrupts and notices of a device: eventfds that the kernel signals.

use std::{
    io,
    mem::offset_of,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{event::EventfdFlags, io::Errno};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
    VFIO_PCI_REQ_IRQ_INDEX, vfio_irq_info,
};

use crate::{
    abi::{Buffer, Fields},
    sys,
};

/// A set of interrupts of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    Msix,
    Msi,
    /// The bus reports an error (AER).
    Error,
    /// Somebody wants the device back.
    Request,
}

impl Set {
    fn index(self) -> u32 {
        match self {
            Self::Msix => VFIO_PCI_MSIX_IRQ_INDEX,
            Self::Msi => VFIO_PCI_MSI_IRQ_INDEX,
            Self::Error => VFIO_PCI_ERR_IRQ_INDEX,
            Self::Request => VFIO_PCI_REQ_IRQ_INDEX,
        }
    }

    /// How many of these the device has: none where the kernel does not know the set.
    pub(crate) fn count(self, device: BorrowedFd<'_>) -> io::Result<usize> {
        let mut buffer = Buffer::new(size_of::<vfio_irq_info>());
        buffer.set_u32(offset_of!(vfio_irq_info, index), self.index());
        match sys::info(device, sys::Info::Interrupt, buffer) {
            Ok(answer) => {
                let count = answer.to_bytes().u32(offset_of!(vfio_irq_info, count));
                Ok(count.unwrap_or(0) as usize)
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Turns the set on, with an eventfd for each.
    pub(crate) fn enable(
        self,
        device: BorrowedFd<'_>,
        count: usize,
    ) -> io::Result<Vec<Arc<OwnedFd>>> {
        let fds = (0..count).map(|_| eventfd()).collect::<io::Result<Vec<_>>>()?;
        let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| fd.as_fd()).collect();
        let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
        sys::set_interrupts(device, flags, self.index(), &borrowed)?;
        Ok(fds)
    }

    /// Turns the set off.
    pub(crate) fn disable(self, device: BorrowedFd<'_>) -> io::Result<()> {
        let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
        sys::set_interrupts(device, flags, self.index(), &[])
    }
}

fn eventfd() -> io::Result<Arc<OwnedFd>> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    Ok(Arc::new(rustix::event::eventfd(0, flags)?))
}

/// Whether the eventfd was signalled since it was asked last. Does not wait.
pub(crate) fn was_signalled(fd: &OwnedFd) -> bool {
    let mut count = [0; 8];
    loop {
        match rustix::io::read(fd, &mut count) {
            Ok(_) => return true,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_seen_once_and_nobody_waits_for_it() {
        let fd = eventfd().expect("an eventfd");
        assert!(!was_signalled(&fd));
        rustix::io::write(&*fd, &3u64.to_ne_bytes()).expect("signalled");
        assert!(was_signalled(&fd));
        assert!(!was_signalled(&fd));
    }
}
