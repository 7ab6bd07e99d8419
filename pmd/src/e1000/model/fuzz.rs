//! Descriptor write-back as a fuzz target: bytes become what a device writes into a ring, at any time and
//! place; the drivers' queues read it. No chip is behind the ring, so that a run takes microseconds.
#![allow(unsafe_code, reason = "states that a device has stopped where there is none")]

use std::sync::Arc;

use mempool::{Burst, Cache, Cpu, DeviceView, Pool, SplitBurst, SplitCache, heap::Heap};

use super::space::{ModelMapper, Space};
use crate::{
    Iova, PostOrder, QueueStats, RxQueue, SplitAt, SplitConfig, SplitRxQueue, TxQueue,
    e1000::{
        descriptor::{
            receive::{HeaderSplit, PacketSplit, SplitFormat},
            transmit::{Advanced, Legacy, TxFormat},
        },
        ring::Wiring,
        rx::{Shape, SplitRx, SplitShape, WholeRx},
        tx::Tx,
    },
    pci::{Gate, Mmio},
};

const MAX_FRAME: usize = 9018;
const BUFFER: usize = 1024;
const HEAD: usize = 128;

/// Registers that nobody reads.
#[derive(Clone, Copy)]
struct Nowhere;

impl Mmio for Nowhere {
    fn read(&self, _offset: u32) -> u32 {
        0
    }

    fn write(&self, _offset: u32, _value: u32) {}
}

/// A ring that the input writes into.
struct Ring {
    space: Arc<Space>,
    gate: Gate,
    iova: Iova,
    count: usize,
    unit: usize,
    /// Where the next write goes that does not say where.
    at: usize,
}

impl Ring {
    fn new(count: usize, unit: usize) -> (Self, Wiring<Nowhere>) {
        let space = Arc::new(Space::default());
        let gate = Gate::new();
        let memory = space.share(count * unit).expect("memory for a ring of a few descriptors");
        let iova = memory.iova();
        let wiring = Wiring {
            index: 0,
            memory,
            descriptors: count,
            mmio: Nowhere,
            tail: 0,
            gate: gate.clone(),
            counters: Default::default(),
        };
        (Self { space, gate, iova, count, unit, at: 0 }, wiring)
    }

    fn mapper(&self) -> ModelMapper {
        ModelMapper(Arc::clone(&self.space))
    }

    /// Takes one step of the input: a byte that says what, and the words of a descriptor. True if the
    /// queue is to be polled afterwards.
    fn step(&mut self, input: &mut &[u8]) -> Option<bool> {
        let (what, rest) = input.split_first()?;
        let (bytes, rest) = rest.split_at_checked(self.unit)?;
        *input = rest;
        let mut words = [0; 4];
        for (word, eight) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*eight);
        }
        let at = if what & 0x40 == 0 { self.at } else { usize::from(what & 0x1f) };
        self.at = at.wrapping_add(1);
        if what & 0x20 != 0 {
            // Done, without errors, of a length that can be: the way to the code behind the checks.
            words[1] = words[1] & 0xffff_03ff_000f_ffff | 3;
        }
        let place = self.iova.0 + (at % self.count * self.unit) as u64;
        self.space.store(place, &words[..self.unit / 8]);
        Some(what & 0x80 != 0)
    }

    /// Nothing writes any more: queues have their buffers back when they are dropped.
    fn stop(&self) {
        // SAFETY: no device is behind the ring.
        unsafe { self.gate.close() };
    }
}

fn heads(stride: usize) -> Pool<Cpu> {
    let pool = Pool::builder().name("fuzz").slots(96).stride(stride).headroom(0).cache_size(8);
    pool.memory(&Heap::new()).build().expect("heap memory is there")
}

fn books(stats: &QueueStats) {
    assert!(stats.is_balanced(), "{stats:?}");
}

/// One run: the first byte says which queue, the rest is what its device does.
///
/// # Panics
/// If a queue delivers what it must not, loses a buffer, or its books do not balance.
pub fn run(data: &[u8]) {
    let Some((how, input)) = data.split_first() else { return };
    let count = 8 << (how >> 4 & 3);
    match (how & 15) % 5 {
        0 => whole(count, input),
        1 => split::<PacketSplit>(count, input),
        2 => split::<HeaderSplit>(count, input),
        3 => send::<Legacy>(count, input),
        _ => send::<Advanced>(count, input),
    }
}

fn whole(count: usize, mut input: &[u8]) {
    let (mut ring, wiring) = Ring::new(count, 16);
    let pool = heads(BUFFER);
    let shape = Shape { buffer: BUFFER, max_frame: MAX_FRAME, strip_vlan: true };
    let queue = WholeRx::new(wiring, shape, None, &pool, ring.mapper());
    let mut queue = queue.expect("heap memory can be mapped");
    queue.fill();
    let (mut cache, mut burst) = (pool.cache(), Burst::with_limit(&pool, 16));
    let mut bytes = vec![0; MAX_FRAME];
    while let Some(poll) = ring.step(&mut input) {
        if poll {
            queue.recv(&mut cache, &mut burst);
            for frame in burst.iter() {
                let len = frame.frame_len();
                assert!((1..=MAX_FRAME).contains(&len), "a frame of {len} B");
                assert!(frame.segments().all(|piece| piece.len() <= BUFFER));
                assert_eq!(frame.copy_to(&mut bytes), len);
            }
            burst.recycle(&mut cache);
        }
    }
    books(&queue.counters().snapshot());
    ring.stop();
    drop((queue, cache, burst));
    assert!(pool.audit().is_home(), "{}", pool.audit());
}

fn split<F: SplitFormat>(count: usize, mut input: &[u8]) {
    let (mut ring, wiring) = Ring::new(count, size_of::<F::Descriptor>());
    let pool = heads(HEAD);
    let data: Pool<mempool::Device> = Pool::builder()
        .name("fuzz data")
        .slots(96)
        .stride(BUFFER)
        .cache_size(8)
        .memory(&Heap::new())
        .build()
        .expect("heap memory is there");
    let shape = SplitShape {
        head_buffer: HEAD,
        data_buffer: BUFFER,
        max_frame: MAX_FRAME,
        strip_vlan: false,
    };
    let config = SplitConfig {
        heads: pool.clone(),
        data: data.clone(),
        at: SplitAt::Protocol { extra: 0 },
        post: PostOrder::Cache,
    };
    let queue = SplitRx::<F, _, _>::new(wiring, shape, None, &config, ring.mapper());
    let mut queue = queue.expect("heap memory can be mapped");
    queue.fill();
    let mut cache = SplitCache::new(&pool, &data);
    let mut burst = SplitBurst::with_limit(&pool, &data, 16);
    let view = DeviceView::new(&data);
    let mut bytes = vec![0; BUFFER];
    while let Some(poll) = ring.step(&mut input) {
        if poll {
            queue.recv(&mut cache, &mut burst);
            for frame in burst.iter() {
                let mut len = frame.head.bytes().len();
                assert!(len <= HEAD, "a head of {len} B");
                for piece in frame.data.into_iter().flat_map(|payload| payload.segments()) {
                    view.read(piece, &mut bytes[..piece.len()]).expect("within its buffer");
                    len += piece.len();
                }
                assert!((1..=MAX_FRAME).contains(&len), "a frame of {len} B");
            }
            burst.recycle(&mut cache);
        }
    }
    books(&queue.counters().snapshot());
    ring.stop();
    drop((view, queue, cache, burst));
    assert!(pool.audit().is_home() && data.audit().is_home(), "{} {}", pool.audit(), data.audit());
}

fn send<F: TxFormat>(count: usize, mut input: &[u8]) {
    let (mut ring, wiring) = Ring::new(count, 16);
    let pool = heads(BUFFER);
    let queue = Tx::<F, _, _>::new(wiring, MAX_FRAME, &pool, ring.mapper());
    let mut queue = queue.expect("heap memory can be mapped");
    let (mut cache, mut burst) = (pool.cache(), Burst::with_limit(&pool, 16));
    let mut taken = 0;
    while let Some(poll) = ring.step(&mut input) {
        if poll {
            fill(&mut cache, &mut burst);
            taken += queue.send(&mut cache, &mut burst);
            queue.reap(&mut cache);
            assert!(queue.in_flight() < count, "{} frames in a ring of {count}", queue.in_flight());
        }
    }
    let stats = queue.counters().snapshot();
    books(&stats);
    assert_eq!(stats.offered, taken as u64);
    ring.stop();
    drop((queue, cache, burst));
    assert!(pool.audit().is_home(), "{}", pool.audit());
}

/// Some frames to send.
fn fill(cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>) {
    while burst.len() < 5 {
        let Some(mut frame) = cache.take_one() else { return };
        assert!(frame.frame_mut().append(&[2; 60]));
        burst.push(frame);
    }
}
