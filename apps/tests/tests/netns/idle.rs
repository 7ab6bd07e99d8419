//! `--idle interrupt`: a worker that nothing reaches costs next to nothing, and wakes up with the first
//! frame.

use std::time::{Duration, Instant};

use crate::{
    lab::{
        Lab,
        Place::{Left, Middle},
    },
    process::{binary, pause},
};

/// The least round trip of a `ping`, in milliseconds.
fn least_round_trip(text: &str) -> f64 {
    let line = text.lines().find_map(|line| line.split_once("min/avg/max/mdev = ")).map(|l| l.1);
    let least = line.and_then(|line| line.split('/').next()?.parse().ok());
    least.unwrap_or_else(|| panic!("ping says {text}"))
}

#[test]
fn a_worker_that_waits_for_interrupts_leaves_the_core_to_others_and_wakes_up_soon() {
    let test = "a_worker_that_waits_for_interrupts_leaves_the_core_to_others_and_wakes_up_soon";
    let Some(lab) = Lab::open(test, &["ip", "ping"]) else {
        return;
    };
    let mut shares = Vec::new();
    for idle in ["interrupt", "spin"] {
        let arguments = format!("-p fa -p fb --idle {idle} --quiet --json");
        let l2fwd = lab.start(Middle, &binary("l2fwd"), &arguments);
        lab.wait_for_ping();
        let (start, before) = (Instant::now(), l2fwd.cpu_time());
        pause(Duration::from_secs(2));
        let busy = l2fwd.cpu_time().saturating_sub(before);
        shares.push(busy.as_secs_f64() / start.elapsed().as_secs_f64());
        // Each hop takes the kernel's millisecond to hand a block over, and what it takes to wake up:
        // less than the four that a worker waits at most.
        let text = lab.run(Left, "ping", "-c 50 -i 0.02 -q 10.98.0.2");
        assert!(text.contains(" 0% packet loss"), "{text}");
        let least = least_round_trip(&text);
        assert!(least < 6.0, "{idle}: {least} ms there and back");
        l2fwd.interrupt();
        let summary = l2fwd.finish().succeeded().json();
        assert_eq!(summary["balanced"], true, "{summary:#}");
        assert_eq!(
            summary["ports"][0]["rx"]["drops"].as_object().map(|drops| drops.len()),
            Some(0)
        );
    }
    eprintln!("share of a core while idle: {shares:.3?} (interrupt, spin)");
    assert!(shares[0] < 0.1, "{shares:?}");
}
