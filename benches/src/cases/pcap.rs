//! Capture files: one of 64-byte frames received in a loop, and frames of 64 bytes written into
//! `/dev/null`.

use std::{fs, io::Write};

use anyhow::Context;
use mempool::{Burst, Cpu, Pool, heap::Heap};
use pmd::{AnyRxQueue, Config, Registry, RxMemory};

use super::{Outcome, one_core};

const BURST: usize = 32;
const FRAME: usize = 64;
/// As many as the peer's file has.
const FRAMES: usize = 256;

fn pool() -> anyhow::Result<Pool<Cpu>> {
    Ok(Pool::builder().name("bench").slots(8192).stride(2048).memory(&Heap::new()).build()?)
}

/// A classic capture of `FRAMES` frames of that length.
fn capture(len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut words = |words: &[u32]| words.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
    words(&[0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65535, 1]);
    let mut frame = vec![0u8; len];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
    for _ in 0..FRAMES {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        for word in [1u32, 0, len, len] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(&frame);
    }
    bytes
}

pub(super) fn replay(windows: usize) -> anyhow::Result<Outcome> {
    replay_frames(windows, FRAME)
}

pub(super) fn replay_frames(windows: usize, len: usize) -> anyhow::Result<Outcome> {
    anyhow::ensure!((60..=1514).contains(&len), "no frame has {len} bytes");
    let path = std::env::temp_dir().join(format!("memwire-bars-{}.pcap", std::process::id()));
    let mut file = fs::File::create_new(&path).with_context(|| path.display().to_string())?;
    file.write_all(&capture(len))?;
    let outcome = replay_of(&format!("pcap:{},loop", path.display()), windows);
    fs::remove_file(&path)?;
    outcome
}

fn replay_of(spec: &str, windows: usize) -> anyhow::Result<Outcome> {
    let pool = pool()?;
    let mut device = Registry::new().open(spec)?;
    let mut queues = device.start(Config::default().with_rx(RxMemory::Whole(pool.clone())))?;
    let AnyRxQueue::Whole(mut rx) = queues.rx.remove(0) else {
        anyhow::bail!("not a whole-frame queue");
    };
    let (mut cache, mut frames) = (pool.cache(), Burst::<Cpu>::with_limit(&pool, BURST));
    let mut short = false;
    let outcome = one_core(windows, BURST, || {
        short |= rx.recv(&mut cache, &mut frames) != BURST;
        frames.recycle(&mut cache);
    });
    anyhow::ensure!(!short, "the port received less than a burst");
    Ok(outcome)
}

pub(super) fn write(windows: usize) -> anyhow::Result<Outcome> {
    let pool = pool()?;
    let mut device = Registry::new().open("pcap:,tx=/dev/null")?;
    let mut tx = device.start(Config::default().with_tx(&pool))?.tx.remove(0);
    let (mut cache, mut frames) = (pool.cache(), Burst::<Cpu>::with_limit(&pool, BURST));
    let mut short = false;
    let outcome = one_core(windows, BURST, || {
        cache.take(&mut frames, BURST);
        frames.for_each_mut(0, |mut frame| frame.set_len(FRAME));
        short |= tx.send(&mut cache, &mut frames) != BURST;
    });
    anyhow::ensure!(!short, "the port sent less than a burst");
    Ok(outcome)
}
