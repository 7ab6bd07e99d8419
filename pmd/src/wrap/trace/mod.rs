//! `trace`: a line of text per frame, and one per event of the control plane. Changes nothing: the
//! frames, the counters and the capabilities are the port's own.
//!
//! `trace:[FILE|-][,every=N][,count=N][,hex]@SPEC`
//!
//! | option | what it does |
//! |---|---|
//! | `FILE` | writes to that file; `-` is standard output; without it, standard error |
//! | `every=N` | every N-th frame of each queue |
//! | `count=N` | N frames of the port, then only events |
//! | `hex` | the first 256 bytes of each frame too, as far as they are in host memory |
//!
//! ```text
//! #    0.000000 ring:a start rx 1 tx 1
//!      0.001204 ring:a rx0 98 B 02:6d:77:00:00:01 > 02:6d:77:00:00:02 IPv4 10.0.0.1:9000 > 10.0.0.2:9000 UDP slot 17
//!      0.001204 ring:a rx0 1090 B 02:6d:77:00:00:01 > 02:6d:77:00:00:02 IPv4 10.0.0.1:9000 > 10.0.0.2:9000 UDP slot 18 head 66 B, payload 1024 B in device memory, slot 5
//! ```
//!
//! Times are seconds since the port was opened. Bytes of device memory are never read. Lines are
//! made by the worker and written by a thread: a slow terminal costs lines, which are counted
//! (`trace_lost`), never frames. When writing fails the trace ends, and the port goes on.

mod line;
mod options;
mod queues;
mod writer;

use std::sync::atomic::{AtomicU8, Ordering};

use super::{DeviceStats, Layer, Lent, WrapSpec, Wrapper};
use crate::{
    Config, DeviceInfo, Error, Health, Link, RxConfig, RxQueue, SplitRxQueue, TxConfig, TxQueue,
};
use options::Options;
use queues::{Recorder, TracedRx, TracedSplitRx, TracedTx};
use writer::Writer;

/// The wrapper's entry in the registry.
pub const WRAPPER: Wrapper = Wrapper {
    name: "trace",
    usage: "trace:[FILE|-][,every=N][,count=N][,hex]@SPEC",
    about: "a line per frame and per event, to standard error or FILE; every= and count= thin it out",
    layer: |spec| Ok(Box::new(Trace::new(spec)?)),
};

/// What was last said of link and health; a change is an event.
#[derive(Default)]
struct Said {
    /// 0 nothing yet, 1 down, 2 up.
    link: AtomicU8,
    /// 0 good, 1 ended, 2 faulted.
    health: AtomicU8,
}

struct Trace {
    spec: WrapSpec,
    options: Options,
    port: String,
    /// There once the port is met.
    writer: Option<Writer>,
    said: Said,
}

impl Trace {
    fn new(spec: &WrapSpec) -> Result<Self, Error> {
        let options = Options::read(spec)?;
        let (port, said) = (String::new(), Said::default());
        Ok(Self { spec: spec.clone(), options, port, writer: None, said })
    }

    fn event(&self, what: &str) {
        if let Some(writer) = &self.writer {
            writer.event(&self.port, what);
        }
    }

    fn recorder(&self, direction: &str, index: usize) -> Option<Recorder> {
        let label = format!("{} {direction}{index}", self.port);
        Some(Recorder::new(self.writer.as_ref()?.handle(), label, &self.options))
    }
}

impl Layer for Trace {
    fn options(&self) -> String {
        self.spec.options.clone()
    }

    fn attach(&mut self, info: &mut DeviceInfo) -> Result<(), Error> {
        let name = self.spec.name.len() + self.spec.options.len() + 2;
        self.port = info.port.get(name..).unwrap_or(&info.port).to_owned();
        let writer = Writer::open(self.options.to.as_deref(), self.options.count);
        let system = |source| {
            let what = format!("trace file '{}'", self.options.to.as_deref().unwrap_or("-"));
            Error::System { port: info.port.clone(), what, source }
        };
        self.writer = Some(writer.map_err(system)?);
        Ok(())
    }

    fn starting(&mut self, _: &DeviceInfo, config: &Config) -> Result<(), Error> {
        self.event(&format!("start rx {} tx {}", config.rx.len(), config.tx.len()));
        Ok(())
    }

    fn rx(&mut self, queue: Lent<dyn RxQueue>, _: &RxConfig) -> Box<dyn RxQueue> {
        Box::new(TracedRx::new(self.recorder("rx", queue.index()), queue))
    }

    fn split_rx(&mut self, queue: Lent<dyn SplitRxQueue>, _: &RxConfig) -> Box<dyn SplitRxQueue> {
        Box::new(TracedSplitRx::new(self.recorder("rx", queue.index()), queue))
    }

    fn tx(&mut self, queue: Lent<dyn TxQueue>, _: &TxConfig) -> Box<dyn TxQueue> {
        Box::new(TracedTx::new(self.recorder("tx", queue.index()), queue))
    }

    fn stopped(&mut self, outcome: Result<(), Error>) -> Result<(), Error> {
        match &outcome {
            Ok(()) => self.event("stop"),
            Err(error) => self.event(&format!("stop failed: {error}")),
        }
        if let Some(writer) = &self.writer {
            writer.flush();
        }
        outcome
    }

    fn link(&self, inner: Link) -> Link {
        let now = 1 + u8::from(inner.is_up);
        if self.said.link.swap(now, Ordering::Relaxed) != now {
            let speed = inner.speed_mbps.map(|mbps| format!(" {mbps} Mb/s")).unwrap_or_default();
            self.event(&format!("link {}{speed}", if inner.is_up { "up" } else { "down" }));
        }
        inner
    }

    fn stats(&self, mut inner: DeviceStats) -> DeviceStats {
        if let Some(writer) = &self.writer {
            inner.2.push(("trace_lines".into(), writer.written()));
            inner.2.push(("trace_lost".into(), writer.lost()));
        }
        inner
    }

    fn health(&self, inner: Health) -> Health {
        let now = match inner {
            Health::Good => 0,
            Health::Ended => 1,
            Health::Faulted(_) => 2,
            Health::Removed(_) => 3,
        };
        if self.said.health.swap(now, Ordering::Relaxed) != now {
            self.event(&format!("health {inner}"));
        }
        inner
    }
}
