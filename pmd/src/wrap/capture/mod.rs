//! `capture`: taps a running port. What it receives and sends is copied to a capture file, or to
//! whoever reads a FIFO just now. Changes nothing: frames, counters and capabilities are the port's own.
//!
//! `capture:FILE[,dir=rx|tx|both][,snaplen=N][,payloads][,queue=SIZE][,format=pcap|pcapng][,rotate=SIZE][,files=N]@SPEC`
//!
//! | option | what it does |
//! |---|---|
//! | `FILE` | writes there; pcapng, unless it is named `.pcap` or `format=` says so |
//! | `dir=` | what the port receives, what it sends, or both (the default) |
//! | `snaplen=N` | keeps N bytes of a frame |
//! | `payloads` | of split frames the payload too: copied out of device memory by its provider |
//! | `queue=SIZE` | bytes that may wait to be written, for each queue (4M) |
//! | `rotate=`, `files=` | begins the next file at that size; keeps that many |
//!
//! * **Forwarding comes first.** Workers copy frames to a bounded tape, a thread writes them. A frame
//!   that finds no room on the tape is missing in the file, and counted as `capture_lost`; the first
//!   frame behind the gap says how many (`epb_dropcount`). When writing fails, a full disk say, the
//!   tap ends with a warning and `capture_stopped`, and the port goes on.
//! * **A FIFO** is a window into a running app: who opens it for reading gets a fresh file from that
//!   moment on, and may leave again; while nobody reads, nothing is copied and nothing is lost.
//! * **Split frames**, whose payload is in device memory, have their heads written, with the length of
//!   the whole frame; `payloads` copies the rest, explicitly, at the cost of that copy.
//! * **Times.** A received frame keeps the stamp that it came with; others, and those that are sent, get
//!   the time of day, read once per burst. Of the frames on all tapes the earliest is written first.

mod options;
mod queues;
mod writer;

use super::{DeviceStats, Layer, Lent, WrapSpec, Wrapper};
use crate::{
    Config, DeviceInfo, Error, RxConfig, RxMemory, RxQueue, SplitRxQueue, TxConfig, TxQueue,
    pcap::{Direction, Interface},
};
use options::Options;
use queues::{Tap, TappedRx, TappedSplitRx, TappedTx};
use writer::Writer;

/// The wrapper's entry in the registry.
pub const WRAPPER: Wrapper = Wrapper {
    name: "capture",
    usage: "capture:FILE[,dir=rx|tx|both][,snaplen=N][,payloads][,queue=SIZE][,rotate=SIZE][,files=N]@SPEC",
    about: "a copy of what passes, to a capture file, or to whoever reads a FIFO",
    layer: |spec| Ok(Box::new(Capture::new(spec)?)),
};

struct Capture {
    spec: WrapSpec,
    options: Options,
    /// There once the port is met.
    writer: Option<Writer>,
}

impl Capture {
    fn new(spec: &WrapSpec) -> Result<Self, Error> {
        Ok(Self { spec: spec.clone(), options: Options::read(spec)?, writer: None })
    }

    /// The tap of one queue, if that direction is wanted.
    fn tap(&self, direction: Direction) -> Option<Tap> {
        if !self.options.wants(direction) {
            return None;
        }
        self.writer.as_ref()?.tap(direction, self.options.files.snaplen, self.options.queue)
    }
}

impl Layer for Capture {
    fn options(&self) -> String {
        self.spec.options.clone()
    }

    fn attach(&mut self, info: &mut DeviceInfo) -> Result<(), Error> {
        let port = &self.spec.inner;
        self.options.files.interfaces =
            vec![Interface { name: Some(port.clone()), ..Interface::default() }];
        let path = self.options.files.path.display();
        let writer = Writer::open(&self.options.files).map_err(|source| Error::System {
            port: info.port.clone(),
            what: format!("capture file '{path}'"),
            source,
        })?;
        self.writer = Some(writer);
        Ok(())
    }

    fn starting(&mut self, _: &DeviceInfo, config: &Config) -> Result<(), Error> {
        let is_split = |queue: &RxConfig| matches!(queue.memory, RxMemory::Split(_));
        if self.options.payloads && !config.rx.iter().any(is_split) && !config.rx.is_empty() {
            // Whole frames are in host memory: their payloads are there anyway.
            tracing::debug!("capture: no queue splits; 'payloads' changes nothing");
        }
        Ok(())
    }

    fn rx(&mut self, queue: Lent<dyn RxQueue>, _: &RxConfig) -> Box<dyn RxQueue> {
        Box::new(TappedRx::new(self.tap(Direction::Inbound), queue))
    }

    fn split_rx(
        &mut self,
        queue: Lent<dyn SplitRxQueue>,
        config: &RxConfig,
    ) -> Box<dyn SplitRxQueue> {
        let payloads = match &config.memory {
            RxMemory::Split(split) if self.options.payloads => Some(&split.data),
            _ => None,
        };
        Box::new(TappedSplitRx::new(self.tap(Direction::Inbound), payloads, queue))
    }

    fn tx(&mut self, queue: Lent<dyn TxQueue>, _: &TxConfig) -> Box<dyn TxQueue> {
        Box::new(TappedTx::new(self.tap(Direction::Outbound), queue))
    }

    fn stopped(&mut self, outcome: Result<(), Error>) -> Result<(), Error> {
        if let Some(writer) = &self.writer {
            writer.flush();
        }
        outcome
    }

    fn stats(&self, mut inner: DeviceStats) -> DeviceStats {
        if let Some(writer) = &self.writer {
            inner.2.extend(writer.counts());
        }
        inner
    }
}
