//! Ports, pools and workers while they run: watching them, and adding it all up at the end.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use mempool::{Cpu, Pool};
use memwire_apps::{
    AppError, Stop,
    report::{Meter, Output, PoolReport, PortReport},
    schedule::Schedule,
    table::Live,
    watch::{Sample, Watch},
    workers::Workers,
};
use pmd::{Health, QueueStats};

use crate::{
    args::Args,
    consumer::ConsumerReport,
    cost::Cost,
    demo::{Demo, WireSent},
    growth::Growth,
    handover::server::Server,
    report::{COLUMNS, Facts, IntervalReport, WorkerReport, live_cells},
    revoke::Keeper,
    run::Ended,
    sample::{Readings, memory_of, path_of, pool_reports},
    setup::{Pools, Port, Setup},
    shortage::{ShortageReport, Teller},
    worker::{Finished, Worker},
};

/// How long the demo's wire may take to run empty.
const EMPTY: Duration = Duration::from_millis(500);

/// Everything that runs.
pub(crate) struct Running {
    ports: Vec<Port>,
    pools: Vec<Pools>,
    readings: Readings,
    keeper: Keeper,
    growth: Growth,
    workers: Workers<Finished>,
    /// Of the workers alone: they run on while the demo's wire runs empty.
    stop: Stop,
    start: Instant,
    server: Option<Server>,
}

impl Running {
    /// Starts a worker on each core.
    ///
    /// # Errors
    /// A worker could not be started.
    pub(crate) fn start(
        args: &Args,
        setup: Setup,
        cores: &[usize],
        asked: Arc<AtomicBool>,
    ) -> Result<Self, AppError> {
        let Setup { ports, workers: receivers, pools, maker, server, .. } = setup;
        let exchanges: Vec<_> = receivers.iter().map(Worker::exchange).collect();
        let growth = Growth::new(&maker, exchanges.clone());
        let keeper = Keeper::new(maker, exchanges, asked)?;
        let stop = Stop::new();
        let mut workers = Workers::new(&stop);
        let mut readings = Readings::new(args, &ports, &pools);
        let is_demo = args.ports.ports.is_empty();
        // The demo's source counts; what it sent is received to the last frame.
        let limit = args.run.count.filter(|_| !is_demo);
        let limit = limit.map(|count| count.div_ceil(receivers.len() as u64));
        for (index, (worker, core)) in receivers.into_iter().zip(cores).enumerate() {
            readings.add(&worker);
            let job = move |stop: &Stop| worker.run(stop, limit);
            workers.spawn(format!("gpurx {index}"), Some(*core), job)?;
        }
        let start = Instant::now();
        Ok(Self { ports, pools, readings, keeper, growth, workers, stop, start, server })
    }

    fn stats(&self) -> QueueStats {
        QueueStats::sum(self.ports.iter().flat_map(|port| &port.counters))
    }

    fn sample(&self, demo: Option<&Demo>) -> Sample {
        let (time, keeper) = (self.start.elapsed(), &self.keeper);
        let mut sample = self.readings.sample(time, &self.ports, &self.pools, keeper);
        sample.ports.extend(demo.map(Demo::port));
        sample
    }

    /// Whether no port will ever yield a frame again, or one of them has failed.
    fn has_ended(&self) -> bool {
        let health = |port: &Port| port.device.health();
        self.ports.iter().all(|port| health(port) != Health::Good)
            || self.ports.iter().any(|port| health(port).fault().is_some())
    }

    /// Sees whether payload memory is short, or was.
    fn grow(&mut self) {
        if let Some(changes) = self.keeper.changes_at_home() {
            let totals: Vec<_> = self.readings.each().collect();
            let (maker, server) = (self.keeper.maker(), self.server.as_ref());
            self.growth.tick(maker, &self.pools, server, (&totals, changes));
        }
    }

    /// Reports while it runs; ends it.
    ///
    /// # Errors
    /// A line of JSON cannot be written, or a worker was lost.
    pub(crate) fn watch(
        mut self,
        args: &Args,
        demo: Option<Demo>,
        stop: &Stop,
        output: &mut Output,
        mut watch: Watch,
    ) -> Result<Ended, AppError> {
        let (mut meter, mut live) = (Meter::new(), Live::new(&COLUMNS));
        let mut schedule = Schedule::new(&args.run);
        let (mut lost, mut teller) = (None, Teller::default());
        while self.workers.wait(schedule.nap()) {
            let server = self.server.as_ref();
            if let Err(error) = self.keeper.tick(&mut self.ports, &mut self.pools, server) {
                lost = Some(error.to_string());
                break;
            }
            teller.tick(&self.readings.totals());
            self.grow();
            if schedule.is_line_due() {
                let (interval, totals) = (meter.tick(self.stats()), self.readings.totals());
                output.live(live.line(&live_cells(&interval, &totals)));
                output.interval(&IntervalReport::new(&interval, &totals))?;
            }
            watch.tick(|| self.sample(demo.as_ref()))?;
            let is_over = schedule.over().is_some()
                || stop.is_set()
                || demo.as_ref().is_some_and(Demo::is_done)
                || (demo.is_none() && self.has_ended());
            if is_over {
                break;
            }
        }
        let (sent, source_pools) = match demo.map(Demo::stop).transpose()? {
            Some((sent, pools)) => (Some(sent), pools),
            None => (None, Vec::new()),
        };
        let (ended, last) = self.end(sent, source_pools)?;
        let fault = lost.or(ended.fault);
        Ok(Ended { watched: watch.finish(last), fault, ..ended })
    }

    /// Stops everything and adds it all up; also what it looked like at last.
    ///
    /// # Errors
    /// A worker was lost, or a device did not stop.
    pub(crate) fn end(
        self,
        sent: Option<WireSent>,
        source_pools: Vec<Pool<Cpu>>,
    ) -> Result<(Ended, Sample), AppError> {
        let emptied = Instant::now() + EMPTY;
        while sent.is_some() && !self.has_ended() && Instant::now() < emptied {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        let Self { mut ports, pools, readings, keeper, growth, workers, stop, start, server } =
            self;
        // While the server is there: what a consumer still has is waited for.
        let finished = workers.join()?;
        let time = start.elapsed();
        stop.set();
        let (mut digests, mut fault, mut cost) = (Vec::new(), keeper.fault(), None);
        for worker in &finished {
            if let Some(spent) = &worker.cost {
                cost.get_or_insert_with(Cost::default).merge(spent);
            }
            digests.extend(worker.earlier.iter().copied().chain(worker.digest));
            fault = fault.or(worker.fault.clone());
        }
        let mut last = readings.sample(time, &ports, &pools, &keeper);
        let reports = ports.iter().map(|port| PortReport::of(&*port.device)).collect();
        let stats = QueueStats::sum(ports.iter().flat_map(|port| &port.counters));
        let mut finished = finished.into_iter();
        for port in &mut ports {
            let health = port.device.health();
            let name = &port.device.info().port;
            fault = fault.or_else(|| health.fault().map(|why| format!("port '{name}': {why}")));
            let queues = port.counters.len();
            port.stop(finished.by_ref().take(queues).collect())?;
        }
        last.ports.extend(sent.as_ref().map(|sent| sent.end.clone()));
        last.pools = pool_reports(&pools, &keeper);
        let mut pool = last.pools.clone();
        pool.extend(source_pools.iter().map(PoolReport::of));
        let totals = readings.totals();
        let consumer = server.map(|server| ConsumerReport::new(&server, &totals));
        let facts = Facts {
            consumer,
            ports: reports,
            path: path_of(&ports),
            probes: ports.iter().map(|port| port.probe.clone()).collect(),
            memory: memory_of(&pools),
            time,
            stats,
            revocation: keeper.report(&totals),
            shortage: ShortageReport::new(&totals, growth.report()),
            totals,
            workers: WorkerReport::of(&last.stages),
            digests,
            cost,
            sent,
            pool,
        };
        Ok((Ended { summary: facts.into(), fault, watched: Ok(()) }, last))
    }
}
