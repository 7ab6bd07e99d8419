//! The rings of the crate `rtrb`, in its chunks: the peer of ours.

use rtrb::{Consumer, Producer, RingBuffer};

use super::{ENTRIES, Outcome, cross, one_core};

/// Sends `0..N` if there is room; says how many were sent.
fn send<const N: usize>(tx: &mut Producer<u32>) -> usize {
    match tx.write_chunk_uninit(N) {
        Ok(chunk) => chunk.fill_from_iter([7; N]),
        Err(_) => 0,
    }
}

/// Receives what is there, at most as much as `got` holds.
fn recv(rx: &mut Consumer<u32>, got: &mut [u32]) -> usize {
    let Ok(chunk) = rx.read_chunk(got.len().min(rx.slots())) else { return 0 };
    let (first, second) = chunk.as_slices();
    got[..first.len()].copy_from_slice(first);
    got[first.len()..first.len() + second.len()].copy_from_slice(second);
    let count = chunk.len();
    chunk.commit_all();
    count
}

pub(in crate::cases) fn same_core_32(windows: usize) -> anyhow::Result<Outcome> {
    let (mut tx, mut rx) = RingBuffer::new(ENTRIES);
    let mut got = [0; 32];
    Ok(one_core(windows, 32, move || {
        send::<32>(&mut tx);
        recv(&mut rx, &mut got);
        std::hint::black_box(&got);
    }))
}

fn cross_bulk<const N: usize>(windows: usize) -> anyhow::Result<Outcome> {
    let (mut tx, mut rx) = RingBuffer::new(ENTRIES);
    let mut got = [0; N];
    let produce = move || {
        send::<N>(&mut tx);
    };
    cross(windows, produce, move || {
        let count = recv(&mut rx, &mut got);
        std::hint::black_box(&got);
        count
    })
}

pub(in crate::cases) fn cross_32(windows: usize) -> anyhow::Result<Outcome> {
    cross_bulk::<32>(windows)
}

pub(in crate::cases) fn cross_1(windows: usize) -> anyhow::Result<Outcome> {
    cross_bulk::<1>(windows)
}

pub(in crate::cases) fn round_trip(windows: usize) -> anyhow::Result<Outcome> {
    let (mut there_tx, mut there_rx) = RingBuffer::new(ENTRIES);
    let (mut back_tx, mut back_rx) = RingBuffer::new(ENTRIES);
    let echo = move || {
        if let Ok(value) = there_rx.pop() {
            // There is room: one value is on its way at a time.
            let _ = back_tx.push(value);
        }
    };
    cross(windows.min(15), echo, move || {
        let _ = there_tx.push(7u32);
        while back_rx.pop().is_err() {}
        1
    })
}
