//! Ports that come, go and come again; whose the buffers are meanwhile.

use mempool::Burst;
use pmd::{AnyRxQueue, Config, Health, Queues};

use crate::rig::{Rig, becomes, open, pool};

#[test]
fn null_delivers_out_of_our_own_slots_and_all_of_them_come_home() {
    let mut rig = Rig::start("net_null0,size=100", 1024);
    let mut burst = Burst::new(&rig.pool);
    for _ in 0..500 {
        assert_eq!(rig.rx.recv(&mut rig.cache, &mut burst), 32);
        assert!(burst.iter().all(|frame| frame.len() == 100));
        assert_eq!(rig.tx.send(&mut rig.cache, &mut burst), 32);
    }
    assert_eq!(rig.rx.counters().snapshot().bytes, 500 * 3200);
    assert_eq!(rig.tx.counters().snapshot().bytes, 500 * 3200);
    let (rx, tx, named) = rig.device.stats();
    assert_eq!((rx.delivered, tx.delivered), (16_000, 16_000));
    assert!(named.iter().any(|(name, _)| name == "pool_exhausted"), "{named:?}");
    let audit = rig.stop().audit();
    assert!(audit.is_home(), "{audit}");
}

#[test]
fn a_frame_that_was_sent_over_a_ring_is_received_in_the_same_slot() {
    let mut rig = Rig::start("net_ring10", 256);
    let mut sent = rig.frames(20, 60);
    let slots: Vec<_> = sent.iter().map(|frame| (frame.slot(), frame.bytes().as_ptr())).collect();
    assert_eq!(rig.tx.send(&mut rig.cache, &mut sent), 20);
    let audit = rig.pool.audit();
    assert_eq!((audit.in_flight, audit.held), (20, 0), "{audit}");
    let mut burst = Burst::new(&rig.pool);
    assert_eq!(rig.rx.recv(&mut rig.cache, &mut burst), 20);
    let back: Vec<_> = burst.iter().map(|frame| (frame.slot(), frame.bytes().as_ptr())).collect();
    assert_eq!(back, slots, "nothing was copied");
    burst.recycle(&mut rig.cache);
    let audit = rig.stop().audit();
    assert!(audit.is_home(), "{audit}");
}

#[test]
fn frames_that_lie_in_a_ring_when_the_port_stops_come_home_and_it_starts_again() {
    let (mut device, pool) = (open("net_ring11").unwrap(), pool(512));
    for round in 0..3 {
        let mut queues =
            device.start(Config::one_queue(&pool)).unwrap_or_else(|error| panic!("{error}"));
        let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
        cache.take(&mut burst, 32);
        burst.for_each_mut(0, |mut frame| assert!(frame.append(&[round; 64])));
        assert_eq!(queues.tx[0].send(&mut cache, &mut burst), 32);
        drop(cache);
        device.stop(queues).unwrap();
        let audit = pool.audit();
        assert!(audit.is_home(), "round {round}: {audit}");
    }
}

#[test]
fn a_port_that_only_sends_starts_again_too() {
    let (mut device, pool) = (open("net_ring12").unwrap(), pool(512));
    for _ in 0..3 {
        let queues =
            device.start(Config::default().with_tx(&pool)).unwrap_or_else(|e| panic!("{e}"));
        device.stop(queues).unwrap();
    }
}

#[test]
fn a_queue_that_stays_with_its_worker_keeps_the_port_running() {
    let (mut device, pool) = (open("net_ring13").unwrap(), pool(256));
    let Queues { mut rx, tx } = device.start(Config::one_queue(&pool)).unwrap();
    let AnyRxQueue::Whole(mut rx) = rx.remove(0) else { unreachable!("whole frames") };
    let error = device.stop(Queues { rx: Vec::new(), tx }).unwrap_err().to_string();
    assert!(error.contains("a queue is still with a worker"), "{error}");
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    assert_eq!(rx.recv(&mut cache, &mut burst), 0);
    assert_eq!(device.health(), Health::Good);
    drop(rx);
    device.stop(Queues::default()).unwrap();
    drop(cache);
    assert!(pool.audit().is_home());
}

#[test]
fn a_pool_that_runs_dry_starves_the_driver_and_recovers() {
    let mut rig = Rig::start("net_null1,size=64", 64);
    let mut hoard = Vec::new();
    let mut burst = Burst::new(&rig.pool);
    for _ in 0..20 {
        let got = rig.rx.recv(&mut rig.cache, &mut burst);
        hoard.extend(burst.drain_front(got));
    }
    assert!(hoard.len() <= 64 && hoard.len() >= 32, "{}", hoard.len());
    let (_, _, named) = rig.device.stats();
    assert!(named.iter().any(|(name, count)| name == "pool_exhausted" && *count > 0), "{named:?}");
    hoard.clear();
    assert_eq!(rig.rx.recv(&mut rig.cache, &mut burst), 32);
    burst.recycle(&mut rig.cache);
    assert!(rig.stop().audit().is_home());
}

/// DPDK's net_memif takes a ring of the other direction for a queue that its peer does not have.
#[test]
fn a_memif_port_that_only_sends_leaves_the_other_direction_alone() {
    let dir = tempfile::tempdir().unwrap();
    let place = format!("socket={},socket-abstract=no", dir.path().join("memif").display());
    let mut server = Rig::start(&format!("net_memif60,role=server,{place}"), 512);
    let mut client = open(&format!("net_memif61,role=client,{place}")).unwrap();
    let pool = pool(512);
    let mut queues = client.start(Config::default().with_tx(&pool)).unwrap();
    assert!(becomes(&*client, true) && becomes(&*server.device, true), "no link");
    let mut burst = server.frames(20, 100);
    server.tx.send(&mut server.cache, &mut burst);
    burst.recycle(&mut server.cache);
    let mut back = Burst::new(&server.pool);
    assert_eq!(server.rx.recv(&mut server.cache, &mut back), 0, "its own frames came back");
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    cache.take(&mut burst, 30);
    burst.for_each_mut(0, |mut frame| assert!(frame.append(&[7; 200])));
    assert_eq!(queues.tx[0].send(&mut cache, &mut burst), 30);
    assert_eq!(server.rx.recv(&mut server.cache, &mut back), 30);
    assert!(back.iter().all(|frame| frame.bytes() == [7; 200]));
    back.recycle(&mut server.cache);
    client.stop(queues).unwrap();
    drop(cache);
    for pool in [pool, server.stop()] {
        let audit = pool.audit();
        assert!(audit.is_home(), "{audit}");
    }
}
