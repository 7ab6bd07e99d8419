//! One command in a guest of its own, as a person runs it: its output as it comes, its status as ours.
//! Says what went wrong on standard error; decides no option.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::options::Options;
use crate::protocol::Stream;

/// The status if the time was up.
pub const TIMED_OUT: u8 = 124;
/// The status if the guest died, or never lived.
pub const DIED: u8 = 125;
/// The status if we were interrupted, as a shell has it for Ctrl-C.
const INTERRUPTED: u8 = 130;
/// How often an interrupt is looked for.
const POLL: Duration = Duration::from_millis(100);

/// Boots, runs a program with its arguments to the end, and ends the guest. The time limit is for all of
/// that. Returns the status to exit with.
#[must_use]
pub fn run(options: &Options, words: &[String], limit: Duration) -> u8 {
    let interrupt = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // Without it, the signal ends us, and QEMU dies with us.
        let _ = flag::register(signal, Arc::clone(&interrupt));
    }
    let outcome = attempt(options, words, limit, &interrupt);
    status_of(outcome, &interrupt)
}

pub(crate) fn status_of(outcome: Result<i32>, interrupt: &AtomicBool) -> u8 {
    match outcome {
        Ok(status) => u8::try_from(status).unwrap_or(DIED),
        Err(_) if interrupt.load(Ordering::Relaxed) => INTERRUPTED,
        Err(error) => {
            eprintln!("testbed: {error}");
            if matches!(error, Error::TimedOut { .. }) { TIMED_OUT } else { DIED }
        }
    }
}

fn attempt(
    options: &Options,
    words: &[String],
    limit: Duration,
    interrupt: &AtomicBool,
) -> Result<i32> {
    let deadline = Instant::now() + limit;
    let options = Options { boot_limit: options.boot_limit.min(limit), ..options.clone() };
    let guest = Guest::boot(&options)?;
    let mut job = guest.start(words, false, None)?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match job.follow(left.min(POLL), show) {
            Err(Error::TimedOut { .. }) if left > POLL && !interrupt.load(Ordering::Relaxed) => {}
            Err(Error::TimedOut { what, .. }) => return Err(Error::TimedOut { what, limit }),
            other => return other,
        }
    }
}

/// Output goes where it would go if the command ran here. A reader that has gone is not our failure.
fn show((stream, bytes): (Stream, &[u8])) -> bool {
    let _ = match stream {
        Stream::Out => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
        Stream::Err => std::io::stderr().lock().write_all(bytes),
    };
    false
}
