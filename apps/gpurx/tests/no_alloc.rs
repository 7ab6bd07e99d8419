//! Once it runs, nothing is allocated: placement, blocks, row maps and moves reuse what they have.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use gpurx::place::{Geometry, Placer, RowInfo};

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

#[test]
fn a_million_rows_with_losses_and_swaps_allocate_nothing() {
    for (contiguous, kept) in [(false, 0), (true, 0), (false, 4)] {
        let geometry = Geometry { kept, ..Geometry::of(64, contiguous) };
        // Blocks that a consumer has.
        let mut shown = std::collections::VecDeque::with_capacity(8);
        let slots: Vec<u32> = (0..u32::try_from(geometry.slots(8)).unwrap()).collect();
        let mut placer = Placer::new(&slots, &geometry).unwrap();
        let mut ring = std::collections::VecDeque::with_capacity(64);
        let (mut frames, mut moved) = (0u64, 0);
        let mut step = |seq: u64| {
            while ring.len() < 64
                && let Some(slot) = placer.next_slot()
            {
                ring.push_back(slot);
            }
            let slot = ring.pop_front().unwrap();
            placer.arrived(slot, seq, RowInfo { len: 64, crc: None }, frames);
            frames += 1;
            placer.expire(frames);
            while let Some(id) = placer.take_ready() {
                if contiguous {
                    moved += placer.make_contiguous(id).0.moved();
                }
                shown.push_back(id);
                if shown.len() > usize::from(kept) {
                    placer.release(shown.pop_front().unwrap());
                }
            }
        };
        (0..10_000).for_each(&mut step);
        let before = ALLOCATIONS.with(Cell::get);
        for seq in 10_000..1_000_000u64 {
            match seq % 100 {
                7 => {}
                20 => step(seq + 1),
                21 => step(seq - 1),
                _ => step(seq),
            }
        }
        assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
        assert_eq!(moved > 0, contiguous);
    }
}
