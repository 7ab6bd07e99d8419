//! Three network namespaces of a test's own in a row: two hosts, and what stands between them.
//!
//! ```text
//!   left            middle              right
//!   va 10.98.0.1 -- fa      fb -- vb 10.98.0.2
//! ```

use std::{
    path::Path,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tempfile::TempDir;

use crate::process::{Process, is_installed, pause, wait_for};

/// A namespace of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The host with `va`.
    Left,
    /// Between the hosts: `fa`, `fb`.
    Middle,
    /// The host with `vb`.
    Right,
}

use Place::{Left, Middle, Right};

/// The namespaces, and a folder for what programs write.
pub(crate) struct Lab {
    name: String,
    folder: TempDir,
}

/// A name for the namespaces of a lab; or none, and on stderr why `test` is skipped.
pub(crate) fn name_for(test: &str, tools: &[&str]) -> Option<String> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let missing = tools.iter().find(|tool| !is_installed(tool));
    let why = if !rustix::process::geteuid().is_root() {
        Some("needs root to make network namespaces".to_owned())
    } else {
        missing.map(|tool| format!("needs {tool}"))
    };
    if let Some(why) = why {
        eprintln!("SKIP {test}: {why}");
        return None;
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Some(format!("mwe{}-{number}", std::process::id()))
}

impl Lab {
    /// Sets all up, or says on stderr why `test` is skipped.
    pub(crate) fn open(test: &str, tools: &[&str]) -> Option<Self> {
        let name = name_for(test, tools)?;
        let lab = Self { name, folder: tempfile::tempdir().unwrap() };
        if let Err(why) = lab.build() {
            eprintln!("SKIP {test}: {why}");
            return None;
        }
        Some(lab)
    }

    fn build(&self) -> Result<(), String> {
        for place in [Left, Middle, Right] {
            run(Command::new("ip").args(["netns", "add", &self.namespace(place)]))?;
            // Nothing but the tests' own traffic.
            for scope in ["all", "default"] {
                let key = format!("net.ipv6.conf.{scope}.disable_ipv6=1");
                let _ = run(self.command(place, "sysctl").args(["-qw", &key]));
            }
        }
        for (host, near, far) in [(Left, "va", "fa"), (Right, "vb", "fb")] {
            let (host, middle) = (self.namespace(host), self.namespace(Middle));
            let pair = ["link", "add", near, "netns", &host, "type", "veth", "peer", "name", far];
            run(Command::new("ip").args(pair).args(["netns", &middle]))?;
        }
        for (place, command) in [
            (Left, "addr add 10.98.0.1/24 dev va"),
            (Right, "addr add 10.98.0.2/24 dev vb"),
            (Left, "link set va up"),
            (Right, "link set vb up"),
            (Left, "link set lo up"),
            (Right, "link set lo up"),
            (Middle, "link set fa up"),
            (Middle, "link set fb up"),
        ] {
            self.ip(place, command)?;
        }
        Ok(())
    }

    fn namespace(&self, place: Place) -> String {
        format!("{}-{place:?}", self.name).to_lowercase()
    }

    /// Where programs may write.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `ip` in one namespace; the words of `command` are its arguments.
    pub(crate) fn ip(&self, place: Place, command: &str) -> Result<(), String> {
        let namespace = self.namespace(place);
        run(Command::new("ip").args(["-n", &namespace]).args(command.split(' '))).map(drop)
    }

    /// A program, to run in one namespace. It becomes the process that is started.
    pub(crate) fn command(&self, place: Place, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(place), program]);
        command
    }

    /// Starts a program in one namespace; `arguments` are separated by spaces.
    pub(crate) fn start(&self, place: Place, program: &str, arguments: &str) -> Process {
        let mut command = self.command(place, program);
        command.args(arguments.split(' ').filter(|word| !word.is_empty()));
        Process::start(self.folder(), &mut command, program)
    }

    /// Runs a program in one namespace to its end; returns its stdout.
    pub(crate) fn run(&self, place: Place, program: &str, arguments: &str) -> String {
        self.start(place, program, arguments).finish().succeeded().stdout
    }

    /// Waits until that many sockets receive every frame of the interfaces here.
    pub(crate) fn wait_for_listeners(&self, place: Place, count: usize, program: &mut Process) {
        wait_for("a packet socket that listens", || {
            assert!(!program.has_ended(), "ended at once: {}", program.stderr());
            let sockets = self.run(place, "cat", "/proc/net/packet");
            let running = sockets.lines().filter(|line| {
                let mut words = line.split_whitespace().skip(3);
                words.next() == Some("0003") && words.nth(1) == Some("1")
            });
            (running.count() >= count).then_some(())
        });
        pause(Duration::from_millis(200));
    }

    /// Waits until the hosts reach each other.
    pub(crate) fn wait_for_ping(&self) {
        wait_for("an answer to ping", || {
            run(self.command(Left, "ping").args(["-c1", "-W1", "10.98.0.2"])).ok()
        });
    }

    /// What the UDP sockets of a host have lost for want of room.
    pub(crate) fn udp_errors(&self, place: Place) -> u64 {
        let text = self.run(place, "cat", "/proc/net/snmp");
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let mut columns = names.split(' ').zip(values.split(' '));
        columns.find(|(name, _)| *name == "InErrors").unwrap().1.parse().unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for place in [Left, Middle, Right] {
            let _ = run(Command::new("ip").args(["netns", "del", &self.namespace(place)]));
        }
    }
}

pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}", stderr.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
