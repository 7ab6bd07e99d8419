//! What workers count besides their queues. One writer each; readable while they run.

use std::array;

use memwire_apps::{
    idle::Activity,
    report::{Counter, DropsReport},
};

/// Why a received frame was not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Too short for an Ethernet header.
    Runt,
    /// To a reserved multicast address, which ends at a bridge (IEEE 802.1Q table 8-1).
    Reserved,
    /// In a VLAN that the port does not belong to.
    Vlan,
    /// To a station on the port it came from.
    SamePort,
    /// Above the storm guard's rate.
    Storm,
    /// No other port is there that it could leave by.
    Nowhere,
}

impl Reason {
    const ALL: [Self; 6] =
        [Self::Runt, Self::Reserved, Self::Vlan, Self::SamePort, Self::Storm, Self::Nowhere];

    const fn name(self) -> &'static str {
        match self {
            Self::Runt => "runt",
            Self::Reserved => "reserved",
            Self::Vlan => "vlan",
            Self::SamePort => "same_port",
            Self::Storm => "storm",
            Self::Nowhere => "nowhere",
        }
    }
}

/// Why a frame that was to leave by a port did not reach its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// The queue had no room.
    NoRoom,
    /// The port is out of service.
    LinkDown,
    /// The port only receives.
    ReceiveOnly,
    /// No buffer for the copy with another tag.
    NoBuffer,
}

impl Unsent {
    const ALL: [Self; 4] = [Self::NoRoom, Self::LinkDown, Self::ReceiveOnly, Self::NoBuffer];

    const fn name(self) -> &'static str {
        match self {
            Self::NoRoom => "no_room",
            Self::LinkDown => "link_down",
            Self::ReceiveOnly => "receive_only",
            Self::NoBuffer => "no_buffer",
        }
    }
}

/// One port, in one worker. No other worker's counters are on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct PortTally {
    /// Frames received here that left by one port; of a switch. In pairs, they are those that were
    /// handed to the partner.
    pub(crate) forwarded: Counter,
    /// Frames received here that left by all ports that they could leave by.
    pub(crate) flooded: Counter,
    /// How many frames those became.
    pub(crate) replicas: Counter,
    drops: [Counter; Reason::ALL.len()],
    /// Frames that were to leave here: what the queue took, and what is in `unsent`.
    pub(crate) handed: Counter,
    unsent: [Counter; Unsent::ALL.len()],
}

impl PortTally {
    /// Counts received frames that go no further.
    pub(crate) fn dropped(&self, reason: Reason, frames: usize) {
        self.drops[reason as usize].add(frames);
    }

    /// Counts frames that did not reach the queue.
    pub(crate) fn unsent(&self, why: Unsent, frames: usize) {
        self.unsent[why as usize].add(frames);
    }
}

/// What one worker counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Rounds over all its queues.
    pub(crate) activity: Activity,
    /// The ports, and the mirror last.
    pub(crate) ports: Box<[PortTally]>,
    /// Stations put into the table.
    pub(crate) learnt: Counter,
    /// Stations that changed their port.
    pub(crate) moved: Counter,
    /// Stations that the table had no room for.
    pub(crate) full: Counter,
    /// Stations left to their next frame, because another worker changed the table.
    pub(crate) deferred: Counter,
    /// Frames copied, because some ports send them with a tag and some without.
    pub(crate) copied: Counter,
}

impl Tally {
    pub(crate) fn new(ports: usize) -> Self {
        Self { ports: (0..ports).map(|_| PortTally::default()).collect(), ..Self::default() }
    }
}

/// One port, over all workers.
#[derive(Clone, Debug, Default)]
pub(crate) struct PortCounts {
    pub(crate) forwarded: u64,
    pub(crate) flooded: u64,
    pub(crate) replicas: u64,
    pub(crate) handed: u64,
    drops: [u64; Reason::ALL.len()],
    unsent: [u64; Unsent::ALL.len()],
}

impl PortCounts {
    pub(crate) fn sum<'a>(tallies: impl Iterator<Item = &'a Tally> + Clone, port: usize) -> Self {
        let of = |count: fn(&PortTally) -> &Counter| {
            tallies.clone().map(|tally| count(&tally.ports[port]).get()).sum()
        };
        let each = |count: &dyn Fn(&PortTally) -> u64| {
            tallies.clone().map(|tally| count(&tally.ports[port])).sum()
        };
        Self {
            forwarded: of(|port| &port.forwarded),
            flooded: of(|port| &port.flooded),
            replicas: of(|port| &port.replicas),
            handed: of(|port| &port.handed),
            drops: array::from_fn(|at| each(&|port| port.drops[at].get())),
            unsent: array::from_fn(|at| each(&|port| port.unsent[at].get())),
        }
    }

    /// Frames received here that went no further.
    pub(crate) fn dropped(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// Frames that were to leave here and did not reach the queue.
    pub(crate) fn unsent(&self) -> u64 {
        self.unsent.iter().sum()
    }

    pub(crate) fn drops_report(&self) -> DropsReport {
        let mut report = DropsReport::default();
        Reason::ALL.into_iter().for_each(|why| report.add(why.name(), self.drops[why as usize]));
        report
    }

    pub(crate) fn unsent_report(&self) -> DropsReport {
        let mut report = DropsReport::default();
        Unsent::ALL.into_iter().for_each(|why| report.add(why.name(), self.unsent[why as usize]));
        report
    }
}
