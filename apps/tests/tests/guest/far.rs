//! The far ends of the guest's NICs, on the host: our own programs there, and the guest whose four ports
//! they face. Knows no fault.

use std::{
    fs::File,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::machine::{App, Machine, binary, last_json, number, wait_for};

/// Two 82574Ls and two 82576s with their far ends on the host.
const TOPOLOGY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest/faults.toml");
/// To these something happens.
pub(crate) const VICTIMS: [&str; 2] = ["e1000e0", "igb0"];
/// These go on meanwhile: what one receives the other sends.
pub(crate) const BYSTANDERS: [&str; 2] = ["e1000e1", "igb1"];

/// The guest with four ports, or none, and on stderr why `test` is skipped.
pub(crate) fn open(test: &str) -> Option<Machine> {
    Machine::open(test, TOPOLOGY)
}

/// What `-p` takes for the far end of that NIC.
fn spec(machine: &Machine, nic: &str) -> String {
    let end = machine.host_end(nic).unwrap();
    format!("dgram:{},peer={}", end.local.display(), end.remote.display())
}

/// One l2fwd that has all four ports, the victims in a network of their own: a port that goes is opened
/// again when it returns.
pub(crate) fn forward_all(machine: &Machine) -> App<'_> {
    let ports: Vec<_> =
        VICTIMS.iter().chain(&BYSTANDERS).map(|nic| format!("-p {}", machine.port(nic))).collect();
    let vlans = "--vlan 0:access=10 --vlan 1:access=10 --vlan 2:access=20 --vlan 3:access=20";
    let line = format!(
        "{} --mode switch {vlans} --ageing 1h --idle sleep --json-stream -i 200ms",
        ports.join(" ")
    );
    let mut l2fwd = machine.start("l2fwd", &line);
    wait_for_links(&mut l2fwd, &["up"; 4]);
    l2fwd
}

/// One l2fwd that joins the victims, as a cable would.
pub(crate) fn join_victims(machine: &Machine) -> App<'_> {
    let [one, other] = VICTIMS.map(|nic| machine.port(nic));
    let line = format!("-p {one} -p {other} --idle sleep --json-stream -i 200ms");
    let mut l2fwd = machine.start("l2fwd", &line);
    wait_for_links(&mut l2fwd, &["up"; 2]);
    l2fwd
}

/// Waits until the ports of a running l2fwd are in these states.
pub(crate) fn wait_for_links(l2fwd: &mut App<'_>, states: &[&str]) {
    wait_for(&format!("ports of l2fwd in states {states:?}"), || {
        let has_ended = l2fwd.job.poll();
        assert!(!has_ended, "l2fwd ended: {}", l2fwd.job.stderr_so_far());
        let printed = l2fwd.job.stdout_so_far();
        // The last line may not be there yet as a whole.
        let line = printed.rsplit('\n').find(|line| line.ends_with('}'))?;
        let ports = serde_json::from_str::<Value>(line).ok()?["ports"].take();
        let found: Vec<_> = ports.as_array()?.iter().filter_map(|p| p["state"].as_str()).collect();
        (found == states).then_some(())
    });
}

/// Ends a l2fwd, which must find every frame and every buffer accounted for; returns its summary.
pub(crate) fn end_l2fwd(l2fwd: App<'_>) -> Value {
    l2fwd.interrupt();
    let summary = l2fwd.summary();
    assert_eq!(summary["balanced"], true, "{summary:#}");
    assert_eq!(number(&summary, "/pool/leaked"), 0, "{summary:#}");
    summary
}

/// One of our programs on the host; killed if the test ends first.
pub(crate) struct HostApp {
    child: Child,
    name: String,
    output: TempDir,
}

impl HostApp {
    fn start(app: &str, arguments: &str) -> Self {
        let output = tempfile::tempdir().unwrap();
        let file = |name| File::create(output.path().join(name)).unwrap();
        let child = Command::new(binary(app))
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap();
        Self { child, name: format!("{app} {arguments}"), output }
    }

    /// Sends frames to a NIC for as long as it is let, and takes what the NIC sends.
    pub(crate) fn load(machine: &Machine, nic: &str, rate: &str) -> Self {
        let port = spec(machine, nic);
        Self::start("pktgen", &format!("-p {port} --rx --rate {rate} --idle sleep --quiet"))
    }

    /// Sends so many frames to one NIC, and expects every one of them from the other.
    pub(crate) fn check(machine: &Machine, [from, to]: [&str; 2], count: u64, rate: &str) -> Self {
        let (from, to) = (spec(machine, from), spec(machine, to));
        let line = format!("-p {from} -p {to} -c {count} --rate {rate} --linger 5s --check");
        Self::start("pktgen", &format!("{line} --idle sleep --json"))
    }

    /// Asks it to end, and waits until it has; how well is not asked.
    pub(crate) fn end(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        wait_for(&format!("the end of {}", self.name), || self.child.try_wait().unwrap());
    }

    /// Waits until it ends, which must be well: none lost, doubled, out of order or damaged. Returns how
    /// many frames arrived.
    pub(crate) fn arrived(mut self) -> u64 {
        let what = format!("the end of {}", self.name);
        let status = wait_for(&what, || self.child.try_wait().unwrap());
        let read = |name| std::fs::read_to_string(self.output.path().join(name)).unwrap();
        let (out, err) = (read("out"), read("err"));
        assert!(status.success(), "{}: {status}\n{out}\n{err}", self.name);
        number(&last_json(&self.name, &out), "/rx/good")
    }
}

impl Drop for HostApp {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
