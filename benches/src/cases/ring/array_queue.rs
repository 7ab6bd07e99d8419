//! crossbeam's `ArrayQueue`: for many producers and consumers, one value at a time.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use super::{ENTRIES, Outcome, cross, one_core};

pub(in crate::cases) fn same_core_32(windows: usize) -> anyhow::Result<Outcome> {
    let queue = ArrayQueue::new(ENTRIES);
    Ok(one_core(windows, 32, move || {
        for value in 0..32u32 {
            let _ = queue.push(value);
        }
        for _ in 0..32 {
            std::hint::black_box(queue.pop());
        }
    }))
}

pub(in crate::cases) fn cross_1(windows: usize) -> anyhow::Result<Outcome> {
    let queue = Arc::new(ArrayQueue::new(ENTRIES));
    let there = Arc::clone(&queue);
    let produce = move || {
        std::hint::black_box(there.push(7u32).is_ok());
    };
    cross(windows, produce, move || usize::from(std::hint::black_box(queue.pop()).is_some()))
}

pub(in crate::cases) fn round_trip(windows: usize) -> anyhow::Result<Outcome> {
    let [there, back] = [(); 2].map(|()| Arc::new(ArrayQueue::new(ENTRIES)));
    let (out, home) = (Arc::clone(&there), Arc::clone(&back));
    let echo = move || {
        if let Some(value) = out.pop() {
            let _ = home.push(value);
        }
    };
    cross(windows.min(15), echo, move || {
        let _ = there.push(7u32);
        while back.pop().is_none() {}
        1
    })
}
