//! What the drivers of the e1000 family cost a worker: calls of their queues, with a chip in software at the
//! other side. Only the calls are measured. A doorbell costs a store there, as it does on a bus: the chip
//! hears of it, and works, between two calls.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, ensure};
use mempool::{Burst, Cache, Cpu, Pool, SplitBurst, SplitCache, heap::Heap};
use pmd::{
    AnyRxQueue, Config, Device, Queues, SplitAt,
    e1000::{
        Chip, E1000, Options,
        model::{self, Model, ModelBus, ModelMmio, Work},
    },
    pci::{Bus, Mmio, Notices, SharedMemory},
};

use super::Outcome;
use crate::{
    instructions,
    window::{OBJECTS, summarise, tsc},
};

const BURST: usize = 32;
/// Bursts whose instructions are counted.
const COUNTED: usize = 16;

/// The chip's registers, where a write of a tail register waits until it is passed on.
#[derive(Clone)]
struct Postponed {
    inner: ModelMmio,
    /// The first tail register; others follow it within a queue's block of registers.
    is_running: Arc<AtomicU64>,
    /// Offset and value; 0 is none, as no tail is at offset 0.
    waiting: Arc<AtomicU64>,
}

impl Mmio for Postponed {
    fn read(&self, offset: u32) -> u32 {
        self.inner.read(offset)
    }

    #[inline]
    fn write(&self, offset: u32, value: u32) {
        if self.is_running.load(Ordering::Relaxed) == 0 {
            return self.inner.write(offset, value);
        }
        self.waiting.store(u64::from(offset) << 32 | u64::from(value), Ordering::Release);
    }
}

impl Postponed {
    fn pass_on(&self) {
        let waiting = self.waiting.swap(0, Ordering::Acquire);
        if waiting != 0 {
            #[expect(clippy::cast_possible_truncation, reason = "two halves")]
            self.inner.write((waiting >> 32) as u32, waiting as u32);
        }
    }
}

/// A model's bus with such registers.
struct PostponedBus {
    inner: ModelBus,
    mmio: Postponed,
}

impl Bus for PostponedBus {
    type Mmio = Postponed;
    type Mapper = <ModelBus as Bus>::Mapper;

    fn address(&self) -> &str {
        self.inner.address()
    }

    fn numa_node(&self) -> Option<u32> {
        self.inner.numa_node()
    }

    fn mmio(&self) -> Postponed {
        self.mmio.clone()
    }

    fn mapper(&self) -> Self::Mapper {
        self.inner.mapper()
    }

    fn share(&self, bytes: usize) -> io::Result<SharedMemory> {
        self.inner.share(bytes)
    }

    fn set_bus_master(&mut self, on: bool) -> io::Result<()> {
        self.inner.set_bus_master(on)
    }

    fn reset(&mut self) -> io::Result<()> {
        self.inner.reset()
    }

    fn interrupts(&mut self, vectors: usize) -> io::Result<Vec<Arc<OwnedFd>>> {
        self.inner.interrupts(vectors)
    }

    fn notices(&mut self) -> Notices {
        self.inner.notices()
    }
}

/// A chip, and its driver's queues.
struct Rig {
    model: Model,
    mmio: Postponed,
    queues: Queues,
}

fn rig(chip: Chip, config: Config) -> anyhow::Result<Rig> {
    let kind = match chip {
        Chip::E82574 => model::Chip::I82574,
        Chip::E82576 => model::Chip::I82576,
    };
    let model = Model::new(model::Options { work: Work::Ticked, ..model::Options::new(kind) });
    let inner = model.bus();
    let mmio =
        Postponed { inner: inner.mmio(), is_running: Arc::default(), waiting: Arc::default() };
    let bus = PostponedBus { inner, mmio: mmio.clone() };
    let mut port = E1000::open("pci:model".into(), chip, bus, Options::default())?;
    let queues = port.start(config)?;
    // The queues outlive the control plane here: nothing is stopped before the process ends.
    std::mem::forget(port);
    mmio.is_running.store(1, Ordering::Relaxed);
    (0..16).for_each(|_| model.tick());
    Ok(Rig { model, mmio, queues })
}

impl Rig {
    /// Lets the chip hear of doorbells and do what it can.
    fn work(&self) {
        self.mmio.pass_on();
        (0..4).for_each(|_| self.model.tick());
    }
}

/// UDP, so that it can be split, of `LEN` bytes without FCS.
fn frame<const LEN: usize>() -> [u8; LEN] {
    let mut frame = [0; LEN];
    // To everybody: no filter is asked.
    frame[..12].fill(0xff);
    frame[6] = 2;
    let len = u8::try_from(LEN).unwrap_or(u8::MAX);
    let (ip_len, udp_len) = (len - 14, len - 34);
    let headers = [
        8, 0, 0x45, 0, 0, ip_len, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 9, 0, 9,
        0, udp_len,
    ];
    frame[12..12 + headers.len()].copy_from_slice(&headers);
    frame
}

/// Measures `call`, which handles a burst; `around` runs before each, unmeasured.
fn bursts(
    windows: usize,
    mut around: impl FnMut(),
    mut call: impl FnMut() -> usize,
) -> anyhow::Result<Outcome> {
    let mut sample = || -> anyhow::Result<f64> {
        let mut ticks = 0;
        let calls = OBJECTS / 10 / BURST;
        for _ in 0..calls {
            around();
            let start = tsc();
            let got = call();
            ticks += tsc() - start;
            ensure!(got == BURST, "a burst of {got} frames");
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        Ok(ticks as f64 / (calls * BURST) as f64)
    };
    sample()?;
    let ticks = summarise((0..windows).map(|_| sample()).collect::<anyhow::Result<_>>()?);
    let mut sum = Some(0);
    for _ in 0..COUNTED {
        around();
        let mut got = 0;
        let count = instructions::count(|| got = call());
        ensure!(got == BURST, "a burst of {got} frames");
        sum = sum.zip(count).map(|(sum, count)| sum + count);
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let instructions = sum.map(|sum| sum as f64 / (COUNTED * BURST) as f64);
    Ok(Outcome { ticks, instructions, placement: None, host_bytes: None })
}

fn pool(name: &str, stride: usize) -> anyhow::Result<Pool<Cpu>> {
    Ok(Pool::builder().name(name).slots(4096).stride(stride).memory(&Heap::new()).build()?)
}

/// Receives bursts of whole frames; freeing them is not measured.
fn receive(windows: usize, chip: Chip) -> anyhow::Result<Outcome> {
    let pool = pool("frames", 2048 + 128)?;
    let mut rig = rig(chip, Config::one_queue(&pool))?;
    let mut rx = rig.queues.rx.remove(0).whole().context("not a whole-frame queue")?;
    let (cache, burst) = (pool.cache(), Burst::new(&pool));
    let state = std::cell::RefCell::new((cache, burst));
    let bytes = frame::<60>();
    bursts(
        windows,
        || {
            let (cache, burst) = &mut *state.borrow_mut();
            burst.recycle(cache);
            rig.work();
            (0..BURST).for_each(|_| rig.model.inject(&bytes));
            rig.work();
        },
        || {
            let (cache, burst) = &mut *state.borrow_mut();
            rx.recv(cache, burst)
        },
    )
}

/// Receives bursts of split frames; freeing them is not measured.
fn receive_split(windows: usize, chip: Chip) -> anyhow::Result<Outcome> {
    let heads = pool("heads", 128 + 128)?;
    let heap = Heap::new();
    let data = Pool::builder().name("payloads").slots(4096).stride(2048).memory(&heap).build()?;
    let config = Config::default().split(&heads, &data, SplitAt::Protocol { extra: 0 });
    let mut rig = rig(chip, config)?;
    let AnyRxQueue::Split(mut rx) = rig.queues.rx.remove(0) else {
        anyhow::bail!("not a split queue");
    };
    let state =
        std::cell::RefCell::new((SplitCache::new(&heads, &data), SplitBurst::new(&heads, &data)));
    // Longer than a head's buffer, or an 82576 leaves it whole.
    let bytes = frame::<252>();
    bursts(
        windows,
        || {
            let (cache, burst) = &mut *state.borrow_mut();
            burst.recycle(cache);
            rig.work();
            (0..BURST).for_each(|_| rig.model.inject(&bytes));
            rig.work();
        },
        || {
            let (cache, burst) = &mut *state.borrow_mut();
            rx.recv(cache, burst)
        },
    )
}

/// Sends bursts, each of which brings the one before home; making them is not measured.
fn transmit(windows: usize, chip: Chip) -> anyhow::Result<Outcome> {
    let pool = pool("frames", 2048)?;
    let mut rig = rig(chip, Config::default().with_tx(&pool))?;
    let mut tx = rig.queues.tx.remove(0);
    let state = std::cell::RefCell::new((pool.cache(), Burst::new(&pool)));
    let bytes = frame::<60>();
    let fill = |cache: &mut Cache<Cpu>, burst: &mut Burst<Cpu>| {
        cache.take(burst, BURST);
        burst.for_each_mut(0, |mut frame| {
            let _fits = frame.append(&bytes);
        });
    };
    bursts(
        windows,
        || {
            rig.work();
            drop(rig.model.sent());
            let (cache, burst) = &mut *state.borrow_mut();
            fill(cache, burst);
        },
        || {
            let (cache, burst) = &mut *state.borrow_mut();
            tx.send(cache, burst)
        },
    )
}

pub(super) fn e1000e_rx(windows: usize) -> anyhow::Result<Outcome> {
    receive(windows, Chip::E82574)
}

pub(super) fn igb_rx(windows: usize) -> anyhow::Result<Outcome> {
    receive(windows, Chip::E82576)
}

pub(super) fn e1000e_split(windows: usize) -> anyhow::Result<Outcome> {
    receive_split(windows, Chip::E82574)
}

pub(super) fn igb_split(windows: usize) -> anyhow::Result<Outcome> {
    receive_split(windows, Chip::E82576)
}

pub(super) fn e1000e_tx(windows: usize) -> anyhow::Result<Outcome> {
    transmit(windows, Chip::E82574)
}

pub(super) fn igb_tx(windows: usize) -> anyhow::Result<Outcome> {
    transmit(windows, Chip::E82576)
}
