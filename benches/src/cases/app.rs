//! Whole apps, as processes: what their own summary says of a short run, in ticks. The programs stand
//! beside this one.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::Value;

use super::Outcome;
use crate::{
    CannotRunHere, instructions, single_step,
    window::{summarise, tsc},
};

/// Runs taken at a time; the least counts. Many short ones, since others may have the core for a while.
const RUNS: usize = 4;
/// A thread of a program's, and its loop.
#[derive(Clone, Copy)]
pub(super) struct Loop {
    /// Words of the thread's name.
    pub(super) thread: &'static str,
    /// What it moves in a pass.
    pub(super) frames: f64,
    /// More instructions than a pass has.
    pub(super) most: usize,
}

/// l2fwd's worker: a burst from each of two ports in a pass. Over ports of DPDK's it has more to do.
const L2FWD_LOOP: Loop = Loop { thread: "l2fwd-0", frames: FRAMES_OF_A_PASS, most: 6_000 };
const L2FWD_ETHDEV_LOOP: Loop = Loop { most: 20_000, ..L2FWD_LOOP };
pub(super) const FRAMES_OF_A_PASS: f64 = 64.0;
/// CPU that a worker has used by when it surely is in its loop; and longer than that takes, by far.
const WARM_NANOS: u64 = 50_000_000;
const WARMS: Duration = Duration::from_secs(10);
/// How an app ends where this machine lacks what it needs.
const MISSING: i32 = memwire_apps::Exit::Missing as i32;
const L2FWD: &str = "-p null: -p null: --quiet";
/// The same over ports of DPDK's, in pages as large as testpmd's.
const L2FWD_ETHDEV: &str = "-p dpdk:net_null0 -p dpdk:net_null1 --quiet";

/// How an app is looked at while it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    /// Not at all.
    None,
    /// Metrics, asked for several times a second.
    Metrics,
    /// The screen, on a terminal of its own.
    Tui,
}

pub(super) fn l2fwd(windows: usize) -> anyhow::Result<Outcome> {
    counted(windows, L2FWD, L2FWD_LOOP)
}

/// Beside watched ones, whose instructions are no other.
pub(super) fn l2fwd_unwatched(windows: usize) -> anyhow::Result<Outcome> {
    least(windows, L2FWD, View::None)
}

pub(super) fn l2fwd_swap(windows: usize) -> anyhow::Result<Outcome> {
    counted(windows, &format!("{L2FWD} --rewrite mac-swap"), L2FWD_LOOP)
}

pub(super) fn l2fwd_ethdev(windows: usize) -> anyhow::Result<Outcome> {
    over_ethdev(windows, L2FWD_ETHDEV)
}

pub(super) fn l2fwd_ethdev_swap(windows: usize) -> anyhow::Result<Outcome> {
    over_ethdev(windows, &format!("{L2FWD_ETHDEV} --rewrite mac-swap"))
}

fn over_ethdev(windows: usize, arguments: &str) -> anyhow::Result<Outcome> {
    if !cfg!(feature = "dpdk") {
        return Err(CannotRunHere(
            "built without ports of DPDK's: needs libdpdk and libclang".into(),
        )
        .into());
    }
    counted(windows, arguments, L2FWD_ETHDEV_LOOP)
}

/// The least of a few runs, and instructions.
fn counted(windows: usize, arguments: &str, work: Loop) -> anyhow::Result<Outcome> {
    let outcome = least(windows, arguments, View::None)?;
    Ok(Outcome { instructions: stepped("l2fwd", arguments, work)?, ..outcome })
}

pub(super) fn l2fwd_metrics(windows: usize) -> anyhow::Result<Outcome> {
    least(windows, L2FWD, View::Metrics)
}

pub(super) fn l2fwd_tui(windows: usize) -> anyhow::Result<Outcome> {
    // The screen takes the place of the live lines.
    least(windows, &L2FWD.replace(" --quiet", ""), View::Tui)
}

/// The least of a few runs, each about as long as `windows` says.
fn least(windows: usize, arguments: &str, view: View) -> anyhow::Result<Outcome> {
    let millis = (windows * 6).clamp(150, 400);
    let mut samples = Vec::new();
    for _ in 0..RUNS {
        samples.push(run("l2fwd", &format!("{arguments} -t {millis}ms"), view)?);
    }
    Ok(Outcome { ticks: summarise(samples), instructions: None, placement: None, host_bytes: None })
}

/// User instructions per frame of an app's loop, where it may be traced.
pub(super) fn stepped(app: &str, arguments: &str, work: Loop) -> anyhow::Result<Option<f64>> {
    if instructions::are_forgone() {
        return Ok(None);
    }
    let line = format!("{arguments} -t {}s", WARMS.as_secs());
    let mut child = command(&beside(app)?, &line).stderr(Stdio::null()).spawn()?;
    let counted = of_a_frame(&mut child, work);
    child.kill()?;
    child.wait()?;
    counted
}

/// User instructions per frame of a loop that a program is in, once it is warm.
pub(super) fn of_a_frame(child: &mut Child, work: Loop) -> anyhow::Result<Option<f64>> {
    let start = Instant::now();
    loop {
        if child.try_wait()?.is_some() || start.elapsed() > WARMS {
            return Ok(None);
        }
        let found = single_step::thread(child.id(), work.thread);
        if let Some((thread, _)) = found.filter(|(_, nanos)| *nanos > WARM_NANOS) {
            let pass = single_step::of_a_pass(thread, work.most);
            return Ok(pass.map(|instructions| instructions / work.frames));
        }
        pause(Duration::from_millis(5));
    }
}

/// One run; ticks per frame received.
fn run(app: &str, arguments: &str, view: View) -> anyhow::Result<f64> {
    let before = (Instant::now(), tsc());
    let summary = watched(app, arguments, view)?;
    #[expect(clippy::cast_precision_loss, reason = "a short run is far below 2^52 ticks")]
    let ticks_per_second = (tsc() - before.1) as f64 / before.0.elapsed().as_secs_f64();
    let number = |key: &str| summary[key].as_f64().with_context(|| format!("no `{key}`"));
    Ok(ticks_per_second * number("seconds")? / number("rx_packets")?)
}

/// What an app says of a run that nobody looks at.
pub(super) fn summary(app: &str, arguments: &str) -> anyhow::Result<Value> {
    watched(app, arguments, View::None)
}

/// Runs an app to its end, which must be a good one; returns its summary.
fn watched(app: &str, arguments: &str, view: View) -> anyhow::Result<Value> {
    let program = beside(app)?;
    let report = tempfile::NamedTempFile::new()?;
    let arguments = format!("{arguments} --json={}", report.path().display());
    let output = match view {
        View::None => command(&program, &arguments).output()?,
        View::Metrics => with_metrics(&program, &arguments)?,
        View::Tui => on_a_terminal(&program, &arguments)?,
    };
    let log = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(MISSING) {
        let why = log.lines().rfind(|line| line.starts_with("error:")).unwrap_or(log.trim());
        return Err(CannotRunHere(format!("{app}: {why}")).into());
    }
    anyhow::ensure!(output.status.success(), "{app} {arguments}: {log}");
    serde_json::from_reader(report.reopen()?).context("the app's summary")
}

fn beside(app: &str) -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name(app);
    anyhow::ensure!(program.is_file(), "{} is not built", program.display());
    Ok(program)
}

fn command(program: &Path, arguments: &str) -> Command {
    let mut command = Command::new(program);
    command.args(arguments.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Waits, while a program that is measured runs beside this one.
#[expect(clippy::disallowed_methods, reason = "beside the app that is measured, not in it")]
pub(super) fn pause(time: Duration) {
    thread::sleep(time);
}

/// Asks for metrics eight times a second while it runs: a hundred times what Prometheus does.
fn with_metrics(program: &Path, arguments: &str) -> anyhow::Result<Output> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = command(program, &format!("{arguments} --metrics {port}"));
    let (done, asked) = (AtomicBool::new(false), AtomicBool::new(false));
    let output = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                pause(Duration::from_millis(125));
                asked.fetch_or(scrape(port).unwrap_or(false), Ordering::Relaxed);
            }
        });
        let output = command.output();
        done.store(true, Ordering::Relaxed);
        output
    })?;
    anyhow::ensure!(asked.into_inner(), "the app never answered a request for metrics");
    Ok(output)
}

/// One request; whether something like metrics came.
fn scrape(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.contains("# TYPE"))
}

/// Draws on a terminal of 120 columns, by util-linux's `script`.
fn on_a_terminal(program: &Path, arguments: &str) -> anyhow::Result<Output> {
    let line = format!("stty cols 120 rows 40; exec {} {arguments} --tui", program.display());
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm-256color");
    command.stdin(Stdio::null()).output().map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            CannotRunHere("needs `script`: apt-get install bsdutils".into()).into()
        }
        _ => anyhow::Error::from(error).context("script"),
    })
}
