//! Where a test's programs meet: sockets in a folder of its own, and the programs on them.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    model,
    process::{Finished, Process, binary, wait_for},
};

/// Frames of a run. Who sends them receives, too (`--rx`): it then waits a while before it closes its port,
/// and what lies in a ring at that moment is lost.
pub(crate) const FRAMES: u64 = 5_000;
/// So many a second: rings hold what comes in a fifth of one, while a busy machine does something else.
pub(crate) const RATE: &str = "5kpps";
/// Options of every port: DPDK does without hugepages, and needs no privileges.
pub(crate) const ORDINARY: &str = "eal-no-huge,eal-mem=128";

/// A folder for sockets, and one for what programs write.
pub(crate) struct Place {
    sockets: TempDir,
    output: TempDir,
}

impl Place {
    /// A new one; or none, and on stderr why `test` is skipped.
    pub(crate) fn open(test: &str) -> Option<Self> {
        if !has_feature() {
            eprintln!("SKIP {test}: the apps are built without the feature 'dpdk'");
            return None;
        }
        Some(Self { sockets: tempfile::tempdir().unwrap(), output: tempfile::tempdir().unwrap() })
    }

    /// A path for a socket, or a file.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.sockets.path().join(name)
    }

    /// A port of DPDK's net_memif.
    pub(crate) fn memif(&self, number: u32, role: &str, socket: &str) -> String {
        format!("dpdk:{},{ORDINARY}", self.memif_device(number, role, socket))
    }

    /// The same as DPDK's own programs name it.
    pub(crate) fn memif_device(&self, number: u32, role: &str, socket: &str) -> String {
        let socket = self.path(socket);
        format!("net_memif{number},role={role},socket={},socket-abstract=no", socket.display())
    }

    /// Starts one of our programs; arguments are separated by spaces.
    pub(crate) fn start(&self, program: &str, arguments: &str) -> Process {
        self.start_command(&mut Command::new(binary(program)), arguments, program)
    }

    /// The same, with a NIC that splits frames for each port that is named so (`pmd/tests/ethdev/model`).
    pub(crate) fn start_with_model(&self, program: &str, arguments: &str) -> Process {
        let mut command = Command::new(binary(program));
        self.start_command(command.env("LD_PRELOAD", model::library()), arguments, program)
    }

    /// Runs one of our programs to its end.
    pub(crate) fn run(&self, program: &str, arguments: &str) -> Finished {
        self.start(program, arguments).finish()
    }

    /// Waits until a program has made a socket.
    pub(crate) fn wait_for_socket(&self, name: &str, program: &mut Process) {
        let path = self.path(name);
        wait_for("a socket", || {
            assert!(!program.has_ended(), "ended at once: {}", program.stderr());
            path.exists().then_some(())
        });
    }

    /// Starts DPDK's testpmd, which echoes what its port gets, until it is killed.
    pub(crate) fn testpmd(&self, device: &str) -> Process {
        let arguments = testpmd_arguments(&[device.to_owned()], "loop");
        is_forwarding(self.start_command(&mut Command::new("stdbuf"), &arguments, "testpmd"))
    }

    /// The same, which forwards between the first and the second of its ports, the third and the fourth.
    pub(crate) fn testpmd_between(&self, devices: &[String]) -> Process {
        let arguments = testpmd_arguments(devices, "paired");
        is_forwarding(self.start_command(&mut Command::new("stdbuf"), &arguments, "testpmd"))
    }

    fn start_command(&self, command: &mut Command, arguments: &str, name: &str) -> Process {
        command.args(arguments.split_whitespace());
        Process::start(self.output.path(), command, name)
    }
}

/// Arguments of `stdbuf` that start testpmd on devices: it sends what each gets out of another (`paired`), or
/// back (`loop`).
pub(crate) fn testpmd_arguments(devices: &[String], topology: &str) -> String {
    let devices: String = devices.iter().map(|device| format!(" --vdev {device}")).collect();
    format!(
        // Without the last option it would end at once, for want of input.
        "-oL dpdk-testpmd --lcores 0@(0-1),1@(0-1) --no-huge -m 128 --no-shconf --no-pci --no-telemetry \
         --file-prefix memwire{devices} -- --forward-mode=io --port-topology={topology} \
         --total-num-mbufs=8192 --auto-start --no-flush-rx --stats-period=60"
    )
}

/// Waits until testpmd forwards.
pub(crate) fn is_forwarding(mut testpmd: Process) -> Process {
    wait_for("testpmd's forwarding", || {
        assert!(!testpmd.has_ended(), "{}", testpmd.stderr());
        testpmd.stdout().contains("packet forwarding - ports=").then_some(())
    });
    testpmd
}

/// Whether the apps know ports of DPDK's.
fn has_feature() -> bool {
    let help = Command::new(binary("gpurx")).arg("--help").stdin(Stdio::null()).output();
    help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("dpdk:"))
}

/// A number of a summary.
pub(crate) fn number(summary: &Value, pointer: &str) -> u64 {
    let found = summary.pointer(pointer).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("no {pointer}: {summary:#}"))
}
