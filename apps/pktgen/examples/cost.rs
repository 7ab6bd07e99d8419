//! What making and sending a frame costs, in nanoseconds: the least of many short runs, so that a busy
//! machine shows less. `cargo run --release -p pktgen --example cost`

use std::time::{Duration, Instant};

use mempool::{Burst, Cpu, Pool, heap::Heap};
use memwire_apps::traffic::{Clock, Flows, Generator, HeaderChoice, Source, Template, Traffic};
use pmd::{AnyRxQueue, Config, Registry};

/// Polls of one run.
const POLLS: u32 = 1000;
const RUNS: usize = 3000;

fn pool() -> Pool<Cpu> {
    let pool = Pool::builder().name("source").slots(4096).stride(2048);
    pool.memory(&Heap::new()).build().expect("a pool")
}

/// Least nanoseconds per frame of making and sending `traffic` on `null`.
fn sent(traffic: &Traffic, burst: usize) -> f64 {
    let (pool, mut port) = (pool(), Registry::new().open("null:").expect("a port"));
    let mut queues = port.start(Config::default().with_tx(&pool)).expect("queues");
    let generator = Generator::new(&pool, traffic, 0, 1).expect("a template");
    let mut source = Source::of(queues.tx.remove(0), &pool, generator, burst, Clock::start());
    let mut least = Duration::MAX;
    for _ in 0..RUNS {
        let start = Instant::now();
        (0..POLLS).for_each(|_| assert_eq!(source.poll(), burst));
        least = least.min(start.elapsed());
    }
    least.as_nanos() as f64 / f64::from(POLLS) / burst as f64
}

/// Least nanoseconds per frame of making and sending over a wire: the sender's alone, and with a
/// receiver that copies every frame out, on the same core.
fn wired(traffic: &Traffic, burst: usize) -> (f64, f64) {
    let (pool, sink, mut ports) = (pool(), pool(), Registry::new());
    let mut open = || ports.open("ring:cost").expect("a port");
    let (mut near, mut far) = (open(), open());
    let mut queues = near.start(Config::default().with_tx(&pool)).expect("queues");
    let mut others = far.start(Config::one_queue(&sink)).expect("queues");
    let AnyRxQueue::Whole(rx) = &mut others.rx[0] else { unreachable!("asked for whole frames") };
    let generator = Generator::new(&pool, traffic, 0, 1).expect("a template");
    let mut source = Source::of(queues.tx.remove(0), &pool, generator, burst, Clock::start());
    let (mut cache, mut frames) = (sink.cache(), Burst::with_limit(&sink, burst));
    let (mut sending, mut all) = (Duration::MAX, Duration::MAX);
    const POLLS: u32 = 8;
    for _ in 0..RUNS * 10 {
        let start = Instant::now();
        (0..POLLS).for_each(|_| assert_eq!(source.poll(), burst));
        sending = sending.min(start.elapsed());
        (0..POLLS).for_each(|_| {
            assert_eq!(rx.recv(&mut cache, &mut frames), burst);
            frames.recycle(&mut cache);
        });
        all = all.min(start.elapsed());
    }
    let each = |time: Duration| time.as_nanos() as f64 / f64::from(POLLS) / burst as f64;
    (each(sending), each(all))
}

/// Least nanoseconds per frame of making alone.
fn made(traffic: &Traffic, burst: usize) -> f64 {
    let pool = pool();
    let mut generator = Generator::new(&pool, traffic, 0, 1).expect("a template");
    let (mut cache, mut frames) = (pool.cache(), Burst::with_limit(&pool, burst));
    let mut least = Duration::MAX;
    for _ in 0..RUNS {
        let start = Instant::now();
        for now_ns in 0..u64::from(POLLS) {
            generator.fill(&mut cache, &mut frames, burst, now_ns);
            frames.recycle(&mut cache);
        }
        least = least.min(start.elapsed());
    }
    least.as_nanos() as f64 / f64::from(POLLS) / burst as f64
}

fn main() {
    let template = Template { header: HeaderChoice::Auto, ..Template::default() };
    let of = |size: &str| {
        let sizes = Some(size.parse().expect("sizes"));
        Traffic { template, sizes, ..Traffic::default() }
    };
    let flows = Flows { count: 1000, ..Flows::default() };
    let summed = Template { checksum: true, ..template };
    for (name, traffic) in [
        ("64 B, sequence", of("64")),
        ("1024 B, sequence, CRC kept, timestamp", of("1024")),
        ("64 B, 1000 flows", Traffic { flows: flows.clone(), ..of("64") }),
        ("imix, 1000 flows", Traffic { flows, ..of("imix") }),
        ("64 B, UDP checksum", Traffic { template: summed, ..of("64") }),
        ("1024 B, fresh payload, CRC, timestamp", Traffic { fresh: true, ..of("1024") }),
    ] {
        for burst in [32, 64] {
            let (all, making) = (sent(&traffic, burst), made(&traffic, burst));
            let (wire, both) = wired(&traffic, burst);
            println!(
                "{name:<38} burst {burst}: {making:5.2} ns made, {all:5.2} with null, {wire:5.2} with \
                 ring, {both:6.2} and received"
            );
        }
    }
}
