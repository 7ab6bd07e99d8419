//! Beside DPDK's `testpmd`, on the same emulated NICs in the same guest, in turns: two ports wired back to
//! back and one core that forwards between them, so that the frames put in at first circulate.

use std::time::{Duration, Instant};

use crate::machine::{DEADLINE, Machine, is_full, received_mpps, wait_for};

/// Frames put into each port; as many as testpmd's `--tx-first` sends.
const LOAD: usize = 32;
/// Bytes of one, without FCS.
const FRAME: usize = 60;
/// Times that each program has its turn, and its best counts: the machine is not ours alone.
const ROUNDS: usize = 3;
/// How long a turn is, from its first frames on.
const MEASURED: Duration = Duration::from_secs(4);
/// So many times as fast is ours to be, where the whole machine is ours (the long form); and that much at
/// least where it is not.
const GOALS: [f64; 2] = [1.2, 0.7];

/// Puts the frames onto the wire: both ports receive them.
fn load(machine: &Machine, nics: [&str; 2]) {
    let mut frame = [0; FRAME];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    machine.inject(nics[0], &[&frame[..]; LOAD]).unwrap();
}

/// Takes what circulates off the wire.
fn drain(machine: &Machine, nics: [&str; 2]) {
    let ports = nics.map(|nic| machine.port(nic)).join(" -p ");
    machine.summary("pktgen", &format!("--rx-only -p {ports} -t 300ms"));
}

/// Frames per second by the host's clock, since a guest's may be wrong. `total` says how many there were
/// when it was told last; time is taken when that changes.
fn rate(mut total: impl FnMut() -> f64) -> f64 {
    let mut after = |count: f64| {
        wait_for("more frames", || {
            let total = total();
            (total > count).then(|| (total, Instant::now()))
        })
    };
    let (first, start) = after(0.0);
    let (mut last, mut end) = (first, start);
    while end - start < MEASURED {
        (last, end) = after(last);
    }
    (last - first) / (end - start).as_secs_f64()
}

/// Frames per second that testpmd receives, of both ports.
fn testpmd(machine: &Machine, nics: [&str; 2]) -> f64 {
    let [a, b] = nics.map(|nic| machine.address(nic).unwrap());
    let line = format!(
        "exec dpdk-testpmd -l 0,1 --in-memory -a {a} -a {b} -- --total-num-mbufs=4096 \
         --forward-mode=io --auto-start --stats-period 1 --no-lsc-interrupt"
    );
    let mut job = machine.spawn(&line).unwrap();
    job.wait_for("NIC statistics for port 1", DEADLINE).unwrap();
    load(machine, nics);
    let rate = rate(|| {
        assert!(!job.poll(), "testpmd ended: {}", job.stderr_so_far());
        let text = job.stdout_so_far();
        let counts = text.lines().filter_map(|line| line.trim().strip_prefix("RX-packets:"));
        let counts: Vec<f64> =
            counts.filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        counts.chunks_exact(2).last().map_or(0.0, |ports| ports[0] + ports[1])
    });
    job.kill(testbed::Signal::Interrupt).unwrap();
    job.wait(DEADLINE).unwrap();
    rate
}

/// Frames per second that `l2fwd` receives, of both ports.
fn l2fwd(machine: &Machine, nics: [&str; 2]) -> f64 {
    let ports = nics.map(|nic| machine.port(nic)).join(" -p ");
    let mut l2fwd = machine.start("l2fwd", &format!("-p {ports} -l 1 --json-stream -i 1s"));
    l2fwd.wait_for("\"seconds\"");
    load(machine, nics);
    let rate = rate(|| {
        let (mut before, mut total) = (0.0, 0.0);
        for interval in l2fwd.intervals() {
            let at = interval["seconds"].as_f64().unwrap();
            total += 1e6 * received_mpps(&interval) * (at - before);
            before = at;
        }
        assert!(!l2fwd.job.poll(), "l2fwd ended: {}", l2fwd.job.stderr_so_far());
        total
    });
    l2fwd.interrupt();
    l2fwd.summary();
    rate
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
    let goal = if is_full() { GOALS[0] } else { GOALS[1] };
    assert!(factor >= goal, "l2fwd forwards {factor:.2} times as fast as testpmd, not {goal}");
}

#[test]
fn l2fwd_forwards_a_fifth_faster_than_testpmd_on_82574s() {
    compare("l2fwd_forwards_a_fifth_faster_than_testpmd_on_82574s", ["e1000e0", "e1000e1"]);
}

#[test]
fn l2fwd_forwards_a_fifth_faster_than_testpmd_on_82576s() {
    compare("l2fwd_forwards_a_fifth_faster_than_testpmd_on_82576s", ["igb0", "igb1"]);
}
