//! Starting and stopping functions, and what is left of it.

use mempool::{Burst, Cache, Cpu, Pool};
use pmd::{AnyRxQueue, Config, Health, Queues, Registry};

use providers::Host;

use super::rig;

pub(crate) fn config(pool: &Pool<Cpu>) -> Config {
    Config { promiscuous: true, ..Config::one_queue(pool).rings(64) }
}

/// Sends `count` frames from `from` to `to` and waits for them, with a limit.
pub(crate) fn exchange(
    from: &mut Queues,
    to: &mut Queues,
    cache: &mut Cache<Cpu>,
    count: usize,
) -> usize {
    let pool = cache.pool().clone();
    let AnyRxQueue::Whole(rx) = &mut to.rx[0] else { panic!("whole frames") };
    let mut burst = Burst::with_limit(&pool, 32);
    for number in 0..count {
        let mut frame = cache.take_one().expect("a buffer");
        let tag = number.to_le_bytes();
        let mut bytes = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5].to_vec();
        bytes.resize(100, tag[0]);
        assert!(frame.frame_mut().append(&bytes));
        burst.push(frame);
    }
    let mut got = 0;
    for _ in 0..2000 {
        from.tx[0].send(cache, &mut burst);
        let mut arrived = Burst::with_limit(&pool, 32);
        got += rx.recv(cache, &mut arrived);
        arrived.recycle(cache);
        if got == count {
            break;
        }
        rig::nap();
    }
    from.tx[0].reap(cache);
    got
}

#[test]
fn ports_start_and_stop_a_hundred_times_and_every_buffer_is_home() {
    let name = "ports_start_and_stop_a_hundred_times_and_every_buffer_is_home";
    let Some((pairs, _turn)) = rig::pairs(name) else { return };
    for pair in &pairs {
        for space in rig::spaces() {
            let mut registry = Registry::new();
            let mut a = rig::open(&mut registry, &pair[0], space, "");
            let mut b = rig::open(&mut registry, &pair[1], space, "");
            let pool = Pool::builder().name("frames").slots(1024).stride(2048 + 128);
            let pool = pool.memory(&Host::new()).build().unwrap();
            let mac = a.info().mac;
            for turn in 0..100 {
                let mut ours = a.start(config(&pool)).unwrap();
                let mut theirs = b.start(config(&pool)).unwrap();
                if turn % 25 == 0 {
                    let mut cache = pool.cache();
                    rig::await_links(&[&*a, &*b]);
                    assert_eq!(exchange(&mut ours, &mut theirs, &mut cache, 20), 20, "turn {turn}");
                }
                a.stop(ours).unwrap();
                b.stop(theirs).unwrap();
                assert!(pool.audit().is_home(), "turn {turn}: {}", pool.audit());
            }
            assert_eq!((a.info().mac, a.health(), b.health()), (mac, Health::Good, Health::Good));
        }
    }
}

#[test]
fn a_receiver_that_waits_is_woken_by_a_frame() {
    use std::os::fd::OwnedFd;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let Some((pairs, _turn)) = rig::pairs("a_receiver_that_waits_is_woken_by_a_frame") else {
        return;
    };
    for pair in &pairs {
        for space in rig::spaces() {
            let mut registry = Registry::new();
            let mut a = rig::open(&mut registry, &pair[0], space, "");
            let mut b = rig::open(&mut registry, &pair[1], space, "");
            // One hugepage: without an IOMMU a region has to be one physical piece.
            let pool = Pool::builder().name("frames").slots(512).stride(2048 + 128);
            let pool = pool.memory(&*rig::host()).build().unwrap();
            let mut cache = pool.cache();
            let (mut ours, mut theirs) =
                (a.start(config(&pool)).unwrap(), b.start(config(&pool)).unwrap());
            rig::await_links(&[&*a, &*b]);
            let wait = |fd: &OwnedFd, seconds| {
                let mut ask = [PollFd::new(fd, PollFlags::IN)];
                poll(&mut ask, Some(&Timespec { tv_sec: seconds, tv_nsec: 0 })).unwrap()
            };
            for turn in 0..3 {
                let waited = {
                    let mut arm = || {
                        let fd = theirs.rx[0].arm().expect("an interrupt");
                        fd.try_clone_to_owned().unwrap()
                    };
                    let mut fd = arm();
                    // An interrupt that a frame of before left behind wakes once, for nothing.
                    if turn > 0 && wait(&fd, 0) == 1 {
                        fd = arm();
                    }
                    assert_eq!(wait(&fd, 0), 0, "turn {turn}: nothing came yet");
                    let mut burst = Burst::with_limit(&pool, 1);
                    let mut frame = cache.take_one().unwrap();
                    assert!(frame.frame_mut().append(&[0xff; 64]));
                    burst.push(frame);
                    assert_eq!(ours.tx[0].send(&mut cache, &mut burst), 1);
                    wait(&fd, 5)
                };
                assert_eq!(waited, 1, "{} {space}, turn {turn}: not woken", a.info().driver);
                let AnyRxQueue::Whole(rx) = &mut theirs.rx[0] else { panic!("whole frames") };
                let mut burst = Burst::with_limit(&pool, 4);
                assert_eq!(rx.recv(&mut cache, &mut burst), 1, "turn {turn}");
                burst.recycle(&mut cache);
            }
            a.stop(ours).unwrap();
            b.stop(theirs).unwrap();
        }
    }
}

#[test]
fn a_function_is_open_once_and_again_when_it_was_closed() {
    let Some((pairs, _turn)) = rig::pairs("a_function_is_open_once_and_again_when_it_was_closed")
    else {
        return;
    };
    for pair in &pairs {
        for space in rig::spaces() {
            let mut registry = Registry::new();
            let port = rig::open(&mut registry, &pair[0], space, "");
            let again = registry.open(&format!("{},iommu={space}", pair[0]));
            let error = again.err().expect("refused").to_string();
            assert!(error.contains("already open"), "{error}");
            drop(port);
            assert!(
                rig::open(&mut registry, &pair[0], space, "")
                    .link()
                    .speed_mbps
                    .is_none_or(|s| s == 1000)
            );
        }
    }
}
