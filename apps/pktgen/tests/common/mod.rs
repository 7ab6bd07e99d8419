//! pktgen and its companions in one process.

#![expect(clippy::disallowed_types, reason = "tests wait for each other, off any path")]

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use clap::Parser;
use memwire_apps::{AppError, Stop, report::Output};
use pktgen::{Args, Summary};
use pmd::Registry;
use serde_json::Value;

pub(crate) fn args(line: &str) -> Args {
    let words = ["pktgen", "-m", "host", "--quiet"].into_iter().chain(line.split_whitespace());
    Args::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// Lets one test of a file run at a time: each has workers that spin.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs pktgen on ports of `registry`.
pub(crate) fn run_on(registry: &Registry, line: &str) -> Result<Summary, AppError> {
    let args = args(line);
    let mut output = Output::new(&args.run)?;
    pktgen::run(&args, &mut registry.clone(), &Stop::new(), &mut output)
}

pub(crate) fn run(line: &str) -> Result<Summary, AppError> {
    run_on(&Registry::new(), line)
}

/// The summary as JSON; its books balance.
#[track_caller]
pub(crate) fn json(summary: &Summary) -> Value {
    let value = serde_json::to_value(summary).unwrap();
    assert_eq!(value["balanced"], true, "{value:#}");
    value
}

#[track_caller]
pub(crate) fn number(value: &Value, pointer: &str) -> u64 {
    let found = value.pointer(pointer).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("no {pointer}: {value:#}"))
}

/// What chaos did at a port of a report; 0 if it says nothing of it.
#[allow(dead_code, reason = "not every test has chaos")]
pub(crate) fn injected(port: &Value, fault: &str) -> u64 {
    port["device"].get(format!("chaos_{fault}")).and_then(Value::as_u64).unwrap_or(0)
}

/// Starts an app on a thread, and returns once its ports are started.
#[allow(dead_code, reason = "not every test has a companion")]
pub(crate) fn beside<T: Send + 'static>(
    job: impl FnOnce(Stop) -> T + Send + 'static,
) -> (Stop, JoinHandle<T>) {
    let stop = Stop::new();
    let asked = stop.clone();
    (stop, std::thread::spawn(move || job(asked)))
}
