//! A BAR may vanish under its mapping: VFIO takes the pages away when memory decode goes off or the
//! device goes, and the next access faults with SIGBUS. The handler here puts pages that read as all
//! ones in their place, so that the access goes on, as on a bus without the device. Faults elsewhere go
//! to the handler that was there before.
//!
//! What the handler does is async-signal-safe: it reads a list of atomics that never shrinks, makes one
//! system call, and takes no lock.
#![allow(unsafe_code, reason = "a signal handler, and the address space it mends")]

use std::{
    ffi::{c_int, c_void},
    fmt,
    io::{self, Write},
    mem::MaybeUninit,
    os::fd::{IntoRawFd, OwnedFd},
    ptr,
    sync::{
        Once, OnceLock,
        atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering},
    },
};

use rustix::fs::{MemfdFlags, SealFlags};

use crate::{Error, Result};

/// A guarded span of address space. Never freed: a span that was given back is used again.
pub(crate) struct Span {
    start: AtomicUsize,
    /// 0 while nobody uses it.
    end: AtomicUsize,
    is_gone: AtomicBool,
    /// The span registered before; fixed once this one is in the list.
    next: *const Self,
}

// SAFETY: `next` leads to another span that is never freed, and is not written after it is shared.
unsafe impl Send for Span {}
// SAFETY: as above.
unsafe impl Sync for Span {}

/// A use of a span, until it is dropped.
pub(crate) struct Guard(&'static Span);

/// Every span there is.
static SPANS: AtomicPtr<Span> = AtomicPtr::new(ptr::null_mut());
/// A file of one page of ones.
static ONES: AtomicI32 = AtomicI32::new(-1);
static PAGE: AtomicUsize = AtomicUsize::new(0);
/// The handler that was there before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// Not a span's end: taken, and not yet in use.
const TAKEN: usize = 1;

impl Guard {
    /// Guards `len` bytes at `start` from now on.
    ///
    /// # Errors
    /// The handler cannot be installed.
    pub(crate) fn new(start: usize, len: usize) -> Result<Self> {
        install()?;
        let guard = Self(unused().unwrap_or_else(added));
        guard.0.is_gone.store(false, Ordering::Relaxed);
        guard.0.start.store(start, Ordering::Relaxed);
        // Release: who sees the end sees the start and the flag.
        guard.0.end.store(start + len, Ordering::Release);
        Ok(guard)
    }

    /// Whether what is behind the span is gone. Of a value that was read from the span before, this
    /// says whether it can be believed.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        // Acquire on an earlier read: the page that replaced the device's came after the flag.
        std::sync::atomic::fence(Ordering::Acquire);
        self.0.is_gone.load(Ordering::Relaxed)
    }

    /// What is behind the span goes: values read from now on are not to be believed.
    pub(crate) fn set_gone(&self) {
        self.0.is_gone.store(true, Ordering::SeqCst);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The mapping is still there, and no thread is in it: whoever is would hold the mapping.
        self.0.end.store(0, Ordering::Release);
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_gone.load(Ordering::Relaxed) { "gone" } else { "there" })
    }
}

fn spans() -> impl Iterator<Item = &'static Span> {
    // Acquire: pairs with the release in `added`.
    let mut at = SPANS.load(Ordering::Acquire).cast_const();
    std::iter::from_fn(move || {
        // SAFETY: null, or a span of the list, which is never freed.
        let span: &'static Span = unsafe { at.as_ref() }?;
        at = span.next;
        Some(span)
    })
}

fn unused() -> Option<&'static Span> {
    spans().find(|span| {
        span.end.compare_exchange(0, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
    })
}

fn added() -> &'static Span {
    let span = Box::leak(Box::new(Span {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(TAKEN),
        is_gone: AtomicBool::new(false),
        next: ptr::null(),
    }));
    let mut head = SPANS.load(Ordering::Acquire);
    loop {
        span.next = head;
        match SPANS.compare_exchange_weak(head, span, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return span,
            Err(now) => head = now,
        }
    }
}

/// Installs the handler, once for the process.
fn install() -> Result<()> {
    static ONCE: Once = Once::new();
    static DONE: OnceLock<String> = OnceLock::new();
    ONCE.call_once(|| {
        if let Err(error) = try_install() {
            DONE.get_or_init(|| error.to_string());
        }
    });
    match DONE.get() {
        None => Ok(()),
        Some(error) => {
            Err(Error::system("a handler for BARs that vanish")(io::Error::other(error.clone())))
        }
    }
}

fn try_install() -> io::Result<()> {
    let page = rustix::param::page_size();
    let ones = ones(page)?;
    PAGE.store(page, Ordering::Relaxed);
    // Release: who sees the file sees the page's size.
    ONES.store(ones.into_raw_fd(), Ordering::Release);
    // Known before ours is called for the first time.
    BEFORE.get_or_init(|| action_of(None));
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_sigbus;
    // SAFETY: zeroes are a valid sigaction.
    let mut ours: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    ours.sa_sigaction = handler as *const () as usize;
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: `ours` is a whole sigaction whose handler is async-signal-safe.
    let result = unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, ptr::null_mut()) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The action for SIGBUS now; with `new`, the one before that became it.
fn action_of(new: Option<&libc::sigaction>) -> libc::sigaction {
    // SAFETY: zeroes are a valid sigaction.
    let mut before: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: null or a whole sigaction to read, and one to write.
    unsafe { libc::sigaction(libc::SIGBUS, new, &raw mut before) };
    before
}

/// A page of ones that nobody can change.
fn ones(page: usize) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create("bar-gone", flags)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(&vec![0xff; page])?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a whole siginfo to a handler with SA_SIGINFO.
    let what = unsafe { &*info };
    // SAFETY: every siginfo has bytes there; they are an address if it is a fault.
    let at = unsafe { what.si_addr() }.addr();
    // Codes above 0 are faults; others say who sent the signal.
    if what.si_code <= 0 || !mend(at) {
        pass_on(signal, info, context);
    }
}

/// Puts a page of ones where a guarded page vanished. False if the address is not guarded.
fn mend(at: usize) -> bool {
    let Some(span) = spans().find(|span| {
        let end = span.end.load(Ordering::Acquire);
        (span.start.load(Ordering::Relaxed)..end).contains(&at) && end > TAKEN
    }) else {
        return false;
    };
    // Before the page: who reads its ones, or reads back what it wrote there, then finds the flag.
    span.is_gone.store(true, Ordering::SeqCst);
    let (ones, page) = (ONES.load(Ordering::Acquire), PAGE.load(Ordering::Relaxed));
    let place = ptr::with_exposed_provenance_mut::<c_void>(at & !(page - 1));
    let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_FIXED);
    // SAFETY: the thread's own `errno`.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let kept = unsafe { *errno };
    // SAFETY: the page belongs to a mapping that its owner guards and still has: this thread faulted in
    // it. A page of a private file replaces a page that is gone.
    let mapped = unsafe { libc::mmap(place, page, rights, flags, ones, 0) };
    // SAFETY: as above.
    unsafe { *errno = kept };
    mapped != libc::MAP_FAILED
}

/// Does what would have been done without us.
fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let Some(before) = BEFORE.get() else { return };
    match before.sa_sigaction {
        libc::SIG_IGN => {}
        libc::SIG_DFL => {
            action_of(Some(before));
            // A fault comes again by itself when we return; a signal that was sent does not.
            // SAFETY: plain system call.
            unsafe { libc::raise(signal) };
        }
        handler if before.sa_flags & libc::SA_SIGINFO != 0 => {
            let handler = ptr::with_exposed_provenance::<()>(handler);
            // SAFETY: somebody installed it as a handler of three arguments.
            let handler = unsafe {
                std::mem::transmute::<
                    *const (),
                    extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void),
                >(handler)
            };
            handler(signal, info, context);
        }
        handler => {
            let handler = ptr::with_exposed_provenance::<()>(handler);
            // SAFETY: somebody installed it as a handler of one argument.
            let handler =
                unsafe { std::mem::transmute::<*const (), extern "C" fn(c_int)>(handler) };
            handler(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::mm::{MapFlags, ProtFlags};

    use super::*;

    const PAGES: usize = 4;

    /// A mapping of a file that is then cut: as a BAR's, it faults with SIGBUS.
    fn vanished() -> (*mut u8, usize) {
        let page = rustix::param::page_size();
        let file = rustix::fs::memfd_create("bar", MemfdFlags::CLOEXEC).expect("a memfd");
        rustix::fs::ftruncate(&file, (PAGES * page) as u64).expect("room");
        let (rights, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping, where the kernel likes.
        let base = unsafe {
            rustix::mm::mmap(ptr::null_mut(), PAGES * page, rights, flags, file.as_fd(), 0)
        };
        rustix::fs::ftruncate(&file, 0).expect("cut");
        (base.expect("mapped").cast(), page)
    }

    #[test]
    fn a_span_that_vanishes_reads_as_all_ones_page_by_page() {
        let (base, page) = vanished();
        let guard = Guard::new(base.expose_provenance(), PAGES * page).expect("guarded");
        assert!(!guard.is_gone());
        for at in [page + 8, page, 0] {
            let register = base.wrapping_add(at).cast::<u32>();
            // SAFETY: inside the mapping; the fault is mended.
            let value = unsafe { register.read_volatile() };
            assert_eq!(value, u32::MAX, "at {at}");
        }
        assert!(guard.is_gone());
        let register = base.wrapping_add(3 * page).cast::<u32>();
        // SAFETY: as above.
        unsafe { register.write_volatile(7) };
    }

    #[test]
    fn a_span_given_back_is_used_again() {
        let (base, page) = vanished();
        let first = Guard::new(base.expose_provenance(), page).expect("guarded");
        first.set_gone();
        drop(first);
        let second = Guard::new(base.expose_provenance(), page).expect("guarded");
        assert!(!second.is_gone(), "the flag of the span before");
    }

    #[test]
    fn an_address_that_nobody_guards_is_not_mended() {
        let (base, page) = vanished();
        let guard = Guard::new(base.expose_provenance(), page).expect("guarded");
        assert!(!mend(base.expose_provenance() + page));
        drop(guard);
        assert!(!mend(base.expose_provenance()));
    }

    /// A fault elsewhere ends a process as it would without the handler: seen in a child of this test's.
    #[test]
    fn a_fault_elsewhere_still_ends_the_process() {
        use std::{os::unix::process::ExitStatusExt, process::Command};
        const CHILD: &str = "VFIO_GUARD_CHILD";
        if std::env::var_os(CHILD).is_some() {
            let (guarded, page) = vanished();
            let _guard = Guard::new(guarded.expose_provenance(), page).expect("guarded");
            let (elsewhere, _) = vanished();
            // SAFETY: inside a mapping; nobody mends the fault, which ends this process.
            unsafe { elsewhere.read_volatile() };
            return;
        }
        let name = "guard::tests::a_fault_elsewhere_still_ends_the_process";
        let mut child = Command::new(std::env::current_exe().expect("this test"));
        let status =
            child.args([name, "--exact"]).env(CHILD, "1").output().expect("a child").status;
        assert_eq!(status.signal(), Some(libc::SIGBUS), "{status}");
    }
}
