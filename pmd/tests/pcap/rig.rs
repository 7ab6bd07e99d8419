//! A port over a file in a folder of its own, and a worker that polls it.

use std::path::{Path, PathBuf};

use mempool::{Burst, Cache, Cpu, Meta, Pool, heap::Heap};
use pmd::{Config, Device, Error, QueueStats, Queues, Registry, RxMemory};
use tempfile::TempDir;

/// A received frame: its bytes and its metadata.
pub(crate) type Frame = (Vec<u8>, Meta);

pub(crate) fn pool(slots: usize, stride: usize) -> Pool<Cpu> {
    Pool::builder().slots(slots).stride(stride).shareable().memory(&Heap::new()).build().unwrap()
}

/// Files of one test.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file and yields a spec that reads it.
    pub(crate) fn capture(&self, bytes: &[u8]) -> String {
        let path = self.path("in.pcap");
        std::fs::write(&path, bytes).unwrap();
        spec(&path)
    }
}

pub(crate) fn spec(path: &Path) -> String {
    format!("pcap:{}", path.display())
}

/// A started port and a worker's tools.
pub(crate) struct Rig {
    pub(crate) device: Box<dyn Device>,
    pub(crate) queues: Queues,
    pub(crate) pool: Pool<Cpu>,
    pub(crate) cache: Cache<Cpu>,
}

impl Rig {
    pub(crate) fn open(spec: &str, pool: &Pool<Cpu>) -> Self {
        Self::with_queues(spec, pool, 1)
    }

    pub(crate) fn with_queues(spec: &str, pool: &Pool<Cpu>, rx: usize) -> Self {
        let device = Registry::new().open(spec).unwrap();
        Self::start(device, pool, rx)
    }

    pub(crate) fn start(mut device: Box<dyn Device>, pool: &Pool<Cpu>, rx: usize) -> Self {
        let mut config = Config::default();
        if device.info().capabilities.rx_queues > 0 {
            for _ in 0..rx {
                config = config.with_rx(RxMemory::Whole(pool.clone()));
            }
        }
        if device.info().capabilities.tx_queues > 0 {
            config = config.with_tx(pool);
        }
        let queues = device.start(config).unwrap();
        Self { device, queues, pool: pool.clone(), cache: pool.cache() }
    }

    /// Polls a queue once.
    pub(crate) fn poll(&mut self, queue: usize, burst: &mut Burst<Cpu>) -> usize {
        match &mut self.queues.rx[queue] {
            pmd::AnyRxQueue::Whole(queue) => queue.recv(&mut self.cache, burst),
            pmd::AnyRxQueue::Split(_) => unreachable!("not configured"),
        }
    }

    /// Receives until `count` frames are there or a queue yields nothing.
    pub(crate) fn receive_from(&mut self, queue: usize, count: usize) -> Vec<Frame> {
        let mut frames = Vec::new();
        while frames.len() < count {
            let mut burst = Burst::with_limit(&self.pool, 32.min(count - frames.len()));
            if self.poll(queue, &mut burst) == 0 {
                break;
            }
            frames.extend(burst.iter().map(copy));
            burst.recycle(&mut self.cache);
        }
        frames
    }

    pub(crate) fn receive(&mut self, count: usize) -> Vec<Frame> {
        self.receive_from(0, count)
    }

    /// Receives all there is, as bytes.
    pub(crate) fn bytes(&mut self) -> Vec<Vec<u8>> {
        self.receive(usize::MAX).into_iter().map(|(bytes, _)| bytes).collect()
    }

    /// Sends these frames; all are taken.
    pub(crate) fn send(&mut self, frames: &[Vec<u8>]) {
        for chunk in frames.chunks(32) {
            let mut burst = Burst::new(&self.pool);
            assert_eq!(self.cache.take(&mut burst, chunk.len()), chunk.len());
            for (at, bytes) in chunk.iter().enumerate() {
                assert!(burst.frame_mut(at).append(bytes));
            }
            assert_eq!(self.queues.tx[0].send(&mut self.cache, &mut burst), chunk.len());
            assert!(burst.is_empty());
        }
    }

    pub(crate) fn stats(&self) -> (QueueStats, QueueStats) {
        let (rx, tx, _) = self.device.stats();
        assert!(rx.is_balanced() && tx.is_balanced());
        (rx, tx)
    }

    /// Stops the port; every buffer is at home then.
    pub(crate) fn stop(mut self) -> Box<dyn Device> {
        self.device.stop(self.queues).unwrap();
        self.cache.flush();
        assert_eq!(self.pool.audit().held, 0);
        self.device
    }
}

pub(crate) fn copy(frame: mempool::Frame<'_, Cpu>) -> Frame {
    let mut bytes = vec![0; frame.frame_len()];
    assert_eq!(frame.copy_to(&mut bytes), bytes.len());
    (bytes, *frame.meta())
}

pub(crate) fn refused(spec: &str) -> Error {
    Registry::new().open(spec).err().expect("refused")
}
