//! Links go down and up, MTUs shrink, interfaces go away.

use std::time::{Duration, Instant};

use mempool::Burst;
use pmd::{DropReason, Health, Registry};

use crate::{
    lab::{End, Lab},
    traffic::{Port, named, udp},
};

const PATIENCE: Duration = Duration::from_millis(500);

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::yield_now();
    }
}

#[test]
fn after_twenty_flaps_ten_thousand_of_ten_thousand_frames_pass() {
    let Some(lab) = Lab::open("after_twenty_flaps_ten_thousand_of_ten_thousand_frames_pass") else {
        return;
    };
    let mut receiver = lab.within(End::B, || Port::start("af_packet:vb", 2, false));
    let mut sender = lab.within(End::A, || Port::start("af_packet:va", 1, false));
    for flap in 0..20 {
        // Alternately our own end and the other one: without IFF_UP, and without a carrier.
        let end = if flap % 2 == 0 { End::A } else { End::B };
        lab.set(end, &format!("link set {} down", end.interface()));
        assert!(!sender.device.link().is_up);
        for at in 0..50 {
            sender.send(&udp(at, 0, 64));
        }
        wait_until("taking frames while down", || {
            sender.queues.tx[0].reap(&mut sender.cache);
            sender.queues.tx[0].in_flight() == 0
        });
        lab.set(end, &format!("link set {} up", end.interface()));
        wait_until("link up", || sender.device.link().is_up && receiver.device.link().is_up);
        receiver.frames(usize::MAX, Duration::from_millis(5));
    }
    let dropped = sender.device.stats().1.drops;
    assert_eq!(dropped.of(DropReason::LinkDown), dropped.total());
    assert_eq!(dropped.total(), 20 * 50);
    assert_eq!((sender.device.health(), receiver.device.health()), (Health::Good, Health::Good));
    let mut seen = 0;
    for at in 0..10_000_u16 {
        sender.send_surely(&udp(at % 64, at.into(), 64));
        if at % 1_000 == 999 {
            seen += receiver.frames(1_000, PATIENCE).len();
        }
    }
    assert_eq!(seen, 10_000);
    sender.stop();
    assert_eq!(receiver.stop().0.offered, 10_000);
}

#[test]
fn a_port_opens_on_an_interface_that_is_down_and_works_once_it_is_up() {
    let Some(lab) = Lab::open("a_port_opens_on_an_interface_that_is_down") else {
        return;
    };
    lab.set(End::B, "link set vb down");
    let mut receiver = lab.within(End::B, || Port::start("af_packet:vb", 1, true));
    assert!(!receiver.device.link().is_up);
    lab.set(End::B, "link set vb up");
    let mut sender = lab.within(End::A, || Port::start("af_packet:va", 0, false));
    wait_until("link up", || receiver.device.link().is_up && sender.device.link().is_up);
    assert_eq!(receiver.device.link().speed_mbps, Some(10_000));
    sender.send_surely(&udp(0, 1, 64));
    assert_eq!(receiver.frames(1, PATIENCE).len(), 1);
    sender.stop();
    receiver.stop();
}

#[test]
fn an_interface_that_is_deleted_faults_the_port_and_nothing_hangs() {
    let Some(lab) = Lab::open("an_interface_that_is_deleted_faults_the_port") else {
        return;
    };
    let mut receiver = lab.within(End::B, || Port::start("af_packet:vb", 2, false));
    let mut sender = lab.within(End::A, || Port::start("af_packet:va", 1, false));
    sender.send_surely(&udp(0, 1, 64));
    assert_eq!(receiver.frames(1, PATIENCE).len(), 1);
    lab.set(End::A, "link del va");
    let gone = Health::Faulted("interface is gone".into());
    for port in [&mut sender, &mut receiver] {
        assert_eq!(port.device.health(), gone);
        assert!(!port.device.link().is_up);
        assert!(port.frames(1, Duration::from_millis(20)).is_empty());
        for at in 0..1_000 {
            assert!(port.send(&udp(0, at, 64)), "a port without an interface drops what it takes");
        }
        assert_eq!(port.queues.tx[0].in_flight(), 0);
    }
    // An interface of the same name is another one.
    lab.wire().unwrap();
    assert_eq!(sender.device.health(), gone);
    let (_, tx, counts) = sender.stop();
    assert_eq!((tx.delivered, tx.drops.of(DropReason::LinkDown)), (1, 1_000));
    assert!(named(&counts, "tx_kicks") < 10, "no system calls for nothing");
    receiver.stop();
    let mut again = lab.within(End::B, || Port::start("af_packet:vb", 1, false));
    assert_eq!(again.device.health(), Health::Good);
    assert!(again.frames(1, Duration::from_millis(20)).is_empty());
    again.stop();
}

#[test]
fn a_worker_notices_by_itself_that_its_interface_is_gone() {
    let Some(lab) = Lab::open("a_worker_notices_by_itself_that_its_interface_is_gone") else {
        return;
    };
    let mut receiver = lab.within(End::B, || Port::start("af_packet:vb", 1, false));
    lab.set(End::A, "link del va");
    assert!(receiver.frames(1, Duration::from_millis(100)).is_empty());
    let mut burst = Burst::new(&receiver.pool);
    assert_eq!(receiver.queues.tx[0].send(&mut receiver.cache, &mut burst), 0);
    receiver.send(&udp(0, 1, 64));
    let (_, tx, counts) = receiver.stop();
    assert_eq!(tx.drops.of(DropReason::LinkDown), 1);
    // On a busy machine the news may come late, and a system call brings it.
    assert!(named(&counts, "tx_kicks") <= 1, "{counts:?}");
}

#[test]
fn an_mtu_that_shrinks_costs_the_frames_that_no_longer_fit_and_no_others() {
    let Some(lab) = Lab::open("an_mtu_that_shrinks_costs_the_frames_that_no_longer_fit") else {
        return;
    };
    let mut receiver = lab.within(End::B, || Port::start("af_packet:vb", 1, false));
    let mut sender = lab.within(End::A, || Port::start("af_packet:va", 0, false));
    lab.set(End::A, "link set va mtu 1000");
    let mut burst = Burst::new(&sender.pool);
    for at in 0..30 {
        let len = if at % 3 == 0 { 1_400 } else { 100 };
        crate::traffic::fill(&mut sender.cache, &mut burst, &udp(0, at, len));
    }
    while !burst.is_empty() {
        sender.queues.tx[0].send(&mut sender.cache, &mut burst);
    }
    wait_until("sending", || {
        sender.queues.tx[0].reap(&mut sender.cache);
        sender.queues.tx[0].in_flight() == 0
    });
    let numbers: Vec<_> =
        receiver.frames(20, PATIENCE).iter().map(|f| crate::traffic::sequence(f)).collect();
    assert_eq!(numbers, (0..30).filter(|at| at % 3 != 0).collect::<Vec<u64>>());
    let (_, tx, _) = sender.stop();
    assert_eq!((tx.delivered, tx.drops.of(DropReason::SendError)), (20, 10));
    receiver.stop();
}

#[test]
fn what_cannot_be_opened_says_why() {
    let Some(lab) = Lab::open("what_cannot_be_opened_says_why") else {
        return;
    };
    let fail =
        |spec: &str| lab.within(End::A, || Registry::new().open(spec).err().unwrap().to_string());
    let message = fail("af_packet:vq");
    assert!(message.contains("no interface 'vq' here; there are: lo, va"), "{message}");
    let message = fail("vq");
    assert!(message.starts_with("port 'af_packet:vq'"), "{message}");
    let message = fail("lo");
    assert!(message.contains("'lo' is not an Ethernet interface"), "{message}");
    lab.set(End::A, "link set va mtu 9000");
    let message = fail("va,block=8K");
    assert!(message.contains("frames of 9014 B do not fit; should be 16384"), "{message}");
    let message = lab.within(End::A, || {
        let mut registry = Registry::new();
        let _first = registry.open("va").unwrap();
        registry.open("af_packet:va").err().unwrap().to_string()
    });
    assert!(message.contains("already open"), "{message}");
}

#[test]
fn a_port_is_started_in_the_namespace_it_was_opened_in() {
    let Some(lab) = Lab::open("a_port_is_started_in_the_namespace_it_was_opened_in") else {
        return;
    };
    let mut device = lab.within(End::A, || Registry::new().open("va").unwrap());
    let pool = crate::traffic::pool(64);
    let result = lab.within(End::B, || device.start(pmd::Config::one_queue(&pool)));
    let message = result.err().unwrap().to_string();
    assert!(message.contains("network namespace"), "{message}");
}

#[test]
fn without_the_capability_the_message_names_it() {
    let Some(lab) = Lab::open("without_the_capability_the_message_names_it") else {
        return;
    };
    let message = lab.within(End::A, || {
        use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
        let none = CapabilitySet::empty();
        let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
        set_capabilities(None, sets).unwrap();
        Registry::new().open("va").err().unwrap().to_string()
    });
    assert!(message.contains("needs CAP_NET_RAW: run as root, or `setcap"), "{message}");
}
