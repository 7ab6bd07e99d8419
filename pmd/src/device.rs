//! The control plane of a port.

use std::fmt;

use crate::{Config, Error, QueueStats, Queues};

/// One port.
pub trait Device: Send {
    /// What it is and what it can do; known before it is started.
    fn info(&self) -> &DeviceInfo;

    /// Starts it and yields its queues.
    ///
    /// # Errors
    /// The configuration asks for what the device cannot do; nothing was touched then.
    fn start(&mut self, config: Config) -> Result<Queues, Error>;

    /// Stops it: queues that come back are quiesced and give their buffers back; those that do not
    /// keep them. It can be started again.
    ///
    /// # Errors
    /// The device did not stop in time; its buffers are lost, and counted as leaked.
    fn stop(&mut self, queues: Queues) -> Result<(), Error>;

    /// The link now.
    fn link(&self) -> Link;

    /// The sum of all queues, and what the device itself counts, by name.
    fn stats(&self) -> (QueueStats, QueueStats, Vec<(String, u64)>);

    /// Whether it still works.
    fn health(&self) -> Health;
}

/// What a port is.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// The driver's name.
    pub driver: &'static str,
    /// The port spec it was opened by, in canonical form.
    pub port: String,
    /// Station address; all zero where there is none.
    pub mac: [u8; 6],
    /// NUMA node of the hardware, if known.
    pub numa_node: Option<u32>,
    /// What it can do.
    pub capabilities: Capabilities,
}

impl DeviceInfo {
    /// What every driver checks first: state, number of queues, ring sizes.
    pub(crate) fn check_start(&self, running: bool, config: &Config) -> Result<(), Error> {
        if running {
            return Err(Error::State { port: self.port.clone(), why: "already started" });
        }
        let caps = &self.capabilities;
        for (what, asked, most) in [
            ("receive", config.rx.len(), caps.rx_queues),
            ("transmit", config.tx.len(), caps.tx_queues),
        ] {
            if asked > most {
                return Err(Error::TooManyQueues { port: self.port.clone(), what, asked, most });
            }
        }
        config.check(&self.port)
    }

    /// The answer to a split configuration that the driver cannot serve.
    pub(crate) fn no_split(&self) -> Error {
        Error::NoSplit { port: self.port.clone(), driver: self.driver }
    }
}

/// What a port can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Receive queues at most.
    pub rx_queues: usize,
    /// Transmit queues at most.
    pub tx_queues: usize,
    /// Longest frame, in bytes without FCS.
    pub max_frame: usize,
    /// Header/data split, per receive queue.
    pub split: SplitSupport,
    /// Whether frames of several segments can be sent.
    pub tx_segments: bool,
    /// Whether received frames carry a timestamp.
    pub rx_timestamp: bool,
    /// Whether the driver copies frames between its own memory and the pool's.
    pub copies: bool,
    /// Whether traffic ends by itself (a file that is not looped).
    pub finite: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            max_frame: 65535,
            split: SplitSupport::None,
            tx_segments: true,
            rx_timestamp: false,
            copies: true,
            finite: false,
        }
    }
}

/// What a receive queue can do about header/data split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitSupport {
    /// Nothing: payloads reach device memory by the bounce path.
    None,
    /// Cuts behind the protocol headers, or after a fixed length.
    ProtocolAndLength,
}

/// A port's link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether frames can pass.
    pub is_up: bool,
    /// Mb/s, if known.
    pub speed_mbps: Option<u32>,
}

/// Whether a port still works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It works.
    #[default]
    Good,
    /// Its traffic has ended by itself: a file was read to its end, the peer closed the wire.
    Ended,
    /// It no longer works; the text says why.
    Faulted(String),
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => f.write_str("good"),
            Self::Ended => f.write_str("ended"),
            Self::Faulted(why) => write!(f, "faulted: {why}"),
        }
    }
}
