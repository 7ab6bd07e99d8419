//! The apps on NICs, with the loops that they have for any other port: among themselves in the guest, and
//! with apps on the host, at the other end of a NIC's wire.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use testbed::HostEnd;

use crate::machine::{Machine, RING, binary, last_json, number, wait_for};

/// Both kinds.
const NICS: [&str; 2] = ["e1000e0", "igb0"];
/// Slow enough for an emulated machine that shares its cores.
const RATE: &str = "--rate 2kpps";

/// One of our programs on the host; killed if the test ends first.
pub(crate) struct Host {
    name: &'static str,
    child: Option<Child>,
}

impl Host {
    /// Starts it at the host's end of a wire, to end by itself.
    pub(crate) fn start(name: &'static str, end: &HostEnd, options: &str) -> Self {
        let HostEnd { local, remote } = end;
        let mut command = Command::new(binary(name));
        command.arg("-p").arg(format!("dgram:{},peer={}", local.display(), remote.display()));
        command.args(["--json", "-t", "60s"]).args(options.split_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { name, child: Some(command.spawn().unwrap()) }
    }

    /// Starts a receiver, and waits until it receives.
    fn receive(name: &'static str, end: &HostEnd, options: &str) -> Self {
        let receiver = Self::start(name, end, options);
        wait_for("a socket on the host", || end.local.exists().then_some(()));
        receiver
    }

    /// Waits until it ends, which must be well; returns its summary.
    pub(crate) fn summary(mut self) -> Value {
        let child = self.child.take().expect("taken only here");
        let output = child.wait_with_output().unwrap();
        let [text, complaint] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(output.status.success(), "{}: {}\n{text}{complaint}", self.name, output.status);
        last_json(self.name, &text)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What tshark reads in a file, or none if it is not installed.
fn tshark(file: &Path, filter: &str) -> Option<usize> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-o", "udp.check_checksum:TRUE", "-Y", filter, "-r"]).arg(file);
    let output = command.output().ok()?;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{complaint}");
    Some(String::from_utf8_lossy(&output.stdout).lines().count())
}

#[test]
fn a_stream_crosses_four_nics_and_a_forwarder_without_loss() {
    let test = "a_stream_crosses_four_nics_and_a_forwarder_without_loss";
    let Some(machine) = Machine::open(test, "pairs") else {
        return;
    };
    let [a, b, c, d] = ["e1000e0", "e1000e1", "igb0", "igb1"].map(|nic| machine.port(nic));
    let forwarder = machine.receive("l2fwd", &format!("-p {b} -p {c} {RING} --idle interrupt"));
    for (from, to) in [(&a, &d), (&d, &a)] {
        let options = format!("--size imix --flows 8 -c 6k {RATE} --check");
        let summary = machine.summary("pktgen", &format!("-p {from} -p {to} {RING} {options}"));
        assert_eq!(number(&summary, "/rx/good"), 6_000, "{summary:#}");
    }
    forwarder.interrupt();
    let summary = forwarder.summary();
    for port in summary["ports"].as_array().unwrap() {
        assert_eq!(number(port, "/rx/delivered"), 6_000, "{port:#}");
        assert_eq!(number(port, "/tx/delivered"), 6_000, "{port:#}");
    }
}

#[test]
fn payloads_reach_device_memory_without_the_cpu_and_without_loss() {
    let test = "payloads_reach_device_memory_without_the_cpu_and_without_loss";
    let Some(machine) = Machine::open(test, "pairs") else {
        return;
    };
    for [from, to] in [["e1000e0", "e1000e1"], ["igb0", "igb1"]] {
        let [from, to] = [from, to].map(|nic| machine.port(nic));
        let options = "--path direct -m fake --seq ipid --udp-port 9000 --max-loss 0%";
        let receiver = machine.receive("gpurx", &format!("-p {to} {RING} -c 6k {options}"));
        let options = format!("--ip-id --size 1066 -c 6k {RATE}");
        machine.summary("pktgen", &format!("-p {from} {options}"));
        let summary = receiver.end_when_quiet();
        assert_eq!(summary["path"], "direct");
        assert_eq!(number(&summary, "/verify/ok"), 6_000, "{summary:#}");
        for harm in ["bad", "missing", "duplicate", "reordered"] {
            assert_eq!(number(&summary, &format!("/verify/{harm}")), 0, "{summary:#}");
        }
    }
}

#[test]
fn what_a_nic_received_is_a_capture_that_wireshark_reads() {
    let test = "what_a_nic_received_is_a_capture_that_wireshark_reads";
    let Some(machine) = Machine::open(test, "pairs") else {
        return;
    };
    for [from, to] in [["e1000e0", "e1000e1"], ["igb0", "igb1"]] {
        let file = machine.out().join(format!("{to}.pcapng"));
        let [from, to] = [from, to].map(|nic| machine.port(nic));
        let capture =
            machine.receive("capture", &format!("-p {to} {RING} -c 2k -w {}", file.display()));
        let options = format!("--size imix --checksum -c 2k {RATE}");
        machine.summary("pktgen", &format!("-p {from} {options}"));
        let summary = capture.end_when_quiet();
        assert_eq!(number(&summary, "/written"), 2_000, "{summary:#}");
        let good = "udp.dstport == 9000 && ip.checksum.status != 0 && udp.checksum.status == 1";
        match tshark(&file, good) {
            Some(read) => assert_eq!(read, 2_000),
            None => eprintln!("SKIP {test}: tshark is not installed"),
        }
    }
}

#[test]
fn apps_on_the_host_talk_to_apps_in_the_guest() {
    let test = "apps_on_the_host_talk_to_apps_in_the_guest";
    let Some(machine) = Machine::open(test, "default") else {
        return;
    };
    for nic in NICS {
        let (port, end) = (machine.port(nic), machine.host_end(nic).unwrap());
        // In: pktgen there, gpurx here.
        let options = "--path direct -m fake --seq ipid --udp-port 9000 --max-loss 0%";
        let receiver = machine.receive("gpurx", &format!("-p {port} -c 4k {options}"));
        let options = format!("--ip-id --size 1066 -c 4k {RATE}");
        Host::start("pktgen", &end, &options).summary();
        let summary = receiver.end_when_quiet();
        assert_eq!(number(&summary, "/verify/ok"), 4_000, "{summary:#}");
        // Out: pktgen here, gpurx there, and then capture.
        let receiver = Host::receive("gpurx", &end, "-m fake --udp-port 9000 -c 4k --max-loss 0%");
        machine.summary("pktgen", &format!("-p {port} --size 1066 -c 4k {RATE}"));
        let summary = receiver.summary();
        assert_eq!(number(&summary, "/verify/ok"), 4_000, "{summary:#}");
        let file = machine.out().join(format!("{nic}.pcapng"));
        let options = format!("-c 2k -w {}", file.display());
        let receiver = Host::receive("capture", &end, &options);
        machine.summary("pktgen", &format!("-p {port} --size imix -c 2k {RATE}"));
        assert_eq!(number(&receiver.summary(), "/written"), 2_000);
        if let Some(read) = tshark(&file, "udp.dstport == 9000") {
            assert_eq!(read, 2_000);
        }
    }
}
