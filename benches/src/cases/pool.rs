//! Buffers: take, initialise, give back.

use mempool::{Burst, Cpu, Pool, heap::Heap};

use super::{Outcome, one_core};

fn pool(cache: usize) -> anyhow::Result<Pool<Cpu>> {
    let pool = Pool::builder().name("bench").slots(8192).stride(2048).cache_size(cache);
    Ok(pool.memory(&Heap::new()).build()?)
}

pub(super) fn pktbuf_32(windows: usize) -> anyhow::Result<Outcome> {
    let pool = pool(256)?;
    let mut cache = pool.cache();
    let mut burst = Burst::new(&pool);
    Ok(one_core(windows, 32, move || {
        cache.take(&mut burst, 32);
        burst.recycle(&mut cache);
    }))
}

pub(super) fn pktbuf_spill(windows: usize) -> anyhow::Result<Outcome> {
    let pool = pool(256)?;
    let mut cache = pool.cache();
    let mut bursts: Vec<Burst<Cpu>> = (0..32).map(|_| Burst::new(&pool)).collect();
    Ok(one_core(windows, 1024, move || {
        for burst in &mut bursts {
            cache.take(burst, 32);
        }
        for burst in &mut bursts {
            burst.recycle(&mut cache);
        }
    }))
}

pub(super) fn bare_32(windows: usize) -> anyhow::Result<Outcome> {
    let pool = pool(256)?;
    let mut cache = pool.cache();
    let mut burst = Burst::new(&pool);
    Ok(one_core(windows, 32, move || {
        cache.take_bare(&mut burst, 32);
        burst.recycle(&mut cache);
    }))
}

pub(super) fn bare_1(windows: usize) -> anyhow::Result<Outcome> {
    let pool = pool(256)?;
    let mut cache = pool.cache();
    Ok(one_core(windows, 1, move || {
        if let Some(buf) = cache.take_one() {
            cache.give(buf);
        }
    }))
}

pub(super) fn stray(windows: usize) -> anyhow::Result<Outcome> {
    let pool = pool(0)?;
    let mut cache = pool.cache();
    Ok(one_core(windows, 1, move || drop(cache.take_one())))
}
