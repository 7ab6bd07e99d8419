//! What a driver needs of the machine to run one function: registers, memory that both sides see, an
//! address space, interrupts. VFIO has it, and so have the models that stand for NICs in tests.

use std::{any::Any, fmt, io, os::fd::OwnedFd, ptr::NonNull, sync::Arc};

use crate::{DmaMapper, Iova};

/// The registers of one function. Clones name the same registers; they stay readable for as long as one
/// is alive, and read as all ones once the device is gone.
pub trait Mmio: Clone + Send + Sync + 'static {
    /// Reads the 32 bits at a byte offset.
    fn read(&self, offset: u32) -> u32;

    /// Writes the 32 bits at a byte offset, after everything this thread wrote to memory before.
    fn write(&self, offset: u32, value: u32);
}

/// One function, and the way to it.
pub trait Bus: Send + 'static {
    /// Its registers.
    type Mmio: Mmio;
    /// Its address space; clones map into the same one.
    type Mapper: DmaMapper + Clone;

    /// `domain:bus:device.function`, for messages.
    fn address(&self) -> &str;

    /// NUMA node, if known.
    fn numa_node(&self) -> Option<u32>;

    /// The registers.
    fn mmio(&self) -> Self::Mmio;

    /// The address space, to map pools into.
    fn mapper(&self) -> Self::Mapper;

    /// Zeroed memory for descriptors, in pages that hold nothing else.
    ///
    /// # Errors
    /// No memory, or none that can be mapped.
    fn share(&self, bytes: usize) -> io::Result<SharedMemory>;

    /// Lets the device read and write memory, or stops it.
    ///
    /// # Errors
    /// The configuration space cannot be written.
    fn set_bus_master(&mut self, on: bool) -> io::Result<()>;

    /// Resets the function: DMA has stopped when this returns.
    ///
    /// # Errors
    /// The function cannot be reset alone, or did not come back.
    fn reset(&mut self) -> io::Result<()>;

    /// Turns message-signalled interrupts on and yields a descriptor for each of the `vectors`, which
    /// becomes readable (an eventfd) when its interrupt comes; 0 turns them off.
    ///
    /// # Errors
    /// The function has fewer, or the system refused.
    fn interrupts(&mut self, vectors: usize) -> io::Result<Vec<Arc<OwnedFd>>>;

    /// What the system has to say about the device since it was asked last. Takes no time.
    fn notices(&mut self) -> Notices;
}

/// What the system says about a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notices {
    /// Somebody wants it back (unplugged, unbound): close it soon.
    pub removal: bool,
    /// The bus reported an error of it (PCIe AER).
    pub error: bool,
}

/// Memory that CPU and device share, mapped for as long as this lives. The device may write it at any
/// time: volatile or atomic access only, never a reference to its bytes.
pub struct SharedMemory {
    base: NonNull<u8>,
    iova: Iova,
    len: usize,
    _keep: Box<dyn Any + Send>,
}

#[expect(unsafe_code, reason = "an address that may change threads")]
// SAFETY: an address and a length; what keeps it mapped is `Send`.
unsafe impl Send for SharedMemory {}

impl SharedMemory {
    /// `len` bytes at `base`, which the device knows by `iova`; `keep` keeps both so until it is dropped.
    #[must_use]
    pub fn new(base: NonNull<u8>, iova: Iova, len: usize, keep: impl Any + Send) -> Self {
        Self { base, iova, len, _keep: Box::new(keep) }
    }

    /// The first byte.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The first byte, as the device sees it.
    #[must_use]
    pub fn iova(&self) -> Iova {
        self.iova
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedMemory({} B at iova {:#x})", self.len, self.iova)
    }
}
