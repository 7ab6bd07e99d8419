//! Whose frames are let in: station addresses, multicast groups by hash, promiscuous reception; and the
//! key of the hash that spreads them. Registers that both chips have.

use super::{
    chip::{Chip, STANDARD},
    plan::{Filters, Plan},
    register::Registers,
    registers::{CTRL, MTA, RAH, RAL, RCTL, RSSRK, VFTA},
};
use crate::pci::Mmio;

/// Receive control but for the buffer sizes: broadcasts are let in, the FCS is taken off.
pub(super) fn receive_control(plan: &Plan) -> RCTL {
    let control = RCTL::default().with(RCTL::BAM, true).with(RCTL::SECRC, true);
    let control = control.with(RCTL::LPE, plan.max_frame > STANDARD);
    // MAC loopback (82574 §10.2.5.1, 82576 §8.10.1).
    let control = control.with(RCTL::LBM, u32::from(plan.loopback));
    let all_multicast = plan.filters.all_multicast || plan.filters.promiscuous;
    control.with(RCTL::UPE, plan.filters.promiscuous).with(RCTL::MPE, all_multicast)
}

/// Writes every filter there is: what an earlier owner let in is forgotten.
pub(super) fn write<M: Mmio>(regs: &Registers<M>, chip: Chip, own: [u8; 6], filters: &Filters) {
    let (groups, stations): (Vec<&[u8; 6]>, Vec<_>) =
        filters.addresses.iter().partition(|address| address[0] & 1 == 1);
    let mut stations = std::iter::once(&own).chain(stations);
    for index in 0..chip.addresses() {
        write_address(&regs.at(chip.address(index)), stations.next());
    }
    let mut hashes = [0u32; 128];
    for group in groups {
        let hash = group_hash(group);
        hashes[hash >> 5] |= 1 << (hash & 31);
    }
    for (at, bits) in hashes.into_iter().enumerate() {
        regs.entry(at).write(MTA(bits));
        regs.entry(at).write(VFTA(0));
    }
}

/// Has tags taken out of received frames, or not. In frames that are sent, descriptors ask.
pub(super) fn strip_vlan<M: Mmio>(regs: &Registers<M>, strip: bool) {
    regs.update(|ctrl: CTRL| ctrl.with(CTRL::VME, strip));
}

/// Writes an entry, low half first: the high one makes it count (82574 §10.2.5, 82576 §8.11).
fn write_address<M: Mmio>(entry: &Registers<M>, address: Option<&[u8; 6]>) {
    let Some([a, b, c, d, e, f]) = address else {
        entry.write(RAH(0));
        entry.write(RAL(0));
        return;
    };
    entry.write(RAL(u32::from_le_bytes([*a, *b, *c, *d])));
    let high = u32::from(u16::from_le_bytes([*e, *f]));
    entry.write(RAH::default().with(RAH::BYTES, high).with(RAH::AV, true));
}

/// The bit of the multicast table: bits 47:36 of the address (RCTL.MO is 0; 82574 §10.2.5, 82576 §8.11).
fn group_hash(address: &[u8; 6]) -> usize {
    usize::from(address[4]) >> 4 | usize::from(address[5]) << 4
}

/// Writes the key of the Toeplitz hash; both chips hold it alike.
pub(super) fn write_hash_key<M: Mmio>(regs: &Registers<M>, key: &[u8; 40]) {
    for (at, four) in key.chunks_exact(4).enumerate() {
        let bytes = four.try_into().map_or(0, u32::from_le_bytes);
        regs.entry(at).write(RSSRK(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_bit_is_the_top_twelve_bits_of_its_address() {
        // 01:00:5e:00:00:fb: 0xfb00 >> 4.
        assert_eq!(group_hash(&[0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb]), 0xfb0);
        assert_eq!(group_hash(&[0x33, 0x33, 0, 0, 0x12, 0x34]), 0x341);
    }
}
