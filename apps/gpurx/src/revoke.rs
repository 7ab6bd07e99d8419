//! Device memory that is taken back, and comes again: who says so, what is done then, and what is told of
//! it. The queues of all ports change their memory one after the other while they run; the order of each
//! change is [`pmd::Device::rebind`]'s. Knows no provider and no driver.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use mempool::{Device as DeviceMemory, Pool, Witness};
use memwire_apps::AppError;
use pmd::{AnyRxQueue, RebindError, Rebound, RxMemory};
use serde::Serialize;
use signal_hook::{consts::SIGUSR1, flag::register};

use crate::{
    exchange::{Exchange, Fresh, Left},
    handover::server::Server,
    path::Path,
    receiver::Receiver,
    setup::{Handover, Maker, Pools, Port},
    totals::Totals,
};

/// How often memory that its provider took back is asked for again.
const AGAIN: Duration = Duration::from_millis(500);

/// What was done about memory that was taken back.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RevocationReport {
    /// Times that device memory was taken back.
    pub revocations: u64,
    /// Times that it was there again.
    pub resumed: u64,
    /// Rows that went to host memory meanwhile.
    pub rows_to_host: u64,
    /// Frames whose payloads were dropped meanwhile.
    pub payloads_dropped: u64,
    /// Milliseconds that workers had no queue to poll, in all.
    pub ms_without_heads: f64,
    /// The longest time between the last burst before a change of memory and the first one after it, in
    /// milliseconds.
    pub longest_gap_ms: f64,
    /// Times that memory taken back was found to be used by nobody any more.
    pub acknowledged: u64,
}

/// Who took the memory back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Operator,
    Provider,
}

/// A queue was not given other memory.
struct Refused {
    error: AppError,
    /// Whether it goes on as it was.
    goes_on: bool,
}

impl Refused {
    /// Before anything was touched.
    fn early(error: AppError) -> Self {
        Self { error, goes_on: true }
    }
}

/// Where payloads go now.
#[derive(Clone, Copy, Debug)]
enum Place {
    Device,
    /// Somewhere else; device memory that its provider took back is asked for again then.
    Refuge {
        cause: Cause,
        again: Instant,
    },
}

/// Set by SIGUSR1: from here on the signal revokes and resumes, and does not end the process.
///
/// # Errors
/// The system refused the handler.
pub(crate) fn asked() -> Result<Arc<AtomicBool>, AppError> {
    let asked = Arc::new(AtomicBool::new(false));
    let failed = |error| AppError::failed(format!("signal {SIGUSR1}: no handler: {error}"));
    register(SIGUSR1, Arc::clone(&asked)).map_err(failed)?;
    Ok(asked)
}

/// Watches over device memory while the app runs.
pub(crate) struct Keeper {
    maker: Maker,
    /// Set by SIGUSR1.
    asked: Arc<AtomicBool>,
    /// In host memory, by worker; none where payloads are in host memory anyway.
    refuge: Vec<Pool<DeviceMemory>>,
    exchanges: Vec<Exchange>,
    place: Place,
    /// Changes of memory so far, and those that were made.
    changes: u64,
    made: u64,
    /// Memory given up: who can tell whether it is gone, and since when.
    given_up: Vec<(Witness, Instant)>,
    told: RevocationReport,
    fault: Option<String>,
}

impl Keeper {
    /// Takes what is needed to go on without device memory now, so that nothing has to be found then.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(crate) fn new(
        maker: Maker,
        exchanges: Vec<Exchange>,
        asked: Arc<AtomicBool>,
    ) -> Result<Self, AppError> {
        let refuge =
            if maker.is_device { maker.refuge_pools(exchanges.len())? } else { Vec::new() };
        tracing::info!(device = maker.is_device, "SIGUSR1 revokes device memory, and resumes");
        Ok(Self {
            maker,
            asked,
            refuge,
            exchanges,
            place: Place::Device,
            changes: 0,
            made: 0,
            given_up: Vec::new(),
            told: RevocationReport::default(),
            fault: None,
        })
    }

    /// Pools that wait to take the place of others, for reports.
    pub(crate) fn idle_pools(&self) -> &[Pool<DeviceMemory>] {
        match self.place {
            Place::Device => &self.refuge,
            Place::Refuge { .. } => &[],
        }
    }

    /// What was done so far, given what the workers counted.
    pub(crate) fn report(&self, totals: &Totals) -> RevocationReport {
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let gaps = self.exchanges.iter().map(Exchange::longest_gap);
        RevocationReport {
            rows_to_host: totals.rows_to_host,
            payloads_dropped: totals.revoked,
            ms_without_heads: millis(self.exchanges.iter().map(Exchange::away).sum()),
            longest_gap_ms: millis(gaps.max().unwrap_or_default()),
            ..self.told.clone()
        }
    }

    /// Changes of memory so far; none while payloads are somewhere else.
    pub(crate) fn changes_at_home(&self) -> Option<u64> {
        matches!(self.place, Place::Device).then_some(self.made)
    }

    /// What opens memory.
    pub(crate) fn maker(&self) -> &Maker {
        &self.maker
    }

    /// What went wrong, if something did.
    pub(crate) fn fault(&self) -> Option<String> {
        self.fault.clone()
    }

    /// Sees whether memory went or came, and does what is to be done. The main thread's, every few
    /// milliseconds.
    ///
    /// # Errors
    /// A queue could not be given other memory, and is lost until its port stops.
    pub(crate) fn tick(
        &mut self,
        ports: &mut [Port],
        pools: &mut [Pools],
        server: Option<&Server>,
    ) -> Result<(), AppError> {
        self.hear_acknowledgements();
        let asked = self.asked.swap(false, Ordering::Relaxed);
        if !self.maker.is_device {
            if asked {
                tracing::warn!("payloads are in host memory: there is nothing to revoke");
            }
            return Ok(());
        }
        match self.place {
            Place::Device if asked => {
                self.revoke(ports, pools, server, (Cause::Operator, "the operator"))
            }
            Place::Device => match self.maker.check() {
                Some(why) => {
                    let by = format!("its provider ({why})");
                    self.revoke(ports, pools, server, (Cause::Provider, &by))
                }
                None => Ok(()),
            },
            Place::Refuge { cause, again } => {
                let is_due = cause == Cause::Provider && Instant::now() >= again;
                if !asked && !is_due {
                    return Ok(());
                }
                if server.is_some_and(|server| !server.is_settled()) {
                    // A consumer may still read what is to be used again. Soon it does not, or is sent away.
                    self.asked.fetch_or(asked, Ordering::Relaxed);
                    return Ok(());
                }
                self.resume(ports, pools, server, asked)
            }
        }
    }

    fn revoke(
        &mut self,
        ports: &mut [Port],
        pools: &mut [Pools],
        server: Option<&Server>,
        (cause, by): (Cause, &str),
    ) -> Result<(), AppError> {
        self.told.revocations += 1;
        let to =
            if self.maker.drops() { "payloads are dropped" } else { "payloads go to the host" };
        tracing::warn!(revocations = self.told.revocations, "device memory revoked by {by}: {to}");
        // Nothing of it is handed out any more, whoever asked.
        for pool in pools.iter().map(|pools| &pools.data) {
            for area in pool.areas() {
                pool.drain_area(area.id)?;
                self.given_up.push((area.region.witness(), Instant::now()));
            }
        }
        self.maker.let_go();
        if server.is_some_and(|server| !server.is_settled()) {
            // A consumer may still read what the refuge had the last time.
            self.refuge = self.maker.refuge_pools(self.exchanges.len())?;
        }
        let fresh = self.refuge.clone();
        self.change(ports, pools, server, (fresh, true)).map_err(|refused| refused.error)?;
        self.place = Place::Refuge { cause, again: Instant::now() + AGAIN };
        self.hear_acknowledgements();
        Ok(())
    }

    fn resume(
        &mut self,
        ports: &mut [Port],
        pools: &mut [Pools],
        server: Option<&Server>,
        asked: bool,
    ) -> Result<(), AppError> {
        let fresh = match self.maker.device_pools(self.exchanges.len()) {
            Ok(fresh) => fresh,
            Err(error) => {
                if asked {
                    tracing::warn!(%error, "device memory is not to be had yet");
                }
                if let Place::Refuge { again, .. } = &mut self.place {
                    *again = Instant::now() + AGAIN;
                }
                return Ok(());
            }
        };
        match self.change(ports, pools, server, (fresh, false)) {
            Ok(()) => {}
            Err(Refused { error, goes_on: true }) => {
                tracing::warn!(%error, "device memory is there, and a port cannot use it");
                self.maker.let_go();
                if let Place::Refuge { again, .. } = &mut self.place {
                    *again = Instant::now() + AGAIN;
                }
                return Ok(());
            }
            Err(Refused { error, .. }) => return Err(error),
        }
        self.place = Place::Device;
        self.told.resumed += 1;
        tracing::warn!(resumed = self.told.resumed, "device memory is back: payloads go there");
        Ok(())
    }

    /// Has every worker go on with another pool.
    fn change(
        &mut self,
        ports: &mut [Port],
        pools: &mut [Pools],
        server: Option<&Server>,
        (fresh, to_refuge): (Vec<Pool<DeviceMemory>>, bool),
    ) -> Result<(), Refused> {
        self.changes += 1;
        let mut offers = Vec::new();
        let has_client = server.is_some_and(Server::has_client);
        let queues = ports.iter().enumerate();
        let queues = queues.flat_map(|(at, port)| (0..port.counters.len()).map(move |q| (at, q)));
        let queues: Vec<_> = queues.collect();
        for (worker, ((port, queue), data)) in queues.into_iter().zip(fresh).enumerate() {
            let heads = pools[worker].heads.clone();
            let next = Pools { heads, data };
            let handover = Handover { offers: &mut offers, has_client };
            let change = (to_refuge, handover);
            let left = self.change_one(&mut ports[port], (queue, worker), &next, change)?;
            let Some(Left { binding, former }) = left else { continue };
            // In this order: the queue's buffers, those of cache and sink, then the pool.
            drop(former);
            drop(binding);
            let old = std::mem::replace(&mut pools[worker], next).data;
            if !old.audit().is_home() {
                let why = format!("buffers of revoked memory did not come home: {}", old.audit());
                self.fault.get_or_insert(why);
            }
        }
        self.made += 1;
        if let Some(server) = server {
            server.renew(offers);
        }
        Ok(())
    }

    /// Gives one queue other memory while its worker waits for it. `None` if the worker has ended.
    fn change_one(
        &self,
        port: &mut Port,
        (queue, worker): (usize, usize),
        pools: &Pools,
        (to_refuge, handover): (bool, Handover<'_>),
    ) -> Result<Option<Left>, Refused> {
        let (exchange, maker) = (&self.exchanges[worker], &self.maker);
        let split = maker.split(pools, port.route.at, to_refuge);
        let change = (self.changes, to_refuge);
        // Whatever takes time is done before the worker is asked.
        let away = Receiver::Away(port.counters[queue].clone());
        let binding = maker.binding(pools, (port.route, worker), change, away, handover);
        let mut binding = binding.map_err(Refused::early)?;
        let mut former = None;
        binding.rx = if port.route.path == Path::Bounce {
            match exchange.ask() {
                Some(Receiver::Bounce(mut bounce)) => {
                    bounce.rebind(&pools.data, split.post);
                    Receiver::Bounce(bounce)
                }
                _ => return Ok(None),
            }
        } else {
            let mut is_taken = false;
            let mut take = || {
                is_taken = true;
                exchange.ask().and_then(Receiver::into_queue)
            };
            match port.device.rebind(queue, RxMemory::Split(split), &mut take) {
                Ok(Rebound { queue: AnyRxQueue::Split(queue), former: old }) => {
                    former = old.and_then(AnyRxQueue::split);
                    Receiver::Direct(queue)
                }
                Ok(_) => {
                    exchange.refuse();
                    let why = "the driver started a split queue as another one";
                    return Err(Refused { error: AppError::failed(why), goes_on: false });
                }
                Err(RebindError { is_lost: false, .. }) if is_taken => {
                    tracing::debug!(worker, "a worker that has ended keeps its memory");
                    return Ok(None);
                }
                Err(RebindError { error, is_lost }) => {
                    if is_lost {
                        exchange.refuse();
                    }
                    return Err(Refused { error: AppError::from(error), goes_on: !is_lost });
                }
            }
        };
        Ok(exchange.give(Fresh { binding, former }))
    }

    /// Memory that was given up and is gone by now.
    fn hear_acknowledgements(&mut self) {
        let told = &mut self.told;
        self.given_up.retain(|(witness, since)| {
            if !witness.is_live() {
                told.acknowledged += 1;
                let millis = since.elapsed().as_millis();
                tracing::info!(millis, "revoked memory is used by nobody any more");
            }
            witness.is_live()
        });
    }
}
