//! Once it runs, nothing is allocated: placement, blocks, row maps and moves reuse what they have.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use gpurx::{
    consumer::{BlockView, Rows},
    handover::{
        self, Ring, Taken, Taker,
        books::Refusals,
        taker::Payloads,
        wire::{Area, AreaKind},
    },
    place::{Geometry, Placer, RowInfo, Store},
};
use mempool::{Backing, Device, DeviceView, Pool};
use providers::{Fake, SharedView, SharedWords};

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

/// A ring and both of its sides, in one process and two mappings.
fn both_sides(pool: &Pool<Device>, geometry: &Geometry) -> (Ring, Taker) {
    let narrow = |number: usize| u32::try_from(number).unwrap();
    let layout = handover::Layout {
        generation: 1,
        entries: 8,
        rows: geometry.rows,
        slots: narrow(pool.slot_bound()),
        stride: narrow(pool.stride()),
        row_bits: 0,
    };
    let words = SharedWords::create("test", layout.words()).unwrap();
    layout.write(&words);
    let theirs = SharedWords::open(words.file().try_clone_to_owned().unwrap()).unwrap();
    let areas = pool.areas().into_iter().map(|info| {
        let Backing::Memfd { fd, offset } = info.region.backing() else { panic!("no memory file") };
        let (first_slot, slots) = (info.first_slot, narrow(info.slots));
        let area = Area { kind: AreaKind::Memfd, first_slot, slots, offset };
        (area, SharedView::sealed(&*fd, offset, info.slots * pool.stride()).unwrap())
    });
    let payloads = Payloads::new(areas.collect(), layout.stride);
    (Ring::new(words, layout), Taker::new(theirs, layout, payloads).unwrap())
}

#[test]
fn rows_shown_through_a_ring_are_what_was_placed_and_neither_side_allocates() {
    let geometry = Geometry { kept: 8, ..Geometry::of(64, false) };
    let memory = Fake::new();
    let pool: Pool<Device> = Pool::builder()
        .slots(geometry.slots(8))
        .stride(64)
        .headroom(0)
        .memory(&memory)
        .build()
        .unwrap();
    let (mut ring, mut taker) = both_sides(&pool, &geometry);
    let (mut store, view) = (Store::take_all(&pool), DeviceView::new(&pool));
    let mut placer = Placer::new(&store.slots(), &geometry).unwrap();
    let (mut taken, mut refusals, mut rows, mut bytes) =
        (Taken::default(), Refusals::default(), 0u64, [0u8; 8]);
    let mut step = |seq: u64| {
        let slot = placer.next_slot().expect("blocks come back");
        view.write(&mut store.frame_mut(slot).unwrap(), &seq.to_le_bytes()).unwrap();
        placer.arrived(slot, seq, RowInfo { len: 8, crc: None }, seq);
        while let Some(id) = placer.take_ready() {
            let block = BlockView::new(placer.block(id), None, &store, &view);
            assert!(ring.show(id, &block, seq), "there is room");
        }
        // The consumer has up to four blocks.
        while ring.books().blocks() > 4 {
            assert!(taker.take(&mut taken).unwrap());
            let block = taken.within(taker.payloads());
            for (row, slot) in block.present() {
                assert!(block.read(slot, &mut bytes[..block.info(row).len as usize]));
                assert_eq!(u64::from_le_bytes(bytes), taken.base_seq() + u64::from(row));
                rows += 1;
            }
            taker.give_back(&taken);
            placer.release(ring.take_back(&mut refusals).expect("one was returned"));
        }
    };
    let in_disorder = |seq: u64, step: &mut dyn FnMut(u64)| match seq % 100 {
        7 => {}
        20 => step(seq + 1),
        21 => step(seq - 1),
        _ => step(seq),
    };
    (0..10_000).for_each(|seq| in_disorder(seq, &mut step));
    let before = ALLOCATIONS.with(Cell::get);
    (10_000..300_000).for_each(|seq| in_disorder(seq, &mut step));
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
    assert!(rows > 296_000, "{rows}");
    assert_eq!(refusals, Refusals::default());
}
