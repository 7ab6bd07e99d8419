//! `--compare`: the same traffic from the same port into the same memory, directly and by the bounce path, one
//! after the other, and what they differ in.

use std::fmt::Write;

use memwire_apps::{AppError, Exit, Stop, report::Output};
use pmd::Registry;
use serde::Serialize;

use crate::{
    args::Args,
    cost::CostReport,
    path::PathChoice,
    report::{SCHEMA, Summary},
    run::{receive, verdict},
};

/// What a line tells of a side.
type Cell = fn(&Side) -> String;

/// One of the two.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// `direct` or `bounce`.
    pub path: String,
    /// Frames received.
    pub rx_packets: u64,
    /// Frames that the queues dropped.
    pub dropped: u64,
    /// Frames per second that came; more could have, if the workers were idle.
    pub pps: f64,
    /// Per frame.
    pub cost: CostReport,
}

/// Both.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Of this program.
    pub version: &'static str,
    /// `comparison`.
    pub kind: &'static str,
    /// Who gave the payload memory.
    pub memory: String,
    /// Without the CPU.
    pub direct: Side,
    /// With a copy.
    pub bounce: Side,
    /// Times the worker's time per frame that the copy costs.
    pub busy_ratio: Option<f64>,
    /// Times the instructions per frame, where they were counted.
    pub instructions_ratio: Option<f64>,
}

impl Side {
    fn of(summary: &Summary) -> Result<Self, AppError> {
        let cost = summary.cost.clone();
        let cost = cost.ok_or_else(|| AppError::failed("nothing was measured"))?;
        Ok(Self {
            path: summary.path.clone(),
            rx_packets: summary.rx_packets,
            dropped: summary.drops.total(),
            pps: summary.rates.mpps * 1e6,
            cost,
        })
    }
}

impl Comparison {
    /// Of the two.
    #[must_use]
    pub fn of(memory: String, direct: Side, bounce: Side) -> Self {
        let ratio = |direct: f64, bounce: f64| (direct > 0.0).then(|| bounce / direct);
        let counted = direct.cost.instructions.zip(bounce.cost.instructions);
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            kind: "comparison",
            memory,
            busy_ratio: ratio(direct.cost.median_ns, bounce.cost.median_ns),
            instructions_ratio: counted.and_then(|(direct, bounce)| ratio(direct, bounce)),
            direct,
            bounce,
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` never fails.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, to: &mut String) -> std::fmt::Result {
        let rows: [(&str, Cell); 6] = [
            ("frames", |side| side.rx_packets.to_string()),
            ("dropped", |side| side.dropped.to_string()),
            ("packets/s", |side| format!("{:.0}", side.pps)),
            ("ns per packet (median)", |side| format!("{:.0}", side.cost.median_ns)),
            ("instructions per packet", |side| match side.cost.instructions {
                Some(count) => format!("{count:.0}"),
                None => "-".into(),
            }),
            ("host bytes per packet", |side| format!("{:.0}", side.cost.host_bytes)),
        ];
        let Self { direct, bounce, .. } = self;
        writeln!(to, "compare {:<24} {:>12} {:>12}", self.memory, direct.path, bounce.path)?;
        for (name, cell) in rows {
            writeln!(to, "        {name:<24} {:>12} {:>12}", cell(direct), cell(bounce))?;
        }
        if direct.cost.instructions.is_none() {
            let why = direct.cost.instructions_text();
            writeln!(to, "        instructions per packet: {why}")?;
        }
        match (self.instructions_ratio, self.busy_ratio) {
            (Some(ratio), _) => {
                write!(to, "        bounce takes {ratio:.2} times the instructions")
            }
            (None, Some(ratio)) => {
                write!(to, "        bounce takes {ratio:.2} times the worker's time")
            }
            (None, None) => write!(to, "        nothing came on the direct path"),
        }
    }
}

/// Receives directly, then by the bounce path, as much each time, and tells both.
///
/// # Errors
/// A run could not start or failed; that of the direct path also where its port cannot split.
pub(crate) fn run(
    args: &Args,
    registry: &mut Registry,
    stop: &Stop,
    output: &mut Output,
) -> Result<Exit, AppError> {
    let mut side = |path: PathChoice| {
        let args = Args { path, cost: true, ..args.clone() };
        let ended = receive(&args, registry, stop, output)?;
        ended.watched?;
        verdict(&args, &ended.summary, ended.fault)?;
        Ok::<_, AppError>((ended.summary.memory.provider.clone(), Side::of(&ended.summary)?))
    };
    let (memory, direct) = side(PathChoice::Direct)?;
    if stop.is_set() {
        return Err(AppError::failed("stopped before the bounce path had its turn"));
    }
    let (_, bounce) = side(PathChoice::Bounce)?;
    let comparison = Comparison::of(memory, direct, bounce);
    output.human(comparison.text());
    output.summary(&comparison)?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(path: &str, busy_ns: f64, instructions: Option<f64>) -> Side {
        let uncounted = instructions.is_none().then(|| "no counter".to_owned());
        let cost = CostReport {
            burst: 32.0,
            busy_ns,
            median_ns: busy_ns,
            instructions,
            uncounted,
            host_bytes: 0.0,
        };
        Side { path: path.into(), rx_packets: 10, dropped: 0, pps: 1e3, cost }
    }

    #[test]
    fn what_was_counted_decides_and_else_the_time() {
        let of = |counts: [Option<f64>; 2]| {
            let [direct, bounce] = counts;
            let (direct, bounce) = (side("direct", 100.0, direct), side("bounce", 250.0, bounce));
            Comparison::of("fake".into(), direct, bounce)
        };
        let counted = of([Some(400.0), Some(800.0)]);
        assert_eq!((counted.instructions_ratio, counted.busy_ratio), (Some(2.0), Some(2.5)));
        assert!(counted.text().ends_with("bounce takes 2.00 times the instructions"));
        let timed = of([None, None]);
        assert_eq!(timed.instructions_ratio, None);
        assert!(timed.text().contains("instructions per packet: not available here: no counter"));
        assert!(timed.text().ends_with("bounce takes 2.50 times the worker's time"));
    }
}
