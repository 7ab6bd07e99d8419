//! Two network namespaces of a test's own, joined by a veth pair, and gone when the test ends.

use std::{
    fs::File,
    os::fd::AsFd,
    panic,
    process::{Command, Output},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Address of [`A`]'s interface.
pub(crate) const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
/// Address of [`B`]'s interface.
pub(crate) const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

/// One end: a namespace with one interface, `va` or `vb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Has `va`, 10.99.0.1.
    A,
    /// Has `vb`, 10.99.0.2.
    B,
}

/// Two namespaces and the wire between them.
pub(crate) struct Lab {
    name: String,
}

impl Lab {
    /// Sets both up, or says on stderr why `test` is skipped.
    pub(crate) fn open(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIP {test}: needs root to make network namespaces");
            return None;
        }
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let lab = Self { name: format!("mwt{}-{number}", std::process::id()) };
        match lab.build() {
            Ok(()) => Some(lab),
            Err(why) => {
                eprintln!("SKIP {test}: {why}");
                None
            }
        }
    }

    fn build(&self) -> Result<(), String> {
        for end in [End::A, End::B] {
            ip(&["netns", "add", &self.namespace(end)])?;
            // No neighbour discovery, no router solicitation: every frame is the test's.
            for scope in ["all", "default"] {
                self.within(end, || {
                    let path = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
                    std::fs::write(path, "1").or_else(|error| match error.kind() {
                        std::io::ErrorKind::NotFound => Ok(()),
                        _ => Err(error.to_string()),
                    })
                })?;
            }
        }
        self.wire()
    }

    /// Makes the veth pair; both ends up.
    pub(crate) fn wire(&self) -> Result<(), String> {
        let (a, b) = (self.namespace(End::A), self.namespace(End::B));
        ip(&[
            "link",
            "add",
            "va",
            "address",
            "02:00:00:00:00:0a",
            "netns",
            &a,
            "type",
            "veth",
            "peer",
            "name",
            "vb",
            "address",
            "02:00:00:00:00:0b",
            "netns",
            &b,
        ])?;
        for end in [End::A, End::B] {
            self.ip(end, &format!("link set {} up", end.interface()))?;
            self.ip(end, "link set lo up")?;
        }
        Ok(())
    }

    /// Gives both ends IPv4 addresses, and tells each the other's.
    pub(crate) fn addresses(&self) {
        self.set(End::A, "addr add 10.99.0.1/24 dev va");
        self.set(End::B, "addr add 10.99.0.2/24 dev vb");
        self.set(End::A, "neigh replace 10.99.0.2 lladdr 02:00:00:00:00:0b dev va");
        self.set(End::B, "neigh replace 10.99.0.1 lladdr 02:00:00:00:00:0a dev vb");
    }

    fn namespace(&self, end: End) -> String {
        format!("{}-{}", self.name, end.interface())
    }

    /// Runs `ip` in one namespace; the words of `command` are its arguments.
    pub(crate) fn ip(&self, end: End, command: &str) -> Result<(), String> {
        let namespace = self.namespace(end);
        let mut words = vec!["-n", &namespace];
        words.extend(command.split(' '));
        ip(&words)
    }

    /// As [`Lab::ip`], where failing is the test's failure.
    pub(crate) fn set(&self, end: End, command: &str) {
        self.ip(end, command).unwrap();
    }

    /// Runs `task` on a thread of its own in one namespace. Threads it starts are there too.
    pub(crate) fn within<T: Send>(&self, end: End, task: impl FnOnce() -> T + Send) -> T {
        let path = format!("/var/run/netns/{}", self.namespace(end));
        let thread = || {
            let namespace = File::open(&path).unwrap();
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), kind).unwrap();
            task()
        };
        thread::scope(|scope| match scope.spawn(thread).join() {
            Ok(result) => result,
            Err(panicked) => panic::resume_unwind(panicked),
        })
    }
}

impl End {
    /// The name of its interface.
    pub(crate) fn interface(self) -> &'static str {
        match self {
            Self::A => "va",
            Self::B => "vb",
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for end in [End::A, End::B] {
            let _ = ip(&["netns", "del", &self.namespace(end)]);
        }
    }
}

fn ip(words: &[&str]) -> Result<(), String> {
    let Output { status, stderr, .. } = Command::new("ip")
        .args(words)
        .output()
        .map_err(|error| format!("cannot run `ip`: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("`ip {}`: {}", words.join(" "), String::from_utf8_lossy(&stderr).trim()))
}
