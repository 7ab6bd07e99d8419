//! Exact user instructions, without a PMU: the trap flag makes the CPU stop after every instruction,
//! and a SIGTRAP handler counts the stops. A system call counts one; each turn of a `rep` counts one.
#![allow(unsafe_code, reason = "sets the trap flag and a signal handler")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);
/// Whether this process is to take times alone.
static FORGONE: AtomicBool = AtomicBool::new(false);

/// Counts nothing from now on: a further run, whose instructions are those of the first.
pub fn forgo() {
    FORGONE.store(true, Ordering::Relaxed);
}

/// Whether nothing is to be counted.
#[must_use]
pub fn are_forgone() -> bool {
    FORGONE.load(Ordering::Relaxed)
}

extern "C" fn on_trap(_signal: libc::c_int) {
    COUNT.fetch_add(1, Ordering::Relaxed);
}

#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn step(on: bool) {
    if on {
        // SAFETY: sets TF (bit 8) in the flags; the handler below takes every trap.
        unsafe { std::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
    } else {
        // SAFETY: clears TF; undoes the above.
        unsafe { std::arch::asm!("pushfq", "and qword ptr [rsp], -257", "popfq") };
    }
}

/// User instructions that `work` takes on this thread; `None` where they cannot be counted, or are not to be: the
/// work is done all the same.
pub fn count(mut work: impl FnMut()) -> Option<u64> {
    if !cfg!(target_arch = "x86_64") || are_forgone() {
        work();
        return None;
    }
    // SAFETY: all zero is a valid `sigaction`: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_trap as extern "C" fn(libc::c_int) as usize;
    // SAFETY: a handler that touches one atomic.
    if unsafe { libc::sigaction(libc::SIGTRAP, &raw const action, std::ptr::null_mut()) } != 0 {
        work();
        return None;
    }
    let between = |work: &mut dyn FnMut()| {
        COUNT.store(0, Ordering::Relaxed);
        step(true);
        work();
        step(false);
        COUNT.load(Ordering::Relaxed)
    };
    let empty = between(&mut || {});
    Some(between(&mut work).saturating_sub(empty))
}
