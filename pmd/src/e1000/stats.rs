//! What the chip counts by itself. Its counters are cleared by reading (82574 §10.2.7, 82576 §8.19), so
//! they are summed up here; the names are the datasheets', in lower case.

use super::{
    chip::Chip,
    init::is_gone,
    register::Registers,
    registers::{RQDPC, VET},
};
use crate::pci::Mmio;

/// A counter: its name, its offset, and whether a second register holds its high half.
struct Counter {
    name: &'static str,
    offset: u32,
    wide: bool,
}

const fn narrow(name: &'static str, offset: u32) -> Counter {
    Counter { name, offset, wide: false }
}

const fn wide(name: &'static str, offset: u32) -> Counter {
    Counter { name, offset, wide: true }
}

/// Where [`MISSED`] stands.
const MPC: usize = 4;

/// The counters that both chips have, in the order of their offsets.
const COUNTERS: [Counter; 50] = [
    narrow("crcerrs", 0x4000),
    narrow("algnerrc", 0x4004),
    narrow("symerrs", 0x4008),
    narrow("rxerrc", 0x400C),
    narrow("mpc", 0x4010),
    narrow("scc", 0x4014),
    narrow("ecol", 0x4018),
    narrow("mcc", 0x401C),
    narrow("latecol", 0x4020),
    narrow("colc", 0x4028),
    narrow("dc", 0x4030),
    narrow("tncrs", 0x4034),
    narrow("rlec", 0x4040),
    narrow("xonrxc", 0x4048),
    narrow("xontxc", 0x404C),
    narrow("xoffrxc", 0x4050),
    narrow("xofftxc", 0x4054),
    narrow("fcruc", 0x4058),
    narrow("prc64", 0x405C),
    narrow("prc127", 0x4060),
    narrow("prc255", 0x4064),
    narrow("prc511", 0x4068),
    narrow("prc1023", 0x406C),
    narrow("prc1522", 0x4070),
    narrow("gprc", 0x4074),
    narrow("bprc", 0x4078),
    narrow("mprc", 0x407C),
    narrow("gptc", 0x4080),
    wide("gorc", 0x4088),
    wide("gotc", 0x4090),
    narrow("rnbc", 0x40A0),
    narrow("ruc", 0x40A4),
    narrow("rfc", 0x40A8),
    narrow("roc", 0x40AC),
    narrow("rjc", 0x40B0),
    narrow("mgtprc", 0x40B4),
    narrow("mgtpdc", 0x40B8),
    narrow("mgtptc", 0x40BC),
    wide("tor", 0x40C0),
    wide("tot", 0x40C8),
    narrow("tpr", 0x40D0),
    narrow("tpt", 0x40D4),
    narrow("ptc64", 0x40D8),
    narrow("ptc127", 0x40DC),
    narrow("ptc255", 0x40E0),
    narrow("ptc511", 0x40E4),
    narrow("ptc1023", 0x40E8),
    narrow("ptc1522", 0x40EC),
    narrow("mptc", 0x40F0),
    narrow("bptc", 0x40F4),
];

/// The sums since the port was opened.
pub(super) struct Statistics {
    sums: [u64; COUNTERS.len()],
    /// 82576: frames that found no descriptor, by receive queue.
    rqdpc: Vec<u64>,
    /// How often the link went up or down, by the chip's interrupt.
    pub(super) link_changes: u64,
}

impl Statistics {
    /// Zero, for a port of `chip`.
    pub(super) fn new(chip: Chip) -> Self {
        let queues = if chip == Chip::E82576 { chip.queues() } else { 0 };
        Self { sums: [0; COUNTERS.len()], rqdpc: vec![0; queues], link_changes: 0 }
    }

    /// Reads every counter, which clears them, and throws the figures away: an earlier owner's.
    pub(super) fn clear<M: Mmio>(regs: &Registers<M>, chip: Chip) {
        Self::new(chip).take(regs, chip.queues());
    }

    /// Reads every counter, of `queues` receive queues at most, and adds it. Figures of a device that
    /// went away meanwhile are not.
    pub(super) fn take<M: Mmio>(&mut self, regs: &Registers<M>, queues: usize) {
        let read = |offset| regs.mmio().read(offset);
        let fresh: [u64; COUNTERS.len()] = std::array::from_fn(|at| {
            let counter = &COUNTERS[at];
            // The low half first: reading the high one clears both.
            let low = u64::from(read(counter.offset));
            if counter.wide { low | u64::from(read(counter.offset + 4)) << 32 } else { low }
        });
        let dropped: Vec<u64> = (0..queues.min(self.rqdpc.len()))
            .map(|at| regs.at(Chip::E82576.rx_queue(at)).read::<RQDPC>())
            .map(|register| u64::from(register.get(RQDPC::FRAMES)))
            .collect();
        // All of it or nothing: a device that is gone reads as all ones, from any register on.
        if is_gone(regs) || regs.read::<VET>().0 == u32::MAX {
            return;
        }
        for (sum, more) in self.sums.iter_mut().zip(fresh).chain(self.rqdpc.iter_mut().zip(dropped))
        {
            *sum = sum.wrapping_add(more);
        }
    }

    /// Frames that came for this port and were dropped for want of room: the chip's own (MPC), and with
    /// the 82576 those that found no descriptor in their queue (RQDPC). Frames that RNBC counts are
    /// none: they waited in the chip's memory.
    pub(super) fn missed(&self) -> u64 {
        self.sums[MPC] + self.rqdpc.iter().sum::<u64>()
    }

    /// By name; a queue's own counters are left out where they are zero.
    pub(super) fn named(&self) -> Vec<(String, u64)> {
        let sums = COUNTERS.iter().zip(self.sums).map(|(counter, sum)| (counter.name.into(), sum));
        let queues = self.rqdpc.iter().enumerate().filter(|(_, sum)| **sum > 0);
        sums.chain(queues.map(|(at, sum)| (format!("rqdpc_{at}"), *sum)))
            .chain([("link_changes".to_owned(), self.link_changes)])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_stand_in_the_order_of_the_registers_and_the_missed_ones_where_they_are_looked_for()
    {
        assert_eq!((COUNTERS[MPC].name, COUNTERS[MPC].offset), ("mpc", 0x4010));
        assert!(COUNTERS.windows(2).all(|pair| pair[0].offset < pair[1].offset));
    }
}
