//! One span of memory from a provider, and how long it lives. Knows its length, page size, NUMA node
//! and whether the CPU may read it; knows no device.
#![allow(unsafe_code, reason = "the trait that vouches for a live mapping is unsafe to implement")]
#![expect(clippy::disallowed_types, reason = "control plane: who asked to be told of a revocation")]

use std::{
    fmt,
    ptr::NonNull,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{Backing, CpuAccess};

/// The live memory behind a [`Region`]. Dropping it gives the memory back to where it came from.
///
/// # Safety
/// From construction until drop, `base()..base() + len()` is reserved for this object alone and
/// stays mapped; if `cpu_access()` is `ReadWrite` or `Volatile` it is readable, writable and was
/// initialised (zeroed pages count). A [`Window`] returned by `window()` spans the same bytes and
/// lives as long.
pub unsafe trait Memory: Send + Sync + 'static {
    /// Address of the first byte, in the address space the provider names its memory by (the
    /// process's for host memory and mapped BARs, the GPU's for a GPU).
    fn base(&self) -> NonNull<u8>;
    /// Length in bytes.
    fn len(&self) -> usize;
    /// Whether there are no bytes (a region never is empty).
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Bytes of a page.
    fn page_size(&self) -> usize;
    /// Whether and how the CPU may touch it.
    fn cpu_access(&self) -> CpuAccess;
    /// How others can name it.
    fn backing(&self) -> Backing;
    /// NUMA node, if known.
    fn numa_node(&self) -> Option<u32> {
        None
    }
    /// A second, writable view of the same bytes through which a software device does "DMA"; `None`
    /// where there is none (real device memory).
    fn window(&self) -> Option<Window> {
        (self.cpu_access() == CpuAccess::ReadWrite).then(|| Window::new(self.base(), self.len()))
    }
    /// Copies bytes in, by whatever engine the provider has. The bounce path's operation.
    ///
    /// # Errors
    /// Out of bounds, or the memory has no way in.
    ///
    /// # Safety
    /// The bytes are the caller's: of slots it owns, or of a region that no pool has carved. Nobody
    /// holds a reference to them, and no other thread touches them meanwhile.
    unsafe fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), CopyError> {
        self.window().ok_or(CopyError::NoWay { what: "written" })?.write(offset, bytes)
    }
    /// Copies bytes out, by whatever engine the provider has.
    ///
    /// # Errors
    /// Out of bounds, or the memory has no way out.
    ///
    /// # Safety
    /// As for [`Memory::write`].
    unsafe fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), CopyError> {
        self.window().ok_or(CopyError::NoWay { what: "read" })?.read(offset, bytes)
    }
}

/// A copy into or out of a region could not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The range leaves the region.
    #[error("copy of {len} B at offset {offset} leaves the region of {region} B")]
    OutOfBounds {
        /// First byte.
        offset: usize,
        /// Bytes.
        len: usize,
        /// Bytes of the region.
        region: usize,
    },
    /// The memory has no copy engine and no mapping.
    #[error("this memory cannot be {what} from the host")]
    NoWay {
        /// `read` or `written`.
        what: &'static str,
    },
    /// The provider's engine failed.
    #[error("copy engine: {0}")]
    Engine(String),
}

/// A software device's door to a region's bytes: raw copies only, never a reference, because the
/// other side may write at any time.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a window is an address and a length. Whoever copies through it keeps the bytes it touches
// to itself (posted slots), as a device would.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    /// A window over `len` bytes at `base`; the [`Memory`] that returns it keeps it mapped.
    #[must_use]
    pub const fn new(base: NonNull<u8>, len: usize) -> Self {
        Self { base, len }
    }

    /// Address of the first byte in this process.
    #[must_use]
    pub const fn base(self) -> NonNull<u8> {
        self.base
    }

    /// Length in bytes.
    #[must_use]
    pub const fn len(self) -> usize {
        self.len
    }

    /// Whether it spans nothing.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    fn check(self, offset: usize, len: usize) -> Result<(), CopyError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(CopyError::OutOfBounds { offset, len, region: self.len }),
        }
    }

    /// Copies `bytes` in at `offset`.
    fn write(self, offset: usize, bytes: &[u8]) -> Result<(), CopyError> {
        self.check(offset, bytes.len())?;
        // SAFETY: in bounds (checked above), so the address stays inside the mapping.
        let to = unsafe { self.base.as_ptr().add(offset) };
        // SAFETY: `to` is valid for `bytes.len()` bytes, and a caller's slice never aliases device
        // memory: no reference to that exists.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Copies bytes out from `offset`.
    fn read(self, offset: usize, bytes: &mut [u8]) -> Result<(), CopyError> {
        self.check(offset, bytes.len())?;
        // SAFETY: in bounds (checked above), so the address stays inside the mapping.
        let from = unsafe { self.base.as_ptr().add(offset) };
        // SAFETY: `from` is valid for `bytes.len()` bytes; `bytes` is exclusive.
        unsafe { from.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }
}

type Watcher = Weak<dyn Fn() + Send + Sync>;

struct Inner {
    memory: Box<dyn Memory>,
    revoked: AtomicBool,
    /// Whom to tell about a revocation: pools that carve slots out of this region.
    watchers: Mutex<Vec<Watcher>>,
}

/// One span of memory, owned. A pool takes it whole, so that no two pools share bytes; mappers hold
/// a [`RegionHandle`], which keeps the memory alive.
pub struct Region {
    inner: Arc<Inner>,
}

impl Region {
    /// Wraps live memory.
    pub fn new(memory: impl Memory) -> Self {
        Self {
            inner: Arc::new(Inner {
                memory: Box::new(memory),
                revoked: AtomicBool::new(false),
                watchers: Default::default(),
            }),
        }
    }

    /// A handle for mappers and reports: keeps the memory alive, gives no right to carve it.
    #[must_use]
    pub fn handle(&self) -> RegionHandle {
        RegionHandle { inner: Arc::clone(&self.inner) }
    }

    /// Copies bytes in while no pool has carved the region: afterwards, [`crate::DeviceView`] does, by
    /// the buffers one owns.
    ///
    /// # Errors
    /// Out of bounds, or the memory has no way in.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), CopyError> {
        // SAFETY: a region that is still owned has no slots; we are its exclusive borrower, and
        // devices that a handle was mapped for have not been given any part of it.
        unsafe { self.inner.memory.write(offset, bytes) }
    }

    /// Copies bytes out while no pool has carved the region.
    ///
    /// # Errors
    /// Out of bounds, or the memory has no way out.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), CopyError> {
        // SAFETY: as in `write`; the only writer would hold this region exclusively.
        unsafe { self.inner.memory.read(offset, bytes) }
    }

    /// The means to revoke this region, for the provider that made it.
    #[must_use]
    pub fn revoker(&self) -> Revoker {
        Revoker { inner: Arc::downgrade(&self.inner) }
    }

    /// Whether the provider took the region back.
    pub(crate) fn is_revoked(&self) -> bool {
        self.inner.revoked.load(Ordering::Acquire)
    }

    /// Asks to be told of a revocation for as long as `watcher` is alive.
    pub(crate) fn watch(&self, watcher: Watcher) {
        let mut watchers = self.inner.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|known| known.strong_count() > 0);
        watchers.push(watcher);
    }
}

impl std::ops::Deref for Region {
    type Target = dyn Memory;

    fn deref(&self) -> &Self::Target {
        &*self.inner.memory
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle().fmt(f)
    }
}

/// Keeps a region's memory alive and describes it. Cheap to clone, off the packet path.
#[derive(Clone)]
pub struct RegionHandle {
    inner: Arc<Inner>,
}

impl RegionHandle {
    /// The means to learn when the region's memory is gone, without keeping it.
    #[must_use]
    pub fn witness(&self) -> Witness {
        Witness { inner: Arc::downgrade(&self.inner) }
    }

    /// Whether the provider took the region back: nothing may be posted to it any more.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.inner.revoked.load(Ordering::Acquire)
    }
}

impl std::ops::Deref for RegionHandle {
    type Target = dyn Memory;

    fn deref(&self) -> &Self::Target {
        &*self.inner.memory
    }
}

impl fmt::Debug for RegionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("base", &self.base())
            .field("len", &self.len())
            .field("page_size", &self.page_size())
            .field("cpu_access", &self.cpu_access())
            .field("backing", &self.backing())
            .field("revoked", &self.is_revoked())
            .finish()
    }
}

/// Says whether a region's memory still exists; keeps nothing alive, and can do nothing to it.
#[derive(Clone)]
pub struct Witness {
    inner: Weak<Inner>,
}

impl Witness {
    /// Whether somebody still uses the memory: a pool, a mapping, a handle.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.inner.strong_count() > 0
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").field("live", &self.is_live()).finish()
    }
}

/// Lets a provider take a region back: pools stop handing out its slots, freeing still works, and
/// the memory itself is released when the last slot is home and the last handle gone.
#[derive(Clone)]
pub struct Revoker {
    inner: Weak<Inner>,
}

impl Revoker {
    /// Revokes the region; true if it was still there and not yet revoked.
    pub fn revoke(&self) -> bool {
        let Some(inner) = self.inner.upgrade() else { return false };
        if inner.revoked.swap(true, Ordering::AcqRel) {
            return false;
        }
        let watchers = inner.watchers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for watcher in watchers.iter().filter_map(Weak::upgrade) {
            watcher();
        }
        true
    }

    /// Whether the region's memory still exists.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.inner.strong_count() > 0
    }
}

impl fmt::Debug for Revoker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revoker").field("live", &self.is_live()).finish()
    }
}
