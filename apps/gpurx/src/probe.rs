//! When a port's way to the payload memory is tried before the first frame, and what is told of it.

use std::fmt;

use clap::ValueEnum;
use mempool::{Cpu, Pool};
use memwire_apps::{AppError, memory::MemorySpec};
use pmd::{Device, Probe, ProbeError, Probed, Registry};
use serde::Serialize;

use crate::{
    args::Args,
    path::{Path, Route},
    setup::Pools,
};

/// Bytes of a buffer for a probe's frames, and how many there are.
const FRAME: usize = 1024;
const FRAMES: usize = 128;

/// What the user asked for.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProbeChoice {
    /// Of memory of a device, on the direct path
    #[default]
    Auto,
    /// Of any memory, on the direct path
    Always,
    /// Never
    Off,
}

/// What was proven of one port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProbeReport {
    /// The port.
    pub port: String,
    /// Buffers that patterns went to and were found in.
    pub places: usize,
    /// Areas that those were the ends of.
    pub areas: usize,
    /// Why nothing was proven, if so.
    pub not_probed: Option<String>,
    /// Whether somebody asked, or memory is such that it matters.
    #[serde(skip)]
    is_asked: bool,
}

impl ProbeReport {
    /// Whether people are told.
    #[must_use]
    pub fn is_of_interest(&self) -> bool {
        self.is_asked
    }

    /// What was proven, in words.
    #[must_use]
    pub fn words(&self) -> String {
        match &self.not_probed {
            Some(why) => format!("not probed: {why}"),
            None => {
                let Self { places, areas, .. } = self;
                let plural = if *areas == 1 { "" } else { "s" };
                format!("probed: {places} places of {areas} area{plural} hold what was sent")
            }
        }
    }
}

impl fmt::Display for ProbeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.port, self.words())
    }
}

/// Tries ports.
pub(crate) struct Prober {
    is_asked: bool,
    choice: ProbeChoice,
    /// Where its frames are made; none if nothing is tried.
    frames: Option<Pool<Cpu>>,
    /// Who sends them, where the port itself cannot.
    from: Option<Box<dyn Device>>,
}

impl Prober {
    /// For these arguments; opens the port that sends, if one is named.
    pub(crate) fn new(
        args: &Args,
        registry: &mut Registry,
        memory: &MemorySpec,
    ) -> Result<Self, AppError> {
        let choice = args.probe;
        let is_asked = match choice {
            ProbeChoice::Auto => memory.is_of_a_device() || args.probe_from.is_some(),
            ProbeChoice::Always => true,
            ProbeChoice::Off => false,
        };
        let (mut frames, mut from) = (None, None);
        if is_asked {
            let host = MemorySpec::Auto.open((FRAME * FRAMES) as u64)?;
            let pool = Pool::builder().name("probe").slots(FRAMES).stride(FRAME);
            frames = Some(pool.memory(&*host).build()?);
            from = args.probe_from.as_ref().map(|spec| registry.open(spec)).transpose()?;
        }
        let is_asked = is_asked || choice == ProbeChoice::Off && memory.is_of_a_device();
        Ok(Self { is_asked, choice, frames, from })
    }

    /// Tries the port with each of its queues' pools.
    pub(crate) fn probe(
        &mut self,
        port: &mut dyn Device,
        Route { path, at, .. }: Route,
        pools: &[Pools],
    ) -> Result<ProbeReport, AppError> {
        let name = port.info().port.clone();
        let mut report =
            ProbeReport { port: name, is_asked: self.is_asked, ..ProbeReport::default() };
        let not = |why: &str| Some(why.to_owned());
        let Some(frames) = &self.frames else {
            report.not_probed = match self.choice {
                ProbeChoice::Off => not("--probe off"),
                _ => not("the memory is this machine's own"),
            };
            return Ok(report);
        };
        if path == Path::Bounce {
            report.not_probed = not("payloads are copied by the CPU");
            return Ok(report);
        }
        for Pools { heads, data } in pools {
            let from = self.from.as_mut().map(|from| &mut **from as &mut dyn Device);
            match (Probe { heads, data, frames, at }).run(port, from).map_err(refused)? {
                Probed::Proven { areas, places } => {
                    report.areas += areas;
                    report.places += places;
                }
                Probed::Not(why) => {
                    let has_sender = self.from.is_some() || port.info().capabilities.loopback;
                    let hint = if has_sender { "" } else { "; --probe-from PORT names one" };
                    report.not_probed = Some(format!("{why}{hint}"));
                    return Ok(report);
                }
            }
        }
        Ok(report)
    }
}

/// As the user is told.
fn refused(error: ProbeError) -> AppError {
    match error {
        ProbeError::Port(error) => error.into(),
        error => {
            AppError::missing(error.to_string()).hint("--path bounce, which copies payloads there")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_proven_is_told_with_the_reason() {
        let proven =
            ProbeReport { port: "x".into(), places: 4, areas: 2, ..ProbeReport::default() };
        assert_eq!(proven.to_string(), "x: probed: 4 places of 2 areas hold what was sent");
        let not = ProbeReport { not_probed: Some("no loopback".into()), ..proven };
        assert_eq!(not.to_string(), "x: not probed: no loopback");
    }
}
