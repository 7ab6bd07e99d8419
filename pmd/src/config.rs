//! What a device is started with, and what starting yields.

use mempool::{Cpu, Device, Offload, Pool};

use crate::{AnyRxQueue, Error, SplitAt, TxQueue};

/// How a device is to run: one entry per queue.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Receive queues.
    pub rx: Vec<RxConfig>,
    /// Transmit queues.
    pub tx: Vec<TxConfig>,
    /// Receive frames for other addresses too.
    pub promiscuous: bool,
    /// Receive frames for every multicast group.
    pub all_multicast: bool,
    /// Station addresses to receive for besides the port's own; multicast ones are groups.
    pub addresses: Vec<[u8; 6]>,
    /// How frames are spread over several receive queues; the driver's own way if none.
    pub rss: Option<Rss>,
    /// What is to be found out about received frames beyond what is free: `RX_VLAN_STRIPPED` takes tags
    /// out, `RX_TIMESTAMP` stamps arrivals. What costs nothing (checksums, hash) is always stated.
    pub rx_offloads: Offload,
    /// Receive what is sent, inside the device: for tests of the way to memory.
    pub loopback: bool,
}

/// Receive-side scaling: how a hash over addresses and ports chooses the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rss {
    /// Key of the Toeplitz hash.
    pub key: [u8; 40],
    /// Queue by the low bits of the hash; repeated to fill the device's table. Empty: all queues in
    /// turn.
    pub table: Vec<u8>,
}

impl Default for Rss {
    /// The key of Microsoft's verification suite, which most drivers and their users know.
    fn default() -> Self {
        const KEY: [u8; 40] = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
            0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
            0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
        ];
        Self { key: KEY, table: Vec::new() }
    }
}

/// One receive queue.
#[derive(Clone, Debug)]
pub struct RxConfig {
    /// Where frames go.
    pub memory: RxMemory,
    /// Descriptors of the ring: a power of two.
    pub ring: usize,
}

/// One transmit queue.
#[derive(Clone, Debug)]
pub struct TxConfig {
    /// Whose buffers are sent; drivers that copy take others too.
    pub pool: Pool<Cpu>,
    /// Descriptors of the ring: a power of two.
    pub ring: usize,
}

/// Where a receive queue puts frames.
#[derive(Clone, Debug)]
pub enum RxMemory {
    /// Whole frames into host memory.
    Whole(Pool<Cpu>),
    /// Heads into host memory, payloads into another pool.
    Split(SplitConfig),
}

/// Header/data split of one queue.
#[derive(Clone, Debug)]
pub struct SplitConfig {
    /// For heads.
    pub heads: Pool<Cpu>,
    /// For payloads; any memory.
    pub data: Pool<Device>,
    /// Where a frame is cut.
    pub at: SplitAt,
    /// Who posts payload buffers.
    pub post: PostOrder,
}

/// Who posts payload buffers to a split queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PostOrder {
    /// The queue, from the worker's cache, in any order.
    #[default]
    Cache,
    /// The application, by [`crate::SplitRxQueue::post`], in the order it wants them filled.
    App,
}

/// The default ring size, in descriptors.
pub(crate) const DEFAULT_RING: usize = 512;
/// Ring sizes that drivers take.
pub(crate) const RING_LIMITS: std::ops::RangeInclusive<usize> = 2..=32768;

impl Config {
    /// One receive queue and one transmit queue on whole frames of one pool.
    #[must_use]
    pub fn one_queue(pool: &Pool<Cpu>) -> Self {
        Self::default().with_rx(RxMemory::Whole(pool.clone())).with_tx(pool)
    }

    /// Adds a receive queue with the default ring.
    #[must_use]
    pub fn with_rx(mut self, memory: RxMemory) -> Self {
        self.rx.push(RxConfig { memory, ring: DEFAULT_RING });
        self
    }

    /// Adds a transmit queue with the default ring.
    #[must_use]
    pub fn with_tx(mut self, pool: &Pool<Cpu>) -> Self {
        self.tx.push(TxConfig { pool: pool.clone(), ring: DEFAULT_RING });
        self
    }

    /// Adds a receive queue that splits heads from payloads.
    #[must_use]
    pub fn split(self, heads: &Pool<Cpu>, data: &Pool<Device>, at: SplitAt) -> Self {
        let (heads, data) = (heads.clone(), data.clone());
        self.with_rx(RxMemory::Split(SplitConfig { heads, data, at, post: PostOrder::Cache }))
    }

    /// Sets the size of every ring.
    #[must_use]
    pub fn rings(mut self, descriptors: usize) -> Self {
        self.rx.iter_mut().for_each(|queue| queue.ring = descriptors);
        self.tx.iter_mut().for_each(|queue| queue.ring = descriptors);
        self
    }

    /// Checks what every driver demands: ring sizes.
    pub(crate) fn check(&self, port: &str) -> Result<(), Error> {
        let rings = self.rx.iter().map(|queue| queue.ring).chain(self.tx.iter().map(|q| q.ring));
        for ring in rings {
            check_ring(port, ring)?;
        }
        Ok(())
    }
}

/// Checks one ring size.
pub(crate) fn check_ring(port: &str, ring: usize) -> Result<(), Error> {
    if ring.is_power_of_two() && RING_LIMITS.contains(&ring) {
        return Ok(());
    }
    let (low, high) = RING_LIMITS.into_inner();
    let clamped = ring.clamp(low, high);
    let above = clamped.next_power_of_two();
    let below = above / 2;
    let nearest = if clamped - below < above - clamped { below.max(low) } else { above };
    Err(Error::RingSize { port: port.to_owned(), ring, low, high, nearest })
}

/// The queues of a started device. Move them to their workers; bring them back to
/// [`crate::Device::stop`].
#[derive(Default)]
pub struct Queues {
    /// Receive queues, in the order of the configuration.
    pub rx: Vec<AnyRxQueue>,
    /// Transmit queues, in the order of the configuration.
    pub tx: Vec<Box<dyn TxQueue>>,
}
