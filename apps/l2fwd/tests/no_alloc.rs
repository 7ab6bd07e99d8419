//! Once it runs, workers allocate nothing: neither pairs, nor a switch that learns and floods.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicU64, Ordering},
};

use clap::Parser;
use memwire_apps::{Stop, report::Output};

/// Counts all threads' allocations.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: hands everything to the system's allocator, and counts.
#[allow(unsafe_code, reason = "a counting allocator")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
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

/// Allocations of a run, and the bursts that it forwarded.
fn allocations(line: &str, frames: u64) -> (u64, u64) {
    let count = frames.to_string();
    let words = ["l2fwd", "-m", "host", "--quiet", "-c", &count];
    let args = l2fwd::Args::try_parse_from(words.into_iter().chain(line.split(' '))).unwrap();
    let mut output = Output::new(&args.run).unwrap();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let summary = l2fwd::run(&args, &mut pmd::Registry::new(), &Stop::new(), &mut output).unwrap();
    assert!(summary.is_balanced());
    (ALLOCATIONS.load(Ordering::Relaxed) - before, summary.received() / 32)
}

#[test]
fn a_long_run_allocates_as_much_as_a_short_one() {
    for line in [
        "-p null: -p null: --rewrite mac-swap",
        "-p null: -p null: --mirror null:",
        "-p null: -p null: -p null: --mode switch",
        "-p null: -p null: -p null: --mode switch --vlan 0:trunk=1 --vlan 1:trunk=all --storm 1gpps",
    ] {
        let (short, _) = allocations(line, 1000);
        let (long, bursts) = allocations(line, 3_000_000);
        // The main thread looks at ports a hundred times a second or so, and that may cost some.
        let workers = long.saturating_sub(short);
        assert!(workers < bursts / 10, "{line}: {workers} allocations in {bursts} bursts");
    }
}
