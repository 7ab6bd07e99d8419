//! A shell in a guest, on the terminal that we were started from. Ctrl-] ends it whatever the guest does.

use std::io::{IsTerminal, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::command::{DIED, status_of};
use crate::error::{Error, Result};
use crate::guest::{Guest, Job};
use crate::options::Options;

/// Ctrl-], as telnet has it.
const ESCAPE: u8 = 0x1d;
/// How often keys and the terminal's size are looked at.
const POLL: Duration = Duration::from_millis(20);

/// The host's terminal, whose keys go through as they are until this is dropped.
struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    fn new() -> Result<Self> {
        let failed = |error: rustix::io::Errno| Error::io("cannot set the terminal", error.into());
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        // Keys that were hit while the guest booted are for the guest.
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that has gone needs no mode.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.before);
    }
}

/// Boots, and hands the terminal to bash in the guest until it exits. Returns the status to exit with.
#[must_use]
pub fn shell(options: &Options) -> u8 {
    if !std::io::stdin().is_terminal() {
        eprintln!("testbed: a shell needs a terminal: use `run -- CMD` instead");
        return DIED;
    }
    let escaped = Arc::new(AtomicBool::new(false));
    status_of(attempt(options, &escaped), &escaped)
}

fn attempt(options: &Options, escaped: &Arc<AtomicBool>) -> Result<i32> {
    let guest = Guest::boot(options)?;
    eprintln!("the guest is up; `exit` or Ctrl-] ends it, OUT is {}", guest.out().display());
    let mut size = size();
    let mut job = guest.start(&["bash", "-i"], true, Some(size))?;
    let terminal = RawTerminal::new()?;
    let keys = keys(Arc::clone(escaped));
    let outcome = loop {
        match job.follow(POLL, |(_, bytes)| show(bytes)) {
            Err(Error::TimedOut { .. }) if !escaped.load(Ordering::Relaxed) => {
                size = resized(&job, size)?;
                while let Ok(bytes) = keys.try_recv() {
                    job.write(&bytes)?;
                }
            }
            other => break other,
        }
    };
    drop(terminal);
    outcome
}

/// Bytes from the terminal, read on a thread that ends with the process or at Ctrl-].
fn keys(escaped: Arc<AtomicBool>) -> std::sync::mpsc::Receiver<Vec<u8>> {
    let (sender, keys) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = std::io::stdin().read(&mut bytes) {
            if bytes[..count].contains(&ESCAPE) {
                escaped.store(true, Ordering::Relaxed);
                return;
            }
            if sender.send(bytes[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    keys
}

fn show(bytes: &[u8]) -> bool {
    let mut out = std::io::stdout().lock();
    // A terminal that has gone will end us by its signal.
    let _ = out.write_all(bytes).and_then(|()| out.flush());
    false
}

fn size() -> (u16, u16) {
    let size = tcgetwinsize(std::io::stdin()).map(|size| (size.ws_row, size.ws_col));
    size.ok().filter(|(rows, columns)| *rows > 0 && *columns > 0).unwrap_or((24, 80))
}

fn resized(job: &Job<'_>, before: (u16, u16)) -> Result<(u16, u16)> {
    let now = size();
    if now != before {
        job.resize(now.0, now.1)?;
    }
    Ok(now)
}
