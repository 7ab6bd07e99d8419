//! DPDK's own application as a process at the other end: one port, which echoes what it gets. It is killed
//! when dropped; asked to end, it says what it counted.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// Until it forwards, and until it ends.
const LIMIT: Duration = Duration::from_secs(60);

/// testpmd, forwarding from its port to the same port.
pub(crate) struct Testpmd {
    child: Child,
    lines: Receiver<String>,
}

/// What its forwarding counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Books {
    /// Frames that its driver received and handed over.
    pub(crate) received: u64,
    /// Frames that its driver lost before.
    pub(crate) missed: u64,
    /// Frames that its driver took to be sent.
    pub(crate) sent: u64,
    /// Frames that were not sent, for want of room.
    pub(crate) unsent: u64,
}

impl Testpmd {
    /// Starts it on a virtual device, and waits until it forwards.
    pub(crate) fn start(device: &str) -> Self {
        let mut child = Command::new("stdbuf")
            // Or what it says stays in its buffer.
            .args(["-oL", "dpdk-testpmd", "--lcores", "0@(0-1),1@(0-1)", "--no-huge", "-m", "128"])
            .args(["--no-shconf", "--no-pci", "--no-telemetry", "--file-prefix", "memwire"])
            .args(["--vdev", device, "--", "--forward-mode=io", "--port-topology=loop"])
            // What comes before it forwards is not thrown away.
            .args(["--total-num-mbufs=8192", "--auto-start", "--no-flush-rx"])
            // A model that is laid before the test's libdpdk is not for it.
            .env_remove("LD_PRELOAD")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("testpmd and stdbuf are installed");
        let output = child.stdout.take().expect("it is a pipe");
        let (sender, lines) = mpsc::channel();
        // It must be able to write whatever it likes, whether or not somebody listens.
        thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.for_each(|line| drop(sender.send(line)));
        });
        let testpmd = Self { child, lines };
        let said = testpmd.lines_until(|line| line.contains("packet forwarding - ports="));
        said.unwrap_or_else(|said| panic!("testpmd does not forward:\n{}", said.join("\n")));
        testpmd
    }

    /// Lines up to one that is looked for; as an error those that came instead.
    fn lines_until(&self, found: impl Fn(&str) -> bool) -> Result<Vec<String>, Vec<String>> {
        let (end, mut said) = (Instant::now() + LIMIT, Vec::new());
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let is_it = found(&line);
                    said.push(line);
                    if is_it {
                        return Ok(said);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(said);
                }
            }
        }
    }

    /// Kills it, as a crash would; it is gone when this returns.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Stops it where it is: it lives, and answers nobody.
    pub(crate) fn freeze(&self) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::STOP).expect("it runs");
    }

    /// Asks it to end, and reads its books.
    pub(crate) fn finish(mut self) -> Books {
        let mut input = self.child.stdin.take().expect("it is a pipe");
        input.write_all(b"\n").expect("it still runs");
        // The port's, then the same for all ports.
        let said = self.lines_until(|line| line.contains("Accumulated forward statistics"));
        let said = said.unwrap_or_else(|said| panic!("no statistics:\n{}", said.join("\n")));
        let count = |key: &str| -> u64 {
            let after = said.iter().find_map(|line| line.split_once(key)).map(|(_, rest)| rest);
            let word = after.and_then(|rest| rest.split_whitespace().next());
            let missing = || panic!("no {key} in:\n{}", said.join("\n"));
            word.and_then(|word| word.parse().ok()).unwrap_or_else(missing)
        };
        Books {
            received: count("RX-packets:"),
            missed: count("RX-dropped:"),
            sent: count("TX-packets:"),
            unsent: count("TX-dropped:"),
        }
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether it can be run; else says that `test` is skipped.
pub(crate) fn is_here(test: &str) -> bool {
    let installed = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let missing = ["dpdk-testpmd", "stdbuf"].into_iter().find(|program| !installed(program));
    if let Some(program) = missing {
        println!("SKIP {test}: {program} is not installed");
    }
    missing.is_none()
}
