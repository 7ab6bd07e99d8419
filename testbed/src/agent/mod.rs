//! The agent: what runs in the guest and starts there what the host asks for. Knows the serial port and
//! processes; knows nothing of devices, tests or QEMU.
//!
//! It ends the guest when the host goes away: a guest without a host serves nobody.

mod job;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use crate::protocol::{self, Head, PORT, VERSION};
use job::Jobs;

/// Frames that wait for the port before a job must wait.
const QUEUE: usize = 64;
/// How long the host may take to open its end; until then, reading finds the end of the file.
const HOST_LIMIT: Duration = Duration::from_secs(60);
const HOST_POLL: Duration = Duration::from_millis(10);

/// A frame to be sent.
type Message = (Head, Vec<u8>);

/// Serves the host until it goes away or says so, and then ends the guest.
///
/// # Errors
/// If there is no port to the host, or what comes over it makes no sense.
pub fn serve() -> io::Result<()> {
    let path = port()?;
    let mut port = File::options().read(true).write(true).open(&path)?;
    let (sender, messages) = mpsc::sync_channel(QUEUE);
    let writer = port.try_clone()?;
    std::thread::spawn(move || send(writer, &messages));
    await_host(&mut port)?;
    let uptime_s = uptime_s().unwrap_or_default();
    tell(&sender, Head::Ready { version: VERSION, uptime_s });

    let mut jobs = Jobs::new(sender);
    while let Some((head, body)) = protocol::read(&mut port)? {
        match head {
            Head::Start(start) => jobs.start(start),
            Head::Input { job } => jobs.input(job, body),
            Head::Signal { job, number } => jobs.signal(job, number),
            Head::Resize { job, rows, columns } => jobs.resize(job, rows, columns),
            Head::PowerOff => break,
            // A host's greeting was read; everything else is the agent's own to say.
            _ => {}
        }
    }
    power_off()
}

/// The device node of our serial port.
fn port() -> io::Result<PathBuf> {
    for entry in fs::read_dir("/sys/class/virtio-ports")? {
        let entry = entry?;
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim() == PORT {
            return Ok(PathBuf::from("/dev").join(entry.file_name()));
        }
    }
    Err(io::Error::new(ErrorKind::NotFound, format!("no virtio serial port is called {PORT}")))
}

/// Reads the host's greeting, however late the host opens its end.
fn await_host(port: &mut File) -> io::Result<()> {
    let start = Instant::now();
    while start.elapsed() < HOST_LIMIT {
        let mut first = [0; 1];
        if port.read(&mut first)? == 1 {
            let mut frame = (&first[..]).chain(&mut *port);
            return match protocol::read(&mut frame)? {
                Some((Head::Hello { .. }, _)) => Ok(()),
                other => Err(io::Error::other(format!("the host said {other:?} before hello"))),
            };
        }
        pause();
    }
    Err(io::Error::new(ErrorKind::TimedOut, "nobody is at the other end of the serial port"))
}

#[expect(clippy::disallowed_methods, reason = "the port cannot be polled before its first reader")]
fn pause() {
    std::thread::sleep(HOST_POLL);
}

fn send(mut port: File, messages: &Receiver<Message>) {
    for (head, body) in messages {
        if protocol::write(&mut port, &head, &body).is_err() {
            // The reader finds the end of the port, and ends the guest.
            return;
        }
    }
}

/// Sends a frame without a body. The writer is there as long as the guest is.
fn tell(sender: &SyncSender<Message>, head: Head) {
    let _ = sender.send((head, Vec::new()));
}

fn uptime_s() -> Option<f64> {
    fs::read_to_string("/proc/uptime").ok()?.split(' ').next()?.parse().ok()
}

/// At once: an orderly shutdown can hang in a device driver that a test has upset.
fn power_off() -> io::Result<()> {
    fs::write("/proc/sysrq-trigger", "b")
}
