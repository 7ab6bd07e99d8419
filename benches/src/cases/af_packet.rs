//! The kernel's packet sockets over a veth pair, one direction at a time, on one core. Who runs this has made the
//! pair in a network namespace of its own. The peers in C (`peer/af_packet.h`) measure the same:
//!
//! * sending: CPU time of this thread, which the kernel's work for it is part of, by frames sent;
//! * receiving: some bursts are sent, unmeasured; then what the calls that yield frames take;
//! * the path: both, of frames that a plain socket sends, so that the kernel's way to the receiver is in it.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use mempool::{Burst, Cpu, Pool, heap::Heap};
use pmd::{AnyRxQueue, Config, Registry, RxMemory, RxQueue, TxQueue};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    time::{ClockId, clock_gettime},
};

use super::Outcome;
use crate::{
    instructions,
    plain_socket::PlainSocket,
    window::{summarise, ticks_per_nano, tsc},
};

/// The pair: what sends, and what receives.
const NEAR: &str = "af_packet:mwb0";
const FAR: &str = "af_packet:mwb1";
/// To the far end, by the address that it is given.
const HEADER: [u8; 14] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
const BURST: usize = 32;
/// Frames that wait to be received at a time, and frames of a window.
const BACKLOG: usize = 8 * BURST;
const WINDOW: usize = 4096;
/// A frame that does not come for so long is lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bursts whose instructions are counted.
const COUNTED: usize = 8;

fn pool(name: &str) -> anyhow::Result<Pool<Cpu>> {
    Ok(Pool::builder().name(name).slots(8192).stride(2048).memory(&Heap::new()).build()?)
}

/// Sends frames of one length.
struct Sender {
    tx: Box<dyn TxQueue>,
    cache: mempool::Cache<Cpu>,
    burst: Burst<Cpu>,
    len: usize,
}

impl Sender {
    fn open(len: usize) -> anyhow::Result<Self> {
        let pool = pool("sent")?;
        let mut device = Registry::new().open(NEAR)?;
        let tx = device.start(Config::default().with_tx(&pool))?.tx.remove(0);
        // The queues outlive the control plane here: nothing is stopped before the process ends.
        std::mem::forget(device);
        Ok(Self { tx, cache: pool.cache(), burst: Burst::with_limit(&pool, BURST), len })
    }

    /// A burst of buffers, each with a header written into it; returns how many went.
    fn send(&mut self) -> usize {
        let Self { tx, cache, burst, len } = self;
        let have = burst.len();
        cache.take(burst, BURST - have);
        let len = *len;
        burst.for_each_mut(have, |mut frame| {
            frame.set_len(len);
            frame.bytes_mut()[..HEADER.len()].copy_from_slice(&HEADER);
        });
        tx.send(cache, burst)
    }
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of one run are far below 2^52")]
fn cpu_nanos() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn per(sum: f64, count: usize) -> f64 {
    sum / count as f64
}

fn send(windows: usize, len: usize) -> anyhow::Result<Outcome> {
    let mut sender = Sender::open(len)?;
    let ghz = ticks_per_nano();
    let mut window = || -> anyhow::Result<f64> {
        let (start, mut sent, before) = (Instant::now(), 0, cpu_nanos());
        while sent < WINDOW {
            sent += sender.send();
            ensure!(start.elapsed() < PATIENCE, "{NEAR} took {sent} of {WINDOW} frames");
        }
        Ok(per((cpu_nanos() - before) * ghz, sent))
    };
    window()?;
    let samples = (0..windows).map(|_| window()).collect::<anyhow::Result<_>>()?;
    let mut sent = 0;
    let count = instructions::count(|| (0..COUNTED).for_each(|_| sent += sender.send()));
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let instructions = count.map(|count| per(count as f64, sent));
    Ok(Outcome { ticks: summarise(samples), instructions, placement: None, host_bytes: None })
}

/// The far end.
struct Receiver {
    rx: Box<dyn RxQueue>,
    cache: mempool::Cache<Cpu>,
    burst: Burst<Cpu>,
}

impl Receiver {
    fn open() -> anyhow::Result<Self> {
        let pool = pool("received")?;
        let mut device = Registry::new().open(FAR)?;
        let mut queues = device.start(Config::default().with_rx(RxMemory::Whole(pool.clone())))?;
        std::mem::forget(device);
        let AnyRxQueue::Whole(rx) = queues.rx.remove(0) else {
            anyhow::bail!("not a whole-frame queue");
        };
        Ok(Self { rx, cache: pool.cache(), burst: Burst::with_limit(&pool, BURST) })
    }

    fn receive(&mut self) -> usize {
        let got = self.rx.recv(&mut self.cache, &mut self.burst);
        self.burst.recycle(&mut self.cache);
        got
    }

    /// Waits until the kernel has handed frames over. It does that in a timer's interrupt: if calls waited for it, one
    /// of them would often be charged with it.
    fn wait(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        while let Some(socket) = self.rx.arm() {
            let mut watched = [PollFd::new(&socket, PollFlags::IN)];
            if poll(&mut watched, Some(&Timespec::default()))? > 0 {
                break;
            }
            ensure!(start.elapsed() < PATIENCE, "no frame came to {FAR}");
        }
        Ok(())
    }
}

/// Sends a burst; how many went.
trait Sends {
    fn burst(&mut self) -> anyhow::Result<usize>;
}

impl Sends for Sender {
    fn burst(&mut self) -> anyhow::Result<usize> {
        Ok(self.send())
    }
}

impl Sends for PlainSocket {
    fn burst(&mut self) -> anyhow::Result<usize> {
        Ok(self.send()?)
    }
}

/// On a frame: nanoseconds of CPU that sending it took, and what the calls that received it say.
struct Spent {
    sending: f64,
    receiving: f64,
}

/// Sends a backlog and has `call` receive all of it: frames of a call, and what it spent. Calls that yield none do not
/// count, and there are frames when one is made.
fn backlog(
    sender: &mut impl Sends,
    receiver: &mut Receiver,
    mut call: impl FnMut(&mut Receiver) -> (usize, f64),
) -> anyhow::Result<Spent> {
    let (start, before, mut sent) = (Instant::now(), cpu_nanos(), 0);
    while sent < BACKLOG {
        sent += sender.burst()?;
        ensure!(start.elapsed() < PATIENCE, "{NEAR} took {sent} of {BACKLOG} frames");
    }
    let sending = per(cpu_nanos() - before, sent);
    let (mut got, mut sum) = (0, 0.0);
    while got < sent {
        receiver.wait()?;
        let (frames, spent) = call(receiver);
        if frames > 0 {
            sum += spent;
        }
        got += frames;
        ensure!(start.elapsed() < PATIENCE, "{got} of {sent} frames came to {FAR}");
    }
    Ok(Spent { sending, receiving: per(sum, got) })
}

/// A window of backlogs; per frame, what `of` takes of what each spent: sending in nanoseconds, receiving in ticks.
fn backlogs(
    sender: &mut impl Sends,
    receiver: &mut Receiver,
    of: impl Fn(Spent) -> f64,
) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for _ in 0..WINDOW / BACKLOG {
        sum += of(backlog(sender, receiver, |receiver| {
            let start = tsc();
            let got = receiver.receive();
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let ticks = (tsc() - start) as f64;
            (got, ticks)
        })?);
    }
    Ok(per(sum, WINDOW / BACKLOG))
}

/// A frame's whole way: a plain socket sends it, so that everybody's is sent alike.
fn path(windows: usize, len: usize) -> anyhow::Result<Outcome> {
    let mut receiver = Receiver::open()?;
    let mut frame = HEADER.to_vec();
    frame.resize(len, 0);
    let (near, ghz) = (NEAR.trim_start_matches("af_packet:"), ticks_per_nano());
    let mut sender = PlainSocket::open(near, frame, BURST).context(NEAR)?;
    let mut window =
        || backlogs(&mut sender, &mut receiver, |spent| spent.sending * ghz + spent.receiving);
    window()?;
    let samples = (0..windows).map(|_| window()).collect::<anyhow::Result<_>>()?;
    Ok(Outcome { ticks: summarise(samples), instructions: None, placement: None, host_bytes: None })
}

fn receive(windows: usize, len: usize) -> anyhow::Result<Outcome> {
    let mut sender = Sender::open(len)?;
    let mut receiver = Receiver::open()?;
    let mut window = || backlogs(&mut sender, &mut receiver, |spent| spent.receiving);
    window()?;
    let samples = (0..windows).map(|_| window()).collect::<anyhow::Result<_>>()?;
    let mut uncounted = false;
    let instructions = backlog(&mut sender, &mut receiver, |receiver| {
        let mut got = 0;
        let count = instructions::count(|| got = receiver.receive());
        uncounted |= count.is_none();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let count = count.unwrap_or(0) as f64;
        (got, count)
    })
    .context("counting instructions")?
    .receiving;
    let instructions = (!uncounted).then_some(instructions);
    Ok(Outcome { ticks: summarise(samples), instructions, placement: None, host_bytes: None })
}

pub(super) fn tx_64(windows: usize) -> anyhow::Result<Outcome> {
    send(windows, 64)
}

pub(super) fn tx_1500(windows: usize) -> anyhow::Result<Outcome> {
    send(windows, 1500)
}

pub(super) fn rx_64(windows: usize) -> anyhow::Result<Outcome> {
    receive(windows, 64)
}

pub(super) fn rx_1500(windows: usize) -> anyhow::Result<Outcome> {
    receive(windows, 1500)
}

pub(super) fn path_64(windows: usize) -> anyhow::Result<Outcome> {
    path(windows, 64)
}

pub(super) fn path_1500(windows: usize) -> anyhow::Result<Outcome> {
    path(windows, 1500)
}
