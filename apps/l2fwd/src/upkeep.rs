//! Ports while the workers run: those that fail are taken out of service without disturbing the
//! others, and brought back when they are there again. The main thread's work, never a worker's.

use std::{
    sync::{Arc, mpsc::Receiver},
    time::{Duration, Instant},
};

use mempool::{Cpu, Pool};
use memwire_apps::AppError;
use pmd::{Health, Registry};
use tracing::warn;

use crate::{
    Args, OnFault,
    mailbox::{Order, Post, Returned},
    plan::Plan,
    port::{Port, State},
    switch::Fabric,
};

/// Time between two looks at links: each is some system calls.
const LINKS: Duration = Duration::from_millis(100);
/// Time between two searches for stations that were silent too long.
const AGEING: Duration = Duration::from_secs(1);

/// All ports, and how to reach the workers that have their queues.
pub(crate) struct Upkeep {
    /// The mirror, if there is one, is the last.
    pub(crate) ports: Vec<Port>,
    /// How many of them are not the mirror.
    pub(crate) count: usize,
    pub(crate) pool: Pool<Cpu>,
    pub(crate) plan: Plan,
    pub(crate) fabric: Option<Arc<Fabric>>,
    pub(crate) posts: Vec<Post>,
    pub(crate) returned: Receiver<Returned>,
    pub(crate) on_fault: OnFault,
    pub(crate) on_removal: OnFault,
    next_links: Instant,
    next_ageing: Instant,
    start: Instant,
    /// What the storm guards have left over.
    rests: Vec<f64>,
    /// Stations forgotten: silent too long, and with their port.
    pub(crate) aged: u64,
    pub(crate) flushed: u64,
}

impl Upkeep {
    pub(crate) fn new(
        ports: Vec<Port>,
        count: usize,
        pool: Pool<Cpu>,
        plan: Plan,
        fabric: Option<Arc<Fabric>>,
        returned: Receiver<Returned>,
        args: &Args,
    ) -> Self {
        let now = Instant::now();
        Self {
            ports,
            count,
            pool,
            plan,
            fabric,
            posts: Vec::new(),
            returned,
            on_fault: args.on_fault(),
            on_removal: args.on_removal(),
            next_links: now,
            next_ageing: now + AGEING,
            start: now,
            rests: Vec::new(),
            aged: 0,
            flushed: 0,
        }
    }

    /// Does what is due; returns the fault that ends the run, if there is one.
    pub(crate) fn tick(&mut self, registry: &mut Registry) -> Option<String> {
        let now = Instant::now();
        if let Some(fabric) = &self.fabric {
            fabric.set_time(now - self.start, &mut self.rests);
            if now >= self.next_ageing {
                self.next_ageing = now + AGEING;
                self.aged += fabric.fdb.age(fabric.now_ms()) as u64;
            }
        }
        self.collect();
        let looks_at_links = now >= self.next_links;
        if looks_at_links {
            self.next_links = now + LINKS;
        }
        let mut fatal = None;
        for at in 0..self.ports.len() {
            if let Some(health) = self.ports[at].trouble().filter(|_| self.is_in_service(at)) {
                let is_fatal = at < self.count && !self.may_return(at);
                if is_fatal {
                    let why = health.fault().unwrap_or_default();
                    fatal.get_or_insert(format!("port '{}': {why}", self.ports[at].info.port));
                }
                // Whoever wants the device back waits for it to be closed.
                if is_fatal && !self.ports[at].is_removed() {
                    self.ports[at].state = State::Failed;
                } else {
                    self.take_out(at, health);
                }
            } else if looks_at_links && self.is_in_service(at) {
                if self.ports[at].look() && at < self.count {
                    self.flush(at);
                }
            } else if self.ports[at].state == State::Leaving && self.ports[at].awaited == 0 {
                self.close(at);
            } else if self.ports[at].state == State::Away {
                self.bring_back(at, registry);
            }
        }
        fatal
    }

    fn is_in_service(&self, at: usize) -> bool {
        matches!(self.ports[at].state, State::Up | State::NoLink | State::Ended)
    }

    fn may_return(&self, at: usize) -> bool {
        let port = &self.ports[at];
        let policy = if port.is_removed() { self.on_removal } else { self.on_fault };
        policy == OnFault::Reopen && at < self.count && port.can_return()
    }

    /// Takes back queues that workers have given up.
    pub(crate) fn collect(&mut self) {
        while let Ok((port, share)) = self.returned.try_recv() {
            self.ports[port].take_back(share);
        }
    }

    fn take_out(&mut self, at: usize, why: Health) {
        warn!("port '{}': out of service: {why}", self.ports[at].spec);
        let told = self.posts.iter().filter(|post| post.send(Order::GiveBack(at)).is_ok()).count();
        self.ports[at].leave(why, told);
    }

    /// All queues are back: the device goes, and what was learnt of it.
    fn close(&mut self, at: usize) {
        let may_return = self.may_return(at);
        let port = &mut self.ports[at];
        if let Err(error) = port.stop() {
            // It keeps its buffers, which are counted as leaked.
            warn!("{error}");
        }
        port.close(may_return);
        self.flush(at);
    }

    fn flush(&mut self, at: usize) {
        if let (Some(fabric), Ok(port)) = (&self.fabric, u16::try_from(at)) {
            self.flushed += fabric.fdb.flush(port) as u64;
        }
    }

    fn bring_back(&mut self, at: usize, registry: &mut Registry) {
        let Some(mut device) = self.ports[at].reopen(registry) else {
            return;
        };
        match device.start(self.plan.config(at, &self.pool)) {
            Ok(queues) => {
                let mac = device.info().mac;
                self.ports[at].come_back(device);
                warn!("port '{}': back in service", self.ports[at].spec);
                let shares = self.plan.deal(at, queues);
                for (post, share) in self.posts.iter().zip(shares) {
                    if let Err(Order::Take(_, share, _)) = post.send(Order::Take(at, share, mac)) {
                        self.ports[at].take_back(share);
                    }
                }
            }
            Err(error) => self.ports[at].stays_away(error.to_string()),
        }
    }

    /// Stops every device, once workers have ended and given all queues back.
    ///
    /// # Errors
    /// A device did not stop.
    pub(crate) fn stop(&mut self) -> Result<(), AppError> {
        self.collect();
        for at in 0..self.ports.len() {
            if self.is_in_service(at) {
                self.ports[at].look();
            }
        }
        for port in &mut self.ports {
            port.stop()?;
            // What was written last may fail as late as now.
            if port.fault().is_some() {
                port.state = State::Failed;
            }
        }
        Ok(())
    }
}
