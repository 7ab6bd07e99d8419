//! Chaos that lasts or ends something: stalls, links that go down, queues that fail, ports that stop
//! meanwhile; and plans that are refused.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use mempool::{Burst, Cpu, Pool};
use pmd::{
    AnyRxQueue, DropReason, Health, PostOrder, Queues, RxMemory, RxQueue, SplitAt, SplitConfig,
};

use crate::rig::{Ends, device_pool, ends, pool};

/// One queue of `null` behind a plan.
fn null_rx(plan: &str) -> (Box<dyn pmd::Device>, Pool<Cpu>, Box<dyn RxQueue>) {
    let pool = pool(1024);
    let mut device = pmd::Registry::new().open(&format!("chaos:{plan}@null:")).unwrap();
    let config = pmd::Config::default().with_rx(RxMemory::Whole(pool.clone()));
    let queue = device.start(config).unwrap().rx.remove(0).whole().unwrap();
    (device, pool, queue)
}

#[test]
fn a_stalled_receiver_yields_nothing_for_so_many_polls_or_so_long() {
    let (device, pool, mut queue) = null_rx("rx.stall#10,rx.stall.for=5,rx.stall#40");
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    let mut polls = Vec::new();
    for _ in 0..16 {
        polls.push(queue.recv(&mut cache, &mut burst));
        burst.recycle(&mut cache);
    }
    assert_eq!(polls, [10, 0, 0, 0, 0, 0, 22, 8, 0, 0, 0, 0, 0, 24, 32, 32]);
    assert_eq!(
        device.stats().2,
        [("chaos_rx_stall".into(), 2), ("chaos_rx_undelivered".into(), 0)]
    );
    let (_device, pool, mut queue) = null_rx("rx.stall#1,rx.stall.for=20ms");
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    assert_eq!(queue.recv(&mut cache, &mut burst), 1);
    let start = Instant::now();
    while queue.recv(&mut cache, &mut burst) == 0 {}
    assert!(start.elapsed().as_millis() >= 20);
}

#[test]
fn a_stalled_sender_takes_nothing_and_then_goes_on() {
    let (pool, plan) = (pool(256), "tx.stall#4,tx.stall.for=3");
    let spec = format!("chaos:{plan}@ring:a");
    let mut ends = ends(&spec, "ring:a", &pool, RxMemory::Whole(pool.clone()));
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    cache.take(&mut burst, 10);
    let sent: Vec<_> = (0..5).map(|_| ends.tx.tx[0].send(&mut cache, &mut burst)).collect();
    assert_eq!(sent, [4, 0, 0, 0, 6]);
    ends.stop();
}

#[test]
fn a_link_that_is_down_loses_frames_and_comes_back() {
    let (device, pool, mut queue) = null_rx("rx.down#33..64");
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    let mut seen = Vec::new();
    for _ in 0..3 {
        let got = queue.recv(&mut cache, &mut burst);
        seen.push((got, device.link().is_up));
        burst.recycle(&mut cache);
    }
    assert_eq!(seen, [(32, true), (0, false), (32, true)]);
    let (rx, _, counts) = device.stats();
    assert_eq!(rx.drops.of(DropReason::LinkDown), 32);
    assert_eq!(counts[0], ("chaos_rx_down".into(), 32));
}

#[test]
fn a_queue_that_fails_yields_nothing_more_and_the_port_says_so() {
    let (mut device, pool, mut queue) = null_rx("seed=9,rx.fault#50");
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    let got: usize =
        (0..10).map(|_| (queue.recv(&mut cache, &mut burst), burst.recycle(&mut cache)).0).sum();
    assert_eq!(got, 49);
    let Health::Faulted(why) = device.health() else { panic!("the queue has failed") };
    assert_eq!(why, "injected fault: rx queue 0 at frame 50 (chaos 'seed=9,rx.fault#50')");
    device.stop(Queues { rx: vec![AnyRxQueue::Whole(queue)], tx: vec![] }).unwrap();
    // 64 frames had come; what was not handed over is counted, and its buffers are home.
    let (rx, _, counts) = device.stats();
    assert_eq!(counts[1], ("chaos_rx_undelivered".into(), 15));
    assert_eq!((rx.delivered, rx.drops.of(DropReason::Injected)), (49, 15));
    assert!(pool.audit().is_home());
    // Started anew, it begins anew.
    let config = pmd::Config::default().with_rx(RxMemory::Whole(pool.clone()));
    let _queues = device.start(config).unwrap();
    assert_eq!(device.health(), Health::Good);
}

#[test]
fn a_sender_that_fails_takes_nothing_more() {
    let pool = pool(256);
    let spec = "chaos:tx.fault#5,tx.reorder#4@ring:a";
    let mut ends = ends(spec, "ring:a", &pool, RxMemory::Whole(pool.clone()));
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    cache.take(&mut burst, 4);
    assert_eq!(ends.tx.tx[0].send(&mut cache, &mut burst), 4);
    assert_eq!((ends.sender.health(), ends.tx.tx[0].in_flight()), (Health::Good, 1));
    cache.take(&mut burst, 10);
    let sent: Vec<_> = (0..3).map(|_| ends.tx.tx[0].send(&mut cache, &mut burst)).collect();
    assert_eq!(sent, [0, 0, 0]);
    assert_eq!(ends.tx.tx[0].in_flight(), 0, "nothing that an app should wait for");
    let Health::Faulted(why) = ends.sender.health() else { panic!("the queue has failed") };
    assert!(why.contains("injected fault: tx queue 0 at frame 5"), "{why}");
    ends.stop();
    // The fourth frame was held back, and never sent.
    let (_, tx, counts) = ends.sender.stats();
    assert_eq!((tx.offered, tx.delivered, tx.drops.of(DropReason::Injected)), (4, 3, 1));
    assert!(counts.contains(&("chaos_tx_undelivered".into(), 1)), "{counts:?}");
    drop((burst, cache, ends));
    assert!(pool.audit().is_home(), "{}", pool.audit());
}

#[test]
fn frames_held_when_a_port_stops_are_home_and_counted() {
    // Sending: held and staged frames are sent first.
    let pool = pool(256);
    let mut ends = ends(
        "chaos:tx.reorder#5@ring:a",
        "chaos:rx.reorder#3@ring:a",
        &pool,
        RxMemory::Whole(pool.clone()),
    );
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    cache.take(&mut burst, 5);
    assert_eq!(ends.tx.tx[0].send(&mut cache, &mut burst), 5);
    assert_eq!(ends.tx.tx[0].in_flight(), 1);
    ends.sender.stop(std::mem::take(&mut ends.tx)).unwrap();
    let mut got = Burst::with_limit(&pool, 2);
    assert_eq!(ends.whole().recv(&mut cache, &mut got), 2);
    assert_eq!(ends.receiver.health(), Health::Good, "three frames are still to come");
    ends.receiver.stop(std::mem::take(&mut ends.rx)).unwrap();
    drop((got, cache, burst));
    // On the wire or held: nothing of it stays behind once the wire is gone.
    drop(ends);
    assert!(pool.audit().is_home(), "{}", pool.audit());
}

#[test]
fn a_port_has_not_ended_while_the_wrapper_holds_a_frame() {
    let pool = pool(1024);
    for round in 0..30 {
        let plan = "rx.reorder=20%,rx.stall=5%,rx.stall.for=3,rx.reorder.wait=1ms,rx.stall#99";
        let spec = &format!("chaos:seed={round},{plan}@ring:a,size=16");
        let Ends { mut sender, mut receiver, mut tx, mut rx } =
            ends("ring:a,size=16", spec, &pool, RxMemory::Whole(pool.clone()));
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), pool.clone());
        let watched = Arc::clone(&stop);
        let worker = std::thread::spawn(move || {
            let mut queue = rx.rx.remove(0).whole().unwrap();
            let (mut cache, mut burst) = (asked.cache(), Burst::with_limit(&asked, 3));
            let (mut got, mut polls) = (0, 0u64);
            while !watched.load(Ordering::Relaxed) {
                let more = queue.recv(&mut cache, &mut burst);
                burst.recycle(&mut cache);
                got += more;
                polls += 1;
                if more == 0 && polls % 64 == 0 {
                    std::thread::yield_now();
                }
            }
            (queue, got)
        });
        let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
        let (mut sent, deadline) = (0, Instant::now() + Duration::from_secs(20));
        while sent < 100 && Instant::now() < deadline {
            let want = (100 - sent).min(burst.room());
            cache.take(&mut burst, want);
            sent += tx.tx[0].send(&mut cache, &mut burst);
            burst.recycle(&mut cache);
            std::thread::yield_now();
        }
        sender.stop(tx).unwrap();
        while receiver.health() == Health::Good && Instant::now() < deadline {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        let (queue, got) = worker.join().unwrap();
        assert_eq!((sent, got), (100, 100), "round {round}");
        receiver.stop(Queues { rx: vec![AnyRxQueue::Whole(queue)], tx: vec![] }).unwrap();
    }
}

#[test]
fn a_copy_for_buffers_that_the_app_posts_is_refused_by_name() {
    let (heads, data) = (pool(64), device_pool(64));
    let split = SplitConfig { heads, data, at: SplitAt::Length(64), post: PostOrder::App };
    let config = pmd::Config::default().with_rx(RxMemory::Split(split));
    let mut device = pmd::Registry::new().open("chaos:dup=1%@ring:a").unwrap();
    let error = device.start(config).err().expect("refused").to_string();
    assert!(error.contains("port 'chaos:dup=1%@ring:a': rx.dup: the app posts"), "{error}");
    assert!(error.contains("put tx.dup at the sending end"), "{error}");
}

#[test]
fn a_plan_that_cannot_be_read_opens_nothing() {
    let mut registry = pmd::Registry::new();
    let error = registry.open("chaos:seed=1,rx.drpo=1%@null:a").err().expect("refused");
    assert!(error.is_usage());
    let text = error.to_string();
    assert!(
        text.starts_with("port 'chaos:seed=1,rx.drpo=1%@null:a': 'rx.drpo=1%': no such fault"),
        "{text}"
    );
    assert!(text.contains("did you mean 'drop'?"), "{text}");
    assert!(registry.open("null:a").is_ok());
    let port = registry.open("chaos:rx.drop=1%@null:b").unwrap();
    assert_eq!(port.info().port, "chaos:seed=1,rx.drop=1%@null:b", "the seed is told");
}
