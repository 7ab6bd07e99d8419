//! Every frame that is sent is received or counted.

use std::{
    collections::HashMap,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use pmd::DropReason;
use rustix::time::{ClockId, clock_gettime};

use crate::{
    lab::{End, Lab, MAC_A, MAC_B},
    traffic::{Port, blast, named, sequence, udp, udp_to},
};

const PATIENCE: Duration = Duration::from_millis(500);

fn many() -> u64 {
    if std::env::var_os("MEMWIRE_FULL").is_some() {
        10_000_000
    } else {
        1_000_000
    }
}

#[test]
fn a_million_frames_are_delivered_or_counted_as_dropped() {
    let Some(lab) = Lab::open("a_million_frames_are_delivered_or_counted_as_dropped") else {
        return;
    };
    let count = many();
    let (ready, started) = mpsc::channel();
    thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            lab.within(End::B, move || {
                let mut port = Port::start("af_packet:vb", 1, false);
                ready.send(()).unwrap();
                let (mut next, mut seen) = (0, 0);
                port.receive(usize::try_from(count).unwrap(), 4 * PATIENCE, |_, frame| {
                    let number = sequence(frame);
                    assert!(number >= next, "frame {number} behind {next}");
                    next = number + 1;
                    seen += 1;
                });
                (seen, port.stop())
            })
        });
        started.recv().unwrap();
        let (tx, cost) = lab.within(End::A, || timed(|| blast("af_packet:va", count, 1)));
        let (seen, (rx, _, _)) = receiver.join().unwrap();
        eprintln!(
            "{}; received {seen}, drops {:?}",
            cost(count),
            rx.drops.iter().collect::<Vec<_>>()
        );
        assert_eq!((tx.delivered, tx.drops.total()), (count, 0));
        assert_eq!(rx.delivered, seen);
        assert_eq!(rx.offered, count);
        assert_eq!(rx.drops.total(), rx.drops.of(DropReason::Kernel));
    });
}

#[test]
fn sending_to_nobody_costs_the_kernel_most_of_it() {
    let Some(lab) = Lab::open("sending_to_nobody_costs_the_kernel_most_of_it") else {
        return;
    };
    let (tx, cost) = lab.within(End::A, || timed(|| blast("af_packet:va", many(), 1)));
    eprintln!("{}", cost(many()));
    assert_eq!(tx.delivered, many());
}

/// Runs `task`; also returns what says how long it took, and this thread's CPU time, for that many
/// frames.
fn timed<T>(task: impl FnOnce() -> T) -> (T, impl Fn(u64) -> String) {
    let cpu = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let (wall, before) = (Instant::now(), cpu());
    let result = task();
    let (wall, cpu) = (wall.elapsed(), cpu() - before);
    let say = move |frames: u64| {
        let (rate, cost) = (
            frames as f64 / wall.as_secs_f64(),
            cpu.as_nanos() / u128::from(frames),
        );
        format!(
            "{:.3} Mpps, {cost} ns of the sender's CPU per frame",
            rate / 1e6
        )
    };
    (result, say)
}

#[test]
fn a_ring_that_overflows_and_is_left_half_read_still_adds_up() {
    let Some(lab) = Lab::open("a_ring_that_overflows_and_is_left_half_read_still_adds_up") else {
        return;
    };
    let mut port = lab.within(End::B, || {
        Port::start("af_packet:vb,blocks=2,block=8K", 1, false)
    });
    let tx = lab.within(End::A, || blast("va", 5_000, 1));
    assert_eq!(tx.delivered, 5_000);
    assert_eq!(port.frames(20, PATIENCE).len(), 32, "whole bursts");
    let (rx, _, counts) = port.stop();
    assert_eq!((rx.offered, rx.delivered), (5_000, 32));
    assert_eq!(rx.drops.of(DropReason::Kernel), 5_000 - 32);
    assert!(named(&counts, "rx_left_in_ring") > 0);
    assert!(named(&counts, "rx_ring_full") > 0);
}

#[test]
fn frames_wait_in_the_ring_while_the_pool_is_empty() {
    let Some(lab) = Lab::open("frames_wait_in_the_ring_while_the_pool_is_empty") else {
        return;
    };
    let mut port = lab.within(End::B, || Port::start("af_packet:vb", 1, false));
    lab.within(End::A, || blast("af_packet:va", 1_000, 1));
    let mut held: Vec<_> = std::iter::from_fn(|| port.cache.take_one()).collect();
    assert_eq!(port.frames(1, Duration::from_millis(50)).len(), 0);
    held.clear();
    assert_eq!(port.frames(1_000, PATIENCE).len(), 1_000);
    let (rx, _, counts) = port.stop();
    assert_eq!((rx.offered, rx.delivered), (1_000, 1_000));
    assert!(named(&counts, "rx_no_buffer") > 0);
}

#[test]
fn jumbo_frames_pass_as_chains_both_ways() {
    let Some(lab) = Lab::open("jumbo_frames_pass_as_chains_both_ways") else {
        return;
    };
    lab.set(End::A, "link set va mtu 9000");
    lab.set(End::B, "link set vb mtu 9000");
    let mut receiver = lab.within(End::B, || Port::start("af_packet:vb", 1, false));
    let mut sender = lab.within(End::A, || Port::start("af_packet:va", 1, false));
    assert_eq!(sender.device.info().capabilities.max_frame, 9014);
    let sizes = [60, 1918, 1919, 1920, 1921, 2048, 4000, 9014];
    let sent: Vec<_> = (0..800)
        .map(|at| {
            let mut frame = udp(0, at, sizes[usize::try_from(at).unwrap() % sizes.len()]);
            let payload = frame[50..].iter_mut().zip(at..);
            payload.for_each(|(byte, value)| *byte = value.to_le_bytes()[0]);
            frame
        })
        .collect();
    sent.iter().for_each(|frame| sender.send_surely(frame));
    assert!(sender.send(&udp(0, 0, 9015)), "taken, and dropped");
    assert!(receiver.frames(800, PATIENCE) == sent);
    let (_, tx, _) = sender.stop();
    assert_eq!((tx.delivered, tx.drops.of(DropReason::TooLong)), (800, 1));
    assert_eq!(receiver.stop().0.delivered, 800);
}

#[test]
fn two_queues_share_the_flows_and_keep_each_together() {
    let Some(lab) = Lab::open("two_queues_share_the_flows_and_keep_each_together") else {
        return;
    };
    let mut port = lab.within(End::B, || Port::start("af_packet:vb,fanout=hash", 2, false));
    lab.within(End::A, || blast("af_packet:va", 10_000, 64));
    let mut queue_of = HashMap::new();
    let mut counts = [0, 0];
    port.receive(10_000, PATIENCE, |queue, frame| {
        let flow = [frame[34], frame[35]];
        assert_eq!(
            *queue_of.entry(flow).or_insert(queue),
            queue,
            "flow {flow:?} is split"
        );
        counts[queue] += 1;
    });
    assert_eq!(counts[0] + counts[1], 10_000);
    assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
    assert_eq!(queue_of.len(), 64);
    assert_eq!(port.stop().0.offered, 10_000);
}

#[test]
fn a_port_can_be_started_again_and_counts_on() {
    let Some(lab) = Lab::open("a_port_can_be_started_again_and_counts_on") else {
        return;
    };
    lab.within(End::B, || {
        let mut port = Port::start("af_packet:vb", 2, false);
        for round in 1..=3 {
            lab.within(End::A, || blast("af_packet:va", 100, 8));
            assert_eq!(port.frames(100, PATIENCE).len(), 100);
            let queues = std::mem::take(&mut port.queues);
            port.device.stop(queues).unwrap();
            assert_eq!(port.device.stats().0.offered, 100 * round);
            let config = pmd::Config::one_queue(&port.pool);
            port.queues = port.device.start(config).unwrap();
        }
        port.stop();
    });
}

#[test]
fn only_a_promiscuous_port_sees_frames_for_other_stations() {
    let Some(lab) = Lab::open("only_a_promiscuous_port_sees_frames_for_other_stations") else {
        return;
    };
    let mut sender = lab.within(End::A, || Port::start("af_packet:va", 0, false));
    for promiscuous in [false, true] {
        let mut receiver = lab.within(End::B, || Port::start("af_packet:vb", 1, promiscuous));
        let flags = lab.within(End::B, || {
            std::process::Command::new("ip")
                .args(["-d", "link", "show", "vb"])
                .output()
                .unwrap()
        });
        let text = String::from_utf8_lossy(&flags.stdout).into_owned();
        assert_eq!(text.contains("promiscuity 1"), promiscuous, "{text}");
        for mac in [[2, 9, 9, 9, 9, 9], MAC_B, [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
            sender.send_surely(&udp_to(mac, 0, 7, 64));
        }
        let seen = receiver.frames(4, Duration::from_millis(100));
        let others = seen
            .iter()
            .filter(|frame| frame[0] == 2 && frame[5] == 9)
            .count();
        assert_eq!(
            (seen.len(), others),
            if promiscuous { (4, 1) } else { (3, 0) }
        );
        assert_eq!(receiver.stop().0.offered, seen.len() as u64);
    }
    sender.stop();
}

#[test]
fn what_a_port_sends_it_does_not_receive() {
    let Some(lab) = Lab::open("what_a_port_sends_it_does_not_receive") else {
        return;
    };
    for queues in [1, 2] {
        let mut port = lab.within(End::A, || Port::start("af_packet:va", queues, true));
        (0..100).for_each(|at| port.send_surely(&udp_to(MAC_A, at, 0, 64)));
        assert!(port.frames(1, Duration::from_millis(100)).is_empty());
        let (rx, tx, _) = port.stop();
        assert_eq!((rx.offered, tx.delivered), (0, 100));
    }
}
