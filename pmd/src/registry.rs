//! The drivers there are, by name. The only list; `apps` and tools read it.

use std::{collections::HashMap, sync::Arc};

use crate::{Device, Error, PortSpec, ring::Wire};

/// One driver: its name, a line for `--help`, and how a port of it is opened.
#[derive(Clone, Copy)]
pub struct Driver {
    /// Name in port specs.
    pub name: &'static str,
    /// What follows the colon, and the options.
    pub usage: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Opens a port.
    pub open: Open,
}

/// How a driver opens a port.
pub type Open = fn(&mut Registry, &PortSpec) -> Result<Box<dyn Device>, Error>;

/// Every driver of this crate, in the order of reports.
const DRIVERS: &[Driver] =
    &[crate::af_packet::DRIVER, crate::null::DRIVER, crate::pcap::DRIVER, crate::ring::DRIVER];

/// Opens ports, and keeps what they share: in-process wires have two ends.
#[derive(Default)]
pub struct Registry {
    /// Ports opened, so that none is opened twice.
    open: HashMap<String, usize>,
    /// In-process wires, by name.
    wires: HashMap<String, Arc<Wire>>,
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The drivers there are.
    #[must_use]
    pub fn drivers() -> &'static [Driver] {
        DRIVERS
    }

    /// Opens a port by its spec, e.g. `ring:a` or `pcap:in.pcap,loop`.
    ///
    /// # Errors
    /// The spec names no driver, or the driver cannot open the port here.
    pub fn open(&mut self, spec: &str) -> Result<Box<dyn Device>, Error> {
        let spec: PortSpec = spec.parse()?;
        let driver = Self::find(&spec)?;
        (driver.open)(self, &spec)
    }

    /// The wire of that name, made by the first who asks.
    pub(crate) fn wire(&mut self, name: &str, make: impl FnOnce() -> Wire) -> Arc<Wire> {
        Arc::clone(self.wires.entry(name.to_owned()).or_insert_with(|| Arc::new(make())))
    }

    /// Counts one more opening of `key` and refuses the one after `most`.
    pub(crate) fn claim(
        &mut self,
        spec: &PortSpec,
        key: String,
        most: usize,
    ) -> Result<usize, Error> {
        let count = self.open.entry(key).or_default();
        if *count == most {
            return Err(Error::NotThere {
                port: spec.to_string(),
                why: format!(
                    "already open; {}",
                    if most == 1 { "name each port once" } else { "a wire has two ends" }
                ),
            });
        }
        *count += 1;
        Ok(*count - 1)
    }

    fn find(spec: &PortSpec) -> Result<&'static Driver, Error> {
        // A bare interface name means the kernel's packet socket.
        let name = if spec.driver.is_empty() { "af_packet" } else { &spec.driver };
        if let Some(driver) = DRIVERS.iter().find(|driver| driver.name == name) {
            return Ok(driver);
        }
        let known: Vec<_> = DRIVERS.iter().map(|driver| driver.name).collect();
        let nearest = known.iter().map(|known| (strsim::levenshtein(known, name), known)).min();
        Err(Error::UnknownDriver {
            port: spec.to_string(),
            driver: name.to_owned(),
            suggestion: nearest
                .filter(|(distance, _)| *distance <= 3)
                .map(|(_, name)| (*name).to_owned()),
            known: known.join(", "),
        })
    }
}
