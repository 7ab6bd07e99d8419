//! The control plane of a port.

use std::fmt;

use mempool::Offload;

use crate::{
    Config, Error, QueueStats, Queues, RebindError, Rebound, RxMemory, SplitAt, TakeQueue,
};

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

    /// Gives one receive queue of a started port other memory while the rest of it runs: the link stays
    /// up, other queues go on, the counters count on. The new memory is mapped first. Then `queue` is called
    /// for the queue, the `index`-th of those that [`Device::start`] or an earlier call yielded; it is
    /// stopped, and started again with the same ring size: it is away for microseconds.
    ///
    /// Which other queues pause meanwhile, and what becomes of frames that come then, is the driver's to
    /// say. What had arrived is in [`Rebound::former`].
    ///
    /// # Errors
    /// The driver cannot do it (then the port has to be stopped and started), the memory cannot be had, or
    /// the queue did not stop; [`RebindError::is_lost`] says which of these.
    fn rebind(
        &mut self,
        index: usize,
        memory: RxMemory,
        queue: TakeQueue<'_>,
    ) -> Result<Rebound, RebindError> {
        let _ = (index, memory, queue);
        let info = self.info();
        let why = format!(
            "the {} driver cannot give a queue other memory while the port runs; stop the port and start \
             it again",
            info.driver
        );
        Err(RebindError::early(Error::BadOption { port: info.port.clone(), why }))
    }

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
        let further = config.addresses.len();
        if further > caps.addresses {
            let why = format!(
                "{further} further station addresses asked, it filters for {}",
                caps.addresses
            );
            return Err(Error::BadOption { port: self.port.clone(), why });
        }
        if let Some(name) = config.rx_offloads.without(caps.rx_offloads).names().next() {
            let why = format!("the {} driver cannot do what was asked: {name}", self.driver);
            return Err(Error::BadOption { port: self.port.clone(), why });
        }
        if config.loopback && !caps.loopback {
            let why = format!("the {} driver has no loopback", self.driver);
            return Err(Error::BadOption { port: self.port.clone(), why });
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
    /// Received frames fill buffers in multiples of this many bytes: a pool whose buffers have room for
    /// less than a multiple wastes the rest. 1 where any length serves.
    pub rx_buffer_step: usize,
    /// What it can find out about received frames, if asked ([`Config::rx_offloads`]).
    pub rx_offloads: Offload,
    /// What it can do to frames it sends, if a frame asks ([`mempool::TxMeta`]).
    pub tx_offloads: Offload,
    /// Further station addresses it can filter for ([`Config::addresses`]).
    pub addresses: usize,
    /// Whether it can receive what it sends, without a cable ([`Config::loopback`]).
    pub loopback: bool,
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
            rx_buffer_step: 1,
            rx_offloads: Offload::NONE,
            tx_offloads: Offload::NONE,
            addresses: 0,
            loopback: false,
        }
    }
}

/// What a receive queue can do about header/data split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitSupport {
    /// Nothing: payloads reach device memory by the bounce path.
    None,
    /// Cuts behind the protocol headers and any number of bytes more, or after any length.
    ProtocolAndLength,
    /// Hardware.
    Hardware(HardwareSplit),
}

/// What hardware can do about header/data split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardwareSplit {
    /// Longest head, in bytes.
    pub longest_head: usize,
    /// Whether it cuts behind the protocol headers that it understands, and no byte further.
    pub protocol: bool,
    /// Fixed lengths it can cut at are multiples of this; none where it cuts by protocol only.
    pub length_step: Option<usize>,
    /// Bytes it leaves free in front of a head: the headroom that the heads' pool has to have; 0 where any
    /// serves.
    pub head_offset: usize,
    /// Bytes it leaves free in front of a payload: the headroom that the payloads' pool has to have; 0 where any
    /// serves.
    pub data_offset: usize,
}

impl SplitSupport {
    /// Whether frames can be cut there, and why not.
    ///
    /// # Errors
    /// They cannot; the text says what can be asked for.
    pub fn check(self, at: SplitAt) -> Result<(), String> {
        match (self, at) {
            (Self::None, _) => Err("cannot split headers from payloads".into()),
            (Self::ProtocolAndLength, _) => Ok(()),
            (Self::Hardware(hardware), SplitAt::Protocol { extra }) => {
                hardware.check_protocol(extra)
            }
            (Self::Hardware(hardware), SplitAt::Length(len)) => hardware.check_length(len),
        }
    }
}

impl HardwareSplit {
    fn check_protocol(self, extra: usize) -> Result<(), String> {
        match (self.protocol, extra) {
            (true, 0) => Ok(()),
            (true, extra) => Err(format!(
                "cuts frames right behind the transport header; {extra} bytes more of an application's \
                 header cannot stay with the head"
            )),
            (false, _) => {
                Err("cuts frames after a fixed length only, whatever their headers are".into())
            }
        }
    }

    fn check_length(self, len: usize) -> Result<(), String> {
        let Some(step) = self.length_step else {
            return Err(format!(
                "cuts frames by protocol only; a head of fixed length ({len} bytes) cannot be had"
            ));
        };
        if len > 0 && len.is_multiple_of(step) && len <= self.longest_head {
            return Ok(());
        }
        let longest = self.longest_head;
        Err(format!("cuts frames at multiples of {step} bytes up to {longest}; {len} is none"))
    }
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
    /// It is being taken away, or is gone: stop it and drop it, so that the system can finish. The text
    /// says who asked.
    Removed(String),
}

impl Health {
    /// Why the port no longer works, if so.
    #[must_use]
    pub fn fault(&self) -> Option<&str> {
        match self {
            Self::Good | Self::Ended => None,
            Self::Faulted(why) | Self::Removed(why) => Some(why),
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => f.write_str("good"),
            Self::Ended => f.write_str("ended"),
            Self::Faulted(why) => write!(f, "faulted: {why}"),
            Self::Removed(why) => write!(f, "removed: {why}"),
        }
    }
}
