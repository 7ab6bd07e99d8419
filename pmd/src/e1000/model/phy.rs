//! What hangs on the chip's side buses: the PHY behind MDIC (82574 §10.2.2.7, 82576 §8.2.4), the EEPROM
//! behind EERD (82574 §10.2.2.5). Knows no frame.

use super::options::{Chip, Options};

const READY: u32 = 1 << 28;
const ERROR: u32 = 1 << 30;

// IEEE 802.3 clause 22.
const CONTROL: usize = 0;
const STATUS: usize = 1;
const CONTROL_RESET: u16 = 1 << 15;
const CONTROL_NEGOTIATE: u16 = 1 << 12;
const CONTROL_POWER_DOWN: u16 = 1 << 11;
const CONTROL_RESTART: u16 = 1 << 9;
const STATUS_NEGOTIATED: u16 = 1 << 5;
const STATUS_LINK: u16 = 1 << 2;

/// The PHY.
#[derive(Debug)]
pub(super) struct Phy {
    registers: [u16; 32],
    /// Negotiation was started. The 82574's PHY starts by itself.
    started: bool,
}

impl Phy {
    pub(super) fn new(chip: Chip) -> Self {
        let mut registers = [0; 32];
        registers[CONTROL] = 0x1140;
        registers[STATUS] = 0x7949;
        (registers[2], registers[3]) = match chip {
            Chip::I82574 => (0x0141, 0x0cb1),
            Chip::I82576 => (0x02a8, 0x0391),
        };
        registers[4] = 0x0de1;
        registers[5] = 0x4de1;
        registers[9] = 0x0e00;
        registers[10] = 0x3c00;
        registers[15] = 0x3000;
        Self { registers, started: chip == Chip::I82574 }
    }

    /// Whether the other side of the cable can be heard.
    pub(super) fn is_ready(&self) -> bool {
        self.started && self.registers[CONTROL] & CONTROL_POWER_DOWN == 0
    }

    /// One access through MDIC: what the register reads as afterwards.
    pub(super) fn access(&mut self, mdic: u32, link: bool) -> u32 {
        let register = (mdic >> 16 & 31) as usize;
        let data = u16::try_from(mdic & 0xffff).unwrap_or(0);
        // One PHY, at address 1.
        if mdic >> 21 & 31 != 1 {
            return mdic & !0xffff | READY | ERROR | 0xffff;
        }
        match mdic >> 26 & 3 {
            1 => {
                self.write(register, data);
                mdic | READY
            }
            2 => mdic & !0xffff | READY | u32::from(self.read(register, link)),
            _ => mdic | READY | ERROR,
        }
    }

    fn write(&mut self, register: usize, data: u16) {
        match register {
            CONTROL => {
                if data & CONTROL_NEGOTIATE != 0 && data & (CONTROL_RESTART | CONTROL_RESET) != 0 {
                    self.started = true;
                }
                self.registers[CONTROL] = data & !(CONTROL_RESET | CONTROL_RESTART);
            }
            STATUS | 2 | 3 => {}
            _ => self.registers[register] = data,
        }
    }

    fn read(&self, register: usize, link: bool) -> u16 {
        let value = self.registers[register];
        match register {
            STATUS if link => value | STATUS_LINK | STATUS_NEGOTIATED,
            _ => value,
        }
    }
}

/// One read of the EEPROM through EERD: what the register reads as afterwards.
pub(super) fn eeprom(options: &Options, eerd: u32) -> u32 {
    let address = eerd >> 2 & 0x3fff;
    if eerd & 1 == 0 {
        return eerd;
    }
    let word = |at: u32| -> u16 {
        match at {
            0..=2 => {
                let at = at as usize * 2;
                u16::from_le_bytes([options.mac[at], options.mac[at + 1]])
            }
            3..0x3f => u16::try_from(at).unwrap_or(0).wrapping_mul(0x101),
            _ => 0xffff,
        }
    };
    let data = if address == 0x3f {
        // All 64 words add up to this (82574 §6.1.2.6).
        let others = (0..0x3f).map(word).fold(0u16, u16::wrapping_add);
        let right = 0xbabau16.wrapping_sub(others);
        if options.eeprom_is_good { right } else { !right }
    } else {
        word(address)
    };
    u32::from(data) << 16 | eerd & 0xfffd & !1 | 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eeprom_adds_up_and_holds_the_station_address() {
        let options = Options::new(Chip::I82574);
        let read = |at: u32| eeprom(&options, at << 2 | 1);
        assert!((0..0x40).all(|at| read(at) & 2 != 0));
        let sum = (0..0x40).fold(0u16, |sum, at| sum.wrapping_add((read(at) >> 16) as u16));
        assert_eq!(sum, 0xbaba);
        assert_eq!((read(0) >> 16) as u16, u16::from_le_bytes([options.mac[0], options.mac[1]]));
        let bad = Options { eeprom_is_good: false, ..options.clone() };
        assert_ne!(eeprom(&bad, 0x3f << 2 | 1), read(0x3f));
    }

    #[test]
    fn the_phy_of_the_82576_waits_to_be_started() {
        let mut phy = Phy::new(Chip::I82576);
        assert!(!phy.is_ready());
        phy.access(0x1200 | 1 << 21 | 1 << 26, false);
        assert!(phy.is_ready());
        assert_eq!(phy.access(1 << 16 | 1 << 21 | 2 << 26, true) & 0x24, 0x24);
        assert_ne!(phy.access(3 << 21 | 2 << 26, true) & ERROR, 0, "there is no PHY 3");
        phy.access(0x0800 | 1 << 21 | 1 << 26, false);
        assert!(!phy.is_ready(), "powered down");
    }
}
