//! Payload memory is taken back and given again while a NIC writes to it: heads go on, nothing is written
//! behind the IOMMU's back, and every frame and buffer is accounted for.

use std::process::{Child, Command, Stdio};

use serde_json::Value;
use testbed::HostEnd;

use crate::machine::{App, Machine, binary, is_full, last_json, number, pause, wait_for};

/// Both kinds.
pub(crate) const NICS: [&str; 2] = ["e1000e0", "igb0"];

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

#[test]
fn heads_go_on_while_payload_memory_comes_and_goes_under_a_nic() {
    let test = "heads_go_on_while_payload_memory_comes_and_goes_under_a_nic";
    let Some(machine) = Machine::open(test, "default") else {
        return;
    };
    let rounds = if is_full() { 50 } else { 10 };
    let most = if is_full() { 100.0 } else { 500.0 };
    let from = machine.console().len();
    for nic in NICS {
        let (port, end) = (machine.port(nic), machine.host_end(nic).unwrap());
        let options = "--path direct -m fake --seq ipid --udp-port 9000 -v";
        let mut receiver = machine.receive("gpurx", &format!("-p {port} {options}"));
        let sender = Sender::start(&end, "--ip-id --size 1066 --rate 1kpps");
        let rows = |receiver: &mut App<'_>| {
            receiver.intervals().iter().any(|interval| interval["rx_packets"].as_u64() > Some(0))
        };
        wait_for("the first frame", || rows(&mut receiver).then_some(()));
        for round in 1..=rounds {
            for says in ["device memory revoked by the operator", "device memory is back"] {
                let told = machine.run(TELL).unwrap();
                assert_eq!(told.status, 0, "{}", told.stderr);
                said(&mut receiver, says, round);
                pause(std::time::Duration::from_millis(100 + 37 * (round as u64 % 7)));
            }
        }
        let sent = sender.end();
        let summary = receiver.end_when_quiet();
        let told = &summary["revocation"];
        for field in ["revocations", "resumed", "acknowledged"] {
            assert_eq!(number(told, &format!("/{field}")), rounds as u64, "{summary:#}");
        }
        assert_eq!(summary["path"], "direct");
        assert_eq!(number(&summary, "/verify/bad"), 0, "{summary:#}");
        let sent = number(&sent, "/tx/frames");
        let came = number(&summary, "/rx_packets");
        let gap = told["longest_gap_ms"].as_f64().unwrap();
        let away = told["ms_without_heads"].as_f64().unwrap();
        eprintln!(
            "{test}: {nic}: {rounds} revocations, {came} of {sent} frames, {} rows to the host, \
             longest gap {gap:.2} ms, {:.2} ms without heads each",
            number(told, "/rows_to_host"),
            away / (2 * rounds) as f64,
        );
        assert!(gap <= most, "{summary:#}");
        // QEMU holds frames back for a NIC whose queue is away, but for one that is under way to it already:
        // an 82574 that does not receive loses it, and counts nothing.
        let lost = sent - came;
        assert!(lost <= 2 * rounds as u64, "{lost} of {sent} frames lost: {summary:#}");
    }
    let console = machine.console();
    let faults: Vec<_> =
        console[from..].lines().filter(|line| line.contains("DMAR: [DMA")).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}
