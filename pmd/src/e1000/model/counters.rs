//! Statistics registers: they clear when read, stick at their highest value, and 64-bit ones are read low
//! half first (82574 §10.2.7, 82576 §8.19).

use super::{core::Core, map};

/// Reads and clears.
pub(super) fn read(core: &mut Core, offset: u32) -> u32 {
    let at = offset as usize / 4;
    std::mem::take(&mut core.regs[at])
}

/// Counts one more.
pub(super) fn count(core: &mut Core, offset: u32) {
    let value = core.reg(offset).saturating_add(1);
    core.set(offset, value);
}

/// Counts bytes in a pair of registers.
fn octets(core: &mut Core, offset: u32, bytes: usize) {
    let low = u64::from(core.reg(offset)) | u64::from(core.reg(offset + 4)) << 32;
    let sum = low.saturating_add(bytes as u64);
    core.set(offset, u32::try_from(sum & 0xffff_ffff).unwrap_or(0));
    core.set(offset + 4, u32::try_from(sum >> 32).unwrap_or(u32::MAX));
}

/// The register for frames of this length (with check sequence), given the first of the six.
fn by_size(first: u32, len: usize) -> u32 {
    let class = [64, 127, 255, 511, 1023].iter().filter(|most| len > **most).count();
    first + 4 * u32::try_from(class).unwrap_or(0)
}

/// A frame was seen, whether it is for us or not; `len` counts its check sequence.
pub(super) fn heard(core: &mut Core, len: usize) {
    count(core, map::TPR);
    octets(core, map::TOR, len);
}

/// A good frame was received into the packet buffer.
pub(super) fn received(core: &mut Core, destination: &[u8], len: usize) {
    count(core, map::GPRC);
    octets(core, map::GORC, len);
    count(core, by_size(map::PRC64, len));
    match destination {
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, ..] => count(core, map::BPRC),
        [first, ..] if first & 1 == 1 => count(core, map::MPRC),
        _ => {}
    }
}

/// A frame was sent.
pub(super) fn sent(core: &mut Core, destination: &[u8], len: usize) {
    count(core, map::GPTC);
    octets(core, map::GOTC, len);
    count(core, map::TPT);
    octets(core, map::TOT, len);
    count(core, by_size(map::PTC64, len));
    match destination {
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, ..] => count(core, map::BPTC),
        [first, ..] if first & 1 == 1 => count(core, map::MPTC),
        _ => {}
    }
}
