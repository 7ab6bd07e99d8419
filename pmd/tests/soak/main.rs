//! The long runs: ten million frames a driver, a million bursts without an allocation. In debug
//! builds a tenth of that.

mod chaos;
mod nic;
mod pcap;
#[path = "../e1000/rig.rs"]
#[allow(dead_code, reason = "shared with the tests of these drivers, which use all of it")]
mod rig;
#[path = "../e1000/stream.rs"]
#[allow(dead_code, clippy::cast_possible_truncation, reason = "as above; patterns of bytes")]
mod stream;
mod wires;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

const SCALE: usize = if cfg!(debug_assertions) { 10 } else { 1 };
const FRAMES: u64 = 10_000_000 / SCALE as u64;
const BURSTS: usize = 1_000_000 / SCALE;

/// Counts this thread's allocations.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: hands everything to the system's allocator, and counts.
#[allow(unsafe_code, reason = "a counting allocator")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}
