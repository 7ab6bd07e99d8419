//! Injected == observed, by kind, exactly: over any plan, direction, kind of queue and burst size.

use mempool::{Burst, Cpu, Device as DeviceMemory, DeviceView, Pool, SplitBurst, SplitCache};
use pmd::{
    AnyRxQueue, Bounce, DropReason, Health, PostOrder, RxMemory, SplitAt, SplitConfig, SplitRxQueue,
};
use proptest::prelude::*;

use crate::{
    observer::{HEADERS, Injected, Observer, make},
    rig::{Ends, device_pool, ends, pool},
};

/// How frames are received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    OnePool,
    TwoPools,
    /// Sent as shared buffers.
    Shared,
    Split,
    /// Payload buffers are posted by the app.
    Posted,
    /// Split in software, around the wrapped queue.
    Bounced,
}

/// A run to make.
#[derive(Clone, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) sender: &'a str,
    pub(crate) receiver: &'a str,
    pub(crate) way: Way,
    pub(crate) frames: u64,
    pub(crate) len: usize,
    pub(crate) segment: usize,
    pub(crate) burst: usize,
}

impl<'a> Run<'a> {
    pub(crate) fn new(sender: &'a str, receiver: &'a str) -> Self {
        let (way, frames, len, segment, burst) = (Way::TwoPools, 3000, 200, 2048, 32);
        Self { sender, receiver, way, frames, len, segment, burst }
    }
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) seen: Observer,
    pub(crate) rx: Injected,
    pub(crate) tx: Injected,
    pub(crate) sent: u64,
    pub(crate) stats: [pmd::QueueStats; 2],
}

enum Receiver {
    Whole(mempool::Cache<Cpu>, Box<Burst<Cpu>>),
    Split(Box<dyn SplitRxQueue>, DeviceView, SplitCache, Box<SplitBurst>, Pool<DeviceMemory>),
}

impl Receiver {
    fn poll(&mut self, ends: &mut Ends, order: PostOrder, seen: &mut Observer) -> usize {
        match self {
            Self::Whole(cache, burst) => {
                let got = ends.whole().recv(cache, burst);
                seen.burst(burst);
                burst.recycle(cache);
                got
            }
            Self::Split(queue, view, cache, burst, data) => {
                if order == PostOrder::App {
                    // The app has all there are, and posts all it has.
                    let mut posts = Burst::with_limit(data, 64);
                    while cache.data.take(&mut posts, 64) > 0 && queue.post(&mut posts) > 0 {}
                    posts.recycle(&mut cache.data);
                }
                let got = queue.recv(cache, burst);
                burst.iter().for_each(|frame| seen.split(frame, view));
                burst.recycle(cache);
                got
            }
        }
    }
}

/// Sends numbered frames and observes what comes; checks that all of it is accounted for.
pub(crate) fn run(run: &Run<'_>) -> Outcome {
    let (tx_pool, rx_pool, data) = (pool(4096), pool(4096), device_pool(1024));
    let order = if run.way == Way::Posted { PostOrder::App } else { PostOrder::Cache };
    let at = SplitAt::Protocol { extra: 24 };
    let config = SplitConfig { heads: rx_pool.clone(), data: data.clone(), at, post: order };
    let memory = match run.way {
        Way::OnePool => RxMemory::Whole(tx_pool.clone()),
        Way::TwoPools | Way::Shared | Way::Bounced => RxMemory::Whole(rx_pool.clone()),
        Way::Split | Way::Posted => RxMemory::Split(config.clone()),
    };
    let mut ends = ends(run.sender, run.receiver, &tx_pool, memory);
    let rx_home = if run.way == Way::OnePool { &tx_pool } else { &rx_pool };
    let split = |queue| {
        let burst = SplitBurst::with_limit(&rx_pool, &data, run.burst);
        let cache = SplitCache::new(&rx_pool, &data);
        Receiver::Split(queue, DeviceView::new(&data), cache, Box::new(burst), data.clone())
    };
    let mut receiver = match run.way {
        Way::Split | Way::Posted => split(ends.rx.rx.remove(0).split().unwrap()),
        Way::Bounced => {
            let inner = ends.rx.rx.remove(0).whole().unwrap();
            split(Box::new(Bounce::new(inner, config, 256).unwrap()))
        }
        _ => Receiver::Whole(rx_home.cache(), Box::new(Burst::with_limit(rx_home, run.burst))),
    };
    let (mut cache, mut burst) = (tx_pool.cache(), Burst::with_limit(&tx_pool, run.burst));
    let mut shared = Burst::of_shared(&tx_pool);
    shared.set_limit(run.burst);
    let (mut next, mut seen) = (0, Observer::default());
    while next < run.frames || !burst.is_empty() || !shared.is_empty() {
        let to = (next + run.burst as u64).min(run.frames);
        next = make(&mut burst, &mut cache, (next, to), run.len, run.segment);
        if run.way == Way::Shared {
            shared.share_from(&mut burst).unwrap();
            ends.tx.tx[0].send_shared(&mut cache, &mut shared);
        } else {
            ends.tx.tx[0].send(&mut cache, &mut burst);
        }
        receiver.poll(&mut ends, order, &mut seen);
        if matches!(ends.sender.health(), Health::Faulted(_)) {
            break;
        }
    }
    let sent = next - (burst.len() + shared.len()) as u64;
    burst.recycle(&mut cache);
    shared.release(&mut cache);
    // As every app does: what the queue has taken goes out before it is stopped.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
    let has_failed = matches!(ends.sender.health(), Health::Faulted(_));
    while ends.tx.tx[0].in_flight() > 0 && !has_failed && std::time::Instant::now() < deadline {
        ends.tx.tx[0].reap(&mut cache);
        receiver.poll(&mut ends, order, &mut seen);
    }
    ends.sender.stop(std::mem::take(&mut ends.tx)).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
    while ends.receiver.health() == Health::Good && std::time::Instant::now() < deadline {
        receiver.poll(&mut ends, order, &mut seen);
    }
    match receiver {
        Receiver::Split(queue, _, cache, burst, _) => {
            drop((cache, burst));
            ends.rx.rx.push(AnyRxQueue::Split(queue));
        }
        Receiver::Whole(cache, burst) => drop((cache, burst)),
    }
    ends.receiver.stop(std::mem::take(&mut ends.rx)).unwrap();
    let (rx, tx) = (Injected::of(&*ends.receiver, "rx"), Injected::of(&*ends.sender, "tx"));
    let stats = [ends.receiver.stats().0, ends.sender.stats().1];
    drop((cache, burst, shared, ends));
    for audit in [tx_pool.audit(), rx_pool.audit(), data.audit()] {
        assert!(audit.is_home(), "{audit}");
    }
    Outcome { seen, rx, tx, sent, stats }
}

impl Outcome {
    /// What the port says against what the receiver saw.
    pub(crate) fn check(&self, injected: &Injected) {
        let Self { seen, sent, stats: [rx, tx], .. } = self;
        for (kind, observed) in [
            ("dup", seen.dup),
            ("reorder", seen.reorder),
            ("flip", seen.flip),
            ("truncate", seen.truncate),
        ] {
            assert_eq!(injected.kind(kind), observed, "{kind}: injected, observed");
        }
        assert!(rx.is_balanced() && tx.is_balanced());
        assert_eq!(seen.missing(*sent), injected.lost(), "missing, lost: {rx:?} {tx:?}");
        assert_eq!(rx.delivered, seen.frames);
        assert_eq!(rx.bytes, seen.bytes);
        // What the sender's user gave and what the wrapper added is what was sent or dropped …
        assert_eq!(tx.offered, sent + self.tx.kind("dup"));
        // … and what was sent, and what the receiver's wrapper added, came or was dropped.
        assert_eq!(rx.offered, tx.delivered + self.rx.kind("dup"));
    }
}

#[test]
fn every_kind_is_seen_as_what_it_is_on_every_way() {
    let plan = "drop=2%,reorder=3%,flip=2%,truncate=2%,exhaust=1%,exhaust.for=3,seed=5";
    for way in [Way::OnePool, Way::TwoPools, Way::Shared, Way::Split, Way::Posted, Way::Bounced] {
        for direction in ["rx", "tx"] {
            // The app that posts has no buffer for a copy: the sender copies.
            let dup = if way == Way::Posted { "" } else { ",rx.dup=2%" };
            let dup = if direction == "tx" { ",tx.dup=2%" } else { dup };
            let side = |item: &str| format!("{direction}.{item}");
            let items = plan.split(',').filter(|item| direction == "rx" || !item.starts_with("ex"));
            let items: Vec<_> = items
                .map(|item| if item.starts_with("seed") { item.into() } else { side(item) })
                .collect();
            let spec = format!("chaos:{}{dup}@ring:a,size=64", items.join(","));
            let (sender, receiver) = if direction == "tx" {
                (&*spec, "ring:a,size=64")
            } else {
                ("ring:a,size=64", &*spec)
            };
            let outcome = run(&Run { way, ..Run::new(sender, receiver) });
            let injected = if direction == "tx" { &outcome.tx } else { &outcome.rx };
            outcome.check(injected);
            assert_eq!(outcome.sent, 3000);
            for kind in ["drop", "reorder", "flip", "truncate"] {
                let count = injected.kind(kind);
                assert!((20..150).contains(&count), "{way:?} {direction} {kind}: {count}");
            }
            let [rx, _] = outcome.stats;
            assert_eq!(rx.drops.of(DropReason::NoBuffer), outcome.rx.kind("exhaust"));
        }
    }
}

#[test]
fn faults_of_two_directions_do_not_mix() {
    let sender = "chaos:seed=3,tx.drop=2%,tx.reorder=2%@ring:a";
    let receiver = "chaos:seed=4,rx.flip=3%,rx.truncate=3%@ring:a";
    let outcome = run(&Run::new(sender, receiver));
    let Outcome { seen, rx, tx, .. } = &outcome;
    assert_eq!(seen.missing(outcome.sent), tx.kind("drop"));
    assert_eq!((seen.flip, seen.truncate), (rx.kind("flip"), rx.kind("truncate")));
    assert!(seen.flip > 50 && seen.truncate > 50 && tx.kind("drop") > 30);
}

#[test]
fn the_same_plan_on_the_same_traffic_does_the_same_and_another_seed_something_else() {
    let plan =
        |seed| format!("chaos:seed={seed},drop=3%,dup=3%,reorder=3%,flip=3%,truncate=3%@ring:a");
    let trace =
        |way, spec: &str| run(&Run { way, frames: 2000, ..Run::new("ring:a", spec) }).seen.trace;
    for way in [Way::TwoPools, Way::Split] {
        let first = trace(way, &plan(7));
        assert_eq!(first, trace(way, &plan(7)), "{way:?}");
        assert_ne!(first, trace(way, &plan(8)), "{way:?}");
    }
    // A port is named by the plan that does it again.
    let port = pmd::Registry::new().open(&plan(7)).unwrap().info().port.clone();
    assert_eq!(trace(Way::TwoPools, &plan(7)), trace(Way::TwoPools, &port), "{port}");
    // Where a frame is split makes no difference to its fate.
    assert_eq!(trace(Way::TwoPools, &plan(7)), trace(Way::Split, &plan(7)));
    let trace = |spec: &str| run(&Run::new(spec, "ring:a")).seen.trace;
    assert_eq!(trace(&plan(7)), trace(&plan(7)));
}

#[test]
fn placed_faults_hit_their_frames_and_no_others() {
    let spec =
        "chaos:rx.drop#10,rx.drop#20..24,rx.dup#30,rx.flip#40,rx.truncate#50,rx.reorder#60@ring:a";
    let outcome = run(&Run::new("ring:a", spec));
    outcome.check(&outcome.rx);
    let seen = &outcome.seen;
    assert_eq!(seen.missing(outcome.sent), 6);
    assert_eq!((seen.dup, seen.flip, seen.truncate, seen.reorder), (1, 1, 1, 1));
}

#[test]
fn frames_too_short_to_be_harmed_pass_and_do_not_count() {
    for way in [Way::TwoPools, Way::Split, Way::Shared] {
        let run = Run {
            way,
            len: HEADERS,
            frames: 500,
            ..Run::new("ring:a", "chaos:rx.flip=50%,rx.truncate=50%@ring:a")
        };
        let outcome = self::run(&run);
        outcome.check(&outcome.rx);
        assert_eq!((outcome.seen.frames, outcome.rx.kind("flip")), (500, 0));
    }
}

#[test]
fn a_frame_that_nobody_overtakes_passes_when_its_time_is_up() {
    for (sender, receiver) in [
        ("ring:a", "chaos:rx.reorder#3,rx.reorder.wait=1ms@ring:a"),
        ("chaos:tx.reorder#3,tx.reorder.wait=1ms@ring:a", "ring:a"),
    ] {
        let outcome = run(&Run { frames: 3, ..Run::new(sender, receiver) });
        outcome.check(if sender == "ring:a" { &outcome.rx } else { &outcome.tx });
        assert_eq!((outcome.seen.frames, outcome.seen.reorder), (3, 0));
    }
}

/// Plans to try: more in the long form.
fn cases() -> u32 {
    if std::env::var_os("MEMWIRE_FULL").is_some() { 3000 } else { 50 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn injected_is_observed_whatever_the_plan_and_the_traffic(
        seed in any::<u64>(),
        shares in proptest::collection::vec(proptest::sample::select(vec!["0", "1/300", "2%", "10%"]), 7),
        runs in 1..5u32,
        is_tx in any::<bool>(),
        way in proptest::sample::select(vec![Way::OnePool, Way::TwoPools, Way::Shared, Way::Split, Way::Posted, Way::Bounced]),
        len in HEADERS..1400,
        segments in 1..5usize,
        burst in 1..80usize,
        ring in proptest::sample::select(vec![2usize, 16, 256]),
    ) {
        let direction = if is_tx { "tx" } else { "rx" };
        let mut plan = format!("seed={seed},{direction}.stall.for=3,{direction}.drop.for={runs}");
        for (kind, share) in ["drop", "reorder", "flip", "truncate", "stall", "dup", "exhaust"].iter().zip(shares) {
            let refused = (*kind == "dup" && way == Way::Posted && !is_tx) || (*kind == "exhaust" && is_tx);
            if !refused {
                plan += &format!(",{direction}.{kind}={share}");
            }
        }
        let (chaos, plain) = (format!("chaos:{plan}@ring:a,size={ring}"), format!("ring:a,size={ring}"));
        let (sender, receiver) = if is_tx { (&chaos, &plain) } else { (&plain, &chaos) };
        // Split payloads of several segments are chains only where the queue posts them itself.
        let segment = if way == Way::Bounced { 2048 } else { len.div_ceil(segments).max(HEADERS) };
        let outcome = run(&Run { sender, receiver, way, frames: 600, len, segment, burst });
        let injected = if is_tx { &outcome.tx } else { &outcome.rx };
        outcome.check(injected);
        prop_assert_eq!(injected.kind("undelivered"), 0);
    }
}
