//! Where and with what a run was measured: the machine, versions, the command. Measures nothing but the
//! time-stamp counter's frequency; what cannot be found out here is left out.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::child::Child;
use crate::workspace::Workspace;

/// What a reader must know to weigh figures.
#[derive(Debug, Default)]
pub(super) struct Scene {
    /// As it was called, without the folder of the program.
    pub(super) command: String,
    /// When, as `2026-01-31 13:05:00`.
    pub(super) began: String,
    pub(super) machine: Vec<(&'static str, String)>,
    pub(super) versions: Vec<(&'static str, String)>,
    /// Ticks of the time-stamp counter in a nanosecond.
    pub(super) tsc_ghz: f64,
}

impl Scene {
    /// Of this machine; `bars` is our program, `dpdk` says which DPDK there is.
    pub(super) fn of(workspace: &Workspace, bars: &Path, dpdk: &str, load: &str) -> Result<Self> {
        let clock = Child::new(&bars.to_string_lossy()).args(["--clock"]).output()?;
        let tsc_ghz = clock.stdout.trim().parse().context("bars --clock")?;
        let words = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
        let machine = [
            ("processor", field("/proc/cpuinfo", "model name")),
            (
                "processors",
                std::thread::available_parallelism().ok().map(|count| count.to_string()),
            ),
            ("time-stamp counter", Some(format!("{tsc_ghz:.3} GHz"))),
            ("memory", field("/proc/meminfo", "MemTotal")),
            ("hugepages of 2 MiB", file("/proc/sys/vm/nr_hugepages")),
            ("kernel", file("/proc/sys/kernel/osrelease")),
            ("governor", file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
            ("hypervisor", is_virtual().then(|| "yes".to_owned())),
            ("load before", Some(load.to_owned())),
        ];
        let describe =
            ["-C", &*workspace.root.to_string_lossy(), "describe", "--always", "--dirty"];
        let versions = [
            ("memwire", first_line("git", &describe)),
            ("rustc", first_line("rustc", &["--version"])),
            ("DPDK", Some(dpdk.to_owned())),
            ("xdp-tools", first_line("xdp-bench", &["--version"])),
        ];
        Ok(Self {
            command: format!("cargo xtask {words}"),
            began: first_line("date", &["-u", "+%F %T"]).unwrap_or_default(),
            machine: known(machine),
            versions: known(versions),
            tsc_ghz,
        })
    }

    /// Notes how busy the machine is now.
    pub(super) fn end(&mut self) {
        self.machine.push(("load after", load()));
    }
}

fn known<const N: usize>(
    facts: [(&'static str, Option<String>); N],
) -> Vec<(&'static str, String)> {
    facts.into_iter().filter_map(|(name, fact)| Some((name, fact?))).collect()
}

/// The load averages of 1, 5 and 15 minutes.
pub(super) fn load() -> String {
    let text = file("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// A file of one line.
fn file(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// The first value of that name in a file of `name: value`.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn is_virtual() -> bool {
    field("/proc/cpuinfo", "flags")
        .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"))
}

/// What a program that is installed says first.
fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Child::new(program).args(arguments.iter().copied()).output().ok()?;
    let line = output.stdout.lines().next()?;
    output.success.then(|| line.trim().to_owned())
}
