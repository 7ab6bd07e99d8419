//! Payload memory that comes when it is short and goes when it is not: the main thread's part. For each queue at most
//! one area of the memory that was asked for (`--grow`), and one of the host's behind it (`--spill`). Knows no rows: the
//! worker counts shortages, takes slots up and gives them back.

use std::time::{Duration, Instant};

use mempool::{AreaId, Device, Pool};
use memwire_apps::AppError;

use crate::{
    errand::{Errand, Extent, Outcome, Task, Ticket},
    exchange::Exchange,
    handover::server::Server,
    setup::{Maker, Pools},
    shortage::GrowthReport,
    totals::Totals,
};

/// How long there has to be enough before an area goes again.
const CALM: Duration = Duration::from_secs(2);

/// Which memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The one that was asked for.
    Device,
    /// The host's.
    Host,
}

/// How far an area is.
#[derive(Clone, Debug)]
enum Stage {
    /// There is none.
    Out,
    /// The consumer in another process is being given it.
    Passing(Ticket),
    /// The worker is taking it up.
    Coming(Ticket),
    Serving,
    /// The worker gives it back.
    Leaving(Ticket),
    /// It could not be had, or used: not tried again.
    Barred,
}

/// An area beside those that a pool was built with.
#[derive(Clone, Debug)]
struct Extra {
    kind: Kind,
    /// Slots.
    slots: usize,
    stage: Stage,
    area: Option<(AreaId, Extent)>,
}

impl Extra {
    fn new(kind: Kind, slots: usize) -> Self {
        let stage = if slots == 0 { Stage::Barred } else { Stage::Out };
        Self { kind, slots, stage, area: None }
    }

    /// Whether nothing more is to be expected of it.
    fn is_used_up(&self) -> bool {
        matches!(self.stage, Stage::Serving | Stage::Barred)
    }
}

/// One queue's.
#[derive(Clone, Debug)]
struct Queue {
    extras: [Extra; 2],
    /// Shortages, and nanoseconds of them, when last looked.
    seen: (u64, u64),
    /// When memory was last short.
    short_at: Instant,
}

/// All queues'.
pub(crate) struct Growth {
    queues: Vec<Queue>,
    exchanges: Vec<Exchange>,
    /// Changes of memory when last looked: areas go with their pools.
    changes: u64,
    told: GrowthReport,
}

/// What a queue's growth works with.
struct Scene<'a> {
    maker: &'a Maker,
    server: Option<&'a Server>,
    exchange: &'a Exchange,
    worker: usize,
    pool: &'a Pool<Device>,
    told: &'a mut GrowthReport,
}

impl Growth {
    pub(crate) fn new(maker: &Maker, exchanges: Vec<Exchange>) -> Self {
        let (device, host) = maker.extra_slots();
        let extras = [Extra::new(Kind::Device, device), Extra::new(Kind::Host, host)];
        let queue = Queue { extras, seen: (0, 0), short_at: Instant::now() };
        let queues = vec![queue; exchanges.len()];
        Self { queues, exchanges, changes: 0, told: GrowthReport::default() }
    }

    /// What was done so far.
    pub(crate) fn report(&self) -> GrowthReport {
        self.told
    }

    /// Sees to all queues. The main thread's, every few milliseconds; `totals` are the workers', `changes` those of
    /// all pools' memory so far.
    pub(crate) fn tick(
        &mut self,
        maker: &Maker,
        pools: &[Pools],
        server: Option<&Server>,
        (totals, changes): (&[Totals], u64),
    ) {
        let is_new = std::mem::replace(&mut self.changes, changes) != changes;
        let Self { queues, exchanges, told, .. } = self;
        for (worker, queue) in queues.iter_mut().enumerate() {
            let pool = &pools[worker].data;
            let exchange = &exchanges[worker];
            let mut scene = Scene { maker, server, exchange, worker, pool, told: &mut *told };
            if is_new {
                queue.start_again(&mut scene);
            }
            queue.tick(&mut scene, &totals[worker]);
        }
        let slots: usize = pools.iter().map(|pools| pools.data.capacity()).sum();
        told.peak_slots = told.peak_slots.max(slots as u64);
    }
}

impl Queue {
    /// The pool is another.
    fn start_again(&mut self, scene: &mut Scene<'_>) {
        for extra in &mut self.extras {
            if extra.area.take().is_some() {
                scene.told.areas_removed += 1;
            }
            *extra = Extra::new(extra.kind, extra.slots);
        }
    }

    fn tick(&mut self, scene: &mut Scene<'_>, totals: &Totals) {
        let seen = (totals.shortages, totals.shortage_ns);
        let is_short = std::mem::replace(&mut self.seen, seen) != seen;
        if is_short {
            self.short_at = Instant::now();
        }
        let is_calm = self.short_at.elapsed() >= CALM;
        let [device, host] = &mut self.extras;
        device.tick(scene);
        host.tick(scene);
        // One after the other: up, and down again.
        if is_short && matches!(device.stage, Stage::Out) {
            device.come(scene);
        } else if is_short && device.is_used_up() && matches!(host.stage, Stage::Out) {
            host.come(scene);
        } else if is_calm && matches!(host.stage, Stage::Serving) {
            host.leave(scene);
        } else if is_calm
            && matches!(host.stage, Stage::Out | Stage::Barred)
            && matches!(device.stage, Stage::Serving)
        {
            device.leave(scene);
        }
    }
}

impl Extra {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Device => "--grow",
            Kind::Host => "--spill",
        }
    }

    /// Has an area come: to the pool now, to the consumer and the worker as they answer.
    fn come(&mut self, scene: &mut Scene<'_>) {
        let stage = match self.add(scene) {
            Ok(ticket) => Stage::Passing(ticket),
            Err(error) => {
                tracing::warn!(%error, "{}: no more payload memory", self.name());
                Stage::Barred
            }
        };
        self.stage = stage;
        self.tick(scene);
    }

    fn add(&mut self, scene: &mut Scene<'_>) -> Result<Ticket, AppError> {
        let id = scene.maker.grow(scene.pool, self.kind)?;
        let count = u32::try_from(self.slots).unwrap_or(u32::MAX);
        let known = scene.pool.areas().into_iter().find(|area| area.id == id);
        let Some(info) = known else {
            return Err(AppError::failed("an area that was added is gone"));
        };
        let extent = Extent { first: info.first_slot, count };
        let passed = scene.server.map(|server| server.add(scene.worker, &info));
        match passed.transpose() {
            Ok(ticket) => {
                self.area = Some((id, extent));
                scene.told.areas_added += 1;
                tracing::info!(slots = count, provider = info.provider, "payload memory grows");
                Ok(ticket.unwrap_or_else(Ticket::done))
            }
            Err(error) => {
                // Nobody has any of its slots.
                scene.pool.remove_area(id)?;
                Err(error)
            }
        }
    }

    /// Has the worker give it back.
    fn leave(&mut self, scene: &Scene<'_>) {
        if let Some((_, extent)) = self.area {
            self.stage = Stage::Leaving(send(scene.exchange, Task::Leave(extent)));
        }
    }

    /// Goes on as far as it can.
    fn tick(&mut self, scene: &mut Scene<'_>) {
        let Some((id, extent)) = self.area else { return };
        match &self.stage {
            Stage::Passing(ticket) if ticket.outcome() == Outcome::Done => {
                let is_host = self.kind == Kind::Host;
                let task = Task::Take { area: extent, is_host };
                self.stage = Stage::Coming(send(scene.exchange, task));
            }
            Stage::Coming(ticket) => match ticket.outcome() {
                Outcome::Open => {}
                Outcome::Done => self.stage = Stage::Serving,
                Outcome::Failed => {
                    let what = self.name();
                    tracing::warn!("{what}: the port cannot reach more payload memory");
                    self.remove(scene, (id, extent), Stage::Barred);
                }
            },
            Stage::Leaving(ticket) if ticket.outcome() == Outcome::Done => {
                self.remove(scene, (id, extent), Stage::Out);
            }
            _ => {}
        }
    }

    /// Takes it out of the pool once the last slot is home, and tells everybody.
    fn remove(&mut self, scene: &mut Scene<'_>, (id, extent): (AreaId, Extent), then: Stage) {
        // Not all home: again the next time.
        let Ok(region) = scene.pool.remove_area(id) else { return };
        drop(region);
        if let Some(server) = scene.server {
            server.remove(scene.worker, extent.first);
        }
        send(scene.exchange, Task::Forget);
        scene.told.areas_removed += 1;
        tracing::info!(slots = extent.count, "payload memory shrinks");
        (self.area, self.stage) = (None, then);
    }
}

fn send(exchange: &Exchange, task: Task) -> Ticket {
    let ticket = Ticket::default();
    exchange.send(Errand { task, ticket: ticket.clone() });
    ticket
}
