//! `pcap`: receives frames out of a capture file and sends frames into one.
//!
//! `pcap:[IN][,loop][,pace][,strict][,tx=OUT[,format=pcap|pcapng][,rotate=64M][,snaplen=N]]`
//!
//! * **Reading.** pcap and pcapng of either byte order and any time resolution; files, FIFOs, and `-`
//!   for standard input. Frames carry their timestamp (nanoseconds since 1970) and say whether they
//!   were truncated. Frames longer than a buffer come in several segments.
//! * **Full speed** is the default: a frame waits in the file until there is a buffer for it, so none
//!   is dropped for want of one. `pace` keeps the capture's own time instead, from the first frame
//!   on; then a frame that is due and finds no buffer is dropped and counted.
//! * **`loop`** holds the file in memory (up to 1 GiB) and replays it for ever. With `pace`, a round
//!   starts one mean gap after the last frame of the one before. Timestamps stay those of the file.
//! * **Several queues** each read the file for themselves and take their share: by a flow hash that
//!   keeps both directions and all fragments of a flow together; frames that are not IP go round by
//!   their number. Streams, which can be read once, have one queue.
//! * **Broken files.** A broken file header refuses to open. A record that is broken later on ends the
//!   queues behind the frames before it: it is counted once as malformed, and
//!   [`Device::health`] names its number, its offset and what is wrong. `strict` reads the whole
//!   file when it is opened, and refuses records longer than the file's own snaplen, too; `loop`
//!   refuses a broken file as well.
//! * **Writing.** One transmit queue, if `tx=` names a file (`-`: standard output); pcapng by the
//!   extension `.pcapng` or `format=`. A frame keeps the timestamp it was received with; others get
//!   the time of day, read once per burst. `rotate` begins `OUT.1.pcap`, `OUT.2.pcap` … at that
//!   size, and so does every further start. What is held in memory (up to 1 MiB) is written when the
//!   queue is stopped or dropped. A full disk drops the frames and is a fault.
//!
//! [`Reader`] and [`Writer`] do the same without a port.

mod arena;
mod blocks;
mod classic;
mod clock;
mod error;
mod flow;
mod input;
mod options;
mod output;
mod reader;
mod replay;
mod rx;
mod source;
mod state;
mod tx;
mod window;
mod writer;

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, OnceLock, atomic::AtomicU64},
};

pub use error::{ReadError, WriteError};
pub use reader::{MAX_CAPTURED, Reader, Record};
pub use writer::{Format, Writer};

use arena::{Arena, LoadError};
use flow::Share;
use input::Input;
use mempool::{Cpu, Pool};
use options::{InputOptions, Options, OutputOptions, is_standard};
use output::Output;
use replay::Replay;
use rx::{MAX_FRAME, PcapRx, RxSetup};
use source::{Looped, Streamed};
use state::State;
use tx::PcapTx;

use crate::{
    AnyRxQueue, Capabilities, Config, Device, DeviceInfo, Error, Health, Link, PortSpec,
    QueueCounters, QueueStats, Queues, Registry, RxMemory, RxQueue,
};

/// The driver's entry in the registry.
pub const DRIVER: crate::Driver = crate::Driver {
    name: "pcap",
    usage: "pcap:[FILE|-][,loop][,pace][,strict][,tx=FILE|-][,format=pcap|pcapng][,rotate=64M][,snaplen=N]",
    about: "frames out of a capture file, and into one",
    open: |registry, spec| Ok(Box::new(Pcap::open(registry, spec)?)),
};

const QUEUES: usize = 16;

/// A port on capture files.
pub struct Pcap {
    info: DeviceInfo,
    source: Option<(InputOptions, Kind)>,
    output: Option<(OutputOptions, Arc<AtomicU64>)>,
    state: Arc<State>,
    rx: Vec<QueueCounters>,
    tx: Vec<QueueCounters>,
    running: bool,
}

/// How the reading side is read.
enum Kind {
    /// Opened again for every queue.
    File,
    /// Read once; `None` when that has been done.
    Stream(Option<Input>),
    /// Held in memory.
    Loop(Arc<Arena>),
}

impl Pcap {
    /// Opens a port; see the [module](self) for the spec.
    ///
    /// # Errors
    /// An option is wrong, the file to read is not there or is no capture, or the file to write is
    /// taken by another port.
    pub fn open(registry: &mut Registry, spec: &PortSpec) -> Result<Self, Error> {
        let Options { input, output } = Options::read(spec)?;
        if let Some(output) = &output {
            check_output(registry, spec, output, input.as_ref())?;
        }
        let source = match input {
            None => None,
            Some(input) => {
                let kind = Kind::open(registry, spec, &input)?;
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
            info: DeviceInfo {
                driver,
                port,
                mac: [0; 6],
                numa_node: None,
                capabilities,
            },
            source,
            output: output.map(|output| (output, Arc::default())),
            state: Arc::default(),
            rx: Vec::new(),
            tx: Vec::new(),
            running: false,
        })
    }

    fn system(&self, what: String, source: io::Error) -> Error {
        Error::System {
            port: self.info.port.clone(),
            what,
            source,
        }
    }

    /// Makes the receive queue for one share of the frames.
    fn rx_queue(
        &mut self,
        pool: &Pool<Cpu>,
        share: Share,
        pace: Option<&Arc<OnceLock<std::time::Instant>>>,
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
            return Err(Error::State {
                port: port(),
                why: "reads no file",
            });
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
        let reader = reader(file, input);
        Ok(Box::new(PcapRx::new(Streamed::new(reader, share), setup)))
    }
}

fn reader(file: Input, options: &InputOptions) -> Reader<Input> {
    let reader = Reader::new(file);
    if options.strict {
        reader.strict()
    } else {
        reader
    }
}

impl Kind {
    /// Looks at the file, as far as can be without waiting for it.
    fn open(registry: &mut Registry, spec: &PortSpec, input: &InputOptions) -> Result<Self, Error> {
        let path = &input.path;
        let missing = |error: io::Error| not_there(spec, path, error);
        let stream = Input::is_stream(path).map_err(missing)?;
        if stream && input.strict {
            return Err(Error::BadOption {
                port: spec.to_string(),
                why: "option strict: reads a file twice, which a stream cannot be".into(),
            });
        }
        if stream {
            registry.claim(spec, format!("pcap-in:{}", path.display()), 1)?;
        }
        let file = Input::open(path).map_err(missing)?;
        if input.replay {
            return match Arena::load(&mut reader(file.waiting(), input)) {
                Ok(arena) => Ok(Self::Loop(Arc::new(arena))),
                Err(LoadError::Read(error)) => Err(broken(spec, error)),
                Err(LoadError::TooLarge) => Err(Error::BadOption {
                    port: spec.to_string(),
                    why: format!(
                        "option loop: {} takes more than {} MiB in memory; cut it (editcap -r) or read it without loop",
                        path.display(),
                        arena::LIMIT >> 20
                    ),
                }),
            };
        }
        if stream {
            return Ok(Self::Stream(Some(file)));
        }
        let mut reader = reader(file, input);
        loop {
            match reader.read_record() {
                Ok(Some(_)) if input.strict => {}
                Ok(_) => return Ok(Self::File),
                // The queues deliver what is before it, and say so themselves.
                Err(ReadError::Record { .. }) if !input.strict => return Ok(Self::File),
                Err(error) => return Err(broken(spec, error)),
            }
        }
    }
}

/// The file is not there, or may not be read.
fn not_there(spec: &PortSpec, path: &Path, error: io::Error) -> Error {
    let (port, path) = (spec.to_string(), path.display());
    match error.kind() {
        io::ErrorKind::NotFound => Error::NotThere {
            port,
            why: format!("there is no file '{path}'; a port is pcap:FILE (- is standard input)"),
        },
        io::ErrorKind::PermissionDenied => Error::NoPermission {
            port,
            what: format!("opening {path}"),
            needs: "the right to read it (chmod, or run as its owner)".into(),
        },
        _ => Error::System {
            port,
            what: format!("opening {path}"),
            source: error,
        },
    }
}

fn broken(spec: &PortSpec, error: ReadError) -> Error {
    let port = spec.to_string();
    match error {
        ReadError::Header { offset, why } => Error::BrokenFile {
            port,
            record: 0,
            offset,
            why,
        },
        ReadError::Record {
            record,
            offset,
            why,
        } => Error::BrokenFile {
            port,
            record,
            offset,
            why,
        },
        ReadError::Io { offset, source } => Error::System {
            port,
            what: format!("reading at offset {offset:#x}"),
            source,
        },
        ReadError::Pending => Error::State {
            port,
            why: "the stream has no data yet",
        },
    }
}

/// Refuses an output that another port writes, that is the input, or that cannot be made.
fn check_output(
    registry: &mut Registry,
    spec: &PortSpec,
    output: &OutputOptions,
    input: Option<&InputOptions>,
) -> Result<(), Error> {
    let (path, port) = (&output.path, spec.to_string());
    let there = if is_standard(path) {
        None
    } else {
        path.metadata().ok()
    };
    let from = input.and_then(|input| input.path.metadata().ok());
    if let (Some(to), Some(from)) = (&there, &from)
        && to.is_file()
        && (to.dev(), to.ino()) == (from.dev(), from.ino())
    {
        let why = format!("option tx={}: is the file that is read", path.display());
        return Err(Error::BadOption { port, why });
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        let why = format!(
            "there is no folder '{}' to write in; create it",
            folder.display()
        );
        return Err(Error::NotThere { port, why });
    }
    if there.is_none_or(|there| there.is_file()) {
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        registry.claim(spec, format!("pcap-out:{}", whole.display()), 1)?;
    }
    Ok(())
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
        let pace = self
            .source
            .as_ref()
            .is_some_and(|(input, _)| input.pace)
            .then(Arc::default);
        let mut queues = Queues::default();
        let (mut rx, mut tx) = (Vec::new(), Vec::new());
        for _ in &config.tx {
            let Some((options, begun)) = &self.output else {
                break;
            };
            let counters = QueueCounters::default();
            let output = Output::open(options, begun).map_err(|source| {
                self.system(format!("creating {}", options.path.display()), source)
            })?;
            queues.tx.push(Box::new(PcapTx::new(
                output,
                Arc::clone(&state),
                counters.clone(),
            )));
            tx.push(counters);
        }
        for (queue, pool) in pools.iter().enumerate() {
            let share = Share {
                queue,
                queues: pools.len(),
            };
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
        Link {
            is_up: self.running,
            speed_mbps: None,
        }
    }

    fn stats(&self) -> (QueueStats, QueueStats, Vec<(String, u64)>) {
        let files = self.output.as_ref().map(|(_, begun)| {
            // Relaxed: a figure for people.
            (
                "tx_files".to_owned(),
                begun.load(std::sync::atomic::Ordering::Relaxed),
            )
        });
        (
            QueueStats::sum(&self.rx),
            QueueStats::sum(&self.tx),
            files.into_iter().collect(),
        )
    }

    fn health(&self) -> Health {
        self.state.health()
    }
}
