//! Four network namespaces of a test's own: three hosts, and the switch between them.
//!
//! ```text
//!   host 0              switch              host 1
//!   v0 10.97.0.1 ------ p0  p1 ------------ v1 10.97.0.2
//!                       p2
//!                       |
//!                       v2 10.97.0.3  host 2
//! ```

use std::{path::Path, process::Command};

use tempfile::TempDir;

use crate::{
    lab::{name_for, run},
    process::{Process, binary, wait_for},
};

/// How many hosts there are.
pub(crate) const HOSTS: usize = 3;

/// The namespaces, and a folder for what programs write.
pub(crate) struct Star {
    name: String,
    folder: TempDir,
}

/// The address of a host.
pub(crate) fn address(host: usize) -> String {
    format!("10.97.0.{}", host + 1)
}

impl Star {
    /// Sets all up, or says on stderr why `test` is skipped.
    pub(crate) fn open(test: &str, tools: &[&str]) -> Option<Self> {
        let name = name_for(test, tools)?;
        let star = Self { name, folder: tempfile::tempdir().unwrap() };
        if let Err(why) = star.build() {
            eprintln!("SKIP {test}: {why}");
            return None;
        }
        Some(star)
    }

    fn build(&self) -> Result<(), String> {
        for space in self.spaces() {
            run(Command::new("ip").args(["netns", "add", &space]))?;
            // Nothing but the tests' own traffic.
            for scope in ["all", "default"] {
                let key = format!("net.ipv6.conf.{scope}.disable_ipv6=1");
                let _ =
                    run(Command::new("ip").args(["netns", "exec", &space, "sysctl", "-qw", &key]));
            }
            run(Command::new("ip").args(["-n", &space, "link", "set", "lo", "up"]))?;
        }
        (0..HOSTS).try_for_each(|host| self.plug(host))
    }

    fn spaces(&self) -> impl Iterator<Item = String> + '_ {
        (0..HOSTS).map(|host| self.host(host)).chain([self.middle()])
    }

    fn host(&self, host: usize) -> String {
        format!("{}-h{host}", self.name)
    }

    fn middle(&self) -> String {
        format!("{}-sw", self.name)
    }

    /// Joins a host to the switch, with the same addresses each time.
    pub(crate) fn plug(&self, host: usize) -> Result<(), String> {
        let (near, far) = (self.host(host), self.middle());
        let line = format!(
            "link add v{host} address 02:97:00:00:00:0{host} netns {near} type veth peer name p{host} \
             netns {far}"
        );
        run(Command::new("ip").args(line.split(' ')))?;
        self.ip_host(host, &format!("addr add {}/24 dev v{host}", address(host)))?;
        self.ip_host(host, &format!("link set v{host} up"))?;
        self.ip_switch(&format!("link set p{host} up"))
    }

    /// Runs `ip` at a host; the words of `command` are its arguments.
    pub(crate) fn ip_host(&self, host: usize, command: &str) -> Result<(), String> {
        run(Command::new("ip").args(["-n", &self.host(host)]).args(command.split(' '))).map(drop)
    }

    /// Runs `ip` at the switch.
    pub(crate) fn ip_switch(&self, command: &str) -> Result<(), String> {
        run(Command::new("ip").args(["-n", &self.middle()]).args(command.split(' '))).map(drop)
    }

    /// Where programs may write.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn start_in(&self, space: &str, program: &str, arguments: &str) -> Process {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", space, program]);
        command.args(arguments.split(' ').filter(|word| !word.is_empty()));
        Process::start(self.folder(), &mut command, program)
    }

    /// Starts a program at a host; `arguments` are separated by spaces.
    pub(crate) fn start(&self, host: usize, program: &str, arguments: &str) -> Process {
        self.start_in(&self.host(host), program, arguments)
    }

    /// Runs a program at a host to its end; returns its stdout.
    pub(crate) fn run(&self, host: usize, program: &str, arguments: &str) -> String {
        self.start(host, program, arguments).finish().succeeded().stdout
    }

    /// Whether a host has an answer from an address.
    pub(crate) fn reaches(&self, host: usize, address: &str) -> bool {
        let space = self.host(host);
        let ping = ["netns", "exec", &space, "ping", "-c1", "-W1", address];
        run(Command::new("ip").args(ping)).is_ok()
    }

    /// Waits until a host reaches an address.
    pub(crate) fn wait_for_ping(&self, host: usize, address: &str) {
        wait_for("an answer to ping", || self.reaches(host, address).then_some(()));
    }

    /// Starts `l2fwd` as a switch of all ports, and waits until it receives.
    pub(crate) fn start_switch(&self, options: &str) -> Process {
        let ports = "-p p0 -p p1 -p p2 --mode switch --json";
        let mut l2fwd =
            self.start_in(&self.middle(), &binary("l2fwd"), &format!("{ports} {options}"));
        wait_for("packet sockets that listen", || {
            assert!(!l2fwd.has_ended(), "ended at once: {}", l2fwd.stderr());
            let sockets = self.start_in(&self.middle(), "cat", "/proc/net/packet").finish();
            let running = sockets.stdout.lines().filter(|line| {
                let mut words = line.split_whitespace().skip(3);
                words.next() == Some("0003") && words.nth(1) == Some("1")
            });
            (running.count() >= HOSTS).then_some(())
        });
        l2fwd
    }
}

impl Drop for Star {
    fn drop(&mut self) {
        for space in self.spaces() {
            let _ = run(Command::new("ip").args(["netns", "del", &space]));
        }
    }
}
