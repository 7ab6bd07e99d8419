//! Where every slot is: conservation, made visible.

use std::{
    fmt,
    sync::{
        Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use crate::core::{CacheGauge, Core};

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
        let load = |gauge: &AtomicU32| gauge.load(Ordering::Relaxed);
        let capacity = core.capacity(&control);
        // The list's two ends are read one after the other: while workers run, they may not match.
        let free = core.free.len().min(capacity);
        let caches = control.caches.iter().filter_map(Weak::upgrade);
        let cached = caches.map(|gauge| load(&gauge.len) as usize).sum();
        let ledgers = control.in_flight.iter().filter_map(Weak::upgrade);
        // Parts of one count (`Tally`) are below zero where their owner takes more than it gives; while
        // workers run, so may the sum be.
        let in_flight = ledgers.fold(0u32, |sum, gauge| sum.wrapping_add(load(&gauge)));
        let in_flight = in_flight.cast_signed().max(0) as usize;
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
        let control = core.control();
        let live: Vec<_> = control.caches.iter().filter_map(Weak::upgrade).collect();
        let sum = |past: &AtomicU64, of: fn(&CacheGauge) -> &AtomicU64| {
            let now = live.iter().map(|gauge| of(gauge).load(Ordering::Relaxed));
            past.load(Ordering::Relaxed) + now.sum::<u64>()
        };
        let events = &core.events;
        Self {
            refills: sum(&events.refills, |gauge| &gauge.refills),
            spills: sum(&events.spills, |gauge| &gauge.spills),
            strays: events.strays.load(Ordering::Relaxed)
                + events.strays_parked.load(Ordering::Relaxed),
            exhausted: sum(&events.exhausted, |gauge| &gauge.exhausted),
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
