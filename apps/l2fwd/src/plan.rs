//! Who serves what: receive queues dealt to workers, a transmit queue for each worker on every port
//! that it sends to, and how many buffers all of them need. Numbers only, until queues are dealt.

use mempool::{Cpu, DEFAULT_CACHE, DEFAULT_HEADROOM, Pool, QueuePlan, Sizing};
use memwire_apps::AppError;
use pmd::{AnyRxQueue, Config, Queues, RxMemory};

use crate::{Args, Mode, mailbox::Share, port::Port};

/// The port that sends what this one receives, of `count` ports in pairs.
pub(crate) fn partner(port: usize, count: usize) -> usize {
    if count == 1 { 0 } else { port ^ 1 }
}

/// Which queue is whose.
pub(crate) struct Plan {
    pub(crate) workers: usize,
    /// For each port, the mirror last: whose its receive queues are.
    rx: Vec<Vec<usize>>,
    /// Likewise its transmit queues.
    tx: Vec<Vec<usize>>,
    ring: usize,
    /// Bytes of a buffer.
    stride: usize,
}

impl Plan {
    /// A plan for these ports, the mirror (if there is one) last.
    ///
    /// # Errors
    /// No port receives, or one has fewer transmit queues than workers need.
    pub(crate) fn new(args: &Args, ports: &[Port]) -> Result<Self, AppError> {
        let count = args.ports.ports.len();
        let receiving: Vec<_> = (0..count).filter(|port| ports[*port].receives()).collect();
        if receiving.is_empty() {
            return Err(AppError::usage("no port receives: there is nothing to forward"));
        }
        let queues = args.run.queues;
        for port in receiving.iter().map(|port| &ports[*port]) {
            let most = port.info.capabilities.rx_queues;
            if queues > most {
                let (port, what) = (port.info.port.clone(), "receive");
                return Err(pmd::Error::TooManyQueues { port, what, asked: queues, most }.into());
            }
        }
        let cores = args.run.lcores.as_ref().map_or(queues, |cores| cores.0.len());
        let workers = cores.min(queues * receiving.len());
        let (mut rx, mut tx) = (vec![Vec::new(); ports.len()], vec![Vec::new(); ports.len()]);
        // Queue by queue, so that with a worker for each queue that one serves it on all ports.
        for queue in 0..queues {
            for (at, port) in receiving.iter().enumerate() {
                let worker = (queue * receiving.len() + at) * workers / (queues * receiving.len());
                rx[*port].push(worker);
                match args.mode {
                    Mode::Pairs => tx[partner(*port, count)].push(worker),
                    Mode::Switch => {}
                }
            }
        }
        if args.mode == Mode::Switch {
            tx[..count].fill((0..workers).collect());
        }
        if let Some(mirror) = tx.get_mut(count) {
            *mirror = (0..workers).collect();
        }
        for (port, tx) in ports.iter().zip(&mut tx) {
            tx.sort_unstable();
            tx.dedup();
            let most = port.info.capabilities.tx_queues;
            if most == 0 {
                tx.clear();
            }
            if tx.len() > most {
                let message = format!(
                    "port '{}': {} workers send to it, each by a queue of its own, and it has {most}",
                    port.spec,
                    tx.len()
                );
                return Err(AppError::usage(message).hint("fewer cores (-l) or queues (-q)"));
            }
        }
        let infos = receiving.iter().map(|port| &ports[*port].info);
        let stride = args.pool.stride(infos, DEFAULT_HEADROOM);
        Ok(Self { workers, rx, tx, ring: args.pool.ring, stride })
    }

    /// The pool for all of it.
    pub(crate) fn build_pool(&self, args: &Args) -> Result<Pool<Cpu>, AppError> {
        let ring = self.ring;
        let rings = |rx: &Vec<usize>, tx: &Vec<usize>| {
            let one = |has: bool| if has { ring } else { 0 };
            let queues = rx.len().max(tx.len());
            (0..queues)
                .map(|at| QueuePlan { rx_ring: one(at < rx.len()), tx_ring: one(at < tx.len()) })
                .collect::<Vec<_>>()
        };
        let is_switch = args.mode == Mode::Switch;
        let plan = Sizing {
            queues: self.rx.iter().zip(&self.tx).flat_map(|(rx, tx)| rings(rx, tx)).collect(),
            workers: self.workers,
            cache: DEFAULT_CACHE,
            burst: args.run.burst,
            // A frame of each burst may have a copy with another tag.
            held: if is_switch { self.workers * args.run.burst } else { 0 },
        };
        let slots = args.pool.slots(&plan)?;
        let needed = (slots as u64).saturating_mul(self.stride as u64);
        let memory = args.memory.memory.open(needed)?;
        let pool = Pool::builder().name("frames").slots(slots).stride(self.stride);
        let is_shared = args.mirror.is_some() || is_switch;
        let pool = if is_shared { pool.shareable() } else { pool };
        Ok(pool.memory(&*memory).build()?)
    }

    /// What a port is started with.
    pub(crate) fn config(&self, port: usize, pool: &Pool<Cpu>) -> Config {
        let mut config = Config { promiscuous: !self.rx[port].is_empty(), ..Config::default() };
        for _ in &self.rx[port] {
            config = config.with_rx(RxMemory::Whole(pool.clone()));
        }
        for _ in &self.tx[port] {
            config = config.with_tx(pool);
        }
        config.rings(self.ring)
    }

    /// Deals a started port's queues to the workers.
    pub(crate) fn deal(&self, port: usize, queues: Queues) -> Vec<Share> {
        let mut shares: Vec<_> = (0..self.workers).map(|_| Share::default()).collect();
        let rx = queues.rx.into_iter().filter_map(AnyRxQueue::whole);
        for (worker, queue) in self.rx[port].iter().zip(rx) {
            shares[*worker].rx.push(queue);
        }
        for (worker, queue) in self.tx[port].iter().zip(queues.tx) {
            shares[*worker].tx = Some(queue);
        }
        shares
    }
}
