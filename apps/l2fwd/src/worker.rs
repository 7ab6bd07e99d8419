//! The loop: takes bursts from the queues of its ports, and has them forwarded. Knows queues; knows no
//! driver, no provider, no clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::Sender,
    },
    time::{Duration, Instant},
};

use crossbeam_utils::CachePadded;
use mempool::{Burst, Cache, Cpu, Pool, Shared};
use memwire_apps::{
    Stop,
    idle::{Idle, IdleMode},
};
use pmd::RxQueue;

use crate::{
    mailbox::{Mailbox, Order, Post, Returned, Share, mailbox},
    outlet::Outlet,
    rewrite::{Addresses, Rewrite},
    switch::{Bench, Switch},
    tally::Tally,
};

/// When a worker leaves its loop, besides the common stop flag.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leave {
    /// Set when ports have ended: leave once nothing more comes from them.
    pub(crate) drain: Stop,
    /// Frames received by all workers, and how many are enough.
    pub(crate) enough: Option<(Arc<AtomicU64>, u64)>,
}

impl Leave {
    /// Whether there were enough.
    pub(crate) fn is_reached(&self) -> bool {
        let reached =
            |(seen, enough): &(Arc<AtomicU64>, u64)| seen.load(Ordering::Relaxed) >= *enough;
        self.enough.as_ref().is_some_and(reached)
    }

    /// Whether `frames` more are enough.
    fn is_enough(&self, frames: usize) -> bool {
        self.enough.as_ref().is_some_and(|(seen, enough)| {
            // Relaxed: a count, ordered by nothing; once per round, and only with `-c`.
            seen.fetch_add(frames as u64, Ordering::Relaxed) + frames as u64 >= *enough
        })
    }
}

/// A receive queue of a port.
struct Inlet {
    port: usize,
    /// `None` while the port is out of service.
    rx: Option<Box<dyn RxQueue>>,
    /// Whether the worker waits for this port when traffic ends.
    ends: bool,
}

/// Pairs of ports, as one worker serves them.
pub(crate) struct Pairs {
    /// For each port the one that sends what it receives.
    pub(crate) partners: Vec<usize>,
    pub(crate) rewrite: Rewrite,
    /// For each port the addresses of what leaves by it.
    pub(crate) addresses: Vec<Addresses>,
}

/// How frames find their way.
pub(crate) enum Plane {
    Pairs(Pairs),
    Switch(Switch),
}

/// The mirror, and what pairs send it.
struct Mirror {
    outlet: Outlet,
    frames: Burst<Shared>,
    copies: Burst<Shared>,
}

/// Some receive queues, and a transmit queue of every port that their frames may leave by.
pub(crate) struct Worker {
    inlets: Vec<Inlet>,
    outlets: Vec<Outlet>,
    mirror: Option<Mirror>,
    plane: Plane,
    cache: Cache<Cpu>,
    burst: Burst<Cpu>,
    tally: Arc<CachePadded<Tally>>,
    idle: Idle,
    mailbox: Mailbox,
}

/// How long a worker that leaves waits for ports to give buffers back.
const SETTLE: Duration = Duration::from_millis(500);

impl Worker {
    /// A worker for `ports` ports, and a mirror if there is one, that has no queues yet; and how to
    /// reach it.
    pub(crate) fn new(
        plane: Plane,
        ports: usize,
        has_mirror: bool,
        pool: &Pool<Cpu>,
        burst: usize,
        idle: IdleMode,
        returned: &Sender<Returned>,
    ) -> (Self, Post) {
        let (post, mailbox) = mailbox(returned);
        let shared = || Burst::with_limit(Burst::of_shared(pool).pool(), burst);
        let outlet = || Outlet::new(pool, burst);
        let mirror = || Mirror { outlet: outlet(), frames: shared(), copies: shared() };
        let worker = Self {
            inlets: Vec::new(),
            outlets: (0..ports).map(|_| outlet()).collect(),
            mirror: has_mirror.then(mirror),
            plane,
            cache: pool.cache(),
            burst: Burst::with_limit(pool, burst),
            tally: Arc::new(CachePadded::new(Tally::new(ports + 1))),
            idle: Idle::new(idle),
            mailbox,
        };
        (worker, post)
    }

    pub(crate) fn tally(&self) -> Arc<CachePadded<Tally>> {
        Arc::clone(&self.tally)
    }

    /// Gives it queues of a port, to begin with; `ends` is whether to wait for what comes from them
    /// when traffic ends. The port behind the last is the mirror.
    pub(crate) fn assign(&mut self, port: usize, share: Share, mac: [u8; 6], ends: bool) {
        for _ in &share.rx {
            self.inlets.push(Inlet { port, rx: None, ends });
        }
        self.take(port, share, mac);
    }

    /// Forwards until asked to leave, then waits a little for the ports to give buffers back.
    pub(crate) fn run(mut self, stop: &Stop, leave: &Leave) -> Self {
        while !stop.is_set() {
            // Asked before the round: what came before the ports ended is in it.
            let is_draining = leave.drain.is_set();
            let (got, is_waited_for) = self.round();
            if leave.is_enough(got) {
                stop.set();
            }
            if is_draining && !is_waited_for {
                break;
            }
        }
        self.settle();
        self
    }

    /// Serves every queue once; returns how many frames came, and whether any came from a port that
    /// is waited for when traffic ends.
    #[inline]
    pub(crate) fn round(&mut self) -> (usize, bool) {
        while let Some(order) = self.mailbox.order() {
            self.obey(order);
        }
        let (mut all, mut is_waited_for) = (0, false);
        let Self { inlets, outlets, mirror, plane, cache, burst, tally, .. } = self;
        let tally: &Tally = tally;
        for inlet in inlets {
            let got = inlet.rx.as_mut().map_or(0, |rx| rx.recv(cache, burst));
            if got == 0 {
                if let Plane::Pairs(pairs) = plane {
                    outlets[pairs.partners[inlet.port]].reap(cache);
                }
                continue;
            }
            all += got;
            is_waited_for |= inlet.ends;
            match plane {
                Plane::Pairs(pairs) => {
                    let to = pairs.partners[inlet.port];
                    pairs.rewrite.apply(burst, &pairs.addresses[to]);
                    let outlet = &mut outlets[to];
                    match mirror {
                        None => outlet.send(cache, burst, &tally.ports[to]),
                        Some(mirror) => mirror.send_both(outlet, to, cache, burst, tally),
                    }
                }
                Plane::Switch(switch) => {
                    let mirror = mirror.as_mut().map(|mirror| &mut mirror.outlet);
                    switch.forward(inlet.port, burst, Bench { outlets, mirror, cache, tally });
                }
            }
        }
        if let Plane::Switch(_) = plane {
            outlets.iter_mut().for_each(|outlet| outlet.end_round(cache));
        }
        if let Some(mirror) = mirror {
            mirror.outlet.end_round(cache);
        }
        self.tally.activity.round(all == 0);
        if all == 0 {
            self.cache.tidy();
        }
        self.idle.round(all);
        if self.idle.wants_arming() {
            let queues = self.inlets.iter_mut().filter_map(|inlet| inlet.rx.as_mut());
            self.idle.arm(queues.map(|queue| queue.arm()));
        }
        (all, is_waited_for)
    }

    #[cold]
    fn obey(&mut self, order: Order) {
        match order {
            Order::GiveBack(port) => {
                let share = self.give_back(port);
                self.mailbox.give_back(port, share);
            }
            Order::Take(port, share, mac) => self.take(port, share, mac),
        }
    }

    /// All queues of a port that this worker has.
    fn give_back(&mut self, port: usize) -> Share {
        let inlets = self.inlets.iter_mut().filter(|inlet| inlet.port == port);
        let rx = inlets.filter_map(|inlet| inlet.rx.take()).collect();
        Share { rx, tx: self.outlet(port).and_then(Outlet::detach) }
    }

    fn take(&mut self, port: usize, share: Share, mac: [u8; 6]) {
        let inlets = self.inlets.iter_mut().filter(|inlet| inlet.port == port);
        for (inlet, rx) in inlets.zip(share.rx) {
            inlet.rx = Some(rx);
        }
        if let (Some(outlet), Some(tx)) = (self.outlet(port), share.tx) {
            outlet.attach(tx);
        }
        if let Plane::Pairs(pairs) = &mut self.plane
            && let Some(addresses) = pairs.addresses.get_mut(port)
        {
            addresses.src = mac;
        }
    }

    fn outlet(&mut self, port: usize) -> Option<&mut Outlet> {
        let mirror = self.mirror.as_mut().map(|mirror| &mut mirror.outlet);
        self.outlets.get_mut(port).or(mirror)
    }

    fn settle(&mut self) {
        let deadline = Instant::now() + SETTLE;
        let mirror = self.mirror.iter_mut().map(|mirror| &mut mirror.outlet);
        for tx in self.outlets.iter_mut().chain(mirror).filter_map(Outlet::queue_mut) {
            while tx.in_flight() > 0 && Instant::now() < deadline {
                if tx.reap(&mut self.cache) == 0 {
                    std::thread::yield_now();
                }
            }
        }
    }

    /// Gives all its queues back, and ends.
    pub(crate) fn close(mut self) {
        let ports = self.outlets.len() + usize::from(self.mirror.is_some());
        for port in 0..ports {
            let share = self.give_back(port);
            self.mailbox.give_back(port, share);
        }
        self.mailbox.close();
    }
}

impl Mirror {
    /// Sends every frame twice, by reference: on its way, and to the mirror. The burst is empty then.
    fn send_both(
        &mut self,
        outlet: &mut Outlet,
        to: usize,
        cache: &mut Cache<Cpu>,
        burst: &mut Burst<Cpu>,
        tally: &Tally,
    ) {
        self.frames.share_from(burst).expect("the pool is shareable wherever there is a mirror");
        self.frames.clone_into(&mut self.copies);
        outlet.send_shared(cache, &mut self.frames, &tally.ports[to]);
        if let Some(mirror) = tally.ports.last() {
            self.outlet.send_shared(cache, &mut self.copies, mirror);
            self.outlet.note_used();
        }
    }
}
