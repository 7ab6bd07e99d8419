//! Whether the screen is taken, and what was to be printed meanwhile: it would tear the picture, so it
//! waits, and is printed when the screen is left.

#![expect(
    clippy::disallowed_types,
    reason = "control plane: lines for people, never on a data path"
)]

use std::{
    io::{self, Write},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Lines that wait at most; those beyond are counted.
const MOST: usize = 1000;

static UP: AtomicBool = AtomicBool::new(false);
static WAITING: Mutex<Waiting> = Mutex::new(Waiting { lines: Vec::new(), lost: 0 });

/// Where a line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

struct Waiting {
    lines: Vec<(Stream, String)>,
    lost: usize,
}

/// Whether the screen is taken.
pub(crate) fn is_up() -> bool {
    UP.load(Ordering::SeqCst)
}

/// Takes the screen, or leaves it; returns whether that changed something.
pub(super) fn set_up(up: bool) -> bool {
    UP.swap(up, Ordering::SeqCst) != up
}

/// Keeps a text for later if the screen is taken; returns whether it did.
pub(crate) fn hold(to: Stream, text: &str) -> bool {
    let is_up = is_up();
    if is_up {
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.lines.len() < MOST {
            waiting.lines.push((to, text.trim_end_matches('\n').to_owned()));
        } else {
            waiting.lost += 1;
        }
    }
    is_up
}

/// The last lines for stderr that wait.
pub(super) fn last(count: usize) -> Vec<String> {
    let waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    let errors = waiting.lines.iter().rev().filter(|(to, _)| *to == Stream::Err);
    let mut last: Vec<_> = errors.take(count).map(|(_, line)| printable(line)).collect();
    last.reverse();
    last
}

/// The text without control characters, which would move the cursor.
fn printable(line: &str) -> String {
    line.chars().filter(|c| !c.is_control()).collect()
}

/// Prints what waited. Does nothing if somebody is at it just now: a panic may come from anywhere.
pub(super) fn print() {
    let Ok(mut waiting) = WAITING.try_lock() else { return };
    for (to, line) in waiting.lines.drain(..) {
        // A reader that has had enough is no error.
        let _ = match to {
            Stream::Out => writeln!(io::stdout(), "{line}"),
            Stream::Err => writeln!(io::stderr(), "{line}"),
        };
    }
    let lost = std::mem::take(&mut waiting.lost);
    if lost > 0 {
        eprintln!("{lost} more lines were not kept while the screen was up");
    }
}

/// Standard error, for logs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if hold(Stream::Err, &String::from_utf8_lossy(bytes)) {
            return Ok(bytes.len());
        }
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_log_do_not_move_the_cursor() {
        assert_eq!(printable("WARN \u{1b}[2Jport\tgone\n"), "WARN [2Jportgone");
    }

    #[test]
    fn nothing_is_kept_while_the_screen_is_free() {
        assert!(!is_up());
        assert!(!hold(Stream::Err, "a line"));
        assert_eq!(last(3), Vec::<String>::new());
    }
}
