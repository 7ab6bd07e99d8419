//! What a packet costs the CPU on its way into another device's memory, by the guest's own instructions: whatever
//! the payload's size, whoever gives the memory, and how much more it is if payloads are copied.
//!
//! Each figure is of one backlog: the receiver is held up while the host fills its ring, and then takes all of it
//! in full bursts. An instruction takes 4 ns of the guest's time, and devices take none.

use testbed::Clock;

use crate::{
    apps::Host,
    machine::{Machine, is_full, number, received_mpps, wait_for},
    probe::ask,
};

/// NICs back to back, and the BAR beside them.
const RACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testbed/topologies/direct.toml");
/// Intervals of a heat that count, behind the first that has frames.
const INTERVALS: usize = 5;

/// Frames of a backlog: fewer than descriptors.
const BACKLOG: u64 = 2_000;
/// Nanoseconds of the guest's time that an instruction takes.
const NS_PER_INSTRUCTION: f64 = 4.0;
/// A figure is the best of so many: the kernel's clock ticks fall into some.
const TAKES: usize = 3;
/// Headers: Ethernet, IPv4, UDP.
const HEADERS: usize = 42;

/// How payloads travel.
#[derive(Clone, Copy)]
struct Way<'a> {
    nic: &'a str,
    memory: &'a str,
    path: &'a str,
    /// Bytes of one.
    payload: usize,
}

/// Instructions per packet of one backlog.
fn take(machine: &Machine, way: Way<'_>) -> f64 {
    let Way { nic, memory, path, payload } = way;
    let line = format!(
        "-p {} -m {memory} --path {path} --cost --sink place --seq ipid --udp-port 9000 -c {BACKLOG} \
         --ring 4096 --deadline 60s --max-loss 0% -l 1",
        machine.port(nic)
    );
    let receiver = machine.receive("gpurx", &line);
    ask(machine, "kill -STOP $(pgrep -x gpurx)");
    let end = machine.host_end(nic).unwrap();
    let line = format!("--ip-id --size {} -c {BACKLOG} --rate 5kpps", HEADERS + payload);
    Host::start("pktgen", &end, &line).summary();
    ask(machine, "kill -CONT $(pgrep -x gpurx)");
    let summary = receiver.end_when_quiet();
    assert_eq!(summary["path"], path);
    assert_eq!(number(&summary, "/frames/rows"), BACKLOG, "{summary:#}");
    let copied = if path == "bounce" { BACKLOG * payload as u64 } else { 0 };
    assert_eq!(number(&summary, "/host_payload_bytes"), copied, "{summary:#}");
    let cost = &summary["cost"];
    let figure = |name: &str| cost[name].as_f64().unwrap_or_else(|| panic!("{name}: {summary:#}"));
    assert!(figure("burst") > 16.0, "a backlog comes in full bursts: {summary:#}");
    figure("median_ns") / NS_PER_INSTRUCTION
}

/// Instructions per packet of several ways, taken in turns.
fn measure<const N: usize>(machine: &Machine, ways: [Way<'_>; N]) -> [f64; N] {
    let mut best = [f64::INFINITY; N];
    for _ in 0..TAKES {
        for (best, way) in best.iter_mut().zip(ways) {
            *best = best.min(take(machine, way));
        }
    }
    best
}

fn bar(machine: &Machine) -> String {
    format!("p2p:{}/bar2", machine.address("bar").unwrap())
}

/// How far two figures are apart, as a share of the smaller.
fn apart([one, other]: [f64; 2]) -> f64 {
    (one - other).abs() / one.min(other)
}

#[test]
fn a_long_payload_costs_the_cpu_no_more_than_a_short_one() {
    let test = "a_long_payload_costs_the_cpu_no_more_than_a_short_one";
    let Some(machine) = Machine::open_by(Clock::Instructions, test, "default") else {
        return;
    };
    machine.bind(&["bar"]).unwrap();
    // An 82576 leaves in the head's buffer what fits there as a whole.
    for (nic, short) in [("e1000e0", 64), ("igb0", 300)] {
        let memory = &bar(&machine);
        let way = |payload| Way { nic, memory, path: "direct", payload };
        let counts = measure(&machine, [way(short), way(1400)]);
        let ([few, many], apart) = (counts, apart(counts));
        eprintln!(
            "{test}: {nic}: {short} B {few:.0}, 1400 B {many:.0} instructions per packet: {:.1} % apart",
            apart * 100.0
        );
        assert!(apart < 0.03, "{nic}: {few:.0} and {many:.0} instructions per packet");
    }
    machine.unbind(&["bar"]).unwrap();
}

#[test]
fn a_bar_is_as_fast_as_hugepages_and_a_copy_costs_half_as_much_again() {
    let test = "a_bar_is_as_fast_as_hugepages_and_a_copy_costs_half_as_much_again";
    let Some(machine) = Machine::open_by(Clock::Instructions, test, "default") else {
        return;
    };
    machine.bind(&["bar"]).unwrap();
    for nic in ["e1000e0", "igb0"] {
        let memory = &bar(&machine);
        let way = |memory, path| Way { nic, memory, path, payload: 1400 };
        let ways = [way("hugepage", "direct"), way(memory, "direct"), way(memory, "bounce")];
        let [pages, direct, bounce] = measure(&machine, ways);
        let apart = apart([pages, direct]);
        eprintln!(
            "{test}: {nic}: 1400 B: hugepages {pages:.0}, BAR {direct:.0}, BAR by bounce {bounce:.0} instructions \
             per packet: {:.1} % apart, a copy {:.2} times",
            apart * 100.0,
            bounce / direct
        );
        assert!(apart < 0.05, "{nic}: hugepages {pages:.0}, BAR {direct:.0} instructions");
        assert!(
            bounce >= 1.5 * direct,
            "{nic}: bounce {bounce:.0}, direct {direct:.0} instructions"
        );
    }
    machine.unbind(&["bar"]).unwrap();
}

#[test]
fn gpurx_tells_by_itself_what_a_copy_costs() {
    let test = "gpurx_tells_by_itself_what_a_copy_costs";
    let Some(machine) = Machine::open(test, "default") else {
        return;
    };
    machine.bind(&["bar"]).unwrap();
    for nic in ["e1000e0", "igb0"] {
        let end = machine.host_end(nic).unwrap();
        let _sender = Host::start("pktgen", &end, "--ip-id --size 1442 --rate 2kpps");
        let (port, memory) = (machine.port(nic), bar(&machine));
        let line =
            format!("--compare -p {port} -m {memory} --sink place --seq ipid -c 3k --ring 1024");
        let told = machine.summary("gpurx", &line);
        assert_eq!(told["kind"], "comparison", "{told:#}");
        for (path, bytes) in [("direct", 0.0), ("bounce", 1400.0)] {
            let side = &told[path];
            assert_eq!(side["path"], path, "{told:#}");
            assert!(number(side, "/rx_packets") >= 3_000, "{told:#}");
            assert_eq!(side["cost"]["host_bytes"].as_f64(), Some(bytes), "{told:#}");
        }
        let ratio = told["busy_ratio"].as_f64().unwrap();
        eprintln!("{test}: {nic}: bounce takes {ratio:.2} times the worker's time");
    }
    machine.unbind(&["bar"]).unwrap();
}

/// Frames per second that gpurx receives into `memory` while another port sends as fast as it can: the middle
/// of several intervals.
fn heat(machine: &Machine, [to, from]: [&str; 2], memory: &str) -> f64 {
    let line = format!(
        "-p {} -m {memory} --path direct --sink place --seq ipid --udp-port 9000 --ring 1024 -l 1 \
         --json-stream -i 300ms",
        machine.port(to)
    );
    let mut receiver = machine.start("gpurx", &line);
    receiver.wait_for("\"seconds\"");
    let options = "--ip-id --size 1066 -l 0 --json";
    let sender = machine.start("pktgen", &format!("-p {} {options}", machine.port(from)));
    let rate = wait_for("the race", || {
        let rates: Vec<f64> = receiver.intervals().iter().map(received_mpps).collect();
        let first = rates.iter().position(|rate| *rate > 0.0)?;
        let mut rates = rates.get(first + 1..=first + INTERVALS)?.to_vec();
        rates.sort_by(f64::total_cmp);
        Some(1e6 * rates[INTERVALS / 2])
    });
    sender.interrupt();
    sender.summary();
    let summary = receiver.end_when_quiet();
    assert_eq!(summary["path"], "direct");
    rate
}

#[test]
fn packets_come_into_a_bar_as_fast_as_into_hugepages() {
    let test = "packets_come_into_a_bar_as_fast_as_into_hugepages";
    // By the host's clock a race is decided by who else has the machine's cores.
    let heats = if is_full() { 5 } else { 1 };
    let Some(machine) = Machine::open_by(Clock::Instructions, test, RACE) else {
        return;
    };
    machine.bind(&["bar"]).unwrap();
    let bar = bar(&machine);
    for nics in [["e1000e0", "e1000e1"], ["igb0", "igb1"]] {
        let mut ratios = Vec::new();
        for at in 0..heats {
            // Each begins as often as the other.
            let mut order = ["hugepage", &bar];
            order.rotate_left(at % 2);
            let mut rates = order.map(|memory| heat(&machine, nics, memory));
            rates.rotate_right(at % 2);
            ratios.push(rates[1] / rates[0]);
        }
        ratios.sort_by(f64::total_cmp);
        let [least, middle, most] = [ratios[0], ratios[heats / 2], ratios[heats - 1]];
        eprintln!(
            "{test}: {}: BAR by hugepages, packets/s of the guest's time: {middle:.3} ({least:.3} to {most:.3}), heats: {heats}",
            nics[0]
        );
        assert!((middle - 1.0).abs() < 0.05, "{}: {ratios:.3?}", nics[0]);
    }
    machine.unbind(&["bar"]).unwrap();
}
