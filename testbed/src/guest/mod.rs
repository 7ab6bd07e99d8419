//! A running guest, as tests use it: one boot, any number of commands. Knows QEMU's process, its monitor
//! and the agent; knows nothing of what the commands do.
//!
//! The guest sees the host's files, read-only, at their own paths; what it writes is gone with it, except
//! under `$OUT`. Commands run as root, in the caller's folder and environment.

mod console;
mod job;
mod link;

use std::fs;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use job::{Job, Output, Signal};
use link::Link;
use serde_json::{Value, json};

use crate::error::{At, Error, Result};
use crate::machine::{Machine, Paths};
use crate::options::Options;
use crate::protocol::{Head, Start};
use crate::qmp::Qmp;
use crate::state::State;
use crate::topology::{Kind, Topology, host_socket, inlet, qemu_socket};

/// How long QEMU may take to open its sockets.
const SOCKET_LIMIT: Duration = Duration::from_secs(30);
const SOCKET_POLL: Duration = Duration::from_millis(5);
/// How long a command of [`Guest::run`] may take.
const RUN_LIMIT: Duration = Duration::from_secs(120);
/// Variables of the host that say something about the host's processes only.
const NOT_CARRIED: [&str; 5] = ["OUT", "PWD", "OLDPWD", "SHLVL", "_"];

/// A running guest. Dropping it ends QEMU and removes its sockets.
#[derive(Debug)]
pub struct Guest {
    // Fields drop in this order: the line first, so that its end is no surprise.
    link: Link,
    qmp: Qmp,
    machine: Machine,
    topology: Topology,
    uptime_s: f64,
    _echo: Option<console::Echo>,
}

/// The host's end of a NIC that is wired to the host. One datagram is one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEnd {
    /// Bind a datagram socket here: it receives what the NIC sends.
    pub local: PathBuf,
    /// Send datagrams here: the NIC receives them.
    pub remote: PathBuf,
}

impl Guest {
    /// Boots, and returns when the agent reports.
    ///
    /// # Errors
    /// [`Error::NotSetUp`] where a test should skip; else QEMU or the kernel failed, and the message has
    /// the end of the console.
    pub fn boot(options: &Options) -> Result<Self> {
        let state = match &options.state {
            Some(state) => state.clone(),
            None => State::find()?,
        };
        state.check_without_agent(options.kernel)?;
        let run = Run(state.run_folder()?);
        let out = match &options.out {
            Some(out) => {
                fs::create_dir_all(out).at("make", out)?;
                fs::canonicalize(out).at("find", out)?
            }
            None => {
                let out = run.0.join("out");
                fs::create_dir(&out).at("make", &out)?;
                fs::canonicalize(&out).at("find", &out)?
            }
        };
        let paths = Paths { run: run.0.clone(), out };
        let machine = Machine::start(&state, options, paths)?;
        // From here on the machine's end takes the folder with it.
        std::mem::forget(run);
        let echo = options.verbose.then(|| console::echo(machine.paths().console()));
        let booted = connect(&machine, options.boot_limit).and_then(|connected| {
            // A wire need not copy every frame to a socket that nobody reads.
            let mut wires = options.topology.wires();
            wires.try_for_each(|first| connected.0.set_link(&inlet(&first.id), false))?;
            Ok(connected)
        });
        match booted {
            Ok((qmp, link, uptime_s)) => {
                let topology = options.topology.clone();
                Ok(Self { link, qmp, machine, topology, uptime_s, _echo: echo })
            }
            Err(error) => {
                let error = match error {
                    error @ (Error::NotSetUp(_) | Error::Died { .. }) => error,
                    Error::TimedOut { what, limit } => {
                        let what = format!("{}\n{what}", machine.paths().last_words());
                        Error::TimedOut { what, limit }
                    }
                    other => death(&machine, &other.to_string()),
                };
                clean_up(machine, &options.topology);
                Err(error)
            }
        }
    }

    /// Runs a line of bash to its end, for two minutes at most.
    ///
    /// # Errors
    /// If it takes longer, in which case it is killed, or the guest died. A status is no error.
    pub fn run(&self, line: &str) -> Result<Output> {
        self.run_for(line, RUN_LIMIT)
    }

    /// Runs a line of bash to its end, for so long at most.
    ///
    /// # Errors
    /// If it takes longer, in which case it is killed, or the guest died. A status is no error.
    pub fn run_for(&self, line: &str, limit: Duration) -> Result<Output> {
        self.spawn(line)?.wait(limit)
    }

    /// Starts a line of bash, without standard input.
    ///
    /// # Errors
    /// If the guest cannot be reached.
    pub fn spawn(&self, line: &str) -> Result<Job<'_>> {
        self.start(&["bash", "-c", line], false, None)
    }

    /// Starts a line of bash, to be fed by [`Job::write`].
    ///
    /// # Errors
    /// If the guest cannot be reached.
    pub fn spawn_with_input(&self, line: &str) -> Result<Job<'_>> {
        self.start(&["bash", "-c", line], true, None)
    }

    /// Starts a program with these arguments.
    pub(crate) fn start<S: AsRef<str>>(
        &self,
        words: &[S],
        input: bool,
        terminal: Option<(u16, u16)>,
    ) -> Result<Job<'_>> {
        let (job, events) = self.link.register();
        let words: Vec<String> = words.iter().map(|word| word.as_ref().to_owned()).collect();
        let name = words.join(" ");
        let folder = std::env::current_dir().map_err(|error| Error::io("own folder", error))?;
        let folder = folder.to_string_lossy().into_owned();
        let environment = environment(self.out());
        let start =
            Start { job, words, folder, environment, input: input || terminal.is_some(), terminal };
        if self.link.send(&Head::Start(start), &[]).is_err() {
            return Err(self.death(&name));
        }
        Ok(Job::new(self, job, events, name))
    }

    /// QEMU's monitor.
    #[must_use]
    pub fn qmp(&self) -> &Qmp {
        &self.qmp
    }

    /// What the kernel has logged since it booted.
    #[must_use]
    pub fn console(&self) -> String {
        let bytes = fs::read(self.machine.paths().console()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What is on its PCI buses.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// A device's PCI address, as `0000:02:00.0`.
    ///
    /// # Errors
    /// If there is no such device.
    pub fn address(&self, id: &str) -> Result<String> {
        self.topology.address(id)
    }

    /// `$OUT`, on the host and in the guest.
    #[must_use]
    pub fn out(&self) -> &Path {
        &self.machine.paths().out
    }

    /// Seconds that the guest had been up when the agent reported.
    #[must_use]
    pub fn boot_s(&self) -> f64 {
        self.uptime_s
    }

    /// The host's end of a NIC that is wired to the host.
    ///
    /// # Errors
    /// If there is no such device, or its wire goes elsewhere.
    pub fn host_end(&self, nic: &str) -> Result<HostEnd> {
        if !self.topology.device(nic)?.is_wired_to_the_host() {
            return Err(Error::Invalid(format!("{nic} is not wired to the host")));
        }
        let (local, remote) = (host_socket(self.out(), nic), qemu_socket(self.out(), nic));
        Ok(HostEnd { local, remote })
    }

    /// Puts frames on the wire that a NIC is on. It receives them, and so does the NIC at the other end.
    ///
    /// # Errors
    /// If there is no such NIC, or QEMU does not take the frames.
    pub fn inject(&self, nic: &str, frames: &[&[u8]]) -> Result<()> {
        let device = self.topology.device(nic)?;
        let Kind::Nic { .. } = device.kind else {
            return Err(Error::Invalid(format!("{nic} is no NIC")));
        };
        let wire = self.topology.wire(device).map(|(_, first)| first.id.as_str());
        if let Some(wire) = wire {
            self.qmp.set_link(&inlet(wire), true)?;
        }
        let socket = qemu_socket(self.out(), wire.unwrap_or(nic));
        let sender = UnixDatagram::unbound().at("reach", &socket)?;
        for frame in frames {
            sender.send_to(frame, &socket).at("send to", &socket)?;
            // A turn of QEMU's main loop takes one, and the second answer is not of this turn.
            self.qmp.execute("query-status", &Value::Null)?;
            self.qmp.execute("query-status", &Value::Null)?;
        }
        wire.map_or(Ok(()), |wire| self.qmp.set_link(&inlet(wire), false))
    }

    /// Hands devices to `vfio-pci`, whatever drives them now.
    ///
    /// # Errors
    /// If a device is not known, or the kernel refuses.
    pub fn bind(&self, ids: &[&str]) -> Result<()> {
        self.run("modprobe vfio-pci 2> /dev/null || test -d /sys/bus/pci/drivers/vfio-pci")?
            .success()?;
        ids.iter().try_for_each(|id| self.rebind(id, "vfio-pci"))
    }

    /// Gives devices back to the kernel's own drivers.
    ///
    /// # Errors
    /// If a device is not known, or the kernel refuses.
    pub fn unbind(&self, ids: &[&str]) -> Result<()> {
        ids.iter().try_for_each(|id| self.rebind(id, ""))
    }

    /// Plugs a device back in that `qmp().device_del` took out, at the same address, and waits until the
    /// kernel sees it.
    ///
    /// # Errors
    /// If it is there already, or the kernel does not see it within 30 s.
    pub fn device_add(&self, id: &str) -> Result<()> {
        let device = self.topology.device(id)?;
        if let Some(memory) = self.topology.memory_properties(device, self.out()) {
            // QEMU 10.0 aborts in qemu_ram_set_idstr if a device comes back to the memory that one had before.
            self.qmp.execute("object-del", &json!({"id": memory["id"]}))?;
            self.qmp.execute("object-add", &memory)?;
        }
        self.qmp.device_add(self.topology.device_properties(device))?;
        let path = format!("/sys/bus/pci/devices/{}", self.topology.address(id)?);
        let line = format!(
            "for _ in $(seq 300); do [ -e {path}/driver_override ] && exit; sleep 0.1; done; \
             echo '{id} was plugged in, and the kernel does not see it' >&2; exit 1"
        );
        self.run(&line)?.success().map(|_| ())
    }

    /// Has the port above a device report a PCIe error, of which the kernel tells the device's driver:
    /// `BAD_TLP` is corrected, `COMP_TIME` is not, `DLP` is fatal, and so on in QEMU's words.
    ///
    /// The port, because QEMU's NICs have no error reporting that could be switched on. What is no longer
    /// corrected takes the device along: the emulated link does not come back from its reset.
    ///
    /// # Errors
    /// If there is no such device, or no such error.
    pub fn inject_aer(&self, id: &str, error: &str) -> Result<()> {
        let device = self.topology.device(id)?;
        self.qmp.inject_aer(&device.port(), error)
    }

    fn rebind(&self, id: &str, driver: &str) -> Result<()> {
        let device = format!("/sys/bus/pci/devices/{}", self.topology.address(id)?);
        let line = format!(
            "set -e; cd {device}; echo '{driver}' > driver_override; \
             [ ! -e driver ] || basename $PWD > driver/unbind; \
             basename $PWD > /sys/bus/pci/drivers_probe; \
             [ -z '{driver}' ] || [ \"$(basename $(readlink driver))\" = '{driver}' ]"
        );
        let output = self.run(&line)?;
        if output.status == 0 {
            return Ok(());
        }
        let to = if driver.is_empty() { "its own driver" } else { driver };
        Err(Error::Invalid(format!("{id} cannot be bound to {to}: {}", output.stderr.trim())))
    }

    /// What to say when the agent is silent for ever.
    fn death(&self, name: &str) -> Error {
        death(&self.machine, &format!("it was running {name}"))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        remove_sockets(self.out(), &self.topology);
        // QEMU is killed by the machine's own end; files may go while it still has them open.
        let _ = fs::remove_dir_all(&self.machine.paths().run);
    }
}

/// A run's folder, until a machine has it.
struct Run(PathBuf);

impl Drop for Run {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn clean_up(machine: Machine, topology: &Topology) {
    let Paths { run, out } = machine.paths().clone();
    drop(machine);
    remove_sockets(&out, topology);
    let _ = fs::remove_dir_all(run);
}

fn remove_sockets(out: &Path, topology: &Topology) {
    for device in topology.devices() {
        // Only NICs have one.
        let _ = fs::remove_file(qemu_socket(out, &device.id));
    }
}

fn connect(machine: &Machine, limit: Duration) -> Result<(Qmp, Link, f64)> {
    let qmp = Qmp::over(open(machine, &machine.paths().monitor())?)?;
    let (link, uptime_s) = Link::over(open(machine, &machine.paths().agent())?, limit)?;
    Ok((qmp, link, uptime_s))
}

/// Connects to a socket that QEMU is about to open.
fn open(machine: &Machine, path: &Path) -> Result<UnixStream> {
    let start = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) if start.elapsed() > SOCKET_LIMIT => {
                return Err(Error::io(format!("cannot connect to {}", path.display()), error));
            }
            // The wait is for QEMU's end, which would make any other wait pointless.
            Err(_) => {
                if machine.wait(SOCKET_POLL).is_some() {
                    return Err(death(machine, "QEMU did not start"));
                }
            }
        }
    }
}

fn death(machine: &Machine, why: &str) -> Error {
    let status = machine.wait(Duration::from_secs(1));
    let ended = status.map_or("QEMU still runs".to_owned(), |status| format!("QEMU: {status}"));
    let console = machine.paths().last_words();
    Error::Died { why: format!("{why} ({ended})"), console }
}

/// The host's, as far as it is text, and `OUT`.
fn environment(out: &Path) -> Vec<(String, String)> {
    let carried = std::env::vars_os().filter_map(|(key, value)| {
        let pair = (key.into_string().ok()?, value.into_string().ok()?);
        (!NOT_CARRIED.contains(&pair.0.as_str())).then_some(pair)
    });
    carried.chain([("OUT".to_owned(), out.to_string_lossy().into_owned())]).collect()
}
