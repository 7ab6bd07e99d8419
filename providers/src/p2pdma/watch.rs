//! Why memory of another device must be given up, told from what its function shows; and waiting until it is.
//! Numbers and words: revokes nothing.
#![expect(clippy::disallowed_types, reason = "control plane: waits for the end of a device")]

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use super::check::{self, MEMORY};

/// Bytes of the configuration space that are looked at: the header (PCI Local Bus 3.0 §6.1).
pub(super) const HEADER: usize = 64;
/// Where BARs are in it.
const BARS: usize = 0x10;

/// Why a BAR's memory was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Somebody wants the device back: it is unplugged, or unbound.
    Removed,
    /// The bus reported an error of it.
    BusError,
    /// It answers no more.
    Gone,
    /// Somebody switched its memory off.
    DecodeOff {
        /// The command register.
        command: u16,
    },
    /// The BAR is somewhere else on the bus: a reset, and nobody put things back as they were.
    Moved {
        /// What the BAR's register said.
        was: u32,
        /// What it says.
        is: u32,
    },
    /// The CPU found its mapping gone for a moment or for good: switched off, reset or pulled out.
    Vanished,
    /// Who opened it asked for it.
    Asked,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed => f.write_str("removed: the kernel wants the device back"),
            Self::BusError => f.write_str("PCIe error: the bus reported an error of the device"),
            Self::Gone => f.write_str("gone: its configuration space cannot be read"),
            Self::DecodeOff { command } => {
                write!(
                    f,
                    "memory decode is off (command register {command:#06x}): somebody reset it, or wrote that"
                )
            }
            Self::Moved { was, is } => {
                write!(f, "its BAR was at {was:#x} and is at {is:#x}: somebody reset the device")
            }
            Self::Vanished => {
                f.write_str("its mapping vanished: memory decode was off, or it was reset")
            }
            Self::Asked => f.write_str("asked for"),
        }
    }
}

/// What the header of a function says against the use of its BAR; `before` is how it was when it was opened.
pub(super) fn judge(before: &[u8; HEADER], now: Option<&[u8; HEADER]>, index: u8) -> Option<Cause> {
    let Some(now) = now.filter(|now| now[..4] != [0xff; 4]) else { return Some(Cause::Gone) };
    let command = check::command(now)?;
    if command & MEMORY == 0 {
        return Some(Cause::DecodeOff { command });
    }
    let bar = |header: &[u8; HEADER]| {
        let at = BARS + 4 * usize::from(index);
        header.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
    };
    let (was, is) = (bar(before), bar(now));
    (was != is).then_some(Cause::Moved { was, is })
}

/// Told when what holds it is dropped.
#[derive(Debug, Default)]
pub(super) struct Ending(Arc<End>);

/// Waits for it.
#[derive(Clone, Debug)]
pub(super) struct Ended(Arc<End>);

#[derive(Debug, Default)]
struct End {
    is_over: Mutex<bool>,
    told: Condvar,
}

impl Ending {
    pub(super) fn watcher(&self) -> Ended {
        Ended(Arc::clone(&self.0))
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        *self.0.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.told.notify_all();
    }
}

impl Ended {
    /// Waits until it is over, no longer than `limit`; whether it is.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        let is_over = self.0.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.told.wait_timeout_while(is_over, limit, |is_over| !*is_over);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u16, bar: u32) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&[0xf4, 0x1a, 0x10, 0x11]);
        header[4..6].copy_from_slice(&command.to_le_bytes());
        header[0x18..0x1c].copy_from_slice(&bar.to_le_bytes());
        header
    }

    #[test]
    fn a_function_that_is_as_it_was_gives_no_cause() {
        let before = header(0x0006, 0xfe00_000c);
        assert_eq!(judge(&before, Some(&header(0x0402, 0xfe00_000c)), 2), None);
    }

    #[test]
    fn each_thing_that_goes_wrong_has_words_of_its_own() {
        let before = header(0x0006, 0xfe00_000c);
        for (now, words) in [
            (None, "gone: "),
            (Some([0xff; HEADER]), "gone: "),
            (Some(header(0x0004, 0xfe00_000c)), "memory decode is off (command register 0x0004)"),
            (Some(header(0x0006, 0)), "its BAR was at 0xfe00000c and is at 0x0"),
        ] {
            let cause = judge(&before, now.as_ref(), 2).expect(words).to_string();
            assert!(cause.starts_with(words), "{cause}");
        }
    }

    #[test]
    fn who_waits_is_told_of_the_end_and_no_later_than_the_limit() {
        let ending = Ending::default();
        let ended = ending.watcher();
        assert!(!ended.wait(Duration::from_millis(1)));
        let waiter = std::thread::spawn(move || ended.wait(Duration::from_secs(60)));
        drop(ending);
        assert!(waiter.join().expect("waited"));
    }
}
