//! DPDK's environment abstraction layer: initialised once in a process, by the first port that needs it, and
//! cleaned up when the process ends. Knows threads and memory; knows no ports but how many there are.
//!
//! It runs on a thread of its own, so that no thread of ours is pinned, and its one lcore may run on every
//! CPU: workers are not DPDK's. It probes nothing by itself: ports are attached one by one.
#![allow(unsafe_code, reason = "calls DPDK's set-up functions")]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    fs,
    ptr::from_mut,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{self, SyncSender},
    },
    thread,
    time::Duration,
};

use dpdk_sys as sys;

use super::{log, shortage::Shortage};

/// How the layer is to be initialised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// Without hugepages, on ordinary memory of a fixed size.
    pub(super) no_huge: bool,
    /// Megabytes of memory, all at once; `None` is as it is needed, in hugepages.
    pub(super) megabytes: Option<u32>,
}

/// Megabytes without hugepages, if nothing is said: it is taken when it is touched.
pub(super) const ORDINARY_MEGABYTES: u32 = 256;

/// What came of the initialisation, and with which settings.
static EAL: OnceLock<(Settings, Result<(), String>)> = OnceLock::new();
/// Ports that DPDK has of us.
static PORTS: AtomicUsize = AtomicUsize::new(0);

/// Whether it is to stay as it is when the process ends.
static KEPT: AtomicBool = AtomicBool::new(false);

/// A port's share in the layer: it is not cleaned up while one lives.
#[derive(Debug)]
pub(super) struct Share(());

impl Share {
    /// Initialises the layer, if nobody did.
    ///
    /// # Errors
    /// It refused, now or the first time: it can be tried once in a process. Or it runs with other settings.
    pub(super) fn take(settings: &Settings) -> Result<Self, String> {
        let (with, outcome) = EAL.get_or_init(|| (settings.clone(), init(settings)));
        outcome.clone()?;
        if *settings != Settings::default() && settings != with {
            return Err(format!(
                "DPDK runs in this process with other settings ({}): it is initialised once, by the first \
                 port",
                with.describe()
            ));
        }
        PORTS.fetch_add(1, Ordering::AcqRel);
        Ok(Self(()))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        PORTS.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Has the layer never be cleaned up: DPDK's interrupt thread, which runs to the end, may still use something.
pub(super) fn keep() {
    KEPT.store(true, Ordering::Release);
}

/// Longest wait for DPDK's interrupt thread, whose handlers are short.
const SETTLED: Duration = Duration::from_secs(2);

/// Waits until DPDK's interrupt thread has finished what it was doing when this was called; false if it did
/// not in time.
///
/// A handler that runs there (a peer's socket was closed) uses its port without keeping it. Once a port is
/// stopped no new one begins; one that had begun has to end before the port's memory goes.
pub(super) fn settle() -> bool {
    let (done, is_done) = mpsc::sync_channel::<()>(1);
    let done = Box::into_raw(Box::new(done));
    // SAFETY: alarms go off once, on the interrupt thread, between handlers; the callback takes `done` over.
    let failed = unsafe { sys::rte_eal_alarm_set(1, Some(tell), done.cast()) };
    if failed != 0 {
        // SAFETY: made above; without an alarm nobody else has it.
        drop(unsafe { Box::from_raw(done) });
        return false;
    }
    is_done.recv_timeout(SETTLED).is_ok()
}

unsafe extern "C" fn tell(done: *mut c_void) {
    // SAFETY: from `settle`, and an alarm goes off once.
    let done = unsafe { Box::from_raw(done.cast::<SyncSender<()>>()) };
    // Whoever waited may have given up.
    let _ = done.try_send(());
}

/// Ports there are now.
pub(super) fn ports() -> usize {
    PORTS.load(Ordering::Acquire)
}

impl Settings {
    fn describe(&self) -> String {
        let memory = self.megabytes.map_or("memory as needed".into(), |mb| format!("eal-mem={mb}"));
        format!("{memory}{}", if self.no_huge { ", eal-no-huge" } else { "" })
    }

    /// Arguments as rte_eal_init takes them.
    fn arguments(&self) -> Vec<String> {
        // No files that other processes could see (which DPDK says differently without hugepages), nothing
        // probed: an address where no device is.
        let alone = if self.no_huge { "--no-shconf" } else { "--in-memory" };
        let mut all = vec!["memwire", alone, "--no-telemetry", "-a", "0000:ff:1f.7"];
        all.extend(["--iova-mode", "va", "--lcores"]);
        let mut all: Vec<String> = all.into_iter().map(str::to_owned).collect();
        all.push(format!("0@({})", cpus()));
        if self.no_huge {
            // Names a folder that stays, and stays empty.
            all.extend(["--no-huge", "--file-prefix", "memwire"].map(str::to_owned));
        }
        let megabytes = self.megabytes.or_else(|| self.no_huge.then_some(ORDINARY_MEGABYTES));
        if let Some(megabytes) = megabytes {
            all.extend(["-m".into(), megabytes.to_string()]);
        }
        all
    }
}

/// The CPUs that this process may use, as a list.
fn cpus() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.map(str::trim).filter(|list| !list.is_empty()).unwrap_or("0").to_owned()
}

fn init(settings: &Settings) -> Result<(), String> {
    log::redirect().map_err(|error| format!("DPDK's log cannot be redirected: {error}"))?;
    let settings = settings.clone();
    let thread = thread::Builder::new().name("dpdk-eal".into());
    let thread = thread.spawn(move || init_here(&settings));
    let thread = thread.map_err(|error| {
        format!("no thread for DPDK: {error}; raise this user's limit of processes (ulimit -u)")
    })?;
    thread.join().map_err(|_| "DPDK's initialisation panicked".to_owned())?
}

/// Initialises it on this thread, which it takes for its main lcore.
fn init_here(settings: &Settings) -> Result<(), String> {
    let arguments = settings.arguments();
    tracing::debug!(?arguments, version = version(), "initialising DPDK");
    let strings = arguments.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
    let strings = strings.map_err(|_| "an argument for DPDK has a zero byte in it".to_owned())?;
    // DPDK may keep and change them: they live for good.
    let mut pointers: Vec<*mut c_char> = strings.into_iter().map(CString::into_raw).collect();
    pointers.push(std::ptr::null_mut());
    let count = c_int::try_from(pointers.len() - 1).unwrap_or(0);
    let pointers = Vec::leak(pointers);
    // SAFETY: called once in a process (`EAL`); the arguments are strings, behind them a null.
    let used = unsafe { sys::rte_eal_init(count, pointers.as_mut_ptr()) };
    if used < 0 {
        let error = errno();
        return Err(refusal(settings, error, &log::why(&strerror(error))));
    }
    // SAFETY: a function without arguments.
    if unsafe { libc::atexit(clean_up) } != 0 {
        tracing::debug!(
            "DPDK will not be cleaned up: the C library keeps no more functions for the end"
        );
    }
    Ok(())
}

/// Why the layer refused, and what would help here.
fn refusal(settings: &Settings, error: c_int, why: &str) -> String {
    let shortage = Shortage::read();
    // DPDK calls it a permission when the kernel has no hugepages.
    let error = match settings.no_huge || shortage.has_hugepages() {
        true => format!(" ({})", strerror(error)),
        false => String::new(),
    };
    format!("DPDK's environment refused: {why}{error}; {}", shortage.advice(settings))
}

/// At the end of the process, once nobody uses DPDK. With a port still open nothing is touched: the kernel
/// cleans up behind a process too.
extern "C" fn clean_up() {
    if ports() == 0 && !KEPT.load(Ordering::Acquire) {
        // SAFETY: initialised (registered by `init_here`), no port is left, nothing of one that the interrupt
        // thread knows, and this is the process's end.
        unsafe { sys::rte_eal_cleanup() };
    }
}

/// What DPDK says of its last failure on this thread.
pub(super) fn errno() -> c_int {
    // SAFETY: reads a variable of this thread.
    unsafe { sys::memwire_rte_errno() }
}

/// An error number in words.
pub(super) fn strerror(error: c_int) -> String {
    // SAFETY: always yields a string, which is this thread's until its next call.
    let text = unsafe { sys::rte_strerror(error.saturating_abs()) };
    // SAFETY: as above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The library's version.
pub(super) fn version() -> String {
    // SAFETY: always yields a string that lives for good.
    let text = unsafe { sys::rte_version() };
    // SAFETY: as above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// A structure of DPDK's with all bits zero, as its own set-up code starts.
///
/// # Safety
/// `T` is a plain C structure, of which all zeroes is a value.
pub(super) unsafe fn zeroed<T>() -> T {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: all zeroes is a value (caller).
    unsafe { from_mut(&mut value).cast::<T>().read() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_keep_dpdk_to_itself() {
        let no_huge = Settings { no_huge: true, megabytes: None };
        let text = no_huge.arguments().join(" ");
        assert!(text.contains("--no-shconf") && text.ends_with("-m 256"), "{text}");
        let text = Settings::default().arguments().join(" ");
        assert!(text.contains("--in-memory") && !text.contains("-m "), "{text}");
        let refused = refusal(&no_huge, libc::ENOMEM, "EAL: no pages");
        let start = "DPDK's environment refused: EAL: no pages (Cannot allocate memory); ";
        assert!(refused.starts_with(start), "{refused}");
    }
}
