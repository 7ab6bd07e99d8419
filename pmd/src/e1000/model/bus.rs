//! The model's side of the seam: registers, address space, interrupts and notices as a driver gets them.
//! Behind one lock, so that a worker and a test may use one chip.
#![expect(clippy::disallowed_types, reason = "a model for tests: clarity before speed")]

use std::{
    fmt, io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use rustix::event::{EventfdFlags, eventfd};

use super::{
    core::Core,
    options::Work,
    space::{ModelMapper, Space},
};
use crate::pci::{Bus, Mmio, Notices, SharedMemory};

/// A chip, and what is at the other end of its cable.
pub(super) struct Shared {
    core: Mutex<Core>,
    pub(super) space: Arc<Space>,
    pub(super) peer: OnceLock<Weak<Shared>>,
    prompt: bool,
}

impl Shared {
    pub(super) fn new(core: Core, space: Arc<Space>) -> Arc<Self> {
        let prompt = core.options.work == Work::Prompt;
        Arc::new(Self { core: Mutex::new(core), space, peer: OnceLock::new(), prompt })
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something changed: a prompt chip works at once, and so does a prompt one that it sends to. Never
    /// holds two locks.
    pub(super) fn stir(&self) {
        if !self.prompt {
            return;
        }
        self.core().work();
        let peer = self.peer.get().and_then(Weak::upgrade);
        if let Some(peer) = peer.filter(|peer| peer.prompt) {
            peer.core().work();
        }
    }
}

/// A chip's registers.
#[derive(Clone)]
pub struct ModelMmio(pub(super) Arc<Shared>);

impl Mmio for ModelMmio {
    fn read(&self, offset: u32) -> u32 {
        self.0.core().read(offset)
    }

    fn write(&self, offset: u32, value: u32) {
        self.0.core().write(offset, value);
        self.0.stir();
    }
}

impl fmt::Debug for ModelMmio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModelMmio")
    }
}

/// The way to a model, as a driver has it.
pub struct ModelBus(pub(super) Arc<Shared>);

impl Bus for ModelBus {
    type Mmio = ModelMmio;
    type Mapper = ModelMapper;

    fn address(&self) -> &str {
        "0000:01:00.0"
    }

    fn numa_node(&self) -> Option<u32> {
        None
    }

    fn mmio(&self) -> ModelMmio {
        ModelMmio(Arc::clone(&self.0))
    }

    fn mapper(&self) -> ModelMapper {
        ModelMapper(Arc::clone(&self.0.space))
    }

    fn share(&self, bytes: usize) -> io::Result<SharedMemory> {
        self.0.space.share(bytes)
    }

    fn set_bus_master(&mut self, on: bool) -> io::Result<()> {
        self.0.core().bus_master = on;
        self.0.stir();
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        let mut core = self.0.core();
        if core.options.faults.reset_sticks {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        core.function_reset();
        Ok(())
    }

    fn interrupts(&mut self, vectors: usize) -> io::Result<Vec<Arc<OwnedFd>>> {
        let mut core = self.0.core();
        if vectors > core.chip.vectors() {
            let most = core.chip.vectors();
            return Err(io::Error::other(format!("{vectors} vectors asked, the chip has {most}")));
        }
        let fds: Result<Vec<_>, _> = (0..vectors)
            .map(|_| eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map(Arc::new))
            .collect();
        core.vectors = fds?;
        Ok(core.vectors.clone())
    }

    fn notices(&mut self) -> Notices {
        let mut core = self.0.core();
        let notices = Notices { removal: core.removal, error: core.aer };
        (core.removal, core.aer) = (false, false);
        notices
    }
}

impl fmt::Debug for ModelBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModelBus")
    }
}
