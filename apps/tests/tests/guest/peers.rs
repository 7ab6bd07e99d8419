//! Beside DPDK's `testpmd`, on the same emulated NICs in the same guest, in turns: two ports wired back to
//! back and one core that forwards between them, so that the frames put in at first circulate.

use std::{os::unix::net::UnixDatagram, time::Duration};

use crate::machine::{Machine, received_mpps, wait_for};

/// Frames put into each port; as many as testpmd's `--tx-first` sends.
const LOAD: usize = 32;
/// Bytes of one, without FCS.
const FRAME: usize = 60;
/// Times that each program has its turn, and its best counts: the machine is not ours alone.
const ROUNDS: usize = 3;
/// Seconds of a turn that count.
const SECONDS: usize = 3;
/// Not before ours forwards so many times as fast.
const GOAL: f64 = 1.2;

/// Puts the frames into both ports, over the wire.
fn load(machine: &Machine, nics: [&str; 2]) {
    let socket = UnixDatagram::unbound().unwrap();
    for nic in nics {
        let mut frame = [0; FRAME];
        frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
        for _ in 0..LOAD {
            socket.send_to(&frame, machine.inlet(nic).unwrap()).unwrap();
        }
    }
}

/// Takes what circulates off the wire.
fn drain(machine: &Machine, nics: [&str; 2]) {
    let ports = nics.map(|nic| machine.port(nic)).join(" -p ");
    machine.summary("pktgen", &format!("--rx-only -p {ports} -t 300ms"));
}

/// Rates by the second, without the first and the last one, which are parts: their mean.
fn steady(name: &str, rates: &[f64]) -> f64 {
    assert!(rates.len() >= SECONDS + 2, "{name} told of too few seconds: {rates:?}");
    let steady = &rates[rates.len() - 1 - SECONDS..rates.len() - 1];
    steady.iter().sum::<f64>() / SECONDS as f64
}

/// Frames per second that testpmd receives, of both ports.
fn testpmd(machine: &Machine, nics: [&str; 2]) -> f64 {
    let [a, b] = nics.map(|nic| machine.address(nic).unwrap());
    let line = format!(
        "exec dpdk-testpmd -l 0,1 --in-memory -a {a} -a {b} -- --total-num-mbufs=4096 \
         --forward-mode=io --auto-start --stats-period 1 --no-lsc-interrupt"
    );
    let mut job = machine.spawn(&line).unwrap();
    job.wait_for("NIC statistics for port 1", Duration::from_secs(60)).unwrap();
    load(machine, nics);
    let per_port = |text: &str| -> Vec<f64> {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("Rx-pps:"));
        lines.map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect()
    };
    let rates = wait_for("seconds of testpmd", || {
        assert!(!job.poll(), "testpmd ended: {}", job.stderr_so_far());
        let ports = per_port(&job.stdout_so_far());
        let rates: Vec<f64> = ports.chunks_exact(2).map(|ports| ports[0] + ports[1]).collect();
        let loaded: Vec<f64> = rates.into_iter().filter(|rate| *rate > 0.0).collect();
        (loaded.len() >= SECONDS + 2).then_some(loaded)
    });
    job.kill(testbed::Signal::Interrupt).unwrap();
    job.wait(Duration::from_secs(60)).unwrap();
    steady("testpmd", &rates)
}

/// Frames per second that `l2fwd` receives, of both ports.
fn l2fwd(machine: &Machine, nics: [&str; 2]) -> f64 {
    let ports = nics.map(|nic| machine.port(nic)).join(" -p ");
    let mut l2fwd = machine.start("l2fwd", &format!("-p {ports} -l 1 --json-stream -i 1s"));
    l2fwd.wait_for("\"seconds\"");
    load(machine, nics);
    let rates = wait_for("seconds of l2fwd", || {
        let rates = l2fwd.intervals().into_iter().map(|interval| 1e6 * received_mpps(&interval));
        let rates: Vec<f64> = rates.filter(|rate| *rate > 0.0).collect();
        (rates.len() >= SECONDS + 2).then_some(rates)
    });
    l2fwd.interrupt();
    let summary = l2fwd.summary();
    assert!(summary["ports"].is_array(), "{summary:#}");
    steady("l2fwd", &rates)
}

fn compare(test: &str, nics: [&str; 2]) {
    let Some(machine) = Machine::open(test, "pairs") else {
        return;
    };
    if machine.run("command -v dpdk-testpmd").unwrap().status != 0 {
        eprintln!("SKIP {test}: dpdk-testpmd is not installed (dpdk-dev)");
        return;
    }
    let (mut theirs, mut ours) = (0.0_f64, 0.0_f64);
    for round in 0..ROUNDS {
        drain(&machine, nics);
        let peer = testpmd(&machine, nics);
        drain(&machine, nics);
        let own = l2fwd(&machine, nics);
        eprintln!("{test}: round {round}: testpmd {peer:.0} frames/s, l2fwd {own:.0} frames/s");
        (theirs, ours) = (theirs.max(peer), ours.max(own));
    }
    let factor = ours / theirs;
    eprintln!("{test}: best: testpmd {theirs:.0}, l2fwd {ours:.0} frames/s: {factor:.2} times");
    assert!(factor >= GOAL, "l2fwd forwards {factor:.2} times as fast as testpmd, not {GOAL}");
}

#[test]
fn l2fwd_forwards_a_fifth_faster_than_testpmd_on_82574s() {
    compare("l2fwd_forwards_a_fifth_faster_than_testpmd_on_82574s", ["e1000e0", "e1000e1"]);
}

#[test]
fn l2fwd_forwards_a_fifth_faster_than_testpmd_on_82576s() {
    compare("l2fwd_forwards_a_fifth_faster_than_testpmd_on_82576s", ["igb0", "igb1"]);
}
