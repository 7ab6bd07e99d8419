//! Free buffers that lie with a queue between its calls: they are counted, move with it, and come home.

use std::thread;

use mempool::Burst;

use crate::rig::Rig;

/// Bursts of each thread: enough to fill lanes and spill them, many times.
const BURSTS: usize = 2_000;

#[test]
fn what_lies_with_queues_is_in_the_pools_audit_to_the_slot() {
    let mut rig = Rig::start("net_null20,size=64", 4096);
    let mut burst = Burst::new(&rig.pool);
    for round in 0..300 {
        assert_eq!(rig.rx.recv(&mut rig.cache, &mut burst), 32);
        let audit = rig.pool.audit();
        assert_eq!(audit.held, 32, "round {round}: {audit}");
        assert_eq!(rig.tx.send(&mut rig.cache, &mut burst), 32);
        let audit = rig.pool.audit();
        assert_eq!((audit.held, audit.leaked), (0, 0), "round {round}: {audit}");
        // Two lanes and the stock, each a sixteenth of the pool.
        assert!(audit.in_flight <= 3 * 256, "round {round}: {audit}");
        assert_eq!(audit.free + audit.cached + audit.in_flight, 4096, "round {round}: {audit}");
    }
    assert!(rig.pool.audit().in_flight > 0, "the driver's frees lie with the queue");
    assert!(rig.stop().audit().is_home());
}

#[test]
fn a_sender_alone_gets_its_buffers_back_into_its_own_cache() {
    let mut rig = Rig::start("net_null21", 1024);
    // Six times as many as there are.
    for _ in 0..192 {
        let mut burst = rig.frames(32, 64);
        assert_eq!(rig.tx.send(&mut rig.cache, &mut burst), 32);
    }
    let audit = rig.pool.audit();
    assert!(audit.held == 0 && audit.in_flight <= 2 * 64, "{audit}");
    assert!(rig.stop().audit().is_home());
}

#[test]
fn queues_move_from_thread_to_thread_and_threads_end_without_a_word() {
    let mut rig = Rig::start("net_null22,size=64", 2048);
    for _ in 0..8 {
        rig = thread::spawn(move || {
            let mut burst = Burst::new(&rig.pool);
            for _ in 0..50 {
                rig.rx.recv(&mut rig.cache, &mut burst);
                rig.tx.send(&mut rig.cache, &mut burst);
            }
            rig
        })
        .join()
        .expect("it forwards");
    }
    assert_eq!(rig.tx.counters().snapshot().delivered, 8 * 50 * 32);
    // Stopped by a thread that never called a queue.
    assert!(rig.stop().audit().is_home());
}

#[test]
fn two_threads_share_a_pool_through_their_queues_and_nothing_is_lost() {
    let mut first = Rig::start("net_null23,size=64", 2048);
    let second = first.beside("net_null24,size=64");
    let pool = first.pool.clone();
    // Each receives by one port and sends by the other's: what one takes the other frees.
    let (mut second, mut other) = (second, first.pool.cache());
    std::mem::swap(&mut first.tx, &mut second.tx);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut burst = Burst::new(&pool);
            for _ in 0..BURSTS {
                first.rx.recv(&mut first.cache, &mut burst);
                first.tx.send(&mut first.cache, &mut burst);
            }
        });
        scope.spawn(|| {
            let mut burst = Burst::new(&pool);
            for _ in 0..BURSTS {
                second.rx.recv(&mut other, &mut burst);
                second.tx.send(&mut other, &mut burst);
            }
        });
    });
    let audit = pool.audit();
    assert_eq!((audit.held, audit.leaked), (0, 0), "{audit}");
    std::mem::swap(&mut first.tx, &mut second.tx);
    drop(other);
    first.stop();
    second.stop();
    assert!(pool.audit().is_home(), "{}", pool.audit());
}
