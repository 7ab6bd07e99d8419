//! Payload memory is taken back and given again while a NIC writes to it: heads go on, nothing is written
//! behind the IOMMU's back, and every frame and buffer is accounted for.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use testbed::{Clock, HostEnd};

use crate::machine::{App, Machine, binary, is_full, last_json, number, pause, wait_for};

/// Both kinds.
pub(crate) const NICS: [&str; 2] = ["e1000e0", "igb0"];

/// How long QEMU is waited for, from the request until the device is gone.
const DELETED: Duration = Duration::from_secs(30);

/// Tells gpurx, of which one runs, to revoke or to resume.
const TELL: &str = "for p in /proc/[0-9]*; do read -r name < $p/comm && [ \"$name\" = gpurx ] && \
                    kill -USR1 ${p#/proc/}; done; true";

/// pktgen on the host, which sends until it is told to end.
pub(crate) struct Sender(Option<Child>);

impl Sender {
    pub(crate) fn start(end: &HostEnd, options: &str) -> Self {
        let mut command = Command::new(binary("pktgen"));
        command.arg("-p").arg(format!(
            "dgram:{},peer={}",
            end.local.display(),
            end.remote.display()
        ));
        command.args(["--json", "-t", "300s"]).args(options.split_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Self(Some(command.spawn().unwrap()))
    }

    /// Ends it; its summary.
    pub(crate) fn end(mut self) -> Value {
        let child = self.0.take().expect("taken only here");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        last_json("pktgen", &String::from_utf8_lossy(&output.stdout))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until gpurx has said it so many times.
pub(crate) fn said(receiver: &mut App<'_>, what: &str, times: usize) {
    wait_for(&format!("'{what}' for the {times}th time"), || {
        let has_ended = receiver.job.poll();
        let log = receiver.job.stderr_so_far();
        assert!(!has_ended, "gpurx ended: {log}");
        (log.matches(what).count() >= times).then_some(())
    });
}

/// Who takes the memory back, and gives it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The operator, by a signal to gpurx.
    Operator,
    /// Somebody who switches the memory device's decoding off, and on.
    Decode,
    /// Whoever pulls the memory device out, and plugs it in again.
    Unplug,
}

impl Way {
    fn takes(self, machine: &Machine) {
        match self {
            Self::Operator => shell(machine, TELL),
            Self::Decode => command(machine, "00"),
            Self::Unplug => machine.qmp().device_del("bar", DELETED).unwrap(),
        }
    }

    fn gives(self, machine: &Machine) {
        match self {
            Self::Operator => shell(machine, TELL),
            Self::Decode => command(machine, "06"),
            Self::Unplug => {
                machine.device_add("bar").unwrap();
                machine.bind(&["bar"]).unwrap();
            }
        }
    }

    fn says(self) -> &'static str {
        match self {
            Self::Operator => "device memory revoked by the operator",
            Self::Decode => "device memory revoked by its provider (memory decode",
            Self::Unplug => "device memory revoked by its provider (removed",
        }
    }
}

fn shell(machine: &Machine, line: &str) {
    let told = machine.run(line).unwrap();
    assert_eq!(told.status, 0, "{line}: {}", told.stderr);
}

/// Writes the BAR's function's command register (PCI Local Bus 3.0 section 6.2.2).
fn command(machine: &Machine, low: &str) {
    let config = format!("/sys/bus/pci/devices/{}/config", machine.address("bar").unwrap());
    shell(
        machine,
        &format!("printf '\\x{low}' | dd of={config} bs=1 seek=4 conv=notrunc status=none"),
    );
}

/// What has happened to a NIC's payload memory, and to its traffic.
struct Told {
    summary: Value,
    /// What the sender says.
    sent: Value,
}

/// Has payloads of a stream go to `memory` through `nic`, and takes it back so many times.
fn stream(machine: &Machine, nic: &str, memory: &str, (way, rounds): (Way, usize)) -> Told {
    let (port, end) = (machine.port(nic), machine.host_end(nic).unwrap());
    let options = "--path direct --seq ipid --udp-port 9000 -v";
    let mut receiver = machine.receive("gpurx", &format!("-p {port}{memory} {options}"));
    let sender = Sender::start(&end, "--ip-id --size 1066 --rate 1kpps");
    let rows = |receiver: &mut App<'_>| {
        receiver.intervals().iter().any(|interval| interval["rx_packets"].as_u64() > Some(0))
    };
    wait_for("the first frame", || rows(&mut receiver).then_some(()));
    for round in 1..=rounds {
        let nap = Duration::from_millis(100 + 37 * (round as u64 % 7));
        way.takes(machine);
        said(&mut receiver, way.says(), round);
        pause(nap);
        way.gives(machine);
        said(&mut receiver, "device memory is back", round);
        pause(nap);
    }
    let sent = sender.end();
    let summary = receiver.end_when_quiet();
    let told = &summary["revocation"];
    for field in ["revocations", "resumed", "acknowledged"] {
        assert_eq!(number(told, &format!("/{field}")), rounds as u64, "{field}: {summary:#}");
    }
    assert_eq!(summary["path"], "direct");
    Told { summary, sent }
}

/// What the IOMMU has refused, since that place in the kernel's log.
fn no_faults(machine: &Machine, since: usize) {
    let console = machine.console();
    let faults = console[since..].lines().filter(|line| line.contains("DMAR: [DMA"));
    let faults: Vec<_> = faults.collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

impl Told {
    /// Tells it, and holds it against what must be: heads never stop for long, and no frame but the few that
    /// the NIC itself loses while a queue is away.
    fn check(&self, test: &str, what: &str, rounds: usize) {
        let Self { summary, sent } = self;
        let told = &summary["revocation"];
        let came = number(summary, "/rx_packets");
        // A sender that was held up itself says nothing of the receiver.
        let late = sent["tx"]["gap_error"]["max_ns"].as_f64().unwrap() / 1e6;
        let sent = number(sent, "/tx/frames");
        let gap = told["longest_gap_ms"].as_f64().unwrap();
        let away = told["ms_without_heads"].as_f64().unwrap();
        eprintln!(
            "{test}: {what}: {rounds} revocations, {came} of {sent} frames, {} rows to the host, \
             longest gap {gap:.2} ms (the sender's own {late:.2}), {:.2} ms without heads each",
            number(told, "/rows_to_host"),
            away / (2 * rounds) as f64,
        );
        let most: f64 = if is_full() { 100.0 } else { 500.0 };
        assert!(gap <= most.max(3.0 * late), "{summary:#}");
        // QEMU holds frames back for a NIC whose queue is away, but for one that is under way to it already:
        // an 82574 that does not receive loses it, and counts nothing.
        let lost = sent - came;
        assert!(lost <= 2 * rounds as u64, "{lost} of {sent} frames lost: {summary:#}");
    }
}

#[test]
fn heads_go_on_while_payload_memory_comes_and_goes_under_a_nic() {
    let test = "heads_go_on_while_payload_memory_comes_and_goes_under_a_nic";
    let Some(machine) = Machine::open(test, "default") else {
        return;
    };
    let rounds = if is_full() { 50 } else { 10 };
    let since = machine.console().len();
    for nic in NICS {
        let told = stream(&machine, nic, " -m fake", (Way::Operator, rounds));
        assert_eq!(number(&told.summary, "/verify/bad"), 0, "{:#}", told.summary);
        told.check(test, nic, rounds);
    }
    no_faults(&machine, since);
}

#[test]
fn heads_go_on_while_a_bar_is_taken_back_switched_off_or_pulled_out() {
    let test = "heads_go_on_while_a_bar_is_taken_back_switched_off_or_pulled_out";
    // By a clock that leaves QEMU one thread: with more, 10.0 aborts in iotlb_to_section sometimes when a BAR
    // of memory comes or goes.
    let Some(machine) = Machine::open_by(Clock::Instructions, test, "default") else {
        return;
    };
    machine.bind(&["bar"]).unwrap();
    let since = machine.console().len();
    for (way, short) in [(Way::Operator, 5), (Way::Decode, 5), (Way::Unplug, 2)] {
        let rounds = if is_full() { 50 } else { short };
        // Where somebody else takes it away nobody may look into it meanwhile: the BAR has no mapping.
        let ways = [("e1000e0", "type1", "", "verify"), ("igb0", "iommufd", ",cpu=off", "place")];
        for (nic, iommu, options, sink) in ways {
            let sink = if way == Way::Operator { sink } else { "place" };
            let bar = machine.address("bar").unwrap();
            let memory = format!(",iommu={iommu} -m p2p:{bar}/bar2{options} --sink {sink}");
            let told = stream(&machine, nic, &memory, (way, rounds));
            if sink == "verify" {
                assert_eq!(number(&told.summary, "/verify/bad"), 0, "{:#}", told.summary);
            }
            told.check(test, &format!("{nic} iommu={iommu}{options} {way:?}"), rounds);
        }
    }
    no_faults(&machine, since);
    machine.unbind(&["bar"]).unwrap();
}
