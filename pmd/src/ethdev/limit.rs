//! Calls of DPDK's that may wait for a peer: one at a time, on a thread of their own, each with a limit.
//! Knows threads and a signal; knows no ports.
//!
//! DPDK's drivers ask their peers by sockets that block: net_virtio_user while it is attached, started and
//! stopped. A peer that takes a connection and then says nothing would hold them for ever. A call that takes
//! longer than its limit is interrupted: its thread gets a signal whose handler does nothing, so that the
//! system call in which it waits fails, and the driver gives up and cleans up as after any failure. The signal
//! comes again and again, since one that comes before the wait begins wakes nobody. Where even that does not
//! help the call keeps its turn and what it owns, and all others are refused until it ends; what it then brings
//! is dropped.
#![allow(unsafe_code, reason = "installs a handler for a signal, and sends it to a thread")]
#![expect(clippy::disallowed_types, reason = "control plane: ports come and go rarely")]

use std::{
    ffi::c_int,
    fmt,
    os::unix::thread::JoinHandleExt,
    ptr::{from_mut, from_ref, null, null_mut},
    sync::{
        Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long a call may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Until it is interrupted.
    call: Duration,
    /// From then until it is given up.
    grace: Duration,
}

impl Limits {
    /// For a device of that name. Hardware trains links and loads firmware; a virtual device has a peer at most,
    /// which answers at once or not at all.
    fn of(name: &str) -> Self {
        let is_hardware = name.contains(':');
        let call = Duration::from_secs(if is_hardware { 60 } else { 10 });
        Self { call, grace: Duration::from_secs(5) }
    }
}

/// Whom a device's driver may wait for.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    device: String,
    /// Where they meet.
    socket: Option<String>,
    limits: Limits,
}

/// A call that ended.
#[derive(Debug)]
pub(super) struct Call<T> {
    pub(super) value: T,
    /// What to say of it, if it had to be interrupted.
    pub(super) overdue: Option<String>,
}

impl Peer {
    pub(super) fn new(device: &str, socket: Option<&str>) -> Self {
        let limits = Limits::of(device);
        Self { device: device.to_owned(), socket: socket.map(str::to_owned), limits }
    }

    /// Makes a call of DPDK's for the device, of which `doing` says what it does ("attaching").
    ///
    /// # Errors
    /// It does not end, or another one does not: what happened and what to do.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        doing: &str,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Call<T>, String> {
        let what = format!("{doing} '{}'", self.device);
        let ended = CONTROL.make(&what, self.limits, call);
        let Ended { value, is_late } = ended.map_err(|blocked| format!("{what} {blocked}"))?;
        Ok(Call { value, overdue: is_late.then(|| self.overdue(&what)) })
    }

    fn overdue(&self, what: &str) -> String {
        let advice = match &self.socket {
            Some(socket) => format!(
                "who listens at {socket} does not answer: see that it runs, and that it is what this driver \
                 talks to"
            ),
            None => "see that the device, or who is at its other end, answers".to_owned(),
        };
        format!(
            "{what} took more than {} s and was interrupted; {advice}",
            self.limits.call.as_secs()
        )
    }
}

impl<T> Call<T> {
    /// What came of it, if it ended by itself.
    pub(super) fn in_time(self) -> Result<T, String> {
        match self.overdue {
            None => Ok(self.value),
            Some(why) => Err(why),
        }
    }
}

/// A call that ended.
#[derive(Debug)]
struct Ended<T> {
    value: T,
    /// Whether it had to be interrupted.
    is_late: bool,
}

/// Why a call did not end, or was not made.
#[derive(Debug, PartialEq, Eq)]
enum Blocked {
    /// It goes on, and nobody knows for how long.
    Endless { seconds: u64 },
    /// Another one is being made for so long already.
    Behind { what: String, seconds: u64 },
    /// There is no thread for it, or its thread panicked.
    Thread(String),
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endless { seconds } => write!(
                f,
                "has not ended after {seconds} s and cannot be interrupted; until it ends DPDK opens and closes \
                 no port: end what it waits for, or this process"
            ),
            Self::Behind { what, seconds } => write!(
                f,
                "cannot begin: DPDK has been {what} for {seconds} s, and does one such thing at a time; end \
                 what that waits for, or this process"
            ),
            Self::Thread(why) => f.write_str(why),
        }
    }
}

/// One caller at a time.
#[derive(Debug)]
struct Turns {
    now: Mutex<Option<Turn>>,
    is_over: Condvar,
}

/// The call that is being made.
#[derive(Debug)]
struct Turn {
    what: String,
    since: Instant,
    /// Nobody waits for it any more.
    is_given_up: bool,
}

/// Of DPDK, whose functions for attaching and removing are not made for two at a time.
static CONTROL: Turns = Turns::new();

/// Time between two signals.
const AGAIN: Duration = Duration::from_millis(20);

impl Turns {
    const fn new() -> Self {
        Self { now: Mutex::new(None), is_over: Condvar::new() }
    }

    fn now(&self) -> MutexGuard<'_, Option<Turn>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call when its turn comes; `what` says what is being done ("attaching 'net_ring0'").
    ///
    /// # Errors
    /// It does not end, or another one does not; then `call`, with what it owns, is dropped uncalled.
    fn make<T: Send + 'static>(
        &'static self,
        what: &str,
        limits: Limits,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Ended<T>, Blocked> {
        let since = self.begin(what, limits)?;
        let turn = TurnGuard(self);
        let (sender, done) = mpsc::sync_channel(1);
        let waker = waker();
        let thread = thread::Builder::new().name("dpdk-control".into()).spawn(move || {
            waker.inspect(|signal| listen(*signal));
            // What nobody waits for any more is dropped here, in its turn.
            drop(sender.send(call()));
            drop(turn);
        });
        let thread = thread.map_err(|error| Blocked::Thread(format!("has no thread ({error})")))?;
        match done.recv_timeout(limits.call) {
            Ok(value) => return Ok(Ended { value, is_late: false }),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(panicked()),
        }
        match interrupt(&thread, waker, &done, limits.grace) {
            Some(Ok(value)) => Ok(Ended { value, is_late: true }),
            Some(Err(blocked)) => Err(blocked),
            None => {
                // Another one's, if it has ended just now.
                if let Some(turn) = self.now().as_mut().filter(|turn| turn.since == since) {
                    turn.is_given_up = true;
                }
                self.is_over.notify_all();
                Err(Blocked::Endless { seconds: since.elapsed().as_secs() })
            }
        }
    }

    /// Waits until nobody has a turn, and takes one.
    fn begin(&self, what: &str, limits: Limits) -> Result<Instant, Blocked> {
        // As long as the one before may take, and a little more.
        let end = Instant::now() + limits.call + 2 * limits.grace;
        let mut now = self.now();
        while let Some(turn) = &*now {
            let left = end.saturating_duration_since(Instant::now());
            if turn.is_given_up || left.is_zero() {
                let seconds = turn.since.elapsed().as_secs();
                return Err(Blocked::Behind { what: turn.what.clone(), seconds });
            }
            let waited = self.is_over.wait_timeout(now, left);
            now = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let since = Instant::now();
        *now = Some(Turn { what: what.to_owned(), since, is_given_up: false });
        Ok(since)
    }
}

/// Ends a turn, also of a call that panics.
struct TurnGuard(&'static Turns);

impl Drop for TurnGuard {
    fn drop(&mut self) {
        *self.0.now() = None;
        self.0.is_over.notify_all();
    }
}

fn panicked() -> Blocked {
    Blocked::Thread("panicked".into())
}

/// Wakes a thread out of what it waits in, until it brings something or the time is over.
fn interrupt<T>(
    thread: &JoinHandle<()>,
    waker: Option<c_int>,
    done: &Receiver<T>,
    grace: Duration,
) -> Option<Result<T, Blocked>> {
    let end = Instant::now() + grace;
    while Instant::now() < end {
        if let Some(signal) = waker.filter(|signal| handler_of(*signal) == address_of_handler()) {
            // SAFETY: the thread is neither joined nor detached while its handle is there.
            unsafe { libc::pthread_kill(thread.as_pthread_t(), signal) };
        }
        match done.recv_timeout(AGAIN) {
            Ok(value) => return Some(Ok(value)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Some(Err(panicked())),
        }
    }
    None
}

/// The signal that wakes threads: the highest that nobody uses. It keeps its handler for good.
fn waker() -> Option<c_int> {
    static WAKER: OnceLock<Option<c_int>> = OnceLock::new();
    *WAKER.get_or_init(|| {
        let mut signals = (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev();
        let free = signals.find(|signal| handler_of(*signal) == libc::SIG_DFL)?;
        // SAFETY: a plain structure of numbers; without flags system calls are not begun anew.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = address_of_handler();
        // SAFETY: the handler does nothing, which any thread may do at any time.
        let failed = unsafe { libc::sigaction(free, from_ref(&action), null_mut()) };
        (failed == 0).then_some(free)
    })
}

extern "C" fn wake(_: c_int) {}

fn address_of_handler() -> libc::sighandler_t {
    (wake as extern "C" fn(c_int)) as libc::sighandler_t
}

/// What a signal does; that of none is the default.
fn handler_of(signal: c_int) -> libc::sighandler_t {
    // SAFETY: a plain structure of numbers.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: asks only, and the answer has its place.
    unsafe { libc::sigaction(signal, null(), from_mut(&mut action)) };
    action.sa_sigaction
}

/// Lets a signal through to this thread, which may have begun with all of them blocked.
fn listen(signal: c_int) {
    // SAFETY: a plain structure of numbers.
    let mut signals: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set has its place.
    unsafe { libc::sigemptyset(from_mut(&mut signals)) };
    // SAFETY: as above; the signal is one.
    unsafe { libc::sigaddset(from_mut(&mut signals), signal) };
    // SAFETY: changes this thread's mask only.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, from_ref(&signals), null_mut()) };
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::net::UnixStream, sync::Arc};

    use super::*;

    const LIMITS: Limits =
        Limits { call: Duration::from_millis(100), grace: Duration::from_millis(300) };

    fn turns() -> &'static Turns {
        Box::leak(Box::new(Turns::new()))
    }

    #[test]
    fn what_waits_for_a_silent_peer_is_interrupted_and_the_next_has_its_turn() {
        let turns = turns();
        let (mut ours, _peer) = UnixStream::pair().unwrap();
        // As a driver does: read(2) once, and whatever it says.
        let reading = move || ours.read(&mut [0]).map_err(|error| error.kind());
        let ended = turns.make("reading", LIMITS, reading).unwrap();
        assert_eq!((ended.value, ended.is_late), (Err(std::io::ErrorKind::Interrupted), true));
        let ended = turns.make("adding", LIMITS, || 1 + 1).unwrap();
        assert_eq!((ended.value, ended.is_late), (2, false));
    }

    #[test]
    fn what_cannot_be_interrupted_keeps_its_turn_and_others_are_told_so_until_it_ends() {
        let turns = turns();
        let (mut ours, mut peer) = UnixStream::pair().unwrap();
        let brought = Arc::new(());
        let (witness, late) = (Arc::downgrade(&brought), brought);
        // Begins anew each time that it is interrupted.
        let stubborn = move || {
            let _ = ours.read_exact(&mut [0]);
            late
        };
        let blocked = turns.make("attaching 'x'", LIMITS, stubborn).unwrap_err();
        assert!(blocked.to_string().contains("has not ended after 0 s"), "{blocked}");
        let begin = Instant::now();
        let blocked = turns.make("attaching 'y'", LIMITS, || ()).unwrap_err();
        assert!(blocked.to_string().contains("DPDK has been attaching 'x' for 0 s"), "{blocked}");
        assert!(begin.elapsed() < LIMITS.call, "and at once");
        std::io::Write::write_all(&mut peer, b"x").unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while witness.strong_count() > 0 || turns.make("adding", LIMITS, || ()).is_err() {
            assert!(Instant::now() < end, "what came late is kept");
            thread::yield_now();
        }
    }

    #[test]
    fn a_call_waits_for_the_one_before() {
        let turns = turns();
        let (mut ours, mut peer) = UnixStream::pair().unwrap();
        thread::scope(|scope| {
            let first = scope.spawn(move || {
                let long = Limits { call: Duration::from_secs(10), grace: LIMITS.grace };
                turns.make("first", long, move || ours.read(&mut [0]).is_ok()).unwrap().value
            });
            while turns.now().is_none() {
                thread::yield_now();
            }
            let blocked = turns.make("second", LIMITS, || ()).unwrap_err();
            assert!(blocked.to_string().contains("has been first for"), "{blocked}");
            std::io::Write::write_all(&mut peer, b"x").unwrap();
            assert!(first.join().unwrap());
            turns.make("third", LIMITS, || ()).unwrap();
        });
    }

    #[test]
    fn a_call_that_panics_leaves_its_turn() {
        let turns = turns();
        let blocked = turns.make("panicking", LIMITS, || panic!("as asked")).unwrap_err();
        assert_eq!(blocked, Blocked::Thread("panicked".into()));
        turns.make("adding", LIMITS, || ()).unwrap();
    }
}
