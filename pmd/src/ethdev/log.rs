//! DPDK's log as tracing events, and its last complaints for error messages. Knows streams of the C library;
//! knows no ports.
#![allow(unsafe_code, reason = "the C library calls back with what was written")]
#![expect(clippy::disallowed_types, reason = "control plane: DPDK logs while ports are set up")]

use std::{
    collections::VecDeque,
    ffi::{c_char, c_void},
    io,
    ptr::null_mut,
    slice,
    sync::{Mutex, MutexGuard, PoisonError},
};

use dpdk_sys as sys;

/// Errors that are kept.
const KEPT: usize = 4;

static COMPLAINTS: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

fn complaints() -> MutexGuard<'static, VecDeque<String>> {
    COMPLAINTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets what was complained about, before a step whose errors matter.
pub(super) fn forget() {
    complaints().clear();
}

/// What is said of every device that cannot be attached, after its driver has said why.
const ECHOES: [&str; 2] =
    ["EAL: Driver cannot attach the device", "EAL: Failed to attach device on primary process"];

/// What DPDK complained about since [`forget`], the last first; `otherwise` if it said nothing.
pub(super) fn why(otherwise: &str) -> String {
    let complaints = complaints();
    let is_news = |line: &&String| !ECHOES.iter().any(|echo| line.starts_with(echo));
    let mut text = complaints.iter().rev().filter(is_news).fold(String::new(), |text, line| {
        if text.is_empty() { line.clone() } else { format!("{text}; before that: {line}") }
    });
    if text.is_empty() {
        text.push_str(otherwise);
    }
    text
}

/// Has DPDK log into tracing from here on.
pub(super) fn redirect() -> io::Result<()> {
    let functions =
        sys::cookie_io_functions_t { read: None, write: Some(write), seek: None, close: None };
    // SAFETY: the function is as fopencookie(3) wants it, and there is no cookie.
    let stream = unsafe { sys::fopencookie(null_mut(), c"w".as_ptr(), functions) };
    if stream.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the stream is open, and stays so for good.
    let failed = unsafe { sys::rte_openlog_stream(stream) };
    if failed == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(failed.saturating_neg())) }
}

/// Called with what was written: DPDK flushes after every message.
unsafe extern "C" fn write(_: *mut c_void, text: *const c_char, len: usize) -> sys::__ssize_t {
    // SAFETY: the stream's buffer, `len` bytes of it, for the time of the call.
    let bytes = unsafe { slice::from_raw_parts(text.cast::<u8>(), len) };
    // SAFETY: reads a variable of this thread.
    let level = unsafe { sys::rte_log_cur_msg_loglevel() };
    for line in String::from_utf8_lossy(bytes).lines().map(str::trim_end) {
        if !line.is_empty() {
            tell(level, line);
        }
    }
    sys::__ssize_t::try_from(len).unwrap_or(sys::__ssize_t::MAX)
}

/// Levels of rte_log.h: 4 is an error, 5 a warning, 8 for debugging.
fn tell(level: i32, line: &str) {
    match level {
        ..=4 => {
            tracing::error!(target: "dpdk", "{line}");
            let mut complaints = complaints();
            if complaints.len() == KEPT {
                complaints.pop_front();
            }
            complaints.push_back(line.to_owned());
        }
        5 => tracing::warn!(target: "dpdk", "{line}"),
        6 | 7 => tracing::debug!(target: "dpdk", "{line}"),
        _ => tracing::trace!(target: "dpdk", "{line}"),
    }
}
