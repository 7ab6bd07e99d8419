//! DPDK's `testpmd`, as it is packaged, over the vdevs that an app of ours runs over: one core forwards, and its own
//! statistics say how fast, read at intervals. Started anew each time, as the apps are.

use std::{
    io::{ErrorKind, Read, Write},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;

use super::{
    Outcome,
    app::{FRAMES_OF_A_PASS, Loop, of_a_frame, pause},
};
use crate::{
    CannotRunHere, instructions, placement,
    window::{summarise, ticks_per_nano},
};

/// Between two readings: millions of frames, and few enough readings that their text fits into a pipe.
const INTERVAL: Duration = Duration::from_millis(50);
const READINGS_MOST: usize = 12;
/// From the start of its process until it forwards.
const STARTS: Duration = Duration::from_millis(100);
/// The thread that forwards is called `lcore-worker-1`, since 23.11 `dpdk-worker1`.
const LOOP: Loop = Loop { thread: "worker", frames: FRAMES_OF_A_PASS, most: 12_000 };
/// Longer than it takes to end, by far.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn io(windows: usize) -> anyhow::Result<Outcome> {
    measure(windows, "io")
}

pub(super) fn swap(windows: usize) -> anyhow::Result<Outcome> {
    measure(windows, "macswap")
}

/// Forwards between two null ports as `mode` says, in bursts of 32; ticks per frame received.
fn measure(windows: usize, mode: &str) -> anyhow::Result<Outcome> {
    let readings = (windows / 4).clamp(3, READINGS_MOST);
    let mut child = start(mode)?;
    drive(&mut child, readings).context("writing to testpmd")?;
    let (text, log) = end(child)?;
    let nanos = of_both_ports(&text);
    if nanos.is_empty() {
        let why = log.lines().chain(text.lines()).rfind(|line| !line.trim().is_empty());
        let why = why.unwrap_or("it says nothing").trim();
        return Err(CannotRunHere(format!("dpdk-testpmd does not forward: {why}")).into());
    }
    let ghz = ticks_per_nano();
    let samples = nanos.into_iter().map(|nanos| nanos * ghz).collect();
    Ok(Outcome {
        ticks: summarise(samples),
        instructions: stepped(mode)?,
        placement: None,
        host_bytes: None,
    })
}

/// User instructions per frame of the thread that forwards, where it may be traced.
fn stepped(mode: &str) -> anyhow::Result<Option<f64>> {
    if instructions::are_forgone() {
        return Ok(None);
    }
    let mut child = start(mode)?;
    // Kept open: it ends with its input.
    let mut input = child.stdin.take().context("no pipe to testpmd")?;
    let said = input.write_all(b"start\n");
    let counted = of_a_frame(&mut child, LOOP);
    child.kill()?;
    child.wait()?;
    said.context("writing to testpmd")?;
    counted
}

fn start(mode: &str) -> anyhow::Result<Child> {
    let cores = placement::cores();
    let first = cores.first().context("no core to run on")?.id;
    let all: Vec<String> = cores.iter().map(|core| core.id.to_string()).collect();
    // Its main thread sleeps, wherever; the one that forwards has the core that an app's worker has.
    let lcores = format!("--lcores=0@({}),1@{first}", all.join(","));
    let eal = "--no-pci --in-memory --no-telemetry -m 256 --log-level=4 --vdev=net_null0 --vdev=net_null1";
    let own =
        format!("-- -i --forward-mode={mode} --burst=32 --mbcache=512 --total-num-mbufs=16384");
    let mut command = Command::new("dpdk-testpmd");
    command.arg(lcores).args(eal.split(' ')).args(own.split(' '));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            CannotRunHere("needs dpdk-testpmd: apt-get install dpdk-dev".into()).into()
        }
        _ => anyhow::Error::from(error).context("dpdk-testpmd"),
    })
}

/// Lets it forward, asks for its statistics as often, and tells it to end. Commands wait in the pipe until it has started.
fn drive(child: &mut Child, readings: usize) -> std::io::Result<()> {
    let Some(mut input) = child.stdin.take() else { return Ok(()) };
    let mut say = |words: &[u8]| match input.write_all(words) {
        // It has ended: what it printed says why.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    };
    say(b"start\n")?;
    pause(STARTS);
    for _ in 0..=readings {
        say(b"show port stats all\n")?;
        pause(INTERVAL);
    }
    say(b"stop\nquit\n")
}

/// What it printed, and what it logged.
fn end(mut child: Child) -> anyhow::Result<(String, String)> {
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            anyhow::bail!("dpdk-testpmd did not end within {PATIENCE:?}");
        }
        pause(Duration::from_millis(5));
    }
    let read = |from: Option<&mut dyn Read>| -> std::io::Result<String> {
        let mut bytes = Vec::new();
        from.map(|from| from.read_to_end(&mut bytes)).transpose()?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read(child.stdout.as_mut().map(|out| out as &mut dyn Read))?;
    let log = read(child.stderr.as_mut().map(|log| log as &mut dyn Read))?;
    Ok((text, log))
}

/// Nanoseconds per frame of each interval in which both ports had some. What it says first is since its start.
fn of_both_ports(text: &str) -> Vec<f64> {
    let rates =
        text.lines().filter_map(|line| line.split_once("Rx-pps:")?.1.split_whitespace().next());
    let rates: Vec<f64> = rates.filter_map(|rate| rate.parse().ok()).collect();
    let both = rates.chunks_exact(2).skip(1).map(|ports| ports[0] + ports[1]);
    both.filter(|rate| *rate > 0.0).map(|rate| 1e9 / rate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_costs_what_both_ports_rates_say_and_the_first_reading_is_left_out() {
        let reading = |a: u64, b: u64| {
            format!("  Rx-pps:  {a}   Rx-bps: 0\n  Tx-pps: 9\nx\n  Rx-pps: {b}  Rx-bps: 1\n")
        };
        let text = [reading(1, 1), reading(60_000_000, 40_000_000), reading(0, 0)].concat();
        assert_eq!(of_both_ports(&text), [10.0]);
        assert!(of_both_ports("EAL: cannot").is_empty());
    }
}
