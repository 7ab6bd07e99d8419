//! Where every slot is: conservation, made visible.

use std::{
    fmt,
    sync::{Weak, atomic::Ordering},
};

use crate::core::{Core, Gauge};

/// Where the slots of a pool are. `free + cached + in_flight + held + leaked + drained == capacity`;
/// exact when no worker runs, a snapshot otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Slots of all areas.
    pub capacity: usize,
    /// On the shared list.
    pub free: usize,
    /// In workers' caches.
    pub cached: usize,
    /// Posted to devices.
    pub in_flight: usize,
    /// With the application: buffers and bursts.
    pub held: usize,
    /// Lost to devices that were never proved to have stopped.
    pub leaked: usize,
    /// Home, in areas that are being drained.
    pub drained: usize,
}

impl Audit {
    pub(crate) fn of(core: &Core) -> Self {
        let control = core.control();
        let sum = |gauges: &[Weak<Gauge>]| -> usize {
            let live = gauges.iter().filter_map(Weak::upgrade);
            live.map(|gauge| gauge.load(Ordering::Relaxed) as usize).sum()
        };
        let capacity = core.capacity(&control);
        let free = core.free.len();
        let cached = sum(&control.caches);
        let in_flight = sum(&control.in_flight);
        let drained = (0..core.table.areas()).map(|area| core.parked(area)).sum();
        let leaked = usize::try_from(core.events.leaked.load(Ordering::Relaxed)).unwrap_or(0);
        let away = free + cached + in_flight + drained + leaked;
        let held = capacity.saturating_sub(away);
        Self { capacity, free, cached, in_flight, held, leaked, drained }
    }

    /// Whether every slot is home: on the shared list, in a cache, or parked.
    #[must_use]
    pub const fn is_home(&self) -> bool {
        self.held == 0 && self.in_flight == 0 && self.leaked == 0
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { capacity, free, cached, in_flight, held, leaked, drained } = self;
        write!(
            f,
            "{capacity} slots: {free} free, {cached} cached, {in_flight} in flight, {held} held, \
             {leaked} leaked, {drained} drained"
        )
    }
}

/// Events of a pool's slow paths, since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// A cache ran empty and took from the shared list.
    pub refills: u64,
    /// A cache ran over and gave to the shared list.
    pub spills: u64,
    /// Buffers that came home without a cache.
    pub strays: u64,
    /// Takes that got fewer buffers than asked.
    pub exhausted: u64,
    /// Buffers lost to devices that were never proved to have stopped.
    pub leaked: u64,
}

impl Counters {
    pub(crate) fn of(core: &Core) -> Self {
        let events = &core.events;
        Self {
            refills: events.refills.load(Ordering::Relaxed),
            spills: events.spills.load(Ordering::Relaxed),
            strays: events.strays.load(Ordering::Relaxed),
            exhausted: events.exhausted.load(Ordering::Relaxed),
            leaked: events.leaked.load(Ordering::Relaxed),
        }
    }

    /// The counters by name, for metrics.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u64); 5] {
        [
            ("refills", self.refills),
            ("spills", self.spills),
            ("strays", self.strays),
            ("exhausted", self.exhausted),
            ("leaked", self.leaked),
        ]
    }
}
