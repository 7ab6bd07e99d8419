//! The guest that a test runs in, and programs in it. One guest lives at a time, and serves every test
//! that wants its topology; a test that failed leaves no guest to the next. Knows no test.
#![expect(clippy::disallowed_types, reason = "tests of one process share the guest")]

use std::{
    ops::Deref,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use testbed::{Clock, Error, Guest, Job, Kind, Model, Options, Output, Signal};

/// Nothing a test waits for takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);
/// But a program that sends a million frames, under emulation.
const LONG: Duration = Duration::from_secs(580);
/// Intervals of a receiver without a frame, 3 s in all: workers of a busy machine's guest pause for long.
const QUIET: usize = 15;
/// Pages of 2 MiB that the guest sets aside: for four ports' pools, and DPDK's.
const HUGEPAGES: u32 = 192;
/// MiB of the guest's memory, those pages included.
const MEMORY_MIB: u32 = 1536;

/// For receivers of what another NIC sends: an 82576 of QEMU's that gets fewer descriptors than frames wait
/// for it loses the rest, and counts nothing (`igb_core.c`). A ring this long lasts while a busy machine
/// stops one.
pub(crate) const RING: &str = "--ring 4096";

static CURRENT: Mutex<Option<Running>> = Mutex::new(None);

struct Running {
    topology: &'static str,
    shape: Shape,
    guest: Guest,
}

/// What is special about a guest.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    clock: Clock,
    /// Pages of 1 GiB that it has, beside its usual memory.
    gigantic: u32,
}

/// A running guest. Its 82574Ls and 82576s are bound to `vfio-pci`.
pub(crate) struct Machine {
    current: MutexGuard<'static, Option<Running>>,
}

impl Machine {
    /// The guest of that topology, booted if it does not run; or none, and on stderr why `test` is skipped.
    pub(crate) fn open(test: &str, topology: &'static str) -> Option<Self> {
        Self::open_by(Clock::Host, test, topology)
    }

    /// The same by another clock.
    pub(crate) fn open_by(clock: Clock, test: &str, topology: &'static str) -> Option<Self> {
        Self::shaped(Shape { clock, gigantic: 0 }, test, topology)
    }

    /// The same with so many pages of 1 GiB, by a clock that leaves QEMU one thread.
    pub(crate) fn with_gigantic_pages(
        gigantic: u32,
        test: &str,
        topology: &'static str,
    ) -> Option<Self> {
        Self::shaped(Shape { clock: Clock::Instructions, gigantic }, test, topology)
    }

    fn shaped(shape: Shape, test: &str, topology: &'static str) -> Option<Self> {
        // A test that failed has dropped its guest: what it left here is whole.
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |running: &Running| (running.topology, running.shape) == (topology, shape);
        if !current.as_ref().is_some_and(is_it) {
            *current = None;
            match boot(topology, shape) {
                Ok(guest) => *current = Some(Running { topology, shape, guest }),
                Err(error @ Error::NotSetUp(_)) => {
                    eprintln!("SKIP {test}: {error}");
                    return None;
                }
                Err(error) => panic!("{topology}: {error}"),
            }
        }
        Some(Self { current })
    }

    /// Ends the guest: the next test boots its own.
    pub(crate) fn discard(mut self) {
        drop(self.current.take());
    }

    /// What `-p` takes for that NIC.
    pub(crate) fn port(&self, nic: &str) -> String {
        format!("pci:{}", self.address(nic).unwrap())
    }

    /// Starts one of our programs; `arguments` are a line of bash.
    pub(crate) fn start(&self, app: &str, arguments: &str) -> App<'_> {
        let line = format!("exec {} {arguments}", binary(app));
        App { name: app.to_owned(), job: self.spawn(&line).unwrap() }
    }

    /// Starts one of our programs that receives, and waits until it does.
    pub(crate) fn receive(&self, app: &str, arguments: &str) -> App<'_> {
        let mut receiver = self.start(app, &format!("--json-stream -i 200ms {arguments}"));
        receiver.wait_for("\"seconds\"");
        receiver
    }

    /// Runs one of our programs to its end, which must be a good one; returns its JSON summary.
    pub(crate) fn summary(&self, app: &str, arguments: &str) -> Value {
        self.start(app, &format!("--json {arguments}")).summary()
    }
}

impl Deref for Machine {
    type Target = Guest;

    fn deref(&self) -> &Guest {
        &self.current.as_ref().expect("there until the end").guest
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            let running = self.current.take();
            let console = running.as_ref().map_or_else(String::new, |it| it.guest.console());
            let lines: Vec<&str> = console.lines().collect();
            eprintln!("end of the guest's console:");
            for line in &lines[lines.len().saturating_sub(12)..] {
                eprintln!("  {line}");
            }
        }
    }
}

fn boot(topology: &str, Shape { clock, gigantic }: Shape) -> testbed::Result<Guest> {
    let mut options = Options::new(topology)?;
    options.clock = clock;
    if gigantic > 0 {
        options.kernel_arguments.push(format!("hugepagesz=1G hugepages={gigantic}"));
    }
    options.hugepages = HUGEPAGES;
    // One more, for what lies around the hole that devices are in.
    let gigantic = if gigantic > 0 { gigantic + 1 } else { 0 };
    options.memory_mib = MEMORY_MIB + gigantic * 1024;
    let guest = match Guest::boot(&options) {
        // An emulator that shares its cores may fail at this, and not the next time: QEMU 10.0 sometimes
        // aborts in iotlb_to_section while the kernel sets bridges up.
        Err(error @ Error::Died { .. }) => {
            eprintln!("the guest is booted once more: {error}");
            Guest::boot(&options)?
        }
        other => other?,
    };
    let ours = guest.topology().devices().iter().filter(|device| {
        matches!(device.kind, Kind::Nic { model: Model::E1000e | Model::Igb, .. })
    });
    let ours: Vec<&str> = ours.map(|device| device.id.as_str()).collect();
    guest.bind(&ours)?;
    Ok(guest)
}

/// One of our programs in the guest; killed if the test ends first.
pub(crate) struct App<'a> {
    name: String,
    /// The process.
    pub(crate) job: Job<'a>,
}

impl<'a> App<'a> {
    /// A program of ours that was started some other way.
    pub(crate) fn of(name: &str, job: Job<'a>) -> Self {
        Self { name: name.to_owned(), job }
    }
}

impl App<'_> {
    /// Asks it to end, as ^C does.
    pub(crate) fn interrupt(&self) {
        self.job.kill(Signal::Interrupt).unwrap();
    }

    /// Waits until it has said something on either stream.
    pub(crate) fn wait_for(&mut self, text: &str) {
        self.job.wait_for(text, DEADLINE).unwrap();
    }

    /// Waits until a receiver has all that it counts (`-c`), or has found nothing for long, and ends it;
    /// returns its summary.
    pub(crate) fn end_when_quiet(mut self) -> Value {
        let seen = self.intervals().len();
        wait_for("a quiet wire", || {
            let rates: Vec<f64> = self.intervals().iter().skip(seen).map(received_mpps).collect();
            let is_quiet = rates.windows(QUIET).any(|rates| rates.iter().all(|rate| *rate == 0.0));
            (self.job.poll() || is_quiet).then_some(())
        });
        self.interrupt();
        self.summary()
    }

    /// What it has told so far, interval by interval.
    pub(crate) fn intervals(&mut self) -> Vec<Value> {
        self.job.poll();
        let text = self.job.stdout_so_far();
        let values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        let is_interval = |value: &Value| value.get("version").is_none();
        values.map_while(Result::ok).filter(is_interval).collect()
    }

    /// Waits until it ends.
    pub(crate) fn finish(mut self) -> Output {
        self.job.wait(LONG).unwrap()
    }

    /// Waits until it ends, which must be well; returns the last JSON value that it printed.
    pub(crate) fn summary(self) -> Value {
        let name = self.name.clone();
        let output = self.finish();
        assert_eq!(output.status, 0, "{name}\n{}\n{}", output.stdout, output.stderr);
        last_json(&name, &output.stdout)
    }
}

/// What an interval says of the rate at which a program received.
pub(crate) fn received_mpps(interval: &Value) -> f64 {
    if let Some(ports) = interval["ports"].as_array() {
        return ports.iter().map(|port| port["rx"]["mpps"].as_f64().unwrap()).sum();
    }
    let rates = ["/rates/mpps", "/rx/mpps"].iter().find_map(|at| interval.pointer(at));
    rates.and_then(Value::as_f64).unwrap_or_else(|| panic!("no rate in {interval:#}"))
}

/// The last of the JSON values in a text.
pub(crate) fn last_json(name: &str, text: &str) -> Value {
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let last = values.last().unwrap_or_else(|| panic!("{name} printed no JSON"));
    last.unwrap_or_else(|error| panic!("{name}: {error}\n{text}"))
}

/// The number at a JSON pointer.
pub(crate) fn number(value: &Value, pointer: &str) -> u64 {
    let number = value.pointer(pointer).and_then(Value::as_u64);
    number.unwrap_or_else(|| panic!("no number {pointer} in {value:#}"))
}

/// The sum of counts by name, such as drops by reason.
pub(crate) fn sum(counts: &Value) -> u64 {
    let counts = counts.as_object().unwrap_or_else(|| panic!("no counts by name: {counts:#}"));
    counts.values().map(|count| count.as_u64().unwrap()).sum()
}

/// One of our own programs, as built for release beside the folder this test was built in.
pub(crate) fn binary(name: &str) -> String {
    let folder = std::env::var_os("MEMWIRE_BIN_DIR").map(PathBuf::from).or_else(|| {
        let test = std::env::current_exe().ok()?;
        Some(test.ancestors().nth(3)?.join("release"))
    });
    let path = folder.unwrap_or_default().join(name);
    assert!(path.is_file(), "{} is not there: run `cargo build --release --bins`", path.display());
    path.to_string_lossy().into_owned()
}

/// Whether the tests are to run in their long form.
pub(crate) fn is_full() -> bool {
    std::env::var_os("MEMWIRE_FULL").is_some()
}

/// Lets others work for a while.
#[expect(clippy::disallowed_methods, reason = "a test that waits for other programs may sleep")]
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}

/// Waits until `done` yields something.
pub(crate) fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(result) = done() {
            return result;
        }
        assert!(Instant::now() < end, "{what} did not happen in {DEADLINE:?}");
        pause(Duration::from_millis(20));
    }
}
