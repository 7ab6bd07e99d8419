//! The registers or the memory behind a BAR: mapped where the kernel allows, by `pread` and `pwrite`
//! where it does not (the holes), and all ones where the device is gone.
#![allow(unsafe_code, reason = "volatile access to mapped registers")]

use std::{
    io,
    ops::Range,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::{self, NonNull},
    sync::{Arc, Weak},
};

use rustix::mm::{MapFlags, ProtFlags};

use crate::{Error, Result, abi::RegionInfo, guard::Guard, iommu::page_size, pci::Address};

/// A BAR. Clones name the same one. It may outlive its device: then it reads as all ones, and writes go
/// nowhere.
#[derive(Clone, Debug)]
pub struct Bar(Arc<Map>);

/// What handles of one BAR share.
#[derive(Debug)]
pub(crate) struct Map {
    address: Address,
    index: u8,
    /// Bytes of the BAR.
    size: u64,
    /// Where nothing is mapped.
    holes: Vec<Range<u64>>,
    /// Dropped before the space that it guards.
    guard: Guard,
    space: Space,
    /// Not an owner: a handle that stays must not keep the device open.
    device: Weak<OwnedFd>,
    /// Where the BAR starts in the device's file.
    offset: u64,
}

/// A span of address space, ours until it is dropped.
#[derive(Debug)]
struct Space {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the span belongs to this object, wherever that goes.
unsafe impl Send for Space {}
// SAFETY: every access is volatile, of registers that are made to be shared.
unsafe impl Sync for Space {}

impl Bar {
    /// Maps a region of the device, but for the `table`, which the kernel keeps for itself.
    pub(crate) fn map(
        (address, index): (Address, u8),
        device: &Arc<OwnedFd>,
        info: &RegionInfo,
        windows: &[Range<u64>],
    ) -> Result<Self> {
        let failed = |doing: &str| Error::system(format!("{address} BAR{index}: {doing}"));
        let span = info.size.next_multiple_of(page_size());
        let span = usize::try_from(span).map_err(|_| Error::Bar {
            address,
            index,
            why: format!("{span} bytes do not fit this process"),
        })?;
        let space = Space::reserve(span).map_err(failed("finding address space"))?;
        let map = Map {
            address,
            index,
            size: info.size,
            holes: holes(windows, info.size),
            guard: Guard::new(space.base.as_ptr().expose_provenance(), span)?,
            space,
            device: Arc::downgrade(device),
            offset: info.offset,
        };
        for window in windows {
            map.fill(device.as_fd(), window).map_err(failed("mapping it"))?;
        }
        Ok(Self(Arc::new(map)))
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// The same, if it has at least `len` bytes.
    ///
    /// # Errors
    /// It has fewer: hardly the device that its ids promise.
    pub fn at_least(self, len: u64) -> Result<Self> {
        if self.0.size >= len {
            return Ok(self);
        }
        let (address, index) = (self.0.address, self.0.index);
        let why = format!(
            "{} < {}: too small for the registers that the device's ids promise",
            bytes(self.0.size),
            bytes(len)
        );
        Err(Error::Bar { address, index, why })
    }

    /// Reads the 32 bits (little-endian) at a byte offset; all ones once the device is gone.
    ///
    /// # Panics
    /// Beyond the end, or not at a multiple of 4.
    #[inline]
    #[must_use]
    pub fn read32(&self, offset: u32) -> u32 {
        let register = self.register(offset);
        if self.0.in_hole(offset) {
            return self.0.read_hole(offset);
        }
        // SAFETY: inside the span, which stays mapped while this handle lives, and aligned (see
        // `register`).
        let value = unsafe { register.read_volatile() };
        if self.0.guard.is_gone() { u32::MAX } else { u32::from_le(value) }
    }

    /// Writes the 32 bits (little-endian) at a byte offset, after everything that this thread wrote to
    /// memory before.
    ///
    /// # Panics
    /// Beyond the end, or not at a multiple of 4.
    #[inline]
    pub fn write32(&self, offset: u32, value: u32) {
        let register = self.register(offset);
        stores_before_device();
        if self.0.in_hole(offset) {
            return self.0.write_hole(offset, value);
        }
        // SAFETY: as in `read32`.
        unsafe { register.write_volatile(value.to_le()) };
    }

    /// Whether the device was closed, or the registers were found to have vanished.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.0.guard.is_gone()
    }

    /// Address of `len` bytes at `offset`, readable and writable, if the kernel lets all of them be mapped:
    /// how type1 and copies reach memory behind a BAR. It stays while this handle lives; once the device is
    /// closed, what is written there goes nowhere. The device may write it at any time: no reference to its
    /// bytes.
    #[must_use]
    pub fn window(&self, offset: u64, len: u64) -> Option<NonNull<u8>> {
        let end = offset.checked_add(len).filter(|end| *end <= self.0.size)?;
        let has_hole = self.0.holes.iter().any(|hole| hole.start < end && offset < hole.end);
        if has_hole {
            return None;
        }
        // SAFETY: inside the span: at least the BAR's size.
        Some(unsafe { self.0.space.base.add(usize::try_from(offset).ok()?) })
    }

    #[inline]
    fn register(&self, offset: u32) -> *mut u32 {
        let fits = u64::from(offset) + 4 <= self.0.size && offset.is_multiple_of(4);
        assert!(fits, "register {offset:#x} of a BAR of {:#x} bytes", self.0.size);
        // SAFETY: inside the span: at least the BAR's size.
        unsafe { self.0.space.base.as_ptr().add(offset as usize) }.cast()
    }

    pub(crate) fn downgrade(&self) -> Weak<Map> {
        Arc::downgrade(&self.0)
    }

    /// The BAR again, if any handle is left.
    pub(crate) fn upgrade(map: &Weak<Map>) -> Option<Self> {
        map.upgrade().map(Self)
    }

    /// The device closes: takes its registers away from every handle.
    pub(crate) fn retire(&self) {
        self.0.retire();
    }
}

impl Map {
    /// Puts a window of the device's file into the span.
    fn fill(&self, device: BorrowedFd<'_>, window: &Range<u64>) -> io::Result<()> {
        let at = usize::try_from(window.start).map_err(io::Error::other)?;
        let len = usize::try_from(window.end - window.start).map_err(io::Error::other)?;
        assert!(
            at + len <= self.space.len,
            "a window of {len:#x} at {at:#x} in {:#x}",
            self.space.len
        );
        // SAFETY: inside the span (checked above).
        let place = unsafe { self.space.base.as_ptr().add(at) };
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: replaces a part of our own span, which nobody knows yet.
        unsafe {
            rustix::mm::mmap(place.cast(), len, rights, flags, device, self.offset + window.start)
        }?;
        Ok(())
    }

    #[inline]
    fn in_hole(&self, offset: u32) -> bool {
        !self.holes.is_empty() && self.holes.iter().any(|hole| hole.contains(&u64::from(offset)))
    }

    #[cold]
    fn read_hole(&self, offset: u32) -> u32 {
        let mut bytes = [0xff; 4];
        let at = self.offset + u64::from(offset);
        let read = self.device.upgrade().map(|fd| rustix::io::pread(&*fd, &mut bytes, at));
        match read {
            Some(Ok(4)) => u32::from_le_bytes(bytes),
            _ => u32::MAX,
        }
    }

    #[cold]
    fn write_hole(&self, offset: u32, value: u32) {
        let at = self.offset + u64::from(offset);
        if let Some(fd) = self.device.upgrade()
            && let Err(error) = rustix::io::pwrite(&*fd, &value.to_le_bytes(), at)
        {
            tracing::debug!(address = %self.address, %error, "a register took no value");
        }
    }

    /// Ordinary memory in place of the device's: its mapping would keep the device open.
    fn retire(&self) {
        // Before: who reads the new memory then finds that it is not to be believed.
        self.guard.set_gone();
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY: replaces our own span, in one step, by memory with the same rights.
        let replaced = unsafe {
            rustix::mm::mmap_anonymous(
                self.space.base.as_ptr().cast(),
                self.space.len,
                rights,
                flags,
            )
        };
        if let Err(error) = replaced {
            tracing::warn!(
                address = %self.address,
                "BAR{}: {error}; the device stays open until its last register handle is dropped",
                self.index
            );
        }
    }
}

impl Space {
    /// Address space that nothing is in.
    fn reserve(len: usize) -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping, where the kernel likes.
        let base =
            unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), len, ProtFlags::empty(), flags) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, len })
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // SAFETY: our own span, of which no handle is left.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
        if let Err(error) = unmapped {
            tracing::debug!(%error, "a BAR would not be unmapped");
        }
    }
}

/// What the windows leave.
fn holes(windows: &[Range<u64>], size: u64) -> Vec<Range<u64>> {
    let mut holes = Vec::new();
    let mut at = 0;
    for window in windows {
        if window.start > at {
            holes.push(at..window.start);
        }
        at = at.max(window.end);
    }
    if at < size {
        holes.push(at..size);
    }
    holes
}

/// The parts of a BAR to be mapped: those that the kernel names, but for a `table` that it keeps for
/// itself; in whole pages.
pub(crate) fn windows(info: &RegionInfo, table: Option<Range<u64>>, page: u64) -> Vec<Range<u64>> {
    let named = match &info.windows {
        Some(windows) => windows.clone(),
        None => vec![(0, info.size)],
    };
    let table =
        table.map_or(0..0, |table| table.start / page * page..table.end.next_multiple_of(page));
    let parts = named.into_iter().flat_map(|(at, len)| {
        let window = at..at + len;
        if table.is_empty() || table.end <= window.start || window.end <= table.start {
            return [window, 0..0];
        }
        [window.start..table.start.max(window.start), table.end.min(window.end)..window.end]
    });
    // A BAR smaller than a page has the rest of it to itself, if the kernel lets it be mapped at all.
    let end =
        |end| if end == info.size { info.size.next_multiple_of(page) } else { end / page * page };
    let whole = parts.map(|part| part.start.next_multiple_of(page)..end(part.end));
    whole.filter(|part| part.start < part.end).collect()
}

/// What this thread wrote to memory is there before the next write to a device is.
#[inline]
fn stores_before_device() {
    // Keeps the compiler in order; x86 keeps its own stores in order (Intel SDM vol. 3, 9.2.2).
    std::sync::atomic::fence(std::sync::atomic::Ordering::Release);
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier, and nothing else. Devices are in the outer shareable domain, which no fence of
    // the language's reaches.
    unsafe {
        std::arch::asm!("dmb oshst", options(nostack, preserves_flags));
    }
}

/// `128 KiB`, or bytes where it is not a whole number.
pub(crate) fn bytes(len: u64) -> String {
    match len {
        len if len >= 1 << 20 && len.is_multiple_of(1 << 20) => format!("{} MiB", len >> 20),
        len if len >= 1 << 10 && len.is_multiple_of(1 << 10) => format!("{} KiB", len >> 10),
        len => format!("{len} B"),
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::MemfdFlags;

    use super::*;

    const PAGE: u64 = 4096;

    fn info(size: u64) -> RegionInfo {
        RegionInfo { size, offset: PAGE, ..RegionInfo::default() }
    }

    /// A file that stands for a device: its "BAR" starts one page into it.
    fn device(size: u64) -> Arc<OwnedFd> {
        let file = rustix::fs::memfd_create("device", MemfdFlags::CLOEXEC).expect("a memfd");
        rustix::fs::ftruncate(&file, PAGE + size).expect("room");
        Arc::new(file)
    }

    fn bar(device: &Arc<OwnedFd>, size: u64, windows: &[Range<u64>]) -> Bar {
        let address = "0000:01:00.0".parse().expect("an address");
        Bar::map((address, 0), device, &info(size), windows).expect("mapped")
    }

    fn written(device: &OwnedFd, at: u64) -> u32 {
        let mut bytes = [0; 4];
        rustix::io::pread(device, &mut bytes, PAGE + at).expect("read");
        u32::from_le_bytes(bytes)
    }

    #[test]
    fn registers_are_read_and_written_through_the_mapping() {
        let device = device(4 * PAGE);
        let bar = bar(&device, 4 * PAGE, std::slice::from_ref(&(0..4 * PAGE)));
        bar.write32(0x2010, 0x1234_5678);
        assert_eq!(bar.read32(0x2010), 0x1234_5678);
        assert_eq!(written(&device, 0x2010), 0x1234_5678);
        assert_eq!(bar.clone().read32(0x2010), 0x1234_5678);
    }

    #[test]
    fn registers_in_a_hole_are_reached_all_the_same() {
        let device = device(4 * PAGE);
        let bar = bar(&device, 4 * PAGE, &[0..PAGE, 2 * PAGE..4 * PAGE]);
        for offset in [0, 0x1000, 0x1ffc, 0x2000] {
            bar.write32(offset, offset + 1);
            assert_eq!(bar.read32(offset), offset + 1);
            assert_eq!(written(&device, u64::from(offset)), offset + 1);
        }
    }

    #[test]
    fn a_bar_of_a_closed_device_reads_as_all_ones_and_lets_the_device_go() {
        let device = device(2 * PAGE);
        let bar = bar(&device, 2 * PAGE, std::slice::from_ref(&(0..PAGE)));
        bar.write32(0, 7);
        bar.retire();
        let file = Arc::try_unwrap(device).expect("no handle holds on to it");
        assert_eq!((bar.read32(0), bar.is_gone()), (u32::MAX, true));
        bar.write32(0, 8);
        assert_eq!(bar.read32(0), u32::MAX);
        assert_eq!(written(&file, 0), 7);
        drop(file);
        assert_eq!(bar.read32(0x1000), u32::MAX, "in a hole");
        bar.write32(0x1000, 8);
    }

    #[test]
    fn registers_that_vanish_read_as_all_ones() {
        let device = device(2 * PAGE);
        let bar = bar(&device, 2 * PAGE, std::slice::from_ref(&(0..2 * PAGE)));
        assert_eq!(bar.read32(0x1004), 0);
        rustix::fs::ftruncate(&*device, 0).expect("cut");
        assert_eq!(bar.read32(0x1004), u32::MAX);
        bar.write32(0, 1);
        assert_eq!(bar.read32(0), u32::MAX);
        assert!(bar.is_gone());
    }

    #[test]
    fn a_bar_that_is_too_small_is_told_with_both_sizes() {
        let device = device(PAGE);
        let bar = bar(&device, PAGE, std::slice::from_ref(&(0..PAGE)));
        assert!(bar.clone().at_least(PAGE).is_ok());
        assert_eq!(
            bar.at_least(128 << 10).expect_err("too small").to_string(),
            "0000:01:00.0 BAR0: 4 KiB < 128 KiB: too small for the registers that the device's ids \
             promise"
        );
    }

    #[test]
    #[should_panic(expected = "register 0x1000 of a BAR of 0x1000 bytes")]
    fn a_register_beyond_the_end_is_our_bug() {
        let device = device(PAGE);
        let _ = bar(&device, PAGE, std::slice::from_ref(&(0..PAGE))).read32(0x1000);
    }

    #[test]
    #[should_panic(expected = "register 0x2 of a BAR")]
    fn a_register_that_is_not_aligned_is_our_bug() {
        let device = device(PAGE);
        bar(&device, PAGE, std::slice::from_ref(&(0..PAGE))).write32(2, 0);
    }

    #[test]
    fn the_table_of_interrupts_is_mapped_around() {
        let whole = info(4 * PAGE);
        assert_eq!(windows(&whole, None, PAGE), vec![0..4 * PAGE]);
        assert_eq!(windows(&whole, Some(PAGE..PAGE + 80), PAGE), vec![0..PAGE, 2 * PAGE..4 * PAGE]);
        assert_eq!(windows(&whole, Some(0..80), PAGE), vec![PAGE..4 * PAGE]);
        assert_eq!(windows(&whole, Some(3 * PAGE..4 * PAGE), PAGE), vec![0..3 * PAGE]);
        assert_eq!(windows(&info(PAGE), Some(16..32), PAGE), vec![]);
        assert_eq!(windows(&info(256), None, PAGE), std::slice::from_ref(&(0..PAGE)));
        let sparse = RegionInfo { windows: Some(vec![(0, PAGE), (2 * PAGE, PAGE)]), ..whole };
        assert_eq!(windows(&sparse, None, PAGE), vec![0..PAGE, 2 * PAGE..3 * PAGE]);
        assert_eq!(windows(&sparse, Some(0..16), PAGE), vec![2 * PAGE..3 * PAGE]);
    }

    #[test]
    fn what_windows_leave_are_holes() {
        assert_eq!(
            holes(&[0..PAGE, 2 * PAGE..3 * PAGE], 4 * PAGE),
            [PAGE..2 * PAGE, 3 * PAGE..4 * PAGE]
        );
        assert_eq!(holes(std::slice::from_ref(&(0..PAGE)), PAGE), []);
        assert_eq!(holes(&[], 64), std::slice::from_ref(&(0..64)));
    }
}
