//! Rates. Beside DPDK's `testpmd`, on the same emulated NICs in the same guest: two ports wired back to back and
//! one core that forwards between them, so that the frames put in at first circulate. And split frames
//! beside whole ones, in pmd's test executable.
//!
//! For `testpmd`, time is the guest's, by its instructions: what the emulator spends on its NICs is the same
//! for both, and nine tenths of the host's time; what programs spend is what they differ in, and what real
//! NICs leave. For a split, it is the host's, since it costs the NIC most.

use testbed::Clock;

use crate::{
    conformance::executable,
    machine::{DEADLINE, Machine, received_mpps, wait_for},
};

/// Frames put onto the wire: as many reach each port.
const LOAD: usize = 32;
/// Bytes of one, without FCS.
const FRAME: usize = 60;
/// Intervals of a second: the load comes in the first, and the last ones count.
const INTERVALS: usize = 4;
const MEASURED: usize = 2;
/// So many times as fast is ours to be.
const GOAL: f64 = 1.2;

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

/// The mean of the last intervals, once enough of them are told after the load.
fn settled(rates: &[f64]) -> Option<f64> {
    let loaded = rates.iter().position(|rate| *rate > 0.0)?;
    let measured = rates[loaded..].get(INTERVALS - MEASURED..INTERVALS)?;
    Some(measured.iter().sum::<f64>() / MEASURED as f64)
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
    let rate = wait_for("testpmd's rates", || {
        assert!(!job.poll(), "testpmd ended: {}", job.stderr_so_far());
        let text = job.stdout_so_far();
        let rates = text.lines().filter_map(|line| line.trim().strip_prefix("Rx-pps:"));
        let rates: Vec<f64> =
            rates.filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        settled(&rates.chunks_exact(2).map(|ports| ports[0] + ports[1]).collect::<Vec<_>>())
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
    let rate = wait_for("l2fwd's rates", || {
        let rates: Vec<f64> =
            l2fwd.intervals().iter().map(|interval| 1e6 * received_mpps(interval)).collect();
        assert!(!l2fwd.job.poll(), "l2fwd ended: {}", l2fwd.job.stderr_so_far());
        settled(&rates)
    });
    l2fwd.interrupt();
    l2fwd.summary();
    rate
}

fn compare(test: &str, nics: [&str; 2]) {
    let Some(machine) = Machine::open_by(Clock::Instructions, test, "pairs") else {
        return;
    };
    if machine.run("command -v dpdk-testpmd").unwrap().status != 0 {
        eprintln!("SKIP {test}: dpdk-testpmd is not installed (dpdk-dev)");
        return;
    }
    drain(&machine, nics);
    let theirs = testpmd(&machine, nics);
    drain(&machine, nics);
    let ours = l2fwd(&machine, nics);
    let factor = ours / theirs;
    eprintln!("{test}: testpmd {theirs:.0}, l2fwd {ours:.0} frames/s: {factor:.2} times");
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

#[test]
fn split_frames_come_nine_tenths_as_fast_as_whole_ones() {
    let test = "split_frames_come_nine_tenths_as_fast_as_whole_ones";
    let Some(executable) = executable(test) else {
        return;
    };
    let Some(machine) = Machine::open(test, "pairs") else {
        return;
    };
    let nics = ["e1000e0", "e1000e1", "igb0", "igb1"].map(|nic| machine.address(nic).unwrap());
    let line = format!("MEMWIRE_PCI={} exec {executable} --nocapture rate::", nics.join(","));
    let output = machine.run(&line).unwrap();
    eprintln!("{}", output.stderr);
    assert_eq!(output.status, 0, "{}{}", output.stdout, output.stderr);
    assert!(output.stdout.contains(" 1 passed"), "{}", output.stdout);
}
