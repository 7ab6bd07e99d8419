//! The app gpurx over its demo wire, directly and by the bounce path: what a packet costs its worker, by its own
//! summary, with instructions where the processor counts them. (Traced one by one it is so slow that what it does by the
//! clock would be much of them.) That the direct path touched no payload byte by the host, and the bounce path each
//! once, is checked.

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{Outcome, app};
use crate::{
    placement,
    window::{summarise, ticks_per_nano},
};

/// Runs taken at a time.
const RUNS: usize = 3;
/// The memwire test header: it is split off with the others, and the rest of a payload is what is placed.
const HEADER: u32 = 24;

fn measure(windows: usize, payload: u32, path: &str) -> anyhow::Result<Outcome> {
    let &[first, second, ..] = placement::cores().as_slice() else {
        return Err(crate::CannotRunHere("needs two cores".into()).into());
    };
    let before = placement::probe([first, second]);
    let sent = payload + HEADER;
    let millis = (windows * 8).clamp(150, 500);
    let line = format!("--payload {sent} --path {path} --cost --sink place -t {millis}ms --quiet");
    let ghz = ticks_per_nano();
    let (mut samples, mut instructions, mut host_bytes) = (Vec::new(), None, None);
    for _ in 0..RUNS {
        let summary = app::summary("gpurx", &line)?;
        let number = |at: &str| {
            summary.pointer(at).and_then(Value::as_f64).with_context(|| format!("no {at}"))
        };
        let touched = number("/cost/host_bytes")?;
        let expected = if path == "bounce" { f64::from(payload) } else { 0.0 };
        ensure!(summary["path"] == path, "gpurx took another path: {}", summary["path"]);
        ensure!(
            (touched - expected).abs() < 0.5,
            "{path}: the host touched {touched} bytes of a payload, not {expected}"
        );
        samples.push(number("/cost/median_ns")? * ghz);
        instructions = number("/cost/instructions").ok();
        host_bytes = Some(touched);
    }
    let after = placement::probe([first, second]);
    Ok(Outcome {
        ticks: summarise(samples),
        instructions,
        placement: Some((before, after)),
        host_bytes,
    })
}

pub(super) fn direct_64(windows: usize) -> anyhow::Result<Outcome> {
    measure(windows, 64, "direct")
}

pub(super) fn bounce_64(windows: usize) -> anyhow::Result<Outcome> {
    measure(windows, 64, "bounce")
}

pub(super) fn direct_1400(windows: usize) -> anyhow::Result<Outcome> {
    measure(windows, 1400, "direct")
}

pub(super) fn bounce_1400(windows: usize) -> anyhow::Result<Outcome> {
    measure(windows, 1400, "bounce")
}
