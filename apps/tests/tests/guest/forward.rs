//! Two hosts talk through `l2fwd` as through a cable: the kernel's virtio NICs, each in a namespace of
//! the guest, and between them an 82574 and an 82576 of ours.

use serde_json::Value;

use crate::machine::{App, Machine, number, sum, wait_for};

/// Seconds that iperf3 sends in one direction.
const SECONDS: u32 = 4;

/// Puts the two virtio NICs into namespaces; a guest that is set up already stays as it is.
const SET_UP: &str = r"set -e
ip netns list | grep -q left && exit
host() {
    nic=$(basename /sys/bus/pci/devices/$2/virtio*/net/*)
    ip netns add $1
    ip link set $nic netns $1
    ip -n $1 addr add $3/24 dev $nic
    ip -n $1 link set $nic up
    ip -n $1 link set lo up
}
host left $VA 10.98.0.1
host right $VB 10.98.0.2
";

fn set_up(machine: &Machine) {
    let (va, vb) = (machine.address("va").unwrap(), machine.address("vb").unwrap());
    machine.run(&format!("VA={va} VB={vb}\n{SET_UP}")).unwrap().success().unwrap();
}

/// Starts `l2fwd` between the hosts, and waits until they reach each other.
fn join<'a>(machine: &'a Machine, options: &str) -> App<'a> {
    let ports = ["e1000e0", "igb0"].map(|nic| machine.port(nic)).join(" -p ");
    let mut l2fwd = machine.start("l2fwd", &format!("-p {ports} --json {options}"));
    wait_for("an answer to ping", || {
        assert!(!l2fwd.job.poll(), "l2fwd ended: {}", l2fwd.job.stderr_so_far());
        let ping = machine.run("ip netns exec left ping -c1 -W1 10.98.0.2").unwrap();
        (ping.status == 0).then_some(())
    });
    l2fwd
}

/// Ends `l2fwd`, and checks its books; returns the frames that it received and those that it dropped.
fn part(l2fwd: App<'_>) -> (u64, u64) {
    l2fwd.interrupt();
    let summary = l2fwd.summary();
    let (mut received, mut dropped) = (0, 0);
    for port in summary["ports"].as_array().unwrap() {
        for direction in [&port["rx"], &port["tx"]] {
            let drops = sum(&direction["drops"]);
            let delivered = number(direction, "/delivered");
            assert_eq!(number(direction, "/offered"), delivered + drops, "{port:#}");
            dropped += drops;
        }
        received += number(port, "/rx/offered");
        dropped += sum(&port["dropped"]) + sum(&port["unsent"]);
        assert_eq!(port["health"], "good", "{port:#}");
    }
    (received, dropped)
}

/// Runs iperf3 between the hosts; returns its report.
fn iperf(machine: &Machine, options: &str) -> Value {
    let mut server = machine.spawn("ip netns exec right iperf3 -s -1 --forceflush").unwrap();
    server.wait_for("Server listening", crate::machine::DEADLINE).unwrap();
    let line = format!("ip netns exec left iperf3 -c 10.98.0.2 -J -t {SECONDS} {options}");
    let output = machine.run(&line).unwrap();
    let report: Value = serde_json::from_str(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", output.stdout, output.stderr));
    assert!(report.get("error").is_none(), "{}", report["error"]);
    report
}

fn carries(test: &str, l2fwd_options: &str) {
    let Some(machine) = Machine::open(test, "forward") else {
        return;
    };
    set_up(&machine);
    let l2fwd = join(&machine, l2fwd_options);
    let mut bytes = 0;
    for (way, options) in [("to the 82576", ""), ("to the 82574", "-R")] {
        let report = iperf(&machine, options);
        let carried = number(&report, "/end/sum_received/bytes");
        let rate = report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap() / 1e6;
        let retransmits = number(&report, "/end/sum_sent/retransmits");
        eprintln!("{test}: {way}: {rate:.1} Mb/s, {retransmits} retransmits");
        assert!(carried > 1_000_000, "{carried} B");
        bytes += carried;
    }
    let (received, dropped) = part(l2fwd);
    eprintln!("{test}: {received} frames, {dropped} dropped");
    assert!(received > bytes / 1448, "{received} frames cannot carry {bytes} B");
}

#[test]
fn iperf3_passes_between_two_hosts_through_two_nics() {
    carries("iperf3_passes_between_two_hosts_through_two_nics", "");
}

#[test]
fn iperf3_passes_while_workers_wait_for_interrupts() {
    carries("iperf3_passes_while_workers_wait_for_interrupts", "--idle interrupt");
}
