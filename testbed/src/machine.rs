//! QEMU as a process: its command line, its birth and its certain end. Knows nothing of what the guest
//! does.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
#[expect(
    clippy::disallowed_types,
    reason = "control plane: several threads ask whether QEMU lives"
)]
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::{At, Error, Result};
use crate::initrd;
use crate::options::{Clock, Options};
use crate::protocol::PORT;
use crate::state::{KernelFiles, State, libraries};
use crate::topology::escaped;

/// How long a QEMU that was killed may take to be gone.
const END_LIMIT: Duration = Duration::from_secs(10);
/// How much of a log is worth showing.
const TAIL: usize = 20;
/// A Unix socket's address has room for so many bytes of path (unix(7)).
const SOCKET_PATH: usize = 107;

/// The files and sockets of one run.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// The run's own folder.
    pub(crate) run: PathBuf,
    /// `$OUT`.
    pub(crate) out: PathBuf,
}

/// A running QEMU. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Machine {
    handle: OwnedFd,
    end: Arc<End>,
    paths: Paths,
}

/// How a process ended, once it has.
#[derive(Debug, Default)]
#[expect(
    clippy::disallowed_types,
    reason = "control plane: several threads ask whether QEMU lives"
)]
struct End {
    status: Mutex<Option<ExitStatus>>,
    told: Condvar,
}

impl Paths {
    pub(crate) fn agent(&self) -> PathBuf {
        self.run.join("agent.sock")
    }

    pub(crate) fn monitor(&self) -> PathBuf {
        self.run.join("qmp.sock")
    }

    pub(crate) fn console(&self) -> PathBuf {
        self.out.join("console")
    }

    fn log(&self) -> PathBuf {
        self.run.join("qemu.log")
    }

    fn initrd(&self) -> PathBuf {
        self.run.join("initrd")
    }

    /// The end of the console, and what QEMU printed.
    pub(crate) fn last_words(&self) -> String {
        let console = fs::read(self.console()).unwrap_or_default();
        let log = fs::read(self.log()).unwrap_or_default();
        let console = tail(&String::from_utf8_lossy(&console), TAIL);
        let log = tail(&String::from_utf8_lossy(&log), TAIL);
        if log.is_empty() { console } else { format!("{console}\nqemu: {log}") }
    }
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

impl Machine {
    /// Starts QEMU with everything that it needs under `paths`.
    pub(crate) fn start(state: &State, options: &Options, paths: Paths) -> Result<Self> {
        let kernel = state.kernel(options.kernel)?;
        let agent = match &options.agent {
            Some(agent) => agent.clone(),
            None => state.built_agent()?,
        };
        prepare(state, options, &kernel, &paths)?;
        let program = state.qemu_program()?;
        let log = File::create(paths.log()).at("make", &paths.log())?;
        // If this process ends without a word, the kernel ends QEMU: setpriv stays the same process.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&program);
        command.args(arguments(state, options, &kernel, &agent, &paths)?);
        command.env("LD_LIBRARY_PATH", libraries(&state.qemu()));
        command.env("QEMU_MODULE_DIR", libraries(&state.qemu()).join("qemu"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let (handle, end) = spawn(command)?;
        Ok(Self { handle, end, paths })
    }

    /// Waits for QEMU to end; none if it did not.
    pub(crate) fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        let status = self.end.status.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.end.told.wait_timeout_while(status, limit, |status| status.is_none());
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    pub(crate) fn paths(&self) -> &Paths {
        &self.paths
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may be gone; the handle never names another process.
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
        let _ = self.wait(END_LIMIT);
    }
}

/// Starts the process on a thread that lives as long as it does: the death of the thread that started a
/// process counts as that of its parent.
fn spawn(mut command: Command) -> Result<(OwnedFd, Arc<End>)> {
    let (to_us, born) = mpsc::channel();
    let end = Arc::new(End::default());
    let told = Arc::clone(&end);
    std::thread::spawn(move || {
        let child = command.spawn().map_err(|error| Error::io("cannot start setpriv", error));
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return drop(to_us.send(Err(error))),
        };
        let handle = Pid::from_raw(child.id().cast_signed())
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
            .map_err(|error| Error::io("cannot watch QEMU", error.into()));
        if to_us.send(handle).is_err() {
            // Nobody will ever ask for its end.
            let _ = child.kill();
        }
        let status = child.wait().unwrap_or_default();
        *told.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
        told.told.notify_all();
    });
    let handle =
        born.recv().map_err(|_| Error::Protocol("the starter of QEMU is gone".into()))??;
    Ok((handle, end))
}

/// Makes the files that QEMU opens.
fn prepare(state: &State, options: &Options, kernel: &KernelFiles, paths: &Paths) -> Result<()> {
    let net = paths.out.join("net");
    fs::create_dir_all(&net).at("make", &net)?;
    for device in options.topology.devices() {
        let socket = crate::topology::qemu_socket(&paths.out, &device.id);
        if socket.as_os_str().len() > SOCKET_PATH {
            return Err(Error::Invalid(format!(
                "{} is too long for a socket's name: take a shorter folder for OUT",
                socket.display()
            )));
        }
        // Left by a guest that did not end well.
        let _ = fs::remove_file(socket);
    }
    for (path, size_mib) in options.topology.images(&paths.out) {
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        file.and_then(|file| file.set_len(size_mib << 20)).at("make", &path)?;
    }
    fs::write(paths.console(), "").at("make", &paths.console())?;
    let archive = initrd::archive(&state.busybox()?, kernel)?;
    fs::write(paths.initrd(), archive).at("write", &paths.initrd())
}

fn arguments(
    state: &State,
    options: &Options,
    kernel: &KernelFiles,
    agent: &Path,
    paths: &Paths,
) -> Result<Vec<String>> {
    let share = state.qemu().join("usr/share");
    let ipxe = state.qemu().join("usr/lib/ipxe/qemu");
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut words = Vec::new();
    let mut add = |pair: [&str; 2]| words.extend(pair.map(str::to_owned));
    for folder in [share.join("qemu"), share.join("seabios"), ipxe] {
        add(["-L", &text(&folder)]);
    }
    add(["-machine", "q35"]);
    let mut cpu = options.topology.cpu.clone();
    match options.clock {
        Clock::Host if options.topology.wants_one_thread() => {
            add(["-accel", "tcg,thread=single"]);
        }
        Clock::Host => {
            add(["-accel", "tcg,thread=multi"]);
            cpu.push_str(",+x2apic");
        }
        // Not with x2APIC: QEMU 10.0 ends at its first timer ("Bad icount read").
        Clock::Instructions => {
            add(["-accel", "tcg,thread=single"]);
            add(["-icount", "shift=2"]);
        }
    }
    add(["-cpu", &cpu]);
    add(["-smp", &options.cpus.to_string()]);
    add(["-m", &options.memory_mib.to_string()]);
    add(["-display", "none"]);
    add(["-kernel", &text(&kernel.image)]);
    add(["-initrd", &text(&paths.initrd())]);
    add(["-append", &kernel_line(options, kernel, agent, paths)?]);
    add(["-chardev", &format!("file,id=console,path={}", escaped(&paths.console()))]);
    add(["-serial", "chardev:console"]);
    add(["-qmp", &format!("unix:{},server=on,wait=off", escaped(&paths.monitor()))]);
    // Above the slots of the topology's root ports and its IOMMU.
    let agent_socket = escaped(&paths.agent());
    add(["-chardev", &format!("socket,id=agent,path={agent_socket},server=on,wait=off")]);
    add(["-device", "virtio-serial-pci,addr=1c.0"]);
    add(["-device", &format!("virtserialport,chardev=agent,name={PORT}")]);
    add(["-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"]);
    add(["-device", "virtio-9p-pci,fsdev=root,mount_tag=root,addr=1d.0"]);
    let out = escaped(&paths.out);
    add(["-fsdev", &format!("local,id=out,path={out},security_model=none,multidevs=remap")]);
    add(["-device", "virtio-9p-pci,fsdev=out,mount_tag=out,addr=1e.0"]);
    words.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned));
    words.extend(options.topology.qemu_arguments(&paths.out));
    words.extend(options.qemu_arguments.iter().cloned());
    Ok(words)
}

fn kernel_line(
    options: &Options,
    kernel: &KernelFiles,
    agent: &Path,
    paths: &Paths,
) -> Result<String> {
    let mut words: Vec<String> =
        ["console=ttyS0", "panic=-1", "no_timer_check"].map(str::to_owned).to_vec();
    words.extend(options.topology.kernel_arguments().iter().map(|word| (*word).to_owned()));
    words.push(format!("hugepages={}", options.hugepages));
    words.extend(options.kernel_arguments.iter().cloned());
    let mut path = |key: &str, path: &Path| {
        let value = path.to_string_lossy();
        if value.contains(char::is_whitespace) {
            return Err(Error::Invalid(format!(
                "{value:?} has a blank in it, which a kernel's command line cannot carry"
            )));
        }
        words.push(format!("testbed.{key}={value}"));
        Ok(())
    };
    path("out", &paths.out)?;
    path("agent", agent)?;
    if let Some(modules) = &kernel.modules {
        path("modules", modules)?;
    }
    Ok(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(out: &str) -> Paths {
        Paths { run: PathBuf::from("/r"), out: PathBuf::from(out) }
    }

    fn own_kernel() -> KernelFiles {
        KernelFiles { image: PathBuf::from("/k/bzImage"), modules: None }
    }

    #[test]
    fn the_kernels_line_carries_the_folders_and_what_vfio_needs() {
        let mut options = Options::new("noiommu").expect("known");
        options.kernel_arguments.push("quiet".to_owned());

        let line =
            kernel_line(&options, &own_kernel(), Path::new("/a"), &paths("/o")).expect("fine");

        assert_eq!(
            line,
            "console=ttyS0 panic=-1 no_timer_check vfio.enable_unsafe_noiommu_mode=1 hugepages=64 quiet \
             testbed.out=/o testbed.agent=/a"
        );
    }

    #[test]
    fn a_folder_with_a_blank_is_refused_by_name() {
        let options = Options::new("default").expect("known");
        let refused = kernel_line(&options, &own_kernel(), Path::new("/a"), &paths("/my files"));
        assert!(refused.expect_err("a blank").to_string().contains("/my files"));
    }

    #[test]
    fn a_machine_that_is_dropped_is_gone() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let (handle, end) = spawn(command).expect("sleep starts");
        let machine = Machine { handle, end, paths: paths("/o") };
        assert!(machine.wait(Duration::from_millis(10)).is_none());

        let start = std::time::Instant::now();
        drop(machine);

        assert!(start.elapsed() < END_LIMIT);
    }

    #[test]
    fn the_tail_of_a_text_is_its_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("", 2), "");
    }
}
