//! From any state to a clean one: the general part of the datasheets' initialisation (82574 §4.6,
//! 82576 §4.5). Interrupts masked, the chip reset, link up, the station address known. Knows no queue.

use std::{fmt, io, time::Duration};

use super::{
    chip::Chip,
    register::{Registers, pause},
    registers::{CTRL, EEC, EIMC, ICR, IMC, MDIC, RAH, RAL, STATUS},
};
use crate::{Error, pci::Mmio};

/// How long a reset may take.
const RESET: Duration = Duration::from_millis(1000);
/// How long the chip may take to end its transactions on the bus before a reset.
const MASTER: Duration = Duration::from_millis(80);
/// How long the chip may take to read its EEPROM after a reset; one without has nothing to read.
const EEPROM: Duration = Duration::from_millis(20);
/// How long a word takes to or from the PHY; 64 µs by IEEE 802.3 §22.2.4.
const PHY: Duration = Duration::from_millis(10);
/// How long a queue may take to go on or off.
pub(super) const QUEUE: Duration = Duration::from_millis(100);

/// The device does not do what its datasheet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Registers read as all ones.
    Gone,
    /// Registers read as zeros: nothing decodes their addresses.
    Mute,
    /// CTRL.RST stayed set.
    Reset,
    /// A queue was not enabled, or not disabled.
    Queue { what: &'static str, index: usize },
    /// The PHY did not answer.
    Phy,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("device gone (0xffffffff)"),
            Self::Mute => f.write_str("registers do not answer (0x00000000): memory decode is off"),
            Self::Reset => write!(f, "reset timeout {} ms", RESET.as_millis()),
            Self::Queue { what, index } => {
                let limit = QUEUE.as_millis();
                write!(f, "{what} queue {index} did not change its state in {limit} ms")
            }
            Self::Phy => write!(f, "PHY did not answer in {} ms", PHY.as_millis()),
        }
    }
}

impl Trouble {
    /// Whether the registers cannot be reached.
    pub(super) const fn is_silence(self) -> bool {
        matches!(self, Self::Gone | Self::Mute)
    }

    /// As the error of a port.
    pub(super) fn of(self, port: &str) -> Error {
        let port = port.to_owned();
        match self {
            Self::Gone | Self::Mute => Error::NotThere { port, why: self.to_string() },
            Self::Reset | Self::Queue { .. } | Self::Phy => {
                let source = io::Error::new(io::ErrorKind::TimedOut, self.to_string());
                Error::System { port, what: "start".into(), source }
            }
        }
    }
}

/// Whether the registers can be read at all: STATUS has bits that are never set.
pub(super) fn is_gone<M: Mmio>(regs: &Registers<M>) -> bool {
    regs.read::<STATUS>().0 == u32::MAX
}

/// Resets the chip: no queue runs afterwards, interrupts are masked, the start values are read again.
pub(super) fn reset<M: Mmio>(regs: &Registers<M>, chip: Chip) -> Result<(), Trouble> {
    mask_interrupts(regs, chip);
    // 82574 §5.2, 82576 §5.2: no new transactions first, then the reset; it is done even if some are
    // still open after the limit.
    let ctrl: CTRL = regs.read();
    if is_gone(regs) {
        return Err(Trouble::Gone);
    }
    regs.write(ctrl.with(CTRL::MASTER_DISABLE, true));
    if regs.wait(MASTER, |status: STATUS| !status.has(STATUS::MASTER_ENABLE)).is_none() {
        tracing::debug!(chip = chip.name(), "transactions are open, resetting all the same");
    }
    regs.write(ctrl.with(CTRL::RST, true));
    // The chip does not answer for a microsecond (82574 §4.6.1); it gets a thousand.
    pause(Duration::from_millis(1));
    regs.wait(RESET, |ctrl: CTRL| !ctrl.has(CTRL::RST)).ok_or(if is_gone(regs) {
        Trouble::Gone
    } else {
        Trouble::Reset
    })?;
    // Full duplex and other bits of CTRL are set by every reset (82574 §10.2.2.1, 82576 §8.2.1): where all
    // of it is zero nothing was reset, and nothing was proven.
    if regs.read::<CTRL>().0 == 0 {
        return Err(Trouble::Mute);
    }
    if regs.wait(EEPROM, |eec: EEC| eec.has(EEC::AUTO_RD)).is_none() {
        tracing::debug!(chip = chip.name(), "start values were not read from an EEPROM");
    }
    mask_interrupts(regs, chip);
    Ok(())
}

/// Masks every interrupt and takes those that are pending.
pub(super) fn mask_interrupts<M: Mmio>(regs: &Registers<M>, chip: Chip) {
    regs.write(IMC(u32::MAX));
    if chip == Chip::E82576 {
        regs.write(EIMC::default().with(EIMC::VECTORS, EIMC::VECTORS.most()));
    }
    let _pending: ICR = regs.read();
}

/// Sets the link up, at what speed the two ends agree on (82574 §4.6.3, 82576 §4.5.7).
pub(super) fn set_link_up<M: Mmio>(regs: &Registers<M>, chip: Chip) -> Result<(), Trouble> {
    regs.update(|ctrl: CTRL| {
        let ctrl = ctrl.with(CTRL::SLU, true).with(CTRL::FD, true).with(CTRL::ASDE, false);
        let ctrl = ctrl.with(CTRL::ILOS, false).with(CTRL::LRST, false).with(CTRL::PHY_RST, false);
        let ctrl = ctrl.with(CTRL::FRCSPD, false).with(CTRL::FRCDPX, false);
        ctrl.with(CTRL::RFCE, false).with(CTRL::TFCE, false).with(CTRL::VME, false)
    });
    // The 82574's PHY negotiates by itself. So does the 82576's once it has power; where it does not, it
    // is told to. A link that is up is left alone.
    if chip == Chip::E82576 && !regs.read::<STATUS>().has(STATUS::LU) {
        // MII control register, IEEE 802.3 §22.2.4.1: auto-negotiation on, and again from the start.
        write_phy(regs, 0, 1 << 12 | 1 << 9)?;
    }
    Ok(())
}

/// Writes a register of the PHY.
fn write_phy<M: Mmio>(regs: &Registers<M>, register: u32, value: u32) -> Result<(), Trouble> {
    let write = MDIC::default().with(MDIC::DATA, value).with(MDIC::REGADD, register);
    regs.write(write.with(MDIC::PHYADD, 1u32).with(MDIC::OP, 1u32));
    let done = regs.wait(PHY, |mdic: MDIC| mdic.has(MDIC::R));
    match done {
        Some(mdic) if !mdic.has(MDIC::E) => Ok(()),
        _ if is_gone(regs) => Err(Trouble::Gone),
        _ => Err(Trouble::Phy),
    }
}

/// The station address that the chip read from its EEPROM, if it is one.
pub(super) fn permanent_address<M: Mmio>(regs: &Registers<M>) -> Result<[u8; 6], [u8; 6]> {
    let [a, b, c, d] = regs.read::<RAL>().0.to_le_bytes();
    let high: RAH = regs.read();
    let [e, f, ..] = high.0.to_le_bytes();
    let address = [a, b, c, d, e, f];
    let group = a & 1 == 1;
    if group || address == [0; 6] { Err(address) } else { Ok(address) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_gone_and_one_that_is_stuck_are_told_apart() {
        let gone = Trouble::Gone.of("pci:0000:01:00.0").to_string();
        assert_eq!(gone, "port 'pci:0000:01:00.0': device gone (0xffffffff)");
        let stuck = Trouble::Reset.of("pci:0000:01:00.0").to_string();
        assert_eq!(stuck, "port 'pci:0000:01:00.0': start: reset timeout 1000 ms");
    }
}
