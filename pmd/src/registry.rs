//! The drivers and wrappers there are, by name. The only list; `apps` and tools read it.
#![expect(clippy::disallowed_types, reason = "control plane: ports are opened rarely")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use crate::{
    Capabilities, Device, Error, Found, PortSpec,
    pci::{Space, VfioMapper, is_address},
    ring::Wire,
    wrap::{DEEPEST, WRAPPERS, WrapSpec, Wrapped, Wrapper},
};

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
const DRIVERS: &[Driver] = &[
    crate::af_packet::DRIVER,
    crate::dgram::DRIVER,
    #[cfg(feature = "dpdk")]
    crate::ethdev::DRIVER,
    crate::null::DRIVER,
    crate::pcap::DRIVER,
    crate::pci::DRIVER,
    crate::ring::DRIVER,
];

/// Opens ports, and keeps what they share: in-process wires have two ends. A handle: clones share
/// everything, so that two apps of one process can stand at the two ends of a wire.
#[derive(Clone, Default)]
pub struct Registry {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Ports that are open, so that none is opened twice: a place for each time that it can be.
    open: HashMap<String, Vec<Weak<()>>>,
    /// In-process wires, by name.
    wires: HashMap<String, Weak<Wire>>,
    /// Address spaces of PCI devices, by kind.
    spaces: HashMap<&'static str, Weak<Space>>,
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

    /// The wrappers there are.
    #[must_use]
    pub fn wrappers() -> &'static [Wrapper] {
        WRAPPERS
    }

    /// Opens a port by its spec, e.g. `ring:a`, `pcap:in.pcap,loop` or `trace:@eth0`.
    ///
    /// # Errors
    /// The spec names no driver, or the driver cannot open the port here.
    pub fn open(&mut self, spec: &str) -> Result<Box<dyn Device>, Error> {
        self.open_at(spec, 0)
    }

    /// Opens what stands inside `depth` wrappers.
    fn open_at(&mut self, spec: &str, depth: usize) -> Result<Box<dyn Device>, Error> {
        let Some(wrapper) = WrapSpec::read(spec) else {
            check_name(spec)?;
            let spec = if is_address(spec) { format!("pci:{spec}") } else { spec.to_owned() };
            let spec: PortSpec = spec.parse()?;
            return (find(&spec)?.open)(self, &spec);
        };
        let (spec, wrapper) = wrapper?;
        if depth == DEEPEST {
            return Err(spec.bad(format!("more than {DEEPEST} wrappers around one port")));
        }
        let layer = (wrapper.layer)(&spec)?;
        let inner = self.open_at(&spec.inner, depth + 1)?;
        Wrapped::open(&spec, layer, inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wire of that name: the one that is in use, or a new one.
    pub(crate) fn wire(&mut self, name: &str, make: impl FnOnce() -> Wire) -> Arc<Wire> {
        let mut state = self.state();
        if let Some(wire) = state.wires.get(name).and_then(Weak::upgrade) {
            return wire;
        }
        let wire = Arc::new(make());
        state.wires.insert(name.to_owned(), Arc::downgrade(&wire));
        wire
    }

    /// The address space that PCI ports with this `iommu=` option share, for memory of a device that
    /// belongs into it too. `None` is no such option. Ports share it while one of them is open: open them first.
    pub fn address_space(&mut self, iommu: &str) -> Option<vfio::Iommu> {
        let (name, kind) = crate::pci::space_kind(iommu)?;
        Some(self.mapper(name, || VfioMapper::new(vfio::Iommu::new(kind))).iommu().clone())
    }

    /// The address space of that kind that devices of this registry share.
    pub(crate) fn mapper(
        &mut self,
        kind: &'static str,
        make: impl FnOnce() -> VfioMapper,
    ) -> VfioMapper {
        let mut state = self.state();
        if let Some(mapper) = state.spaces.get(kind).and_then(VfioMapper::upgrade) {
            return mapper;
        }
        let mapper = make();
        state.spaces.insert(kind, mapper.downgrade());
        mapper
    }

    /// Takes one of the `most` places of `key`, for as long as the claim lives.
    pub(crate) fn claim(
        &mut self,
        spec: &PortSpec,
        key: String,
        most: usize,
    ) -> Result<Claim, Error> {
        let mut state = self.state();
        let places = state.open.entry(key).or_default();
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
}

/// The driver that a spec names.
fn find(spec: &PortSpec) -> Result<&'static Driver, Error> {
    // A bare interface name means the kernel's packet socket.
    let name = if spec.driver.is_empty() { "af_packet" } else { &spec.driver };
    let driver = DRIVERS.iter().find(|driver| driver.name == name);
    driver.ok_or_else(|| unknown(&spec.to_string(), name))
}

/// A name before an `@` is a wrapper's, or a slip: said before the options, which may make no sense.
fn check_name(spec: &str) -> Result<(), Error> {
    let Some((name, rest)) = spec.split_once(':') else { return Ok(()) };
    let known = name.is_empty() || DRIVERS.iter().any(|driver| driver.name == name);
    if known || !rest.contains('@') { Ok(()) } else { Err(unknown(spec, name)) }
}

fn unknown(spec: &str, name: &str) -> Error {
    let drivers: Vec<_> = DRIVERS.iter().map(|driver| driver.name).collect();
    let wrappers: Vec<_> = WRAPPERS.iter().map(|wrapper| wrapper.name).collect();
    let names = drivers.iter().chain(&wrappers);
    let nearest = names.map(|known| (strsim::osa_distance(known, name), known)).min();
    Error::UnknownDriver {
        port: spec.chars().take(200).collect(),
        driver: name.to_owned(),
        suggestion: nearest
            .filter(|(distance, _)| *distance <= 3)
            .map(|(_, name)| (*name).to_owned()),
        known: format!("{}; around a port: {}", drivers.join(", "), wrappers.join(", ")),
    }
}
