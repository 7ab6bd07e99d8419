//! One suite for every driver: whatever goes in must come out as it would of a `VecDeque`: same
//! bytes, same order, nothing lost that is not counted, every buffer home at the end.
//!
//! A driver's test describes how two of its queues are joined ([`Wire`]) and calls [`run`]. A check
//! that fails returns [`Failure`] with the check's name; nothing here panics on a driver's account.

mod checks;
mod reference;
mod traffic;

use std::fmt;

use mempool::{Cpu, Pool, Provider};

use crate::{AnyRxQueue, Error, RxMemory, SplitSupport, TxQueue};

pub use reference::ReferenceWire;

/// How two queues of the driver under test are joined.
pub trait Wire {
    /// The name in failures.
    fn name(&self) -> &'static str;

    /// Joins a fresh transmit queue to a fresh receive queue.
    ///
    /// # Errors
    /// The driver's own.
    fn connect(&mut self, setup: &Setup) -> Result<Box<dyn Joined>, Error>;

    /// What the driver can do; checks that ask for more are left out.
    fn traits(&self) -> WireTraits;
}

/// What the suite may ask of a wire.
#[derive(Clone, Copy, Debug)]
pub struct WireTraits {
    /// Longest frame.
    pub max_frame: usize,
    /// Shortest frame (a NIC may demand a whole Ethernet header).
    pub min_frame: usize,
    /// Whether frames of several segments can be sent.
    pub segments: bool,
    /// How a receive queue can split.
    pub split: SplitSupport,
    /// Whether frames can be received while others are sent; a file is written first, then read.
    pub interactive: bool,
    /// Received frames fill buffers in multiples of this many bytes
    /// ([`crate::Capabilities::rx_buffer_step`]).
    pub rx_buffer_step: usize,
    /// Buffers that a receive queue needs besides those in its ring ([`crate::Capabilities::rx_spare`]).
    pub rx_spare: usize,
    /// What becomes of frames that find no descriptor.
    pub overrun: Overrun,
    /// How many frames the whole suite may send, for slow wires.
    pub budget: usize,
}

/// What becomes of frames that find no descriptor at the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overrun {
    /// They wait: the sender is held back.
    HeldBack,
    /// They are dropped, and nothing counts them. The suite sends no more at a time than a ring takes, and
    /// holds counts of drops for a lower bound of losses.
    Silent,
}

/// What to join.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where received frames go.
    pub rx: RxMemory,
    /// Whose buffers are sent.
    pub tx: Pool<Cpu>,
    /// Descriptors of each ring.
    pub ring: usize,
}

/// Two joined queues.
pub trait Joined {
    /// The sending queue.
    fn tx(&mut self) -> &mut dyn TxQueue;

    /// The receiving queue. A wire that is not interactive ends sending with the first call.
    fn rx(&mut self) -> &mut AnyRxQueue;
}

/// A check that did not hold.
#[derive(Debug)]
pub struct Failure {
    /// Wire and check.
    pub check: String,
    /// What was seen.
    pub why: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.why)
    }
}

impl std::error::Error for Failure {}

/// Runs every check that the wire's traits allow, on memory of `provider` (host memory) and, for
/// payloads of split queues, of `device`; returns the names of the checks that ran.
///
/// # Errors
/// The first check that fails.
pub fn run(
    wire: &mut dyn Wire,
    provider: &dyn Provider,
    device: &dyn Provider,
) -> Result<Vec<&'static str>, Failure> {
    let mut ran = Vec::new();
    let traits = wire.traits();
    for check in checks::ALL {
        if !(check.applies)(&traits) {
            continue;
        }
        let memory = traffic::Memory { host: provider, device };
        (check.run)(wire, &memory)
            .map_err(|why| Failure { check: format!("{}: {}", wire.name(), check.name), why })?;
        ran.push(check.name);
    }
    Ok(ran)
}
