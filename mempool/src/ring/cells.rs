//! The array behind the MPMC ring: plain memory moved in bulk, or loom's checked cells.
#![allow(unsafe_code, reason = "shared cells that the ring's protocol hands from thread to thread")]

use std::mem::MaybeUninit;

#[cfg(not(loom))]
use std::cell::UnsafeCell;

#[cfg(loom)]
use loom::cell::UnsafeCell;

/// `count` cells, a power of two, addressed by free-running indices.
pub(super) struct Cells {
    cells: Box<[UnsafeCell<MaybeUninit<u32>>]>,
    mask: u32,
}

// SAFETY: a cell is touched by one thread at a time; the ring's head and tail decide which, and
// order the accesses. Callers of the unsafe methods keep that promise.
unsafe impl Sync for Cells {}
// SAFETY: plain integers.
unsafe impl Send for Cells {}

impl Cells {
    pub(super) fn new(count: usize) -> Self {
        assert!(
            count.is_power_of_two() && count <= 1 << 31,
            "ring size: a power of two up to 2^31"
        );
        Self {
            cells: (0..count).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
            mask: u32::try_from(count - 1).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.mask + 1
    }

    /// Writes `values` from index `at` on, wrapping.
    ///
    /// # Safety
    /// The caller owns those cells until it publishes them, and there are at most `len()`.
    #[cfg(not(loom))]
    pub(super) unsafe fn write(&self, at: u32, values: &[MaybeUninit<u32>]) {
        let start = (at & self.mask) as usize;
        let base = UnsafeCell::raw_get(self.cells.as_ptr());
        // SAFETY: `start` is inside the array.
        let from_start = unsafe { base.add(start) };
        if let [one] = values {
            // SAFETY: the caller owns the cell.
            return unsafe { from_start.write(*one) };
        }
        let first = values.len().min(self.cells.len() - start);
        // SAFETY: `start + first <= cells.len()`; the caller owns the cells.
        unsafe { from_start.copy_from_nonoverlapping(values.as_ptr(), first) };
        let rest = &values[first..];
        if rest.is_empty() {
            return;
        }
        // SAFETY: `rest.len() <= start`, since there are at most `len()` values.
        unsafe { base.copy_from_nonoverlapping(rest.as_ptr(), rest.len()) };
    }

    /// Reads `count` values from index `at` on, wrapping.
    ///
    /// # Safety
    /// The caller owns those cells, they were written, and `to` has room for `count`.
    #[cfg(not(loom))]
    pub(super) unsafe fn read(&self, at: u32, to: *mut MaybeUninit<u32>, count: usize) {
        let start = (at & self.mask) as usize;
        let base = UnsafeCell::raw_get(self.cells.as_ptr()).cast_const();
        // SAFETY: `start` is inside the array.
        let from_start = unsafe { base.add(start) };
        if count == 1 {
            // SAFETY: the caller owns the cell and the room at `to`.
            return unsafe { to.copy_from_nonoverlapping(from_start, 1) };
        }
        let first = count.min(self.cells.len() - start);
        // SAFETY: `start + first <= cells.len()`; the caller owns the cells and the room at `to`.
        unsafe { to.copy_from_nonoverlapping(from_start, first) };
        if first == count {
            return;
        }
        // SAFETY: `first < count`, for which there is room.
        let to_rest = unsafe { to.add(first) };
        // SAFETY: the rest starts over at cell 0 and is shorter than `start`.
        unsafe { to_rest.copy_from_nonoverlapping(base, count - first) };
    }

    #[cfg(loom)]
    pub(super) unsafe fn write(&self, at: u32, values: &[MaybeUninit<u32>]) {
        for (index, value) in (0u32..).zip(values) {
            let cell = &self.cells[(at.wrapping_add(index) & self.mask) as usize];
            // SAFETY: the caller owns the cell; loom checks it.
            cell.with_mut(|cell| unsafe { cell.write(*value) });
        }
    }

    #[cfg(loom)]
    pub(super) unsafe fn read(&self, at: u32, to: *mut MaybeUninit<u32>, count: usize) {
        for index in 0..count {
            let cell = &self.cells[(at.wrapping_add(index as u32) & self.mask) as usize];
            // SAFETY: the caller owns the cell (loom checks it) and the room at `to`.
            cell.with(|cell| unsafe { to.add(index).write(*cell) });
        }
    }
}

#[cfg(loom)]
impl Drop for Cells {
    /// Every access to the cells came before their end: a pool's last stray free and the thread that
    /// frees the pool meet here.
    fn drop(&mut self) {
        self.cells.iter().for_each(|cell| cell.with_mut(|_| ()));
    }
}
