//! Forwarding beside DPDK's `testpmd` on the same emulated NICs, in the testbed's guest: two ports wired back to
//! back and one core that forwards between them, so that the frames put in at first circulate. Time is the guest's,
//! by its instructions: what the emulator spends on its NICs counts for nobody.

use std::path::Path;
use std::time::{Duration, Instant};

use ::testbed::{Clock, Error, Guest, Job, Options, Signal};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::outcome::{Outcome, Round};
use super::row::Row;
use super::targets::{Case, TESTPMD};

/// Frames put onto the wire: as many reach each port. Bytes of one, without FCS.
const LOAD: usize = 32;
const FRAME: usize = 60;
/// Seconds of the guest's that count, behind the first with frames.
const MEASURED: usize = 4;
/// Nothing takes longer.
const DEADLINE: Duration = Duration::from_secs(180);
/// What an instruction takes of the guest's time ([`Clock::Instructions`]).
const NANOS_OF_AN_INSTRUCTION: f64 = 4.0;
/// How often a program's output is looked at.
const POLL: Duration = Duration::from_millis(50);
/// NICs in pairs, by their topology's names; pages of 2 MiB for both programs' pools.
const TOPOLOGY: &str = "pairs";
const HUGEPAGES: u32 = 192;
const MEMORY_MIB: u32 = 1536;

/// The guest, once a case wants it.
#[derive(Default)]
pub(super) struct Lab {
    guest: Option<Guest>,
    /// Why there is none: it is not tried again.
    failed: Option<String>,
}

/// Runs one case: `NAME-io`, where the NICs are `NAME0` and `NAME1`.
pub(super) fn measure(case: Case, lab: &mut Lab, l2fwd: &Path, rounds: usize) -> Result<Outcome> {
    let mut outcome = Outcome::new(case);
    // What other suites have measured is not to be lost.
    let guest = match lab.open() {
        Ok(guest) => guest,
        Err(why) => {
            eprintln!("SKIP {}: {why}", outcome.case.name);
            outcome.skipped = Some(why);
            return Ok(outcome);
        }
    };
    let nic = outcome.case.name.trim_end_matches("-io").to_owned();
    let bench = Bench { guest, nics: [0, 1].map(|at| format!("{nic}{at}")) };
    for _ in 0..rounds {
        let memwire = row(&outcome.case.name, &bench.l2fwd(l2fwd)?);
        let peers = outcome.case.peers.iter().map(|peer| match peer.as_str() {
            TESTPMD if bench.has_testpmd()? => Ok(vec![row(&outcome.case.name, &bench.testpmd()?)]),
            _ => Ok(Vec::new()),
        });
        let peers = peers.collect::<Result<_>>()?;
        outcome.rounds.push(Round { memwire, peers });
    }
    Ok(outcome)
}

impl Lab {
    fn open(&mut self) -> Result<&Guest, String> {
        if let Some(why) = &self.failed {
            return Err(why.clone());
        }
        let guest = match self.guest.take() {
            Some(guest) => guest,
            None => boot().map_err(|error| {
                let text = error.to_string();
                let why = text.lines().next().unwrap_or("the guest does not boot").to_owned();
                self.failed = Some(why.clone());
                why
            })?,
        };
        Ok(self.guest.insert(guest))
    }
}

fn boot() -> ::testbed::Result<Guest> {
    let mut options = Options::new(TOPOLOGY)?;
    options.clock = Clock::Instructions;
    options.hugepages = HUGEPAGES;
    options.memory_mib = MEMORY_MIB;
    let guest = match Guest::boot(&options) {
        // An emulator that shares its cores may fail while the kernel boots, and not the next time.
        Err(error @ Error::Died { .. }) => {
            eprintln!("the guest is booted once more: {error}");
            Guest::boot(&options)?
        }
        other => other?,
    };
    guest.bind(&["e1000e0", "e1000e1", "igb0", "igb1"])?;
    Ok(guest)
}

/// A guest and the two NICs of a case.
struct Bench<'a> {
    guest: &'a Guest,
    nics: [String; 2],
}

impl Bench<'_> {
    fn addresses(&self) -> Result<[String; 2]> {
        let [a, b] = &self.nics;
        Ok([self.guest.address(a)?, self.guest.address(b)?])
    }

    fn has_testpmd(&self) -> Result<bool> {
        Ok(self.guest.run("command -v dpdk-testpmd")?.status == 0)
    }

    /// Frames per second that `l2fwd` receives, of both ports, second by second.
    fn l2fwd(&self, program: &Path) -> Result<Vec<f64>> {
        let [a, b] = self.addresses()?;
        let line =
            format!("exec {} -p pci:{a} -p pci:{b} -l 1 --json-stream -i 1s", program.display());
        self.forward(&line, "\"seconds\"", |text| {
            let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
            let intervals = values.map_while(std::result::Result::ok);
            let rate = |interval: Value| -> Option<f64> {
                let ports = interval["ports"].as_array()?.iter();
                Some(1e6 * ports.filter_map(|port| port["rx"]["mpps"].as_f64()).sum::<f64>())
            };
            intervals.filter_map(rate).collect()
        })
    }

    /// The same of testpmd.
    fn testpmd(&self) -> Result<Vec<f64>> {
        let [a, b] = self.addresses()?;
        let line = format!(
            "exec dpdk-testpmd -l 0,1 --in-memory -a {a} -a {b} -- --total-num-mbufs=4096 \
             --forward-mode=io --auto-start --stats-period 1 --no-lsc-interrupt"
        );
        self.forward(&line, "NIC statistics for port 1", |text| {
            let rates = text.lines().filter_map(|line| line.trim().strip_prefix("Rx-pps:"));
            let rates: Vec<f64> =
                rates.filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
            rates.chunks_exact(2).map(|ports| ports[0] + ports[1]).collect()
        })
    }

    /// Starts a forwarder, loads the wire once it says that it runs, and reads its rates off what it prints;
    /// ends it, and takes what circulates off the wire.
    fn forward(
        &self,
        line: &str,
        runs: &str,
        rates: impl Fn(&str) -> Vec<f64>,
    ) -> Result<Vec<f64>> {
        let mut job = self.guest.spawn(line)?;
        job.wait_for(runs, DEADLINE)?;
        let mut frame = [0; FRAME];
        frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
        self.guest.inject(&self.nics[0], &[&frame[..]; LOAD])?;
        let settled = settle(&mut job, rates).with_context(|| line.to_owned())?;
        job.kill(Signal::Interrupt)?;
        job.wait(DEADLINE)?;
        Ok(settled)
    }
}

/// Waits for the seconds that count.
#[expect(clippy::disallowed_methods, reason = "waits for another machine's program")]
fn settle(job: &mut Job<'_>, rates: impl Fn(&str) -> Vec<f64>) -> Result<Vec<f64>> {
    let end = Instant::now() + DEADLINE;
    loop {
        ensure!(!job.poll(), "it ended: {}", job.stderr_so_far());
        let rates = rates(&job.stdout_so_far());
        let loaded = rates.iter().position(|rate| *rate > 0.0);
        if let Some(measured) = loaded.and_then(|at| rates.get(at + 1..=at + MEASURED)) {
            return Ok(measured.to_vec());
        }
        if Instant::now() > end {
            bail!("no {MEASURED} seconds with frames within {DEADLINE:?}");
        }
        std::thread::sleep(POLL);
    }
}

/// Nanoseconds of the guest's time per frame, and the instructions that they are: all of the guest's, of which its idle
/// processors and the emulator's NICs have none.
fn row(case: &str, rates: &[f64]) -> Row {
    let mut nanos: Vec<f64> = rates.iter().map(|rate| 1e9 / rate).collect();
    nanos.sort_by(f64::total_cmp);
    let at = |index: usize| nanos.get(index).copied().unwrap_or(f64::NAN);
    Row {
        case: case.to_owned(),
        least: at(0),
        median: at(nanos.len() / 2),
        p90: at(nanos.len() * 9 / 10),
        instructions: Some(at(0) / NANOS_OF_AN_INSTRUCTION),
        placement: None,
        host_bytes: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_becomes_time_per_frame() {
        let row = row("igb-io", &[500_000.0, 1_000_000.0, 250_000.0]);
        assert_eq!((row.least, row.median, row.p90), (1000.0, 2000.0, 4000.0));
        assert_eq!(row.instructions, Some(250.0));
    }
}
