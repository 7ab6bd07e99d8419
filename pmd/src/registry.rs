//! The drivers there are, by name. The only list; `apps` and tools read it.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use crate::{Capabilities, Device, Error, Found, PortSpec, ring::Wire};

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
    /// What its ports can do at best; a port may be able to do less.
    pub capabilities: fn() -> Capabilities,
    /// Looks around for ports that it could open here; those that exist by being named (a file, a
    /// wire) are none. Opens nothing, and takes no privilege.
    pub find: fn() -> Vec<Found>,
}

/// How a driver opens a port.
pub type Open = fn(&mut Registry, &PortSpec) -> Result<Box<dyn Device>, Error>;

/// Every driver of this crate, in the order of reports.
const DRIVERS: &[Driver] =
    &[crate::af_packet::DRIVER, crate::null::DRIVER, crate::pcap::DRIVER, crate::ring::DRIVER];

/// Opens ports, and keeps what they share: in-process wires have two ends.
#[derive(Default)]
pub struct Registry {
    /// Ports that are open, so that none is opened twice: a place for each time that it can be.
    open: HashMap<String, Vec<Weak<()>>>,
    /// In-process wires, by name.
    wires: HashMap<String, Weak<Wire>>,
}

/// A port's place in the registry; dropping it lets the port be opened again.
#[derive(Debug)]
pub(crate) struct Claim {
    /// Which of the places, from 0.
    pub(crate) place: usize,
    _held: Arc<()>,
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

    /// The wire of that name: the one that is in use, or a new one.
    pub(crate) fn wire(&mut self, name: &str, make: impl FnOnce() -> Wire) -> Arc<Wire> {
        if let Some(wire) = self.wires.get(name).and_then(Weak::upgrade) {
            return wire;
        }
        let wire = Arc::new(make());
        self.wires.insert(name.to_owned(), Arc::downgrade(&wire));
        wire
    }

    /// Takes one of the `most` places of `key`, for as long as the claim lives.
    pub(crate) fn claim(
        &mut self,
        spec: &PortSpec,
        key: String,
        most: usize,
    ) -> Result<Claim, Error> {
        let places = self.open.entry(key).or_default();
        places.resize_with(most, Weak::new);
        let Some(place) = places.iter().position(|place| place.strong_count() == 0) else {
            return Err(Error::AlreadyOpen {
                port: spec.to_string(),
                why: if most == 1 { "name each port once" } else { "a wire has two ends" },
            });
        };
        let held = Arc::new(());
        places[place] = Arc::downgrade(&held);
        Ok(Claim { place, _held: held })
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
