//! Waiting for frames through wrappers: what wakes the inner queue's user wakes the outer one's, unless
//! the wrapper itself has something to do.

use std::{os::unix::net::UnixDatagram, path::PathBuf};

use mempool::Burst;
use pmd::{
    AnyRxQueue, Bounce, Config, PostOrder, Registry, RxMemory, SplitAt, SplitConfig, SplitRxQueue,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;

use crate::rig::{device_pool, pool};

/// A folder with the path of a port, and somebody who sends to it.
struct Lab {
    dir: TempDir,
    sender: UnixDatagram,
}

impl Lab {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), sender: UnixDatagram::unbound().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("own")
    }

    fn spec(&self, around: &str) -> String {
        format!("{around}dgram:{},peer=/nobody", self.path().display())
    }

    fn send(&self) {
        self.sender.send_to(&[2; 60], self.path()).unwrap();
    }
}

/// Whether the armed queue would wake its user now; none if it cannot be armed.
fn wakes(queue: &mut AnyRxQueue) -> Option<bool> {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let armed = queue.arm()?;
    let mut armed = [PollFd::from_borrowed_fd(armed, PollFlags::IN)];
    Some(poll(&mut armed, Some(&now)).unwrap() > 0)
}

#[test]
fn a_wrapped_queue_wakes_its_user_as_the_bare_one_does() {
    let pool = pool(256);
    let around = [
        "",
        "trace:/dev/null@",
        "capture:/dev/null@",
        "chaos:@",
        "chaos:rx.drop#1000@trace:/dev/null@",
    ];
    for around in around {
        let lab = Lab::new();
        let mut device = Registry::new().open(&lab.spec(around)).unwrap();
        let mut queues =
            device.start(Config::default().with_rx(RxMemory::Whole(pool.clone()))).unwrap();
        let queue = &mut queues.rx[0];
        assert_eq!(wakes(queue), Some(false), "{around}");
        lab.send();
        assert_eq!(wakes(queue), Some(true), "{around}");
        let AnyRxQueue::Whole(whole) = queue else { panic!("whole frames") };
        assert_eq!(whole.recv(&mut pool.cache(), &mut Burst::new(&pool)), 1);
        assert_eq!(wakes(queue), Some(false), "{around}");
    }
}

#[test]
fn the_bounce_path_wakes_its_user_as_its_inner_queue_does() {
    let (heads, data, lab) = (pool(256), device_pool(256), Lab::new());
    let mut device = Registry::new().open(&lab.spec("")).unwrap();
    let config = Config::default().with_rx(RxMemory::Whole(heads.clone()));
    let inner = device.start(config).unwrap().rx.remove(0).whole().unwrap();
    let (at, post) = (SplitAt::Length(14), PostOrder::Cache);
    let split = SplitConfig { heads, data, at, post };
    let queue: Box<dyn SplitRxQueue> = Box::new(Bounce::new(inner, split, 64).unwrap());
    let mut queue = AnyRxQueue::Split(queue);
    assert_eq!(wakes(&mut queue), Some(false));
    lab.send();
    assert_eq!(wakes(&mut queue), Some(true));
}

#[test]
fn chaos_that_holds_a_frame_rests_or_has_failed_cannot_be_waited_for() {
    let pool = pool(256);
    for (plan, after_first, after_second) in [
        // Held until the second frame overtakes it.
        ("rx.reorder#1,rx.reorder.wait=10s", None, Some(false)),
        ("rx.stall#1,rx.stall.for=10s", None, None),
        ("rx.fault#1", None, None),
        ("rx.remove#2", Some(false), None),
    ] {
        let lab = Lab::new();
        let mut device = Registry::new().open(&lab.spec(&format!("chaos:{plan}@"))).unwrap();
        let mut queues =
            device.start(Config::default().with_rx(RxMemory::Whole(pool.clone()))).unwrap();
        let (queue, mut cache) = (&mut queues.rx[0], pool.cache());
        for expected in [after_first, after_second] {
            lab.send();
            let AnyRxQueue::Whole(whole) = &mut *queue else { panic!("whole frames") };
            let mut burst = Burst::new(&pool);
            whole.recv(&mut cache, &mut burst);
            burst.recycle(&mut cache);
            assert_eq!(wakes(queue), expected, "{plan}");
        }
    }
}

#[test]
fn a_queue_that_nothing_can_wake_says_so() {
    let pool = pool(256);
    for spec in ["null:", "ring:a", "trace:/dev/null@ring:a"] {
        let mut device = Registry::new().open(spec).unwrap();
        let mut queues =
            device.start(Config::default().with_rx(RxMemory::Whole(pool.clone()))).unwrap();
        assert_eq!(wakes(&mut queues.rx[0]), None, "{spec}");
    }
}
