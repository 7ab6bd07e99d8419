//! Millions of frames through every kind of chaos: what was injected is what is seen, and nothing else.

use std::collections::HashMap;

use mempool::{Burst, Cpu, Pool, heap::Heap};
use pmd::{Config, Health, Queues, Registry, RxMemory};

use crate::{FRAMES, allocations};

/// Headers, the test header's place, and 64 bytes behind.
const LEN: usize = 130;
const PAYLOAD: usize = 42;
const BODY: usize = PAYLOAD + 24;

/// Everything at once, each kind at 0.1 %.
const PLAN: &str = "drop=0.1%,dup=0.1%,reorder=0.1%,flip=0.1%,truncate=0.1%,stall=0.1%,exhaust=0.1%,\
                    stall.for=2,reorder.wait=1s";

fn pool() -> Pool<Cpu> {
    Pool::builder().name("soak").slots(4096).stride(512).memory(&Heap::new()).build().unwrap()
}

/// A UDP frame whose body is a fixed pattern; the number goes behind the magic.
fn template() -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[..24].copy_from_slice(&[
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 116, 0, 0, 0, 0, 64, 17,
    ]);
    for (at, byte) in bytes[BODY..].iter_mut().enumerate() {
        *byte = at.to_le_bytes()[0].wrapping_mul(37);
    }
    bytes
}

/// What a receiver sees of numbered frames.
#[derive(Default)]
struct Seen {
    /// A bit per number, of sound frames and of all.
    sound: Vec<u64>,
    any: Vec<u64>,
    highest: u64,
    frames: u64,
    dup: u64,
    reorder: u64,
    flip: u64,
    truncate: u64,
}

/// Sets a bit; false if it was set.
fn set(bits: &mut [u64], number: u64) -> bool {
    let word = &mut bits[usize::try_from(number / 64).unwrap()];
    let bit = 1 << (number % 64);
    let is_new = *word & bit == 0;
    *word |= bit;
    is_new
}

impl Seen {
    fn new(frames: u64) -> Self {
        let words = vec![0; usize::try_from(frames / 64 + 1).unwrap()];
        Self { sound: words.clone(), any: words, ..Self::default() }
    }

    fn frame(&mut self, bytes: &[u8], template: &[u8; LEN]) {
        self.frames += 1;
        let number = u64::from_be_bytes(bytes[PAYLOAD + 8..PAYLOAD + 16].try_into().unwrap());
        set(&mut self.any, number);
        if bytes.len() < LEN {
            self.truncate += 1;
        } else if bytes[BODY..] != template[BODY..] {
            let differing =
                bytes.iter().zip(template).skip(BODY).map(|(a, b)| (a ^ b).count_ones());
            assert_eq!(differing.sum::<u32>(), 1, "one bit");
            self.flip += 1;
        } else if !set(&mut self.sound, number) {
            self.dup += 1;
        } else if number < self.highest {
            self.reorder += 1;
        } else {
            self.highest = number;
        }
    }

    fn missing(&self, sent: u64) -> u64 {
        sent - self.any.iter().map(|word| u64::from(word.count_ones())).sum::<u64>()
    }
}

/// Sends `frames` frames from one port to the other; returns what was seen and what both counted.
fn soak(sender: &str, receiver: &str, frames: u64) -> (Seen, HashMap<String, u64>) {
    let (tx_pool, rx_pool) = (pool(), pool());
    let mut registry = Registry::new();
    let mut sender = registry.open(sender).unwrap();
    let mut receiver = registry.open(receiver).unwrap();
    let mut tx = sender.start(Config::default().with_tx(&tx_pool)).unwrap().tx.remove(0);
    let memory = RxMemory::Whole(rx_pool.clone());
    let queues = receiver.start(Config::default().with_rx(memory));
    let mut rx = queues.unwrap().rx.remove(0).whole().unwrap();
    let (mut tx_cache, mut out) = (tx_pool.cache(), Burst::new(&tx_pool));
    let (mut cache, mut burst) = (rx_pool.cache(), Burst::new(&rx_pool));
    let (template, mut next, mut seen) = (template(), 0u64, Seen::new(frames));
    let mut poll = |seen: &mut Seen| {
        rx.recv(&mut cache, &mut burst);
        burst.iter().for_each(|frame| seen.frame(frame.bytes(), &template));
        burst.recycle(&mut cache);
    };
    let mut round = |next: &mut u64, seen: &mut Seen| {
        if out.is_empty() && *next < frames {
            tx_cache.take(&mut out, 32);
            out.for_each_mut(0, |mut frame| {
                frame.set_len(LEN);
                let bytes = frame.bytes_mut();
                bytes.copy_from_slice(&template);
                bytes[PAYLOAD + 8..PAYLOAD + 16].copy_from_slice(&next.to_be_bytes());
                *next += 1;
            });
        }
        if out.is_empty() {
            tx.reap(&mut tx_cache)
        } else {
            tx.send(&mut tx_cache, &mut out)
        };
        poll(seen);
        *next < frames || !out.is_empty() || tx.in_flight() > 0
    };
    // Warm up: caches fill, the source is met.
    (0..100).for_each(|_| _ = round(&mut next, &mut seen));
    let count = allocations(|| while round(&mut next, &mut seen) {});
    assert_eq!(count, 0, "allocations in steady state");
    sender.stop(Queues { rx: vec![], tx: vec![tx] }).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while receiver.health() == Health::Good && std::time::Instant::now() < deadline {
        poll(&mut seen);
    }
    assert_eq!(receiver.health(), Health::Ended);
    let (rx_stats, tx_stats) = (receiver.stats().0, sender.stats().1);
    assert!(rx_stats.is_balanced() && tx_stats.is_balanced());
    assert_eq!(rx_stats.delivered, seen.frames);
    let counts: HashMap<_, _> = receiver.stats().2.into_iter().chain(sender.stats().2).collect();
    let of = |name: &str| counts.get(name).copied().unwrap_or(0);
    assert_eq!(tx_stats.offered, next + of("chaos_tx_dup"));
    assert_eq!(rx_stats.offered, tx_stats.delivered + of("chaos_rx_dup"));
    drop((rx, cache, burst, tx_cache, out, sender, receiver));
    for audit in [tx_pool.audit(), rx_pool.audit()] {
        assert!(audit.is_home(), "{audit}");
    }
    // The last burst may have made it a few more.
    assert!(next >= frames && next < frames + 32);
    (seen.finish(next, &counts), counts)
}

impl Seen {
    /// Checks what was seen against what was injected, whichever end did it.
    fn finish(self, sent: u64, counts: &HashMap<String, u64>) -> Self {
        let of = |kind: &str| {
            let count =
                |end: &str| counts.get(&format!("chaos_{end}_{kind}")).copied().unwrap_or(0);
            count("rx") + count("tx")
        };
        for (kind, seen) in [
            ("dup", self.dup),
            ("reorder", self.reorder),
            ("flip", self.flip),
            ("truncate", self.truncate),
        ] {
            assert_eq!(of(kind), seen, "{kind}: injected, seen");
        }
        assert_eq!(of("drop") + of("exhaust"), self.missing(sent), "lost, missing");
        assert_eq!(of("undelivered"), 0);
        self
    }
}

/// The long form is ten million frames whatever the build.
fn frames() -> u64 {
    if std::env::var_os("MEMWIRE_FULL").is_some() { 10_000_000 } else { FRAMES / 2 }
}

#[test]
fn ten_million_frames_through_every_fault_are_all_accounted_for() {
    let plan = |direction: &str| {
        let items =
            PLAN.split(',').filter(|item| direction == "rx" || !item.starts_with("exhaust"));
        let items: Vec<_> = items.map(|item| format!("{direction}.{item}")).collect();
        format!("chaos:seed=42,{}@ring:soak", items.join(","))
    };
    for (sender, receiver) in [("ring:soak".into(), plan("rx")), (plan("tx"), "ring:soak".into())] {
        let frames = frames();
        let (seen, counts) = soak(&sender, &receiver, frames);
        let mut injected: Vec<_> = counts.iter().filter(|(_, count)| **count > 0).collect();
        injected.sort();
        println!("{} frames seen; injected {injected:?}", seen.frames);
        for (kind, count) in injected {
            let expected = frames / 1000;
            assert!(count.abs_diff(expected) < expected / 5 + 50, "{count} {kind} at 0.1 %");
        }
    }
}
