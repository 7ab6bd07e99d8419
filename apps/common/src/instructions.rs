//! CPU instructions of one thread, where the kernel lets them be counted (perf_event_open(2)). Knows no packet.
#![allow(unsafe_code, reason = "one system call that the libraries in use do not wrap")]

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{FromRawFd, OwnedFd, RawFd},
};

/// What to count: `struct perf_event_attr` of linux/perf_event.h in its first form, 64 bytes.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint: u32,
    config1: u64,
}

const SIZE: u32 = 64;
const _: () = assert!(size_of::<Attributes>() == SIZE as usize);

/// `PERF_TYPE_HARDWARE`.
const HARDWARE: u32 = 0;
/// `PERF_COUNT_HW_INSTRUCTIONS`.
const INSTRUCTIONS: u64 = 1;
/// Bits `exclude_kernel` and `exclude_hv`: what a user may count of himself (perf_event_paranoid 2).
const USER_ALONE: u64 = 1 << 5 | 1 << 6;
/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;

/// Counts the user instructions of the thread that made it.
#[derive(Debug)]
pub struct Instructions(File);

impl Instructions {
    /// Starts counting on this thread.
    ///
    /// # Errors
    /// Why they cannot be counted here, and what may help.
    pub fn of_this_thread() -> Result<Self, String> {
        let attributes = Attributes {
            kind: HARDWARE,
            size: SIZE,
            config: INSTRUCTIONS,
            flags: USER_ALONE,
            ..Attributes::default()
        };
        let (this_thread, any_cpu, no_group): (libc::pid_t, libc::c_int, libc::c_int) = (0, -1, -1);
        // SAFETY: the attributes are as long as they say, and the kernel only reads them.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                this_thread,
                any_cpu,
                no_group,
                CLOSE_ON_EXEC,
            )
        };
        let Ok(fd @ 0..) = RawFd::try_from(fd) else {
            return Err(why(&io::Error::last_os_error()));
        };
        // SAFETY: the kernel has just made it for us, and nobody else knows it.
        Ok(Self(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// So many so far.
    #[must_use]
    pub fn read(&self) -> u64 {
        let mut count = [0; 8];
        // A counter that the kernel took away reads as nothing: what was counted stays what it was.
        let whole = (&self.0).read(&mut count).is_ok_and(|len| len == count.len());
        if whole { u64::from_ne_bytes(count) } else { 0 }
    }
}

fn why(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::EOPNOTSUPP) => "this CPU has no counter for them".into(),
        Some(libc::EACCES | libc::EPERM) => {
            "the kernel lets only root count (sysctl kernel.perf_event_paranoid=2, CAP_PERFMON)"
                .into()
        }
        Some(libc::ENOSYS) => "the kernel has no perf_event_open".into(),
        _ => format!("perf_event_open: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn more_work_takes_more_instructions_or_there_is_a_reason() {
        let counter = match Instructions::of_this_thread() {
            Ok(counter) => counter,
            Err(why) => {
                assert!(!why.is_empty());
                eprintln!("SKIP more_work_takes_more_instructions_or_there_is_a_reason: {why}");
                return;
            }
        };
        let cost = |turns: u64| {
            let before = counter.read();
            black_box((0..turns).map(black_box).sum::<u64>());
            counter.read() - before
        };
        assert!(cost(100_000) > 50 * cost(100), "a thousand times the work");
    }
}
