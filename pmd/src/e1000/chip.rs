//! The chips of the family: what they are called, what they have, where their queues' registers are.
//! Arithmetic; touches nothing.

use mempool::Offload;

use crate::{Capabilities, HardwareSplit, SplitSupport};

/// Intel's PCI vendor id.
pub const VENDOR: u16 = 0x8086;

/// Longest frame without FCS: 9000 bytes of payload, a header and a VLAN tag.
pub const LONGEST: usize = 9018;
/// Longest frame without FCS while long frames are off (RCTL.LPE): 82574 §7.1, 82576 §7.1.
pub(super) const STANDARD: usize = 1518;
/// Descriptors of a ring: bytes are counted in units of 128, so eight at least.
pub(super) const RINGS: std::ops::RangeInclusive<usize> = 8..=4096;

/// A chip this driver knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chip {
    /// 82574L, "e1000e".
    E82574,
    /// 82576, "igb".
    E82576,
}

impl Chip {
    /// Every chip, in the order of messages.
    pub const ALL: [Self; 2] = [Self::E82574, Self::E82576];

    /// The chip of a PCI id; none for others.
    #[must_use]
    pub fn of(vendor: u16, device: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|chip| vendor == VENDOR && device == chip.device())
    }

    /// PCI device id.
    #[must_use]
    pub const fn device(self) -> u16 {
        match self {
            Self::E82574 => 0x10d3,
            Self::E82576 => 0x10c9,
        }
    }

    /// The driver's name in reports: the one by which the kernel calls its own.
    #[must_use]
    pub const fn driver(self) -> &'static str {
        match self {
            Self::E82574 => "e1000e",
            Self::E82576 => "igb",
        }
    }

    /// The name on the chip.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::E82574 => "82574L",
            Self::E82576 => "82576",
        }
    }

    /// Bytes of registers in BAR 0 (82574 §10.1, 82576 §8.1).
    pub(crate) const fn registers(self) -> u64 {
        let _both = self;
        0x2_0000
    }

    /// Receive queues, and as many transmit queues.
    pub(super) const fn queues(self) -> usize {
        match self {
            Self::E82574 => 2,
            Self::E82576 => 16,
        }
    }

    /// Message-signalled interrupts (82574 §7.4, 82576 §7.3).
    pub(super) const fn vectors(self) -> usize {
        match self {
            Self::E82574 => 5,
            Self::E82576 => 25,
        }
    }

    /// Station addresses that are compared in full, the port's own included.
    pub(super) const fn addresses(self) -> usize {
        match self {
            // Of the sixteen, the last may belong to the management controller (§10.2.5).
            Self::E82574 => 15,
            Self::E82576 => 24,
        }
    }

    /// Offset of the first register of a receive queue.
    pub(super) fn rx_queue(self, index: usize) -> u32 {
        let index = u32::try_from(index).unwrap_or(0);
        match self {
            Self::E82574 => 0x2800 + index * 0x100,
            Self::E82576 => 0xC000 + index * 0x40,
        }
    }

    /// Offset of the first register of a transmit queue.
    pub(super) fn tx_queue(self, index: usize) -> u32 {
        let index = u32::try_from(index).unwrap_or(0);
        match self {
            Self::E82574 => 0x3800 + index * 0x100,
            Self::E82576 => 0xE000 + index * 0x40,
        }
    }

    /// Offset of a station address' entry from that of the first.
    pub(super) fn address(self, index: usize) -> u32 {
        let entry = |index: usize| u32::try_from(index * 8).unwrap_or(0);
        match self {
            // 82576: entries 16 to 23 stand in a second table, at 0x54E0 (§8.11).
            Self::E82576 if index >= 16 => 0xE0 + entry(index - 16),
            _ => entry(index),
        }
    }

    /// Header buffers come in multiples of this many bytes, up to [`Self::longest_head`] (82574
    /// §10.2.5.2, 82576 §8.10.2).
    pub(super) const fn head_step(self) -> usize {
        match self {
            Self::E82574 => 128,
            Self::E82576 => 64,
        }
    }

    /// The largest header buffer, in bytes.
    pub(super) const fn longest_head(self) -> usize {
        match self {
            Self::E82574 => 127 * 128,
            Self::E82576 => 15 * 64,
        }
    }

    /// What ports of this chip can do.
    #[must_use]
    pub fn capabilities(self) -> Capabilities {
        let sums = Offload::TX_IP_CSUM.with(Offload::TX_TCP_CSUM).with(Offload::TX_UDP_CSUM);
        let tx = sums.with(Offload::TX_VLAN_INSERT);
        Capabilities {
            rx_queues: self.queues(),
            tx_queues: self.queues(),
            max_frame: LONGEST,
            // Both cut IP frames by protocol even where a header buffer of fixed size is to be filled,
            // so no fixed length can be promised.
            split: SplitSupport::Hardware(HardwareSplit {
                longest_head: self.longest_head(),
                protocol: true,
                ..HardwareSplit::default()
            }),
            tx_segments: true,
            // The 82576 stamps one time-sync frame at a time, in a register; never a received frame.
            rx_timestamp: false,
            copies: false,
            finite: false,
            rx_buffer_step: 1024,
            rx_offloads: Offload::RX_VLAN_STRIPPED,
            tx_offloads: match self {
                Self::E82574 => tx,
                Self::E82576 => tx.with(Offload::TX_TCP_SEGMENT),
            },
            addresses: self.addresses() - 1,
            loopback: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chip_is_known_by_its_ids_and_by_nothing_else() {
        assert_eq!(Chip::of(0x8086, 0x10d3), Some(Chip::E82574));
        assert_eq!(Chip::of(0x8086, 0x10c9), Some(Chip::E82576));
        assert_eq!(Chip::of(0x8086, 0x1533), None);
        assert_eq!(Chip::of(0x1af4, 0x10c9), None);
    }

    #[test]
    fn the_second_table_of_addresses_stands_where_the_datasheet_says() {
        assert_eq!(0x5400 + Chip::E82576.address(15), 0x5478);
        assert_eq!(0x5400 + Chip::E82576.address(16), 0x54E0);
        assert_eq!(0x5400 + Chip::E82576.address(23), 0x5518);
    }
}
