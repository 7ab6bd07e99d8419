//! What idling costs in latency, and what it leaves to others: one frame now and then over an
//! in-process wire, from one core to another, for each way to idle.
//!
//! ```sh
//! cargo run --release -p memwire-apps --example idle_latency
//! ```
//!
//! The sender writes the time into each frame and the receiver reads it: the figures include both
//! queues, and a clock read at either end. Each line is the best of several rounds, quantile by
//! quantile, so that what else runs on the machine matters little. `cpu` is the processor time of the
//! receiving thread; asleep it is far from all of it.

use std::{
    hint,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use mempool::{Burst, Cpu, Pool, heap::Heap};
use memwire_apps::{
    idle::{Idle, IdleMode},
    lcore,
};
use pmd::{AnyRxQueue, Config, Queues, Registry, RxMemory, RxQueue, TxQueue};
use rustix::time::{ClockId, clock_gettime};

type Failure = Box<dyn std::error::Error>;

const ROUNDS: usize = 4;
const TIME: Duration = Duration::from_millis(400);

/// What one way to idle yields.
struct Outcome {
    quantiles: [u64; 3],
    cpu: f64,
}

fn main() -> Result<(), Failure> {
    let cores = lcore::assign(None, 2)?;
    println!("{:<8}{:>8}{:>12}{:>12}{:>12}{:>8}", "idle", "frames/s", "p50", "p99", "p99.9", "cpu");
    for rate in [1_000, 10_000, 100_000] {
        for mode in [IdleMode::Spin, IdleMode::Pause, IdleMode::Sleep] {
            let mut best = Outcome { quantiles: [u64::MAX; 3], cpu: f64::MAX };
            for _ in 0..ROUNDS {
                let Outcome { quantiles, cpu } = measure(mode, rate, &cores)?;
                best.cpu = best.cpu.min(cpu);
                for (best, this) in best.quantiles.iter_mut().zip(quantiles) {
                    *best = this.min(*best);
                }
            }
            let [p50, p99, p999] = best.quantiles.map(|ns| format!("{:.2} µs", ns as f64 / 1e3));
            let name = format!("{mode:?}").to_lowercase();
            let cpu = format!("{:.0} %", best.cpu * 100.0);
            println!("{name:<8}{rate:>8}{p50:>12}{p99:>12}{p999:>12}{cpu:>8}");
        }
    }
    Ok(())
}

fn measure(mode: IdleMode, rate: u32, cores: &[usize]) -> Result<Outcome, Failure> {
    let mut registry = Registry::new();
    let mut ends = [registry.open("ring:idle,size=64")?, registry.open("ring:idle,size=64")?];
    let pool: Pool<Cpu> = Pool::builder().name("idle").slots(1024).memory(&Heap::new()).build()?;
    let config = Config::default().with_rx(RxMemory::Whole(pool.clone()));
    let rx = ends[0].start(config)?.rx.remove(0);
    let mut rx = AnyRxQueue::whole(rx).ok_or("the wire splits")?;
    let mut tx = ends[1].start(Config::default().with_tx(&pool))?.tx.remove(0);
    let (base, over) = (Instant::now(), AtomicBool::new(false));
    let (histogram, cpu) = thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            lcore::pin(cores[0]).map_err(|error| error.to_string())?;
            receive(&mut *rx, &pool, mode, base, &over).map_err(|error| error.to_string())
        });
        // On a thread of its own: one that is pinned passes that on to those it starts.
        let sending = scope.spawn(|| {
            lcore::pin(cores[1]).map_err(|error| error.to_string())?;
            send(&mut *tx, &pool, rate, base);
            Ok::<_, String>(())
        });
        let sent = sending.join().map_err(|_| "the sender panicked");
        over.store(true, Ordering::Relaxed);
        let received = receiving.join().map_err(|_| "the receiver panicked")??;
        sent??;
        Ok::<_, Failure>(received)
    })?;
    ends[1].stop(Queues { rx: Vec::new(), tx: vec![tx] })?;
    ends[0].stop(Queues { rx: vec![AnyRxQueue::Whole(rx)], tx: Vec::new() })?;
    let quantiles = [0.5, 0.99, 0.999].map(|of| histogram.value_at_quantile(of));
    Ok(Outcome { quantiles, cpu })
}

/// Sends a frame with the time in it, evenly paced.
fn send(tx: &mut dyn TxQueue, pool: &Pool<Cpu>, rate: u32, base: Instant) {
    let (mut cache, mut burst) = (pool.cache(), Burst::new(pool));
    let (gap, end) = (Duration::from_secs(1) / rate, base.elapsed() + TIME);
    let mut due = base.elapsed() + gap;
    while due < end {
        while base.elapsed() < due {
            hint::spin_loop();
        }
        if cache.take(&mut burst, 1) == 1 {
            let mut frame = burst.frame_mut(0);
            frame.set_len(64);
            frame.bytes_mut()[16..24].copy_from_slice(&nanos(base).to_le_bytes());
            tx.send(&mut cache, &mut burst);
            burst.recycle(&mut cache);
        }
        tx.reap(&mut cache);
        due += gap;
    }
}

/// Receives as a worker does; returns the latencies and the share of time on the processor.
fn receive(
    rx: &mut dyn RxQueue,
    pool: &Pool<Cpu>,
    mode: IdleMode,
    base: Instant,
    over: &AtomicBool,
) -> Result<(Histogram<u64>, f64), Failure> {
    let (mut cache, mut burst) = (pool.cache(), Burst::new(pool));
    let mut idle = Idle::new(mode);
    let mut histogram = Histogram::new_with_bounds(1, 10_000_000_000, 3)?;
    let (began, busy) = (Instant::now(), cpu_time());
    while !over.load(Ordering::Relaxed) {
        let got = rx.recv(&mut cache, &mut burst);
        let now = nanos(base);
        for at in 0..got {
            let stamp = burst.frame(at).bytes()[16..24].try_into()?;
            histogram.saturating_record(now.saturating_sub(u64::from_le_bytes(stamp)));
        }
        burst.recycle(&mut cache);
        idle.round(got);
    }
    let busy = cpu_time().saturating_sub(busy);
    Ok((histogram, busy.as_secs_f64() / began.elapsed().as_secs_f64()))
}

fn nanos(base: Instant) -> u64 {
    u64::try_from(base.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Processor time of this thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
