//! The port: what was opened, and the queues that are made of it.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use mempool::{Cpu, Pool};

use super::{
    DRIVER, FileOptions, Files,
    flow::Share,
    input::Input,
    options::{InputOptions, Options},
    probe::{self, Kind},
    replay::Replay,
    rx::{MAX_FRAME, PcapRx, RxSetup},
    source::{Looped, Streamed},
    state::State,
    tx::PcapTx,
};
use crate::{
    AnyRxQueue, Capabilities, Config, Device, DeviceInfo, Error, Health, Link, PortSpec,
    QueueCounters, QueueStats, Queues, Registry, RxMemory, RxQueue, registry::Claim,
};

const QUEUES: usize = 16;

/// A port on capture files.
pub struct Pcap {
    info: DeviceInfo,
    source: Option<(InputOptions, Kind)>,
    output: Option<(FileOptions, Arc<AtomicU64>)>,
    state: Arc<State>,
    rx: Vec<QueueCounters>,
    tx: Vec<QueueCounters>,
    running: bool,
    _claims: Vec<Claim>,
}

impl Pcap {
    /// Opens a port; see the [module](super) for the spec.
    ///
    /// # Errors
    /// An option is wrong, the file to read is not there or is no capture, or the file to write is
    /// taken by another port.
    pub fn open(registry: &mut Registry, spec: &PortSpec) -> Result<Self, Error> {
        let Options { input, output } = Options::read(spec)?;
        let mut claims = Vec::new();
        if let Some(output) = &output {
            probe::output(registry, spec, output, input.as_ref(), &mut claims)?;
        }
        let source = match input {
            None => None,
            Some(input) => {
                let kind = Kind::open(registry, spec, &input, &mut claims)?;
                Some((input, kind))
            }
        };
        let capabilities = Capabilities {
            rx_queues: match &source {
                None => 0,
                Some((_, Kind::Stream(_))) => 1,
                Some(_) => QUEUES,
            },
            tx_queues: usize::from(output.is_some()),
            max_frame: MAX_FRAME,
            rx_timestamp: true,
            finite: source.as_ref().is_some_and(|(input, _)| !input.replay),
            ..Capabilities::default()
        };
        let (port, driver) = (spec.to_string(), DRIVER.name);
        Ok(Self {
            info: DeviceInfo { driver, port, mac: [0; 6], numa_node: None, capabilities },
            source,
            output: output.map(|output| (output, Arc::default())),
            state: Arc::default(),
            rx: Vec::new(),
            tx: Vec::new(),
            running: false,
            _claims: claims,
        })
    }

    fn system(&self, what: String, source: io::Error) -> Error {
        Error::System { port: self.info.port.clone(), what, source }
    }

    /// Makes the receive queue for one share of the frames.
    fn rx_queue(
        &mut self,
        pool: &Pool<Cpu>,
        share: Share,
        pace: Option<&Arc<OnceLock<Instant>>>,
        state: &Arc<State>,
        counters: &QueueCounters,
    ) -> Result<Box<dyn RxQueue>, Error> {
        let setup = RxSetup {
            pool: pool.clone(),
            pace: pace.cloned(),
            queue: share.queue,
            state: Arc::clone(state),
            counters: counters.clone(),
        };
        let port = || self.info.port.clone();
        let Some((input, kind)) = &mut self.source else {
            return Err(Error::State { port: port(), why: "reads no file" });
        };
        let file = match kind {
            Kind::Loop(arena) => {
                let table = arena.share(share);
                let long = table.iter().any(|entry| entry.len() > pool.room());
                let arena = Arc::clone(arena);
                return Ok(if long || pace.is_some() {
                    Box::new(PcapRx::new(Looped::new(arena, table), setup))
                } else {
                    Box::new(Replay::new(arena, &table, counters.clone()))
                });
            }
            Kind::Stream(stream) => stream.take().ok_or_else(|| Error::State {
                port: port(),
                why: "a stream can be read once; open the port again",
            })?,
            Kind::File => Input::open(&input.path).map_err(|source| Error::System {
                port: port(),
                what: format!("opening {}", input.path.display()),
                source,
            })?,
        };
        let reader = probe::reader(file, input);
        Ok(Box::new(PcapRx::new(Streamed::new(reader, share), setup)))
    }
}

impl Device for Pcap {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn start(&mut self, config: Config) -> Result<Queues, Error> {
        self.info.check_start(self.running, &config)?;
        let mut pools = Vec::new();
        for queue in &config.rx {
            match &queue.memory {
                RxMemory::Whole(pool) => pools.push(pool),
                RxMemory::Split(_) => return Err(self.info.no_split()),
            }
        }
        let state = Arc::new(State::new(pools.len()));
        let pace = self.source.as_ref().is_some_and(|(input, _)| input.pace).then(Arc::default);
        let mut queues = Queues::default();
        let (mut rx, mut tx) = (Vec::new(), Vec::new());
        for _ in &config.tx {
            let Some((options, begun)) = &self.output else {
                break;
            };
            let counters = QueueCounters::default();
            let output = Files::open(options, begun).map_err(|source| {
                self.system(format!("creating {}", options.path.display()), source)
            })?;
            queues.tx.push(Box::new(PcapTx::new(output, Arc::clone(&state), counters.clone())));
            tx.push(counters);
        }
        for (queue, pool) in pools.iter().enumerate() {
            let share = Share { queue, queues: pools.len() };
            let counters = QueueCounters::default();
            let receiver = self.rx_queue(pool, share, pace.as_ref(), &state, &counters)?;
            queues.rx.push(AnyRxQueue::Whole(receiver));
            rx.push(counters);
        }
        self.rx.append(&mut rx);
        self.tx.append(&mut tx);
        self.state = state;
        self.running = true;
        Ok(queues)
    }

    fn stop(&mut self, queues: Queues) -> Result<(), Error> {
        // Writes out what the transmit queue holds.
        drop(queues);
        self.running = false;
        Ok(())
    }

    fn link(&self) -> Link {
        Link { is_up: self.running, speed_mbps: None }
    }

    fn stats(&self) -> (QueueStats, QueueStats, Vec<(String, u64)>) {
        let files = self.output.as_ref().map(|(_, begun)| {
            // Relaxed: a figure for people.
            ("tx_files".to_owned(), begun.load(Ordering::Relaxed))
        });
        (QueueStats::sum(&self.rx), QueueStats::sum(&self.tx), files.into_iter().collect())
    }

    fn health(&self) -> Health {
        self.state.health()
    }
}
